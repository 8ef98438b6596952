"""What a check of stores found: a sheet of suspects, and how far the stores' shades are apart."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

# Inches.
_SIDE, _GAP, _EDGE, _TITLE, _FOOT, _HEAD = 1.35, 0.1, 0.3, 0.6, 0.35, 0.27
_COLUMNS = 6
_LINE, _CHARACTERS, _LINES = 0.15, 23, 3
_POINTS = 7.5
# Fewer values than this make no histogram.
_FEW = 30


def suspect_sheet(groups: Mapping[str, Sequence[tuple[np.ndarray, str]]], title: str) -> Figure:
    """Draws suspects under the heading of their kind.

    Args:
        groups: heading -> pictures (H, W) in [0, 1], each with a caption, whose first line stands out and whose others
            are wrapped to three; kinds without pictures are left out.
        title: one line above all.

    Returns:
        A figure six pictures wide and as high as it must be.
    """
    groups = {heading: pictures for heading, pictures in groups.items() if pictures}
    row_height = _SIDE + (1 + _LINES) * _LINE + 2 * _GAP
    rows = {heading: math.ceil(len(pictures) / _COLUMNS) for heading, pictures in groups.items()}
    width = 2 * _EDGE + _COLUMNS * (_SIDE + _GAP) - _GAP
    height = _TITLE + len(groups) * _HEAD + sum(rows.values()) * row_height + _FOOT
    sheet = theme.figure(width, height, theme.LIGHTBOX)
    sheet.set_layout_engine("none")

    def write(x: float, y: float, text: str, **style) -> None:
        given = {"color": theme.LIGHTBOX_INK, "family": theme.FONT, "va": "top", "size": _POINTS, **style}
        sheet.text(x / width, y / height, text, **given)

    write(_EDGE, height - 0.2, title, size=11, weight="bold")
    top = height - _TITLE
    for heading, pictures in groups.items():
        write(_EDGE, top, heading, size=9, weight="bold", color=theme.LIGHTBOX_ACCENT)
        top -= _HEAD
        for number, (picture, caption) in enumerate(pictures):
            row, column = divmod(number, _COLUMNS)
            left, upper = _EDGE + column * (_SIDE + _GAP), top - row * row_height
            axes = sheet.add_axes((left / width, (upper - _SIDE) / height, _SIDE / width, _SIDE / height))
            theme.show_film(axes, picture)
            for place, line in enumerate(_lines(caption)):
                quiet = {} if place == 0 else {"color": theme.LIGHTBOX_QUIET}
                write(left, upper - _SIDE - 0.05 - place * _LINE, line, **quiet)
        top -= rows[heading] * row_height
    write(width - _EDGE, 0.24, theme.DISCLAIMER, ha="right", color=theme.LIGHTBOX_QUIET)
    return sheet


def gap_figure(
    histograms: Mapping[str, np.ndarray],
    means: Mapping[str, np.ndarray],
    stds: Mapping[str, np.ndarray],
    counts: Mapping[str, str],
    title: str,
) -> Figure:
    """Draws what stores' pixels are like: a histogram of all pixels, and of films' means and standard deviations.

    Args:
        histograms: store -> (256,) share of its pixels in each bin from 0 to 1.
        means, stds: store -> (n,) of its films, in [0, 1].
        counts: store -> how many films of how many patients, for the legend.
        title: the whole figure's.
    """
    figure = theme.figure(9.6, 3.6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", family=theme.FONT)
    axes = figure.subplots(1, 3)
    places = (np.arange(64) + 0.5) / 64
    for number, name in enumerate(histograms):
        color = theme.COLORS[number % len(theme.COLORS)]
        # Films that were brightened lack every few of 256 levels. The bins at black and white hold borders and markers,
        # and would press all others down.
        shares = histograms[name].reshape(64, 4).sum(axis=1)
        label = f"{name}: {counts[name]}"
        axes[0].plot(places[1:-1], 64 * shares[1:-1], color=color, linewidth=1.3, label=label)
        for panel, values in ((axes[1], means[name]), (axes[2], stds[name])):
            _draw_spread(panel, values, color)
    for panel, words in zip(
        axes, ("pixels, 0 black to 1 white", "films' means", "films' standard deviations"), strict=True
    ):
        panel.set_title(words, fontsize=9, loc="left", fontweight="bold")
        panel.set_ylim(bottom=0)
        panel.set_yticks([])
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    figure.text(0.995, 0.01, theme.DISCLAIMER, ha="right", size=theme.SMALL_POINTS, color=theme.LIGHTBOX_QUIET)
    return figure


def _draw_spread(panel: Axes, values: np.ndarray, color: str) -> None:
    """A histogram; of few values, a tick for each."""
    if len(values) < _FEW:
        for value in values:
            panel.axvline(value, 0, 0.12, color=color, linewidth=1.3)
        return
    edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-3), min(30, len(values) // 5))
    panel.hist(values, edges, density=True, histtype="stepfilled", color=color, alpha=0.2)
    panel.hist(values, edges, density=True, histtype="step", color=color, linewidth=1.3)


def _lines(caption: str) -> list[str]:
    first, _, rest = caption.partition("\n")
    wrapped = textwrap.wrap(rest, _CHARACTERS, max_lines=_LINES, placeholder=" …")
    return [first if len(first) <= _CHARACTERS else "…" + first[1 - _CHARACTERS :], *wrapped]
