"""`scarce monitor`: does it learn or collapse?"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np

    from scarce_cxr.images.store import Store
    from scarce_cxr.training.run_folder import RunFolder

Looks = list[tuple[int, dict[str, float]]]

# Column of the table -> number of a look. Short words: eight columns of numbers must fit into a terminal of 80 signs.
_COLUMNS = {
    "found": "retrieval",
    "matched": "held_out_matched_information",
    "entropy": "held_out_mean_teacher_entropy",
    "rank": "feature_rank",
    "cosine": "feature_cosine",
    "std": "feature_std",
    "head's rank": "projection_rank",
    "head's spread": "projection_std_ratio",
    "masked": "held_out_error",
}
_ROWS = 12
# Share of the patients that a backbone is measured on where no run says another.
_SHARE = 0.2
# Seconds between two looks at a followed run, and how long one that ended is given to be taken up again.
_EVERY, _PATIENCE = 1.0, 30.0


def monitor(
    runs: list[str], store: Path | None = None, size: int | None = None, out: Path | None = None, follow: bool = False
) -> Result:
    """Says whether runs learn or collapse: measures at every look, a verdict on each run, and a figure.

    Of several runs the training losses are drawn too, side by side.

    Args:
        runs: Folders of runs, finished or running; or backbones to compare with, for which a store is needed: timm
            names (random weights), pretrained:NAME (published weights), or safetensors files of a resnet50 or of
            another architecture as NAME:FILE.
        store: Where the films are, for plain backbones: those that the first run looks at, or else 256 of 20 % of the
            patients; none that a backbone's own run trained on.
        size: Side of the views in pixels, for plain backbones whose file does not say its own; by default the first
            run's, or 224.
        out: The figure; by default collapse.png, in a single run's folder of figures, and of several here. Losses go
            beside it, as collapse-losses.png.
        follow: Go on showing the looks of one running run until it ends; one that was killed is waited for a little.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.collapse import collapse_figure
    from scarce_cxr.figures.curves import losses_figure
    from scarce_cxr.training.run_folder import RunFolder, names_apart, read_looks, read_metrics, series

    if not runs:
        raise ScarceError("at least one run or backbone", "none", "scarce monitor RUN [RUN ...]")
    folders = {name: RunFolder(Path(name)) for name in runs if RunFolder(Path(name)).read_state()}
    ending = ""
    if follow:
        if len(runs) != 1 or not folders:
            raise ScarceError("one run to follow", ", ".join(runs), "scarce monitor RUN --follow")
        ending = _follow(folders[runs[0]])
    paths = [folder.path.resolve() for folder in folders.values()]
    if len(set(runs)) < len(runs) or len(set(paths)) < len(paths):
        raise ScarceError("different runs and backbones", ", ".join(runs), "name each once")
    apart = dict(zip(folders, names_apart(paths, [name for name in runs if name not in folders]), strict=True))
    first = next(iter(folders.values()), None)
    looks, losses, ends, behind, tables, notes, verdicts = {}, {}, {}, {}, [], [], []
    for name in runs:
        folder, shown = folders.get(name), apart.get(name, name)
        if folder:
            looks[shown] = read_looks(folder.metrics)
            behind[shown] = _say_behind(looks[shown])
        else:
            numbers, behind[shown] = _measure_backbone(name, store, size, first)
            looks[shown] = [(0, numbers)]
        tables.append(_table(shown, looks[shown], behind[shown]))
        loss = series(read_metrics(folder.metrics), "loss", "step") if folder and folder.metrics.is_file() else ([], [])
        if loss[0]:
            losses[shown], ends[shown] = loss, _say_end(folder, looks[shown])
        verdict = folder.read_state().get("verdict") if folder else None
        if verdict:
            verdicts.append([shown, verdict["name"], verdict["since"], verdict["looks"], verdict["reason"]])
            notes += [f"  {shown}, {number}: {what}" for number, what in enumerate(verdict["advice"], 1)]
    if verdicts:
        tables.append(Table("Verdicts", ["run", "verdict", "since step", "looks", "because"], verdicts))
    if notes:
        notes.insert(0, "\nWhat to change, the likeliest first:")
    notes += [f"\n{ending}"] if ending else []
    out = out or (first.figures if first and len(runs) == 1 else Path()) / "collapse.png"
    figure = collapse_figure(looks, ", ".join(looks), _each_once(behind.values()))
    files = [("figure", theme.save(figure, out))]
    if len(losses) > 1:
        title = "Training losses over steps, each on its own scale"
        figure = losses_figure(losses, ends, title, "; ".join(_each_once(behind[shown] for shown in losses)))
        files.append(("losses", theme.save(figure, out.with_name(f"{out.stem}-losses{out.suffix}"))))
    return Result(tables, files, notes)


