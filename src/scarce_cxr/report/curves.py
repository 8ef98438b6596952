"""A run's curves, or those of several in the same panels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from scarce_cxr.figures.curves import smooth
from scarce_cxr.monitor.reconstruction import MASKED_ERROR
from scarce_cxr.report import plots
from scarce_cxr.report.runs import ShownRun
from scarce_cxr.results import Table

# Points of a line: more are not seen, and long runs would fill the page; and those of all runs in a panel.
_MOST_POINTS, _MOST_TOGETHER = 500, 2000
# Lines whose medians differ by more than this factor are drawn on a logarithmic axis.
_FAR_APART = 10
# Where a table looks at a curve: shares of its length.
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEADING = ("kind", "step", "epoch")
# What the loop measures of itself; all else is the method's or the monitor's.
_OF_THE_LOOP = ("grad_norm", "images_per_second", "waiting", "memory_gib")


class Measure(NamedTuple):
    """A column of the metrics.

    Attributes:
        column: its name.
        kind: of the rows that have it: step or watch.
        dash: of its line, in Plotly's words.
        interval: whether NAME_low and NAME_high stand beside it.
        noisy: whether it comes from single batches: then it is smoothed.
    """

    column: str
    kind: str = "watch"
    dash: str = "solid"
    interval: bool = False
    noisy: bool = False


class Panel(NamedTuple):
    """What is drawn together.

    Attributes:
        key: names it inside the page.
        heading: above it.
        reading: how to read it.
        measures: what is drawn.
    """

    key: str
    heading: str
    reading: str
    measures: tuple[Measure, ...]


class Curves(NamedTuple):
    """A drawn panel.

    Attributes:
        panel: which.
        figure: for Plotly.
        table: the same in numbers.
    """

    panel: Panel
    figure: plots.Figure
    table: Table


PANELS = (
    Panel(
        "loss",
        "Loss",
        "Of training batches, with a smoothed line. It says little alone: a collapsed run may have a low one.",
        (Measure("loss", "step", noisy=True),),
    ),
    Panel(
        "lr",
        "Learning rate",
        "A warm-up if the recipe has one, then half a cosine to zero at the last step.",
        (Measure("lr", "step"),),
    ),
    Panel(
        "matched",
        "Matched information",
        "Nats, with 95 % interval. 0: the student knows no more of a film than of the average film.",
        (Measure("held_out_matched_information", interval=True),),
    ),
    Panel(
        "rank",
        "Effective rank",
        "Directions in which held-out films differ: features solid, projections dotted. 1: all on one line.",
        (Measure("feature_rank"), Measure("projection_rank", dash="dot")),
    ),
    Panel(
        "cosine",
        "Mean cosine",
        "Between held-out films: features solid, projections dotted. 1: all point the same way.",
        (Measure("feature_cosine"), Measure("projection_cosine", dash="dot")),
    ),
    Panel(
        "retrieval",
        "Retrieval",
        "Share of held-out films whose second view is found among others, with 95 % interval. Higher is better.",
        (Measure("retrieval", interval=True),),
    ),
    Panel(
        "error",
        "Masked error",
        "On held-out films. 1: no better than every patch's mean. Lower is better.",
        (Measure(MASKED_ERROR),),
    ),
)
_SHOWN = {measure.column for panel in PANELS for measure in panel.measures}


def draw_curves(runs: Sequence[ShownRun]) -> list[Curves]:
    """The panels of which at least one run has numbers."""
    return [_draw(panel, runs) for panel in PANELS if _has(panel, runs)]


def draw_numbers(runs: Sequence[ShownRun]) -> list[Curves]:
    """A panel for every other number that was logged: first the parts of the losses and what else methods name."""
    names = {
        kind: dict.fromkeys(
            name for run in runs for row in run.rows if row["kind"] == kind for name, value in row.items() if value
        )
        for kind in ("step", "watch")
    }
    panels = [
        Panel(f"number-{kind}-{name}", name.replace("_", " "), "", (Measure(name, kind, noisy=kind == "step"),))
        for kind, of in names.items()
        for name in sorted(of, key=_OF_THE_LOOP.__contains__)
        if name not in _SHOWN and name not in _LEADING and not name.endswith(("_low", "_high"))
    ]
    return [_draw(panel, runs) for panel in panels]


def thin(length: int, most: int = _MOST_POINTS) -> np.ndarray:
    """Places of at most so many among `length`, evenly apart, the first and the last among them."""
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, most)).round().astype(int))


def _has(panel: Panel, runs: Sequence[ShownRun]) -> bool:
    return any(run.series(measure.column, measure.kind)[0] for run in runs for measure in panel.measures)


def _draw(panel: Panel, runs: Sequence[ShownRun]) -> Curves:
    figure, rows, drawn = plots.make_figure("step"), [], []
    for number, run in enumerate(runs):
        for measure in panel.measures:
            steps, values = run.series(measure.column, measure.kind)
            if not steps:
                continue
            kept = thin(len(steps), min(_MOST_POINTS, max(2, _MOST_TOGETHER // len(runs))))
            _add(figure, run, number, measure, np.array(steps), np.array(values), kept)
            if measure.noisy:
                drawn.append(np.array(values))
            words = f"{run.name}, {_words(measure)}" if len(panel.measures) > 1 else run.name
            rows.append([words, *(f"{values[at]:.4g} (step {steps[at]:,})" for at in _places(len(steps)))])
    if _far_apart(drawn):
        figure.update_yaxes(type="log")
    columns = ["run", "first", "a quarter", "half", "three quarters", "last"]
    return Curves(panel, plots.plain(figure), Table(panel.heading, columns, rows))


def _far_apart(drawn: list[np.ndarray]) -> bool:
    """Whether a straight axis would press some lines flat, as losses of different methods are of different sizes."""
    if len(drawn) < 2 or not all((values > 0).all() for values in drawn):
        return False
    middles = [np.median(values) for values in drawn]
    return max(middles) > _FAR_APART * min(middles)


def _add(
    figure: go.Figure,
    run: ShownRun,
    number: int,
    measure: Measure,
    steps: np.ndarray,
    values: np.ndarray,
    kept: np.ndarray,
) -> None:
    style = {"color": number, "run": number, "name": run.name}
    if measure.interval:
        ends = [run.series(f"{measure.column}_{end}", measure.kind) for end in ("low", "high")]
        if all(len(end[0]) == len(steps) for end in ends):
            low, high = (np.array(end[1])[kept].tolist() for end in ends)
            plots.add_band(figure, steps[kept].tolist(), low, high, color=number, run=number)
    if measure.noisy and len(values) > 2 and np.isfinite(values).all():
        points = {"mode": "markers", "marker": {"size": 3}, "hoverinfo": "skip"}
        plots.add_line(figure, steps[kept].tolist(), values[kept].tolist(), **style, **points)
        values = np.array([float(f"{value:.6g}") for value in smooth(values)])
    line = {"mode": "lines+markers" if measure.kind == "watch" and len(steps) <= 40 else "lines", "marker": {"size": 5}}
    line["line"] = {"width": 2, "dash": measure.dash}
    plots.add_line(figure, steps[kept].tolist(), values[kept].tolist(), **style, **line)


def _places(length: int) -> list[int]:
    return [round(share * (length - 1)) for share in _PLACES]


def _words(measure: Measure) -> str:
    return measure.column.replace("_", " ")
