"""What two views' projections have in common, dimension by dimension: Barlow Twins' cross-correlation as a picture."""

import numpy as np
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

_SHOWN = 96
_BINS = np.linspace(-1, 1, 81)


def correlation_figure(correlation: np.ndarray, films: int, title: str) -> Figure:
    """The matrix, and how its values lie: the diagonal should be near 1, all else near 0.

    Args:
        correlation: (D, D) in [-1, 1]: of each dimension of one view with each of the other.
        films: how many films it was taken over: unrelated dimensions spread by 1 / sqrt(films) around 0.
        title: the whole figure's.
    """
    dimensions = len(correlation)
    shown = np.unique(np.linspace(0, dimensions - 1, min(dimensions, _SHOWN)).astype(int))
    figure = theme.figure(8.6, 4.1)
    figure.get_layout_engine().set(rect=(0, 0.06, 1, 0.94))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    matrix, values = figure.subplots(1, 2, width_ratios=(1, 1.25))
    picture = matrix.imshow(correlation[np.ix_(shown, shown)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    matrix.set_title(f"{len(shown)} of {dimensions} dimensions", fontsize=9, loc="left", fontweight="bold")
    matrix.set_xlabel("second view", fontsize=8)
    matrix.set_ylabel("first view", fontsize=8)
    matrix.set_xticks([])
    matrix.set_yticks([])
    bar = figure.colorbar(picture, ax=matrix, shrink=0.75, ticks=[-1, 0, 1])
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    diagonal = correlation.diagonal()
    others = correlation[~np.eye(dimensions, dtype=bool)]
    chance = 1 / np.sqrt(films)
    values.axvspan(-2 * chance, 2 * chance, color=theme.LIGHTBOX_QUIET, alpha=0.2, linewidth=0)
    for number, (name, numbers) in enumerate((("diagonal: the same dimension", diagonal), ("all others", others))):
        label = f"{name}, mean {numbers.mean():.2f}, rms {np.sqrt(np.mean(numbers**2)):.2f}"
        values.hist(
            numbers, _BINS, density=True, histtype="stepfilled", alpha=0.6, color=theme.COLORS[number], label=label
        )
    values.set_xlim(-1, 1)
    values.set_yticks([])
    values.set_xlabel(f"correlation; grey: unrelated dimensions of {films} films", fontsize=8)
    values.tick_params(labelsize=7)
    values.spines[["top", "right", "left"]].set_visible(False)
    values.legend(fontsize=7.5, frameon=False, loc="upper left")
    figure.text(0.995, 0.01, theme.DISCLAIMER, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    return figure