def _each_once(words: Iterable[str]) -> list[str]:
    return [each for each in dict.fromkeys(words) if each]


def _say_end(folder: "RunFolder", looks: Looks) -> str:
    """What a run came to, in a few words: its verdict, and what it knows of held-out films."""
    last = looks[-1][1] if looks else {}
    words = [folder.read_state().get("verdict", {}).get("name", "no verdict")]
    if "held_out_error" in last:
        words.append(f"masked error {last['held_out_error']:.2f}")
    elif "retrieval" in last:
        words.append(f"{100 * last['retrieval']:.0f} % found again")
    return "; ".join(words)


def _table(name: str, looks: Looks, behind: str) -> Table:
    present = {column: number for column, number in _COLUMNS.items() if any(number in found for _, found in looks)}
    # The first and the last looks tell most; the rest stands in metrics.csv.
    shown = looks if len(looks) <= _ROWS else [looks[0], *looks[len(looks) - _ROWS + 1 :]]
    rows = [
        [step, *(_shorten(numbers[number]) if number in numbers else None for number in present.values())]
        for step, numbers in shown
    ]
    if behind:
        last = looks[-1][1]
        behind += f"; found again among {last['retrieval_among']:.0f}, 95 % interval at the end "
        behind += f"{last['retrieval_low']:.3f} to {last['retrieval_high']:.3f}"
    return Table(name, ["step", *present], rows, behind)


def _shorten(value: float) -> float:
    """Three digits of a number, and of a small one fewer: five signs in a table mostly, and seven at most."""
    return round(float(f"{value:.3g}"), 3 if abs(value) >= 0.01 else 4)


def _say_behind(looks: Looks, what: str = "held-out films") -> str:
    """How many films of how many patients the last look measured; empty if it does not say."""
    numbers = looks[-1][1] if looks else {}
    if "held_out_patients" not in numbers:
        return ""
    return f"{numbers['held_out_films']:.0f} {what} of {numbers['held_out_patients']:.0f} patients"


def _measure_backbone(
    name: str, path: Path | None, size: int | None, run: "RunFolder | None"
) -> tuple[dict[str, float], str]:
    """The measures of a backbone, and on which films.

    Args:
        name: as it was typed.
        path: of the store.
        size: side of the views in pixels; None: the run's.
        run: whose films it is measured on, if there is one to compare with.
    """
    from scarce_cxr.backbones.starts import load_start, parse_start
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.fewshot import seen_without_labels
    from scarce_cxr.images.store import Store
    from scarce_cxr.methods.method import Method
    from scarce_cxr.monitor.representation import measure
    from scarce_cxr.training.recipe import WatchSettings

    if path is None:
        raise ScarceError("a run's folder, or a store to measure a backbone on", name, "add --store STORE")
    recipe = _read_recipe(run) if run else {}
    start = parse_start(name, size=size or recipe.get("views", {}).get("init_args", {}).get("size"))
    method = Method()
    method.backbone = load_start(start)
    method.check(start.size)
    store = Store.open(path)
    watch = recipe.get("watch", {})
    share, most = watch.get("held_out") or _SHARE, watch.get("films", WatchSettings.films)
    films = _choose_films(store, share, most)
    seen = seen_without_labels(start, store, _sides(store, films))
    if seen and start.held_out < share:
        # A larger share has all patients of a smaller one, so these are held out by both.
        share = start.held_out
        films = _choose_films(store, share, most)
        seen = seen_without_labels(start, store, _sides(store, films))
    if len(films) < 2:
        got = f"{len(films)} in {path}, of {100 * share:g} % of the patients"
        raise ScarceError(f"at least two held-out films to measure {name} on", got, "give another store with --store")
    numbers = measure(method.eval(), store, films, start.size)
    behind = _say_behind([(0, numbers)], "held-out films" if seen == 0 else "films")
    if seen:
        behind += f", of which {start.name} was trained on {seen:,}"
    elif seen is None and start.kind in ("ssl", "file"):
        behind += f", which {start.name} may have been trained on"
    if run and run.read_state().get("fingerprint") not in (None, store.fingerprint):
        behind += ", of another store than the run's"
    return numbers, behind


