"""What is known of runs, in words and tables: cost, memory, recipes, data, model card, warnings."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.images.summary import count_findings
from scarce_cxr.monitor.reconstruction import MASKED_ERROR
from scarce_cxr.monitor.verdict import COLLAPSES, HEALTHY
from scarce_cxr.report.outcome import Outcome
from scarce_cxr.report.runs import ShownRun
from scarce_cxr.results import Table
from scarce_cxr.training.memory import BYTES, build_shapes, measure_memory

# Held-out films below which shares of them say little.
_FEW_HELD_OUT = 100
_HEALTHY_SAYS = "no collapse; says nothing of how useful the features are"
_BEST = "; of the best backbone, not the last"


class Headline(NamedTuple):
    """What comes first of a run.

    Attributes:
        mark: good, bad or open: what to think of it at a glance.
        verdict: the monitor's name for it.
        caption: how the verdict is to be read; None if it speaks for itself.
        reason: why.
        few_labels: what trials say of the run; None if they say nothing.
        advice: what to do, the likeliest remedy first, or the next command.
        commands: whether the advice is something to type.
        facts: (number, what it is).
    """

    mark: str
    verdict: str
    caption: str | None
    reason: str
    few_labels: str | None
    advice: list[str]
    commands: bool
    facts: list[tuple[str, str]]


def headline(run: ShownRun, outcome: Outcome | None = None) -> Headline:
    """A run's verdict, what to do about it, and its main numbers.

    Args:
        run: which.
        outcome: what trials say of it.
    """
    name = run.verdict.get("name", "no verdict")
    mark = "good" if name == HEALTHY else "bad" if name in COLLAPSES else "open"
    reason = run.verdict.get("reason", "the monitor has not looked at enough held-out films to give one")
    advice = list(run.verdict.get("advice", ()))
    caption = _HEALTHY_SAYS if name == HEALTHY else None
    few_labels = f"{outcome.words}{_BEST * bool(outcome.which)}" if outcome and outcome.words else None
    steps = advice or _next(run, outcome)
    return Headline(mark, name, caption, reason, few_labels, steps, not advice, _facts(run))


def comparison_table(runs: Sequence[ShownRun], outcomes: Sequence[Outcome | None] = ()) -> Table:
    """Runs side by side: verdict and what was measured last.

    Args:
        runs: which.
        outcomes: what trials say of each; none at all without trials.
    """
    columns = {
        "found": "retrieval",
        "matched": "held_out_matched_information",
        "rank": "feature_rank",
        "cosine": "feature_cosine",
        "masked error": MASKED_ERROR,
    }
    looks = [run.last_look for run in runs]
    present = {words: name for words, name in columns.items() if any(name in look for look in looks)}
    rows = []
    for run, look in zip(runs, looks, strict=True):
        _, losses = run.series("loss", "step")
        numbers = [f"{look[name]:.3g}" if name in look else None for name in present.values()]
        loss = f"{losses[-1]:.4g}" if losses else None
        steps, verdict = f"{run.state.get('step', 0):,}", run.verdict.get("name")
        rows.append([run.name, run.state.get("method"), verdict, steps, loss, *numbers])
    note = "found: share of held-out films found among others; losses of different methods do not compare"
    columns = ["run", "method", "verdict", "steps", "loss", *present]
    shorts = [outcome.short if outcome else None for outcome in outcomes]
    if any(shorts):
        columns.append("few labels")
        rows = [[*row, short] for row, short in zip(rows, shorts, strict=True)]
        note += "; few labels: mean AUROC less the baseline's, at so many positive patients to learn from"
    return Table("Runs side by side", columns, rows, note)


def time_table(runs: Sequence[ShownRun]) -> Table:
    """How long runs took, how fast they were, and what they cost so far."""
    rows = []
    for run in runs:
        state, batch = run.state, run.recipe.training.batch_size if run.recipe else None
        epochs = state["step"] * batch / state["films"] if batch and state.get("films") and "step" in state else None
        rows.append(
            [
                run.name,
                state.get("state"),
                f"{state.get('step', 0):,} of {state.get('total', 0):,}",
                f"{epochs:,.1f}" if epochs is not None else None,
                batch,
                duration(state.get("seconds", 0.0)),
                _middle(run, "images_per_second", ",.0f"),
                _middle(run, "waiting", ".0%"),
                _largest(run, "memory_gib"),
                money(run),
            ]
        )
    columns = ["run", "state", "steps", "epochs", "batch", "time", "films/s", "waiting for pixels"]
    note = (
        "films/s and waiting: medians of the logged steps. cost so far: time times devices times watch.price_per_hour."
    )
    return Table("Time and cost so far", [*columns, "GPU memory, GiB", "cost so far"], rows, note)


def memory_table(runs: Sequence[ShownRun]) -> Table | None:
    """What weights, averages and the optimizer's state take; None if no recipe could be built."""
    rows = []
    for run in runs:
        if run.recipe is None:
            continue
        memory = measure_memory(build_shapes(run.recipe), run.recipe.optimizer)
        counts = {
            "backbone": memory.backbone,
            "heads": memory.heads,
            "teacher": memory.teacher,
            "queue, centre": sum(memory.buffers.values()),
            "norm statistics": memory.statistics,
            "gradients": memory.backbone + memory.heads,
            "optimizer": memory.optimizer,
        }
        counts["together"] = sum(counts.values())
        rows.append([run.name, *(f"{count * BYTES / 2**20:,.1f}" for count in counts.values())])
    if not rows:
        return None
    note = "Counted from the built method. Activations and views come on top, and grow with the batch."
    return Table("Memory, MiB in fp32", ["run", *counts], rows, note)


