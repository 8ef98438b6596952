"""Curves of a run: loss, learning rate, and every number that its method names; losses of several side by side."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from scipy.ndimage import gaussian_filter1d

from scarce_cxr.figures import theme

Series = tuple[list[int], list[float]]

# Inches and points: in a column of 8 cm the figure is seen at five eighths of its size.
_WIDTH, _LOSS, _SMALL, _MARGINS, _POINTS = 5.0, 2.1, 1.3, 0.75, 9.0
_COLUMNS = 2
# Largest and smallest size of a point, and how many may have the largest.
_LARGE, _SMALLEST, _FEW = 4.0, 1.0, 200
# Inches of a panel where several runs stand side by side, and how many beside each other.
_BESIDE_WIDTH, _BESIDE_HEIGHT, _BESIDE = 2.8, 1.9, 3
# Of a panel's values, as a share of the largest: the noise of a number that stands still shall not look like a course.
_LEAST_SPAN = 0.01


def run_curves(loss: Series, rate: Series, held_out: Series, numbers: Mapping[str, Series], title: str) -> Figure:
    """Loss (training and held out) above, learning rate and named numbers below, over optimizer steps.

    Every number has a panel and a scale of its own: nobody here knows which of them share a unit. Values are points,
    with a smoothed line through them; what is not finite is left out.

    Args:
        loss: steps and training losses.
        rate: steps and learning rates.
        held_out: steps and masked errors on held-out films; may be empty.
        numbers: steps and values of what else is worth seeing, by name.
        title: which run.

    Returns:
        A figure of two panels more than there are numbers.
    """
    rows = math.ceil((1 + len(numbers)) / _COLUMNS)
    figure = theme.figure(_WIDTH, _MARGINS + _LOSS + rows * _SMALL)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    figure.text(0.995, 0.005, theme.DISCLAIMER, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    figure.supxlabel("step", fontsize=_POINTS)
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=[_LOSS, *rows * [_SMALL]])
    upper = figure.add_subplot(grid[0, :])
    lower = [figure.add_subplot(grid[1 + n // _COLUMNS, n % _COLUMNS], sharex=upper) for n in range(1 + len(numbers))]
    _draw_noisy(upper, loss, theme.COLORS[0])
    if held_out[0]:
        upper.plot(*held_out, color=theme.COLORS[1], marker="o", markersize=4, label="held-out patients")
        upper.legend(frameon=False, fontsize=_POINTS)
    lower[0].plot(*rate, color=theme.COLORS[2], linewidth=1.2)
    for axes, series in zip(lower[1:], numbers.values(), strict=True):
        _draw_noisy(axes, series, theme.COLORS[0])
    for axes, heading in zip((upper, *lower), ("loss", "learning rate", *numbers), strict=True):
        axes.set_title(heading.replace("_", " "), loc="left", fontsize=_POINTS, fontweight="bold", pad=3)
        lowest, highest = axes.dataLim.intervaly
        if lowest < 0 < highest:
            axes.axhline(0, color="black", linewidth=0.6, zorder=1)
        if 0 <= highest - lowest < (least := _LEAST_SPAN * max(abs(lowest), abs(highest))):
            middle = (lowest + highest) / 2
            axes.set_ylim(middle - least / 2, middle + least / 2)
        _trim(axes)
    return figure


def losses_figure(losses: Mapping[str, Series], readings: Mapping[str, str], title: str, behind: str = "") -> Figure:
    """Training losses of several runs, a panel each: what one loss counts, another does not.

    Args:
        losses: steps and training losses by run, at least one.
        readings: what a run came to, by run, to be read beside its loss; a run may have none.
        title: what they are.
        behind: how many films and patients stand behind the readings.

    Returns:
        A figure of as many panels as there are runs.
    """
    columns = min(_BESIDE, len(losses))
    rows = math.ceil(len(losses) / columns)
    figure = theme.figure(columns * _BESIDE_WIDTH, _MARGINS + rows * _BESIDE_HEIGHT)
    figure.get_layout_engine().set(rect=(0, 0.2 / figure.get_figheight(), 1, 1 - 0.2 / figure.get_figheight()))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    words = f"{behind}.  {theme.DISCLAIMER}" if behind else theme.DISCLAIMER
    figure.text(0.995, 0.01, words, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (axes, (name, series)) in enumerate(zip(panels, losses.items(), strict=False)):
        _draw_noisy(axes, series, theme.COLORS[number % len(theme.COLORS)])
        axes.set_title(name, loc="left", fontsize=_POINTS, fontweight="bold", pad=3)
        axes.set_xlabel(readings.get(name, ""), fontsize=_POINTS - 1)
        _trim(axes)
    for axes in panels[len(losses) :]:
        axes.set_axis_off()
    return figure


def smooth(values: np.ndarray) -> np.ndarray:
    """Means of (n,) values and their neighbours, weighted by a Gaussian whose deviation is a sixth of the root of n.

    A longer series so loses more noise and less of its course: the deviation is of 36 values one of them, of 10,000
    values 17, which leave an eighth of the noise.
    """
    return gaussian_filter1d(values, len(values) ** 0.5 / 6)


def _draw_noisy(axes: Axes, series: Series, color: str) -> None:
    steps, values = map(np.asarray, series)
    finite = np.isfinite(values)
    if finite.any():
        steps, values = steps[finite], values[finite]
        size = max(_SMALLEST, _LARGE * min(1, _FEW / len(values)) ** 0.5)
        # Opaque and pale: under thousands of points the line would not be seen.
        pale = 0.6 + 0.4 * np.array(to_rgb(color))
        axes.plot(steps, values, color=pale, linestyle="none", marker=".", markersize=size, markeredgewidth=0)
        axes.plot(steps, smooth(values), color=color, linewidth=1.2, label="training batches")


def _trim(axes: Axes) -> None:
    """A few round ticks, whose numbers are short, and no more frame than they need."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=_POINTS)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
