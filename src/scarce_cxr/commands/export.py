"""`scarce export`: a backbone, with probes if asked for, made into a model for elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scarce_cxr.commands.probe import Negatives, Uncertain, Unmentioned
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.evaluation.export import Exported

# Fewer positive films than this calibrate badly.
_FEW = 10


def export(
    start: str,
    out: Path,
    to: Literal["timm", "hf", "pt2", "onnx"] = "timm",
    store: Path | None = None,
    finding: list[str] | None = None,
    shot: str = "all",
    labels: Path | None = None,
    id_column: str | None = None,
    uncertain: Uncertain = "leave_out",
    unmentioned: Unmentioned = "leave_out",
    negatives: Negatives = "any",
    test: float = 0.2,
    tune: float = 0.15,
    size: int | None = None,
    pixels: Literal["float32", "uint8"] = "float32",
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Writes a backbone with its preprocessing, and calibrated probes of findings, for use without scarce or with it.

    What is written is read again and tried on 32 films before it gets its name: its numbers are those of the start. A
    probe is fitted as scarce probe fits it, and tested on the test patients.

    Args:
        start: What the backbone is: a run's folder (or RUN:best), NAME:FILE, pretrained:NAME, or random.
        out: Folder (timm, hf) or file (pt2, onnx) to write; must not be there.
        to: A folder for timm; the same with a model card; a file of torch.export; a file for ONNX Runtime.
        store: The films of probes, and how files become films; by default the run's own, for the latter alone.
        finding: One or several, each with a probe; by default none.
        shot: How many patients with the finding to fit on, or all.
        labels: A CSV table of your own with a column that names the film; by default the store's labels.
        id_column: Its column that names the film; by default the one that fits.
        uncertain: What -1 counts as.
        unmentioned: What an empty label counts as.
        negatives: Which films without the finding the probe may learn from; the test has all.
        test: Share of the patients to test on.
        tune: Share of the others that thresholds and calibration come from.
        size: Side in pixels for a start that names none.
        pixels: What the graph takes: numbers in [0, 1], or bytes.
        seed: Another seed makes other draws and folds.
        device: Where features are computed.
    """
    from scarce_cxr.backbones.starts import parse_start
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.export import backbone_parts, export_model, probed_parts
    from scarce_cxr.evaluation.fewshot import check_asked, make_tasks
    from scarce_cxr.images.labels import read_labels
    from scarce_cxr.images.shots import SHOTS
    from scarce_cxr.images.splits import refuse_unknown_patients, split
    from scarce_cxr.images.store import Store

    opened = None if store is None else Store.open(store)
    if finding and opened is None:
        raise ScarceError("a store to fit a probe on", "none", "add --store STORE")
    check_asked([shot], SHOTS, 1)
    parsed = parse_start(start, size=size, seed=seed)
    notes: list[str] = []
    if finding:
        if opened.table["split"].isna().any():
            refuse_unknown_patients(opened.settings)
        sides = split(opened.table, test=test, tune=tune, store_path=opened.path)
        read = read_labels(
            opened, finding, file=labels, id_column=id_column, uncertain=uncertain, unmentioned=unmentioned
        )
        notes += read.notes
        tasks = list(make_tasks(opened, read, sides, negatives).values())
        parts = probed_parts(parsed, opened, tasks, sides, shot=shot, seed=seed, device=device, pixels=pixels)
    else:
        parts = backbone_parts(parsed, opened, pixels)
    made = export_model(parts, to, out)
    tables = [_parity_table(made, len(parts.reference.films))]
    if made.facts.probes:
        tables.append(_probe_table(made))
    notes += parts.notes
    notes += [
        f"{probe.finding}: {probe.tune_positives} positive tuning films: take its probabilities and threshold with care"
        for probe in made.facts.probes
        if probe.tune_positives < _FEW
    ]
    if guard := made.facts.guard:
        notes.append(f"The guard warns of {guard.held_out_warned} of {guard.held_out_films} test films")
    if made.facts.probes:
        notes.append(f"\nNext: scarce predict {made.path} FILMS")
    return Result(tables, [("model", made.path)], [*notes, "Research use only: not a medical device."])


def _parity_table(made: "Exported", films: int) -> Table:
    rows = [[name, float(f"{difference:.2g}")] for name, difference in made.differences.items()]
    note = f"Read again and run on {films} films; largest absolute difference from the start's own"
    return Table(f"{made.path.name} agrees", ["output", "difference"], rows, note)


def _probe_table(made: "Exported") -> Table:
    from scarce_cxr.evaluation.comparison import in_digits

    rows = [
        [
            probe.finding,
            f"{probe.train_positives} of {probe.train_films}",
            f"{probe.test_positives} of {probe.test_films}",
            in_digits(*probe.auroc),
            round(probe.threshold, 4),
            in_digits(*probe.sensitivity),
            in_digits(*probe.specificity),
        ]
        for probe in made.facts.probes
    ]
    columns = ["finding", "fitted on", "tested on", "AUROC", "threshold", "sensitivity", "specificity"]
    patients = max(probe.test_patients for probe in made.facts.probes)
    note = f"Positive films of all; {patients} test patients, 95 % intervals over them; threshold: a probability, "
    note += "specificity 90 % on the tuning films"
    return Table("Probes", columns, rows, note)
