"""The model card of an export: what it is for, what it was measured on, and what it must not be used for."""

from scarce_cxr.evaluation.comparison import in_digits
from scarce_cxr.evaluation.film_model import Facts, ProbeFacts

_KINDS = {
    "ssl": "pretrained on chest radiographs without labels",
    "imagenet": "with weights published by others, not pretrained on radiographs",
    "file": "with weights from a file",
    "random": "with random weights: a baseline to compare with",
}


def write_card(facts: Facts) -> str:
    """A model card in Markdown, with the heading that a model hub reads."""
    tags = ["timm", "chest-x-ray", "radiology", "research-use-only"]
    parts = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-feature-extraction",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {facts.name}",
        "",
        "**Research use only: not a medical device.** No decision about a patient may rest on it.",
        "",
        *_what(facts),
        *_use(facts),
        *(_measured(facts) if facts.probes else ()),
        *_limits(facts),
    ]
    return "\n".join(parts) + "\n"


def _what(facts: Facts) -> list[str]:
    how = _KINDS[facts.kind]
    if facts.method:
        films = f" on {facts.pretraining_films:,} films" if facts.pretraining_films else ""
        how = f"pretrained by {facts.method}{films} without labels"
    size, film = facts.image_size, facts.film
    rows = {
        "architecture": f"`{facts.architecture}` of timm, one channel, {facts.features} features",
        "weights": f"{how}; fingerprint `{facts.fingerprint}`",
        "film": f"{film.size} x {film.size} pixels, fit {film.fit}, {film.bits} bits, DICOM scaled by {film.voi}",
        "what the backbone sees": f"{size} x {size} pixels in [0, 1], less {facts.mean:.6f}, by {facts.std:.6f}",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {words} |" for name, words in rows.items()), ""]


def _use(facts: Facts) -> list[str]:
    lines = [
        "## Intended use",
        "",
        "Research on frontal chest radiographs: features for other work"
        + (", and probes of findings on films such as those that they were tested on." if facts.probes else "."),
        "",
        "```python",
        "import timm",
        "",
        'backbone = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
        "```",
        "",
    ]
    if facts.probes:
        lines += ["With the probes and the guard, on files as they are: `scarce predict FOLDER FILMS`.", ""]
    return lines


def _measured(facts: Facts) -> list[str]:
    lines = [
        "## What was measured",
        "",
        "Linear probes on frozen features, calibrated on tuning films; patients of the three splits are different. In"
        " brackets: 95 % intervals over test patients.",
        "",
        "| finding | fitted on | tuned on | tested on | AUROC | threshold | sensitivity | specificity |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(probe) for probe in facts.probes),
        "",
        "Thresholds are probabilities, chosen for a specificity of 90 % on the tuning films.",
    ]
    if facts.test_films_seen:
        lines.append(
            f"The backbone was pretrained on {facts.test_films_seen:,} of the test films, without their labels."
        )
    if facts.guard:
        guard = facts.guard
        lines.append(
            f"The guard was fitted on {guard.films:,} films of {guard.patients:,} patients; of {guard.held_out_films:,}"
            f" test films it warned of {guard.held_out_warned:,}."
        )
    return [*lines, ""]


def _row(probe: ProbeFacts) -> str:
    cells = [
        probe.finding.replace("|", "\\|"),
        f"{probe.train_positives:,} of {probe.train_films:,} films, {probe.train_patients:,} patients",
        f"{probe.tune_positives:,} of {probe.tune_films:,} films",
        f"{probe.test_positives:,} of {probe.test_films:,} films, {probe.test_patients:,} patients",
        in_digits(*probe.auroc),
        f"{probe.threshold:.3f}",
        in_digits(*probe.sensitivity),
        in_digits(*probe.specificity),
    ]
    return f"| {' | '.join(cells)} |"


def _limits(facts: Facts) -> list[str]:
    lines = ["## Limits", ""]
    if facts.probes:
        lines += [
            "- Probabilities hold where a finding is as frequent as among the tuning films; elsewhere they are off.",
            "- Numbers were measured on one collection. Another hospital's devices, patients and habits change them.",
            "- Labels may come from reports by a program; a probe learns their errors along.",
            "- A probe may read what goes along with a finding (tubes, position, site) instead of the finding.",
            "- The guard sees coarse mistakes (negatives, laterals, photographs), not every unsuitable film; no warning"
            " is no proof that a film is suitable.",
        ]
    lines += [
        "- It was not tested on ages, sexes and origins apart.",
        "- Research use only: not a medical device.",
    ]
    return lines
