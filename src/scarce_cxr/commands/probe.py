"""`scarce probe`: what frozen features tell with a few labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np

    from scarce_cxr.backbones.starts import Start
    from scarce_cxr.evaluation.fewshot import Cells, Task
    from scarce_cxr.evaluation.trials import Trials
    from scarce_cxr.images.store import Store

Negatives = Literal["any", "normals", "other findings"]
Uncertain = Literal["leave_out", "positive", "negative"]
Unmentioned = Literal["leave_out", "negative"]


def probe(
    starts: list[str],
    store: Path | None = None,
    out: Path = Path("scarce-trials"),
    findings: list[str] | None = None,
    shots: list[str] | None = None,
    draws: int = 20,
    labels: Path | None = None,
    id_column: str | None = None,
    uncertain: Uncertain = "leave_out",
    unmentioned: Unmentioned = "leave_out",
    negatives: Negatives = "any",
    test: float = 0.2,
    tune: float = 0.15,
    also: list[Literal["prototype", "neighbours"]] | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    protocol: Literal["ours", "original"] = "ours",
    exclude: Path | None = None,
) -> Result:
    """Fits a logistic regression to a few labelled films' frozen features, again and again, and tests it on the rest.

    Every start sees the same draws: k patients with the finding and k without, of the train split. All films of the
    test split count, of patients that pretraining leaves out by default. What is in OUT already is not fitted again.

    Args:
        starts: What backbones begin from: runs' folders (or RUN:best), files as NAME:FILE, pretrained:NAME, or random;
            a label may stand before it, as in moco=runs/moco.
        store: The films; must be given.
        out: Folder of the trials.
        findings: Which; by default all that the labels have.
        shots: Numbers of positive patients, or all; by default 1 5 10 20 50 all.
        draws: Draws of each shot.
        labels: A CSV table of your own with a column that names the film; by default the store's labels.
        id_column: Its column that names the film; by default the one that fits.
        uncertain: What -1 counts as.
        unmentioned: What an empty label counts as.
        negatives: Which films without the finding draws may take; tests always have all.
        test: Share of the patients to test on.
        tune: Share of the others that thresholds and calibration come from.
        also: Other ways to use frozen features.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Another seed makes other draws.
        device: Where to compute.
        protocol: original replays the first protocol (balanced test, normal negatives, capped shots), marked as such,
            to compare with its published tables only; slow.
        exclude: A changed copy of padchest.yaml, whose excluded labels' films the original protocol leaves out.
    """
    from scarce_cxr.backbones.embed import embed
    from scarce_cxr.evaluation.fewshot import fit_frozen, start_key
    from scarce_cxr.evaluation.original import excluded_labels, original_scores, original_table

    original = protocol == "original"
    _check_original(original, exclude, also, negatives)

    question = ask(
        starts,
        store,
        out,
        findings,
        shots,
        draws,
        labels,
        id_column,
        uncertain,
        unmentioned,
        negatives,
        test,
        tune,
        size,
        seed,
        excluded=excluded_labels(exclude) if original else None,
    )
    scorer = original_scores if original else None
    for start in question.starts:
        features = embed(question.store, start, device=device).array
        hows = ("probe", *(also or ()))
        fit_frozen(
            question.trials,
            start,
            features,
            question.tasks,
            question.cells,
            hows,
            seed=seed,
            device=device,
            scorer=scorer,
        )
    table = table_of(question, "probe")
    if original:
        names = {start_key(start): start.name for start in question.starts}
        table = original_table(question.trials, names, question.tasks, question.cells)
    return Result([table], [("trials", out / "trials.parquet")], [*question.notes, next_step(out)])


def _check_original(original: bool, exclude: Path | None, also: list[str] | None, negatives: Negatives) -> None:
    """Raises ScarceError where the original protocol is mixed with what it did not know, or a list has no use."""
    from scarce_cxr.errors import ScarceError

    if exclude is not None and not original:
        raise ScarceError("--protocol original with --exclude", "our protocol", "add it, or leave --exclude out")
    if original and (also or negatives == "other findings"):
        got = f"also = {also}, negatives = {negatives}"
        raise ScarceError("probes against normal films, as the original had them", got, "leave these out")


@dataclass(frozen=True)
class Question:
    """Everything that probing and fine-tuning share: films, starts, tasks, draws, and where trials go."""

    store: "Store"
    starts: "list[Start]"
    tasks: "dict[str, Task]"
    cells: "dict[str, Cells]"
    split: "np.ndarray"
    trials: "Trials"
    notes: list[str]


def ask(
    starts: list[str],
    store_path: Path | None,
    out: Path,
    findings: list[str] | None,
    shots: list[str] | None,
    draws: int,
    labels: Path | None,
    id_column: str | None,
    uncertain: Uncertain,
    unmentioned: Unmentioned,
    negatives: Negatives,
    test: float,
    tune: float,
    size: int | None,
    seed: int,
    excluded: list[str] | None = None,
) -> Question:
    """Opens the store, reads labels, sorts patients, draws films; see `probe` for the arguments.

    With a list `excluded`, by the original protocol: these are the labels whose films it leaves out.
    """
    from scarce_cxr.backbones.starts import parse_starts
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.fewshot import check_asked, draw_cells, facts_of, make_tasks, start_key
    from scarce_cxr.evaluation.original import original_cells, original_tasks
    from scarce_cxr.evaluation.trials import Trials
    from scarce_cxr.images.labels import read_labels
    from scarce_cxr.images.shots import SHOTS
    from scarce_cxr.images.sources.lists import digest
    from scarce_cxr.images.splits import refuse_unknown_patients, split
    from scarce_cxr.images.store import Store, checksum_of

    if not starts or store_path is None:
        lacking = "a store of films" if starts else "at least one start"
        raise ScarceError(lacking, "none", "scarce probe RUN random --store STORE")
    # The original knew no "all".
    shots = list(shots or (SHOTS if excluded is None else SHOTS[:-1]))
    check_asked(shots, SHOTS, draws)
    store = Store.open(store_path)
    if store.table["split"].isna().any():
        refuse_unknown_patients(store.settings)
    parsed = parse_starts(starts, size=size, seed=seed)
    sides = split(store.table, test=test, tune=tune, store_path=store.path)
    read = read_labels(store, findings, file=labels, id_column=id_column, uncertain=uncertain, unmentioned=unmentioned)
    tasks = make_tasks(store, read, sides, negatives)
    notes = list(read.notes)
    if excluded is not None:
        known = read_labels(store, file=labels, id_column=id_column, uncertain=uncertain, unmentioned=unmentioned)
        tasks, said = original_tasks(tasks, known, excluded, seed)
        notes += said
    protocol = {
        "store": store.fingerprint,
        "films": len(store),
        "labels": f"{labels.name} {checksum_of(labels)[:8]}" if labels else "the store's",
        "uncertain": uncertain,
        "unmentioned": unmentioned,
        "negatives": negatives,
        "test": test,
        "tune": tune,
        "seed": seed,
        **({} if excluded is None else {"protocol": "original", "excluded": digest({"excluded": excluded})}),
    }
    trials = Trials(out, protocol)
    trials.keep_test_films({name: task.test for name, task in tasks.items()}, store.table["image_id"].tolist())
    facts = {start_key(start): facts_of(start, store, sides) for start in parsed}
    trials.keep_starts(facts)
    for of in facts.values():
        if seen := of["test_films_seen"]:
            notes.append(
                f"{of['name']} was pretrained on {seen:,} of the test films or their patients' others, without labels"
            )
    if excluded is None:
        cells = {name: draw_cells(task, shots, draws, seed) for name, task in tasks.items()}
    else:
        cells = {}
        for name, task in tasks.items():
            cells[name], said = original_cells(task, shots, draws, seed)
            notes += said
    return Question(store, parsed, tasks, cells, sides, trials, notes)


def table_of(question: Question, how: str) -> Table:
    """Mean AUROC over draws by finding, shot and start, with its 95 % interval by patients and draws."""
    from scarce_cxr.evaluation.comparison import in_digits
    from scarce_cxr.evaluation.fewshot import start_key
    from scarce_cxr.evaluation.intervals import auroc_interval
    from scarce_cxr.evaluation.scores import auroc

    def cell(start: "Start", finding: str, shot: str) -> str | None:
        _, scores = question.trials.scores(start_key(start), how, finding, shot)
        if not len(scores):
            return None
        test = question.tasks[finding].test
        interval = auroc_interval(scores, test.labels, test.patients)
        return in_digits(float(auroc(scores, test.labels).mean()), interval.low, interval.high)

    rows: list[list[str | None]] = []
    for finding, cells in question.cells.items():
        labels = question.tasks[finding].test.labels
        for shot in cells:
            shown = (finding, f"{int(labels.sum())} of {len(labels)}") if shot == next(iter(cells)) else ("", "")
            rows.append([*shown, shot, *(cell(start, finding, shot) for start in question.starts)])
    patients = len({patient for task in question.tasks.values() for patient in task.test.patients})
    drawn = [draws for cells in question.cells.values() for draws in cells.values() if isinstance(draws, list)]
    most = max(map(len, drawn), default=0)
    note = f"AUROC on {patients} test patients, mean of up to {most} draws, 95 % interval over patients and draws; "
    note += "test: positive films of all; empty: too few patients, scarce compare says how many"
    columns = ["finding", "test", "shots", *(start.name for start in question.starts)]
    return Table(f"What {how} tells with so many positive patients", columns, rows, note)


def next_step(out: Path) -> str:
    """What to type next."""
    return f"Differences, intervals and figures: scarce compare {out}"