def _read_recipe(run: "RunFolder") -> dict[str, Any]:
    """A run's recipe, not built: its method may be of a module that is not here."""
    import yaml

    return yaml.safe_load(run.recipe.read_text()) if run.recipe.is_file() else {}


def _choose_films(store: "Store", share: float, most: int) -> "np.ndarray":
    """(n,) indices of the films that a run with this share of patients held out looks at, at most `most`."""
    import numpy as np

    from scarce_cxr.images.splits import evenly, held_out

    films = np.flatnonzero(held_out(store.table, share))
    return films[evenly(len(films), most)]


def _sides(store: "Store", films: "np.ndarray") -> "np.ndarray":
    """(n,) "test" for these films, "train" for the others."""
    import numpy as np

    return np.where(np.isin(np.arange(len(store)), films), "test", "train")


def _follow(folder: "RunFolder") -> str:
    """Shows the looks of a run as they come, until the run ends or Ctrl-C.

    One that ends before its last step may be taken up again; then it is followed further.

    Returns:
        How it ended, if not after its last step.
    """
    import time

    from rich.live import Live
    from rich.table import Table as RichTable

    from scarce_cxr.progress import console
    from scarce_cxr.training.run_folder import read_looks

    def draw(ending: str = "") -> RichTable:
        state, looks = folder.read_state(), read_looks(folder.metrics)
        table = _table(folder.path.name, looks, _say_behind(looks))
        verdict = state.get("verdict", {"name": "no verdict yet", "reason": ""})
        title = f"{folder.path.name}: {verdict['name']}, step {state['step']} saved of {state['total']}"
        title += f". {ending}" if ending else ""
        drawn = RichTable(title=title, caption=f"{verdict['reason']}. {table.note}. Ctrl-C leaves.")
        for column in table.columns:
            drawn.add_column(column, justify="right")
        for row in table.rows:
            drawn.add_row(*("" if value is None else f"{value:.4g}" for value in row))
        return drawn

    ending = ""
    try:
        with Live(draw(), console=console, refresh_per_second=2) as live:
            trained = time.monotonic()
            while True:
                locked = folder.is_locked()
                ending = "" if locked else _say_ending(folder)
                live.update(draw(ending))
                if locked:
                    trained = time.monotonic()
                elif not ending or time.monotonic() - trained > _PATIENCE:
                    return ending
                time.sleep(_EVERY)
    except KeyboardInterrupt:
        return ending


def _say_ending(folder: "RunFolder") -> str:
    """How a run that nobody trains has ended; empty if it was after its last step."""
    state = folder.read_state()
    if state["state"] == "finished":
        return ""
    word = "killed" if state["state"] == "running" else state["state"]
    how = f"{word}, with step {state['step']} of {state['total']} saved"
    return f"{folder.path} was not trained to its end: {how}. Go on with it: scarce resume {folder.path}"
