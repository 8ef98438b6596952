"""Learning rates of several recipes in one figure."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from scarce_cxr.figures import theme

# Where curves are compared, and what no eye would tell apart.
_SHARES, _NEAR = np.linspace(0, 1, 201), 5e-3


class Schedule(NamedTuple):
    """One recipe's learning rate.

    Attributes:
        name: of the recipe.
        epochs: (n,) rising, in epochs, greater than 0; the last one is the end of the run.
        rates: (n,) the learning rate there, at least 0.
    """

    name: str
    epochs: np.ndarray
    rates: np.ndarray


def schedules_figure(schedules: Sequence[Schedule]) -> Figure:
    """The rates as they are on the left, their shapes on the right.

    Left, the learning rate over epochs, both in logarithms, as recipes differ by orders of magnitude in both; right,
    the share of its peak over the share of the run. Where several curves are the same, the later ones are dashed, so
    that every colour is seen.

    Args:
        schedules: at least one.

    Returns:
        A figure of two panels; the legend names every recipe's peak.
    """
    figure = theme.figure(10.0, 4.4 + 0.1 * len(schedules))
    figure.suptitle("Learning rates", x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    figure.text(0.995, 0.005, theme.DISCLAIMER, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    ends = [schedule.epochs[-1] for schedule in schedules]
    peaks = [schedule.rates.max() for schedule in schedules]
    shapes = [s.rates / peak for s, peak in zip(schedules, peaks, strict=True)]
    sampled = [np.interp(_SHARES, s.epochs / s.epochs[-1], shape) for s, shape in zip(schedules, shapes, strict=True)]
    whole = [np.append(shape, np.log([peak, end])) for shape, peak, end in zip(sampled, peaks, ends, strict=True)]
    styles = zip(itertools.cycle(theme.COLORS), _dashes(whole), _dashes(sampled), strict=False)
    for schedule, shape, peak, end, style in zip(schedules, shapes, peaks, ends, styles, strict=False):
        color, absolute, relative = style
        label = f"{schedule.name}: peak {peak:.3g}, {end:.4g} epochs"
        left.plot(schedule.epochs, schedule.rates, color=color, linestyle=absolute, linewidth=1.8, label=label)
        right.plot(schedule.epochs / end, shape, color=color, linestyle=relative, linewidth=1.8)
    # Neither the first steps nor the cosine's end, which is 0, fit into logarithms.
    left.set(xscale="log", xlim=(min(1.0, min(ends) / 100), max(ends) * 1.2), xlabel="epoch")
    left.set(yscale="log", ylim=(min(peaks) / 100, max(peaks) * 1.6), ylabel="learning rate")
    left.xaxis.set_major_formatter("{x:g}")
    right.set(xlabel="share of the run", ylabel="share of the peak rate", ylim=(0, 1.04))
    right.xaxis.set_major_formatter(PercentFormatter(1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=2)
    return figure


def _dashes(curves: list[np.ndarray]) -> list:
    """matplotlib's line styles, by which curves that lie over each other take turns in being seen."""
    styles: list = []
    for curve in curves:
        same = [index for index, other in enumerate(curves) if np.allclose(curve, other, atol=_NEAR)]
        turn = sum(index < len(styles) for index in same)
        styles.append((4 * turn - 4, (4, 4 * (len(same) - 1))) if turn else "solid")
    return styles