def recipe_differences(runs: Sequence[ShownRun]) -> tuple[Table, Table]:
    """The settings in which runs differ; and those that only some have, which are alike in all that do."""
    settings = [flatten(yaml.safe_load(run.text) or {}) for run in runs]
    names = dict.fromkeys(name for of in settings for name in of)
    differ, partial = [], []
    for name in names:
        row = [name, *(_setting(of[name]) if name in of else None for of in settings)]
        if len({repr(of[name]) for of in settings if name in of}) > 1:
            differ.append(row)
        elif None in row:
            partial.append(row)
    columns = ["setting", *(run.name for run in runs)]
    note = f"{len(differ)} of {len(names)} settings; {len(names) - len(differ) - len(partial)} are alike in all runs"
    return Table("Settings that differ", columns, differ, note), Table("Settings that only some have", columns, partial)


def flatten(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line: `{"method": {"init_args": {"patch": 8}}}` -> method.patch."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        path = before if name == "init_args" else f"{before}.{name}" if before else str(name)
        flat |= flatten(value, path) if isinstance(value, dict) and value else {path: value}
    return flat


def data_tables(store: Store) -> list[Table]:
    """What is in a store: films, patients, views, findings."""
    table = store.table
    patients, ages = len(set(patients_of(table))), table["age"].dropna()
    facts = [
        ["films", f"{len(store):,}"],
        ["patients", f"{patients:,}"],
        ["sources", ", ".join(map(str, table["source"].dropna().unique())) or "unknown"],
        *([f"view {view}", f"{count:,}"] for view, count in table["view"].value_counts().items()),
        *([f"sex {_known(sex)}", f"{count:,}"] for sex, count in table["sex"].value_counts(dropna=False).items()),
        ["age, years: quartiles", " / ".join(f"{age:.0f}" for age in ages.quantile([0.25, 0.5, 0.75])) or "unknown"],
        ["stored as", f"{store.size} x {store.size} {store.dtype}"],
        ["mean and deviation of pixels", f"{store.mean:.3f} and {store.std:.3f}, of 0 to 1"],
        ["fingerprint", store.fingerprint[:16]],
    ]
    tables = [Table("Films", ["what", "value"], facts)]
    if counts := count_findings(store):
        rows = [
            [count.finding, *(f"{number:,}" for number in (count.present, count.uncertain, count.mentioned))]
            for count in counts
        ]
        note = "of the films, how many have it, may have it, and mention it at all; pretraining sees no label"
        tables.append(Table("Findings", ["finding", "present", "uncertain", "mentioned"], rows, note))
    return tables


def model_card(run: ShownRun) -> list[tuple[str, str]]:
    """Who would use a run's backbone must know this: (question, answer)."""
    state, recipe = run.state, run.recipe
    backbone = recipe.backbone.name if recipe else "see the recipe"
    begun = "random weights"
    if recipe and (recipe.backbone.pretrained or recipe.backbone.weights):
        begun = "published weights" if recipe.backbone.pretrained else "weights of an earlier run or file"
    sources = "unknown"
    if run.store is not None:
        sources = ", ".join(map(str, run.store.table["source"].dropna().unique())) or sources
    trained = f"{state.get('films', 0):,} films, source: {sources}; no label was used"
    measured = "the monitor's measures above, on "
    measured += (
        f"{state.get('held_out', 0):,} films of patients who were held out; what it is worth for a finding only "
    )
    measured += "a probe on labelled films can tell"
    size = f"{recipe.views.size} x {recipe.views.size} pixels, one channel" if recipe else "see the JSON beside it"
    if run.store is not None:
        size += f", normalised with mean {run.store.mean:.4f} and deviation {run.store.std:.4f}"
    return [
        ("Model", f"{backbone}, pretrained with {state.get('method')} from {begun}, {state.get('step', 0):,} steps"),
        ("Files", "backbone-last.safetensors under timm's names, and backbone-last.json"),
        ("Input", f"frontal chest radiographs, {size}"),
        ("Trained on", trained),
        ("Measured by", measured),
        ("For", "research: a start for probing or fine-tuning on few labelled films"),
        ("Not for", "diagnosis, triage or any decision about a patient; it is not a medical device"),
        (
            "Known limits",
            "features may tell site, view, sex or device as well as disease (scarce map asks them); films unlike those "
            "above, such as laterals, children or other collections, were not looked at",
        ),
        ("Licence of the data", "its owner's; weights learned from it may be bound by it too"),
    ]


def warnings_of(runs: Sequence[ShownRun]) -> list[str]:
    """What must be known before the numbers are believed."""
    said = []
    for run in runs:
        before = f"{run.name}: " if len(runs) > 1 else ""
        state = run.state
        if state.get("state") != "finished":
            done = f"{state.get('step', 0):,} of {state.get('total', 0):,} steps"
            said.append(f"{before}not finished: {state.get('state')} at {done}")
        if run.verdict.get("name") in COLLAPSES:
            said.append(f"{before}the monitor calls it {run.verdict['name']}: its features are worth little")
        films = run.last_look.get("held_out_films")
        if films is None:
            said.append(f"{before}no held-out film was measured: whether it learned anything is not known")
        elif films < _FEW_HELD_OUT:
            said.append(f"{before}measured on {films:.0f} held-out films only: small differences are chance")
        if run.store is not None and run.store.settings.get("patients") == "unknown":
            said.append(f"{before}patients are unknown: held-out films may be of patients that it was trained on")
        said += [f"{before}{note}" for note in run.notes]
    if len({run.state.get("fingerprint") for run in runs}) > 1:
        said.append("the runs were trained on different stores: they differ in more than their recipes")
    if len({run.state.get("method") for run in runs}) > 1:
        said.append("the runs are of different methods: their losses are of different kinds and do not compare")
    return said


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:,.0f} seconds"


