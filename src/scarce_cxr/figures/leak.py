"""How visible pixels leak behind the mask of a dense encoder, and not of an exact one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scarce_cxr.figures import theme

_HIDDEN, _SEEN = "#2f4858", "#6b7280"
# From nothing, in the blue of what was not seen, to as large as what was seen.
_LEAK_COLORS = LinearSegmentedColormap.from_list("leak", [_HIDDEN, theme.LIGHTBOX_ACCENT, "#fff7e0"])
_GRADIENT_COLORS = LinearSegmentedColormap.from_list("gradient", ["#000000", theme.LIGHTBOX_ACCENT, "#fff7e0"])
_LEGEND = (
    "grey: visible; blue: masked and empty; orange to white: masked, yet different from an empty film, up to as much "
    "as visible positions are on average (size 1)"
)
# Slopes are drawn as means over squares of so many pixels: single ones are noise.
_BLOCK = 4


class Strip(NamedTuple):
    """A 3x3 mean that slides along a strip of three rows, and again along what came out, layer after layer.

    Attributes:
        pixels: (3, W), 0 where masked.
        visible: (W,) bool, by column.
        dense, exact: (layers, 3, W) what comes out of every layer; zeros lie around the strip.
    """

    pixels: np.ndarray
    visible: np.ndarray
    dense: np.ndarray
    exact: np.ndarray


class StageLeak(NamedTuple):
    """What stands behind the mask after a stage whose stride is S / H.

    Attributes:
        name: of the stage.
        visible: (H, W) bool.
        dense, exact: (H, W) how far features are from those of a film that is masked everywhere, over the mean of
            that distance at visible positions.
        position: row and column of one masked position.
        dense_gradient, exact_gradient: (S, S) size of the slope, at every visible pixel, of the sum of that position's
            features.
    """

    name: str
    visible: np.ndarray
    dense: np.ndarray
    exact: np.ndarray
    position: tuple[int, int]
    dense_gradient: np.ndarray
    exact_gradient: np.ndarray

    @property
    def stride(self) -> int:
        """Pixels from one position to the next."""
        return len(self.dense_gradient) // len(self.visible)

    def share(self, distance: np.ndarray) -> float:
        """The share of masked positions at which a distance is not zero."""
        return float((distance[~self.visible] > 0).mean())

    def size(self, distance: np.ndarray) -> float:
        """The mean of a distance over masked positions."""
        return float(distance[~self.visible].mean())


def leak_figure(strip: Strip, film: np.ndarray, visible: np.ndarray, stages: Sequence[StageLeak], title: str) -> Figure:
    """The strip on top; below it the masked film and every stage: dense, exact, and what a masked position sees.

    Args:
        strip: the smallest case.
        film: (S, S) in [0, 1].
        visible: (S, S) bool, True where the film is seen.
        stages: finest first.
        title: one line above all.
    """
    count = len(stages)
    figure = theme.figure(1.7 * (count + 1), 7.9, theme.LIGHTBOX)
    ink = {"color": theme.LIGHTBOX_INK, "family": theme.FONT}
    figure.suptitle(title, x=0.01, ha="left", size=11, weight="bold", **ink)
    # An empty line that the layout leaves room for.
    figure.supxlabel(" ", size=8)
    foot = {"family": theme.FONT, "color": theme.LIGHTBOX_QUIET, "size": theme.SMALL_POINTS}
    figure.text(0.01, 0.006, _LEGEND, **foot)
    figure.text(0.995, 0.006, theme.DISCLAIMER, ha="right", **foot)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2.9])
    for part in (top, bottom):
        part.set_facecolor(theme.LIGHTBOX)
    _draw_strip(*top.subplots(1, 2, width_ratios=[1.15, 1]), strip)
    grid = bottom.subplots(3, count + 1)
    masked = np.where(visible, film, np.nan)
    for row, label in enumerate(("dense encoder", "exact encoder", "what one masked\nposition sees, dense")):
        theme.show_film(grid[row, 0], masked)
        grid[row, 0].set_ylabel(label, size=9, **ink)
    grid[0, 0].set_title("the encoder's film", size=9, **ink)
    for column, stage in enumerate(stages, start=1):
        grid[0, column].set_title(f"{stage.name}, stride {stage.stride}", size=9, **ink)
        for axes, distance in zip(grid[:2, column], (stage.dense, stage.exact), strict=True):
            shown = np.ma.masked_array(distance, stage.visible)
            axes.imshow(shown, cmap=_LEAK_COLORS.with_extremes(bad=_SEEN), vmin=0, vmax=1, interpolation="nearest")
            share, size = stage.share(distance), stage.size(distance)
            axes.set_xlabel(f"{share:.0%} not empty, size {size:.2f}", size=8, **ink)
        _draw_gradient(grid[2, column], stage, visible)
    row, column, side = *stages[-1].position, stages[-1].stride
    grid[2, 0].add_patch(_outline(column * side, row * side, side))
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure


def _draw_strip(left: Axes, right: Axes, strip: Strip) -> None:
    ink = {"color": theme.LIGHTBOX_INK, "family": theme.FONT}
    theme.show_film(left, np.where(strip.visible, strip.pixels, np.nan))
    for (row, column), value in np.ndenumerate(strip.pixels):
        seen = strip.visible[column]
        text, color = (f"{value:.1f}", "black") if seen else ("0", theme.LIGHTBOX_QUIET)
        left.text(column, row, text, ha="center", va="center", size=9, color=color, family=theme.FONT)
    left.add_patch(_outline(-0.5, -0.5, 3))
    left.set_title("a strip whose middle patch is masked, and a 3 x 3 mean at its first place", size=9, **ink)
    centres = np.arange(1, strip.pixels.shape[1] - 1)
    right.axvspan(*(centres[~strip.visible[1:-1]][[0, -1]] + (-0.5, 0.5)), color=_HIDDEN, zorder=0)
    dense, exact = strip.dense[0, 1, centres], strip.exact[0, 1, centres]
    series = (("dense", dense, theme.LIGHTBOX_ACCENT, -0.2), ("exact", exact, theme.COLORS[4], 0.2))
    for name, values, color, shift in series:
        right.bar(centres + shift, values, 0.38, color=color, label=name)
        for centre, value in zip(centres, values, strict=True):
            right.text(centre + shift, value + 0.01, f"{value:.2f}", ha="center", size=7, **ink)
    right.set_title("its output at every place: blue columns are masked", size=9, **ink)
    right.set(ylim=(0, 1.35 * dense.max()), facecolor=theme.LIGHTBOX, xticks=centres)
    right.set_xlabel("column of the kernel's centre", size=8, **ink)
    right.set_xticklabels([str(centre + 1) for centre in centres])
    right.tick_params(colors=theme.LIGHTBOX_INK, labelsize=8)
    right.spines[:].set_color(theme.LIGHTBOX_QUIET)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, labelcolor=theme.LIGHTBOX_INK, fontsize=8, ncols=2, loc="upper center")


def _draw_gradient(axes: Axes, stage: StageLeak, visible: np.ndarray) -> None:
    """Sizes of the slope, by their root: the largest would outshine the rest."""
    gradient, side = stage.dense_gradient, len(visible)
    blocks = gradient.reshape(side // _BLOCK, _BLOCK, side // _BLOCK, _BLOCK).mean(axis=(1, 3))
    shown = np.ma.masked_array(np.sqrt(blocks / (blocks.max() or 1.0)), ~visible[::_BLOCK, ::_BLOCK])
    colors = _GRADIENT_COLORS.with_extremes(bad=_HIDDEN)
    axes.imshow(shown, cmap=colors, vmin=0, vmax=1, interpolation="nearest", extent=(0, side, side, 0))
    row, column = stage.position
    axes.add_patch(_outline(column * stage.stride, row * stage.stride, stage.stride))
    reached = int((gradient > 0).sum())
    axes.set_xlabel(
        f"{reached:,} visible pixels" if reached else "no visible pixel",
        size=8,
        color=theme.LIGHTBOX_INK,
        family=theme.FONT,
    )


def _outline(left: float, top: float, side: float) -> Rectangle:
    return Rectangle((left, top), side, side, fill=False, edgecolor=theme.COLORS[3], linewidth=1.6)
