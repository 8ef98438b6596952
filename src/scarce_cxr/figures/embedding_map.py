"""Films' features as maps of points, and films in rows with words under each."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scarce_cxr.figures import theme

# Inches and points; in a column of 700 pixels both figures are seen at seven eighths of their size.
_WIDTH, _ROW, _POINTS, _SMALL_POINTS = 5.0, 1.72, 9.0, 7.5
_QUIET, _UNKNOWN = "#6b7480", "#c9ced6"
_DOT = 5.0
# More groups than the theme has colours for become one.
_MOST_GROUPS = 6
_OTHERS = "others"
_WORDS_WIDE = 27

_EDGE, _GAP, _TITLE, _HEAD, _LINE, _FOOT, _LABEL = 0.12, 0.06, 0.42, 0.24, 0.118, 0.34, 0.24
_FILM_POINTS = 6.5


class Coloring(NamedTuple):
    """One way to colour the points.

    Attributes:
        name: e.g. "view".
        groups: (n,) strings; "" is unknown.
        order: the groups as the legend has them, and the colours with them; by default the largest first.
        words: what stands under the legend, e.g. how well a probe tells the groups.
        warned: whether these words are bold.
    """

    name: str
    groups: np.ndarray
    order: Sequence[str] = ()
    words: str = ""
    warned: bool = False


class Picture(NamedTuple):
    """A film with words under it.

    Attributes:
        film: (H, W) in [0, 1].
        first: the line right under it.
        words: below that, wrapped to two lines.
        stands_out: whether these are bright.
    """

    film: np.ndarray
    first: str
    words: str = ""
    stands_out: bool = False


def map_figure(layouts: Sequence[tuple[str, np.ndarray]], colorings: Sequence[Coloring], title: str) -> Figure:
    """The same points again and again: a row a colouring, a column a layout.

    Args:
        layouts: name and places (n, 2).
        colorings: of the same n films.
        title: one line above all.
    """
    height = 0.62 + len(colorings) * _ROW
    figure = theme.figure(_WIDTH, height)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold", family=theme.FONT)
    figure.get_layout_engine().set(rect=(0, 0.2 / height, 1, 1 - 0.2 / height), w_pad=0.03, h_pad=0.04)
    widths = [1.05, *[1.35] * len(layouts)]
    panels = figure.subplots(len(colorings), len(widths), squeeze=False, width_ratios=widths)
    order = np.random.default_rng(0).permutation(len(layouts[0][1]))
    for (beside, *row), coloring in zip(panels, colorings, strict=True):
        names, colors = _group_colors(coloring.groups, coloring.order)
        # Films of which nothing is known lie under all others; these in random order, so that no group hides another.
        shown = order[np.argsort(names[order] != "", kind="stable")]
        for axes, (_, places) in zip(row, layouts, strict=True):
            dots = [colors[name] for name in names[shown]]
            axes.scatter(*places[shown].T, c=dots, s=_DOT, alpha=0.75, linewidths=0, rasterized=True)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(_UNKNOWN)
        _describe(beside, coloring, names, colors)
    for axes, (name, _) in zip(panels[0, 1:], layouts, strict=True):
        axes.set_title(name, fontsize=_SMALL_POINTS, pad=3)
    style = {"size": theme.SMALL_POINTS, "color": _QUIET}
    figure.text(0.01, 0.05 / height, "a point is a film; axes have no unit", **style)
    figure.text(0.99, 0.05 / height, theme.DISCLAIMER, ha="right", **style)
    return figure


def captioned_grid(
    rows: Sequence[Sequence[Picture]],
    title: str,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    foot: str = "",
) -> Figure:
    """Films in rows on a dark ground, each with its words below.

    Args:
        rows: of pictures; a row may be shorter than the longest.
        title: one line above all.
        row_labels: one a row, turned, or none.
        column_labels: one a column, or none.
        foot: what the words are.
    """
    columns = max(map(len, rows))
    left = _EDGE + (_LABEL if row_labels else 0)
    # Few pictures would be larger than their pixels.
    side = min((_WIDTH - left - _EDGE - (columns - 1) * _GAP) / columns, 1.6)
    wide = max(int(side * 20.5), 8)
    wrapped = [[textwrap.wrap(p.words, wide, max_lines=2, placeholder=" …") for p in row] for row in rows]
    below = [0.06 + _LINE * (1 + max(map(len, lines), default=0)) for lines in wrapped]
    head = _HEAD if column_labels else 0
    height = _TITLE + head + len(rows) * (side + 0.08) + sum(below) + _FOOT
    figure = theme.figure(_WIDTH, height, theme.LIGHTBOX)
    figure.set_layout_engine("none")

    def write(x: float, y: float, text: str, **style) -> None:
        figure.text(x / _WIDTH, y / height, text, **{"family": theme.FONT, "size": _FILM_POINTS, **style})

    write(_EDGE, height - 0.14, title, va="top", size=10, weight="bold", color=theme.LIGHTBOX_INK)
    for column, label in enumerate(column_labels):
        place = left + column * (side + _GAP) + side / 2
        style = {"ha": "center", "va": "center", "size": _SMALL_POINTS, "color": theme.LIGHTBOX_INK}
        write(place, height - _TITLE - 0.1, label, **style)
    top = height - _TITLE - head
    for number, (pictures, lines) in enumerate(zip(rows, wrapped, strict=True)):
        if row_labels:
            style = {"rotation": 90, "ha": "center", "va": "center", "size": _SMALL_POINTS}
            write(_EDGE + 0.08, top - side / 2, row_labels[number], color=theme.LIGHTBOX_INK, **style)
        for column, (picture, words) in enumerate(zip(pictures, lines, strict=True)):
            x = left + column * (side + _GAP)
            theme.show_film(
                figure.add_axes((x / _WIDTH, (top - side) / height, side / _WIDTH, side / height)), picture.film
            )
            write(x, top - side - 0.04, picture.first, va="top", color=theme.LIGHTBOX_INK)
            color = theme.LIGHTBOX_ACCENT if picture.stands_out else theme.LIGHTBOX_QUIET
            for line, text in enumerate(words, start=1):
                write(x, top - side - 0.04 - line * _LINE, text, va="top", color=color)
        top -= side + 0.08 + below[number]
    style = {"color": theme.LIGHTBOX_QUIET, "size": _FILM_POINTS}
    write(_EDGE, 0.1, foot, **style)
    write(_WIDTH - _EDGE, 0.1, theme.DISCLAIMER, ha="right", **style)
    return figure


def _group_colors(groups: np.ndarray, order: Sequence[str]) -> tuple[np.ndarray, dict[str, str]]:
    """The groups (n,) with the smallest put together where they are too many, and a colour for each."""
    names, counts = np.unique(groups[groups != ""], return_counts=True)
    names = np.array(order) if len(order) else names[np.argsort(-counts, kind="stable")]
    if len(names) > _MOST_GROUPS:
        small = np.isin(groups, names[_MOST_GROUPS - 1 :])
        names, groups = np.array([*names[: _MOST_GROUPS - 1], _OTHERS]), np.where(small, _OTHERS, groups)
    return groups, {**dict(zip(names.tolist(), theme.COLORS, strict=False)), "": _UNKNOWN}


def _describe(axes: Axes, coloring: Coloring, names: np.ndarray, colors: dict[str, str]) -> None:
    """Writes a colouring's name, its legend and its words."""
    axes.set_axis_off()
    style = {"transform": axes.transAxes, "va": "top"}
    axes.text(0, 1, coloring.name, fontsize=_POINTS, fontweight="bold", **style)
    shown = [name for name in colors if (names == name).any()]
    handles = [
        Line2D(
            [],
            [],
            color=colors[name],
            marker="o",
            markersize=4,
            linestyle="none",
            label=f"{name or 'not known'} ({(names == name).sum():,})",
        )
        for name in shown
    ]
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0.9), "borderaxespad": 0, "handletextpad": 0.1}
    axes.legend(handles=handles, frameon=False, fontsize=_SMALL_POINTS, labelspacing=0.25, borderpad=0.1, **place)
    words = "\n".join(textwrap.wrap(coloring.words, _WORDS_WIDE))
    place = 0.87 - 0.095 * len(shown)
    weight = "bold" if coloring.warned else "normal"
    axes.text(0, place, words, fontsize=_SMALL_POINTS, color=_QUIET, weight=weight, linespacing=1.15, **style)