def money(run: ShownRun) -> str | None:
    """What a run has cost so far; None if its recipe names no price."""
    price = run.recipe.watch.price_per_hour if run.recipe else 0.0
    if not price:
        return None
    devices = run.recipe.training.devices * run.recipe.training.nodes
    return f"{run.state.get('seconds', 0.0) / 3600 * devices * price:,.2f}"


def _next(run: ShownRun, outcome: Outcome | None) -> list[str]:
    """What to type where the page was made; what trials have answered is not asked again."""
    path = run.folder.path.absolute()
    name = _pasted(path)
    if run.state.get("state") not in ("finished", "running"):
        return [f"scarce resume {name}"]
    store = _pasted(run.store.path.resolve()) if run.store is not None else "STORE"
    if outcome is None:
        return [f"scarce probe {name} random --store {store} --out trials", "scarce compare trials"]
    start, asked = name + outcome.which, f"--store {store} --finding {shlex.quote(outcome.finding)}"
    asked += " --labels TABLE" * outcome.own_labels
    return [
        f"scarce explain {start} random {asked} --out {_pasted(path / 'figures')}",
        f"scarce export {start} {_pasted(path / 'export')} {asked}",
    ]


def _pasted(path: Path) -> str:
    """An absolute path as it is typed in the current directory: relative if it lies there."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _facts(run: ShownRun) -> list[tuple[str, str]]:
    state, look = run.state, run.last_look
    facts = [
        (f"{state.get('step', 0):,}", f"of {state.get('total', 0):,} steps"),
        (f"{state.get('films', 0):,}", f"films trained on; {state.get('held_out', 0):,} held out, by patient"),
        (duration(state.get("seconds", 0.0)), "of training"),
    ]
    if cost := money(run):
        facts.append((cost, f"cost so far, at {run.recipe.watch.price_per_hour:g} an hour of a device"))
    if "retrieval" in look:
        among = look.get("retrieval_among", np.nan)
        low, high = (look.get(f"retrieval_{end}", np.nan) for end in ("low", "high"))
        facts.append((_percent(look["retrieval"]), f"found among {among:.0f} ({_percent(low)} to {_percent(high)})"))
    if "held_out_matched_information" in look:
        facts.append((f"{look['held_out_matched_information']:.2f}", "nats of matched information"))
    if MASKED_ERROR in look:
        facts.append((f"{look[MASKED_ERROR]:.3f}", "masked error; 1: only the mean"))
    return facts


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _middle(run: ShownRun, column: str, form: str) -> str | None:
    _, values = run.series(column, "step")
    return format(float(np.median(values)), form).replace("%", " %") if values else None


def _largest(run: ShownRun, column: str) -> str | None:
    _, values = run.series(column, "step")
    return f"{max(values):.1f}" if values else None


def _setting(value: Any) -> str:
    """As YAML has it, numbers in six digits."""
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _known(value: Any) -> str:
    return "unknown" if pd.isna(value) else str(value)
