"""DINO's plateau beside a recipe that learns: what the loss hides, and what held-out films show."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scarce_cxr.figures import theme
from scarce_cxr.figures.collapse import Looks, draw_measure, say_behind

Series = tuple[list[int], list[float]]

# Inches and points: in a column of 700 pixels a point is 1.4 of them.
_WIDTH, _HEIGHT, _FOOT, _POINTS = 7.0, 8.0, 0.25, 9.0
_PALE = "#80ceb9"
# Of training batches: number -> name and style. On the plateau all three lie on one line, so the lower ones are wider.
_LINES = {
    "mean_teacher_entropy": ("H(mean t)", {"color": _PALE, "linewidth": 5}),
    "teacher_entropy": ("H(t)", {"color": theme.COLORS[3], "linewidth": 2.4}),
    "loss": ("loss", {"color": theme.COLORS[6], "linewidth": 1.1}),
}
# Of held-out films: number -> heading and how to read it.
_PANELS = {
    "held_out_matched_information": ("matched information, nats", "0: no better than the average film"),
    "retrieval": ("share of films found again", "higher is better"),
    "feature_rank": ("effective rank, features", "1: all films on one line"),
    "feature_cosine": ("mean cosine, features", "1: all films point the same way"),
}


def plateau_figure(
    batches: Mapping[str, Mapping[str, Series]], looks: Mapping[str, Looks], verdicts: Mapping[str, str]
) -> Figure:
    """Runs of DINO side by side over the same steps.

    Above, a panel for each run: loss, H(t) and H(mean t) of training batches, under the ceiling ln K; what lies between
    loss and H(mean t) is matched information. Below, a panel for each measure of held-out films.

    Args:
        batches: by run, steps and values of `loss`, `teacher_entropy` and `mean_teacher_entropy`, in nats.
        looks: by run, (step, named numbers) of every look at held-out films.
        verdicts: by run, the monitor's.

    Returns:
        A figure of three rows of panels, two runs beside each other.
    """
    figure = theme.figure(_WIDTH, _HEIGHT)
    figure.get_layout_engine().set(rect=(0, _FOOT / _HEIGHT, 1, 1 - _FOOT / _HEIGHT), hspace=0.04, wspace=0.03)
    rows = 1 + len(_PANELS) // 2
    panels = figure.subplots(rows, 2, sharex=True)
    upper, lower = panels[0], panels[1:].ravel()
    upper[1].sharey(upper[0])
    for axes, name, color in zip(upper, batches, theme.COLORS, strict=False):
        _draw_batches(axes, batches[name], looks[name])
        axes.set_title(f"{name}: {verdicts[name]}", loc="left", fontsize=_POINTS + 1, fontweight="bold", color=color)
        _trim(axes)
    for axes, (number, (heading, reading)) in zip(lower, _PANELS.items(), strict=True):
        draw_measure(axes, [looks[name] for name in batches], number)
        axes.set_title(heading, loc="left", fontsize=_POINTS + 1, fontweight="bold")
        axes.set_xlabel(reading, fontsize=_POINTS)
        _trim(axes)
    upper[0].legend(frameon=False, fontsize=_POINTS, loc="lower right", reverse=True)
    lower[0].legend(lower[0].get_lines()[: len(batches)], list(batches), frameon=False, fontsize=_POINTS)
    figure.text(0.01, 0.008, "over optimizer steps", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    words = f"below: {'; '.join(say_behind(looks))}.  {theme.DISCLAIMER}"
    figure.text(0.995, 0.008, words, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    return figure


def _draw_batches(axes: Axes, batches: Mapping[str, Series], looks: Looks) -> None:
    steps, most = batches["mean_teacher_entropy"]
    known = {"color": _PALE, "alpha": 0.3, "linewidth": 0, "label": "matched information"}
    axes.fill_between(steps, batches["loss"][1], most, where=np.greater(most, batches["loss"][1]), **known)
    for number, (label, style) in _LINES.items():
        axes.plot(*batches[number], label=label, solid_capstyle="round", **style)
    ceiling = looks[-1][1]["ln_outputs"]
    axes.axhline(ceiling, color=theme.LIGHTBOX_QUIET, linewidth=1.2, linestyle=":", label="ceiling, ln K", zorder=1)
    axes.set_ylim(0, 1.15 * ceiling)
    axes.set_xlabel("training batches, nats", fontsize=_POINTS)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _trim(axes: Axes) -> None:
    axes.tick_params(labelsize=_POINTS, labelbottom=True)
    axes.locator_params(nbins=5)
