"""`scarce monitor`: does it learn or collapse?"""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.training.run_folder import RunFolder

# Column of the table -> number of a look. Short words: eight columns of numbers must fit into a terminal.
_COLUMNS = {
    "found": "retrieval",
    "matched": "held_out_matched_information",
    "entropy": "held_out_mean_teacher_entropy",
    "rank": "feature_rank",
    "cosine": "feature_cosine",
    "spread": "feature_std_ratio",
    "head's rank": "projection_rank",
    "spread ": "projection_std_ratio",
    "masked": "held_out_error",
}
_ROWS = 12


def monitor(
    runs: list[str], store: Path | None = None, size: int = 224, out: Path | None = None, follow: bool = False
) -> Result:
    """Says whether runs learn or collapse: measures at every look, a verdict on each run, and a figure.

    Of several runs the training losses are drawn too, side by side.

    Args:
        runs: Folders of runs, finished or running; or backbones to compare with, for which a store is needed: timm
            names (random weights), pretrained:NAME (published weights), or safetensors files of a resnet50 or of
            another architecture as NAME:FILE.
        store: Where the films are, for plain backbones; 20 % of the patients are measured.
        size: Side of the views in pixels, for plain backbones whose file does not say its own.
        out: The figure; by default collapse.png in the first run's folder of figures, or here. Losses go beside it,
            as collapse-losses.png.
        follow: Go on showing the looks of one running run until it ends.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.collapse import collapse_figure
    from scarce_cxr.figures.curves import losses_figure
    from scarce_cxr.training.run_folder import RunFolder, read_looks, read_metrics, series

    if not runs:
        raise ScarceError("at least one run or backbone", "none", "scarce monitor RUN [RUN ...]")
    folders = {name: RunFolder(Path(name)) for name in runs if RunFolder(Path(name)).read_state()}
    if follow:
        if len(runs) != 1 or not folders:
            raise ScarceError("one run to follow", ", ".join(runs), "scarce monitor RUN --follow")
        _follow(folders[runs[0]])
    looks, losses, ends, behind, tables, notes, verdicts = {}, {}, {}, set(), [], [], []
    for name in runs:
        folder = folders.get(name)
        shown = folder.path.resolve().name if folder else name
        looks[shown] = read_looks(folder.metrics) if folder else [(0, _measure_backbone(name, store, size))]
        tables.append(_table(shown, looks[shown]))
        loss = series(read_metrics(folder.metrics), "loss", "step") if folder and folder.metrics.is_file() else ([], [])
        if loss[0]:
            losses[shown], ends[shown] = loss, _say_end(folder, looks[shown])
            behind |= {_say_behind(numbers) for _, numbers in looks[shown][-1:]} - {""}
        verdict = folder.read_state().get("verdict") if folder else None
        if verdict:
            verdicts.append([shown, verdict["name"], verdict["since"], verdict["looks"], verdict["reason"]])
            notes += [f"  {shown}, {number}: {what}" for number, what in enumerate(verdict["advice"], 1)]
    if verdicts:
        tables.append(Table("Verdicts", ["run", "verdict", "since step", "looks", "because"], verdicts))
    if notes:
        notes.insert(0, "\nWhat to change, the likeliest first:")
    out = out or (next(iter(folders.values())).figures if folders else Path()) / "collapse.png"
    files = [("figure", theme.save(collapse_figure(looks, ", ".join(looks)), out))]
    if len(losses) > 1:
        title = "Training losses over steps, each on its own scale"
        figure = losses_figure(losses, ends, title, "; ".join(sorted(behind)))
        files.append(("losses", theme.save(figure, out.with_name(f"{out.stem}-losses{out.suffix}"))))
    return Result(tables, files, notes)


def _say_end(folder: "RunFolder", looks: list[tuple[int, dict[str, float]]]) -> str:
    """What a run came to, in a few words: its verdict, and what it knows of held-out films."""
    last = looks[-1][1] if looks else {}
    words = [folder.read_state().get("verdict", {}).get("name", "no verdict")]
    if "held_out_error" in last:
        words.append(f"masked error {last['held_out_error']:.2f}")
    elif "retrieval" in last:
        words.append(f"{100 * last['retrieval']:.0f} % found again")
    return "; ".join(words)


def _table(name: str, looks: list[tuple[int, dict[str, float]]]) -> Table:
    present = {column: number for column, number in _COLUMNS.items() if any(number in found for _, found in looks)}
    # The first and the last looks tell most; the rest stands in metrics.csv.
    shown = looks if len(looks) <= _ROWS else [looks[0], *looks[len(looks) - _ROWS + 1 :]]
    rows = [
        [step, *(float(f"{numbers[number]:.3g}") if number in numbers else None for number in present.values())]
        for step, numbers in shown
    ]
    behind = _say_behind(looks[-1][1]) if looks else ""
    if behind:
        last = looks[-1][1]
        behind += f"; found again among {last['retrieval_among']:.0f}, 95 % interval at the end "
        behind += f"{last['retrieval_low']:.3f} to {last['retrieval_high']:.3f}"
    return Table(name, ["step", *present], rows, behind)


def _say_behind(numbers: dict[str, float]) -> str:
    """How many films and patients a look measured; empty if it does not say."""
    if "held_out_patients" not in numbers:
        return ""
    return f"{numbers['held_out_films']:.0f} held-out films of {numbers['held_out_patients']:.0f} patients"


def _measure_backbone(name: str, path: Path | None, size: int) -> dict[str, float]:
    """The measures of a backbone that no run made."""
    import numpy as np

    from scarce_cxr.backbones.starts import load_start, parse_start
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.splits import held_out
    from scarce_cxr.images.store import Store
    from scarce_cxr.methods.method import Method
    from scarce_cxr.monitor.representation import measure

    if path is None:
        raise ScarceError("a run's folder, or a store to measure a backbone on", name, "add --store STORE")
    start = parse_start(name, size=size)
    method = Method()
    method.backbone = load_start(start)
    method.check(start.size)
    store = Store.open(path)
    return measure(method.eval(), store, np.flatnonzero(held_out(store.table, 0.2)), start.size)


def _follow(folder) -> None:
    """Shows the looks of a run as they come, until the run ends or Ctrl-C."""
    import time

    from rich.live import Live
    from rich.table import Table as RichTable

    from scarce_cxr.progress import console
    from scarce_cxr.training.run_folder import read_looks

    def draw() -> RichTable:
        state, looks = folder.read_state(), read_looks(folder.metrics)
        table = _table(folder.path.name, looks)
        verdict = state.get("verdict", {"name": "no verdict yet", "reason": ""})
        title = f"{folder.path.name}: {verdict['name']}, step {state['step']} saved of {state['total']}"
        drawn = RichTable(title=title, caption=f"{verdict['reason']}. {table.note}. Ctrl-C leaves.")
        for column in table.columns:
            drawn.add_column(column, justify="right")
        for row in table.rows:
            drawn.add_row(*("" if value is None else f"{value:.4g}" for value in row))
        return drawn

    try:
        with Live(draw(), console=console, refresh_per_second=2) as live:
            while folder.is_locked():
                time.sleep(1)
                live.update(draw())
            live.update(draw())
    except KeyboardInterrupt:
        return
