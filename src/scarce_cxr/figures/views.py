"""What a recipe makes of films, and where on them it looked."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from scarce_cxr.figures import theme

# Inches; the last one is a heading's width by the letter.
_FILM, _VIEW, _GAP, _BETWEEN, _EDGE, _TITLE, _HEAD, _FOOT, _LETTER = 1.7, 1.4, 0.08, 0.25, 0.25, 0.5, 0.25, 0.35, 0.08

# The theme's colours, the brighter ones first: frames lie on dark films.
_FRAMES = [theme.COLORS[index] for index in (4, 5, 2, 3, 1, 0)]
# Between two numbers, and between a number and its corner: a share of half the film.
_NEAR = 0.13
_STROKE = [withStroke(linewidth=1.5, foreground=theme.LIGHTBOX)]


class Group(NamedTuple):
    """Views of one size that stand together.

    Attributes:
        heading: what they are.
        views: one (n, S, S) array a view, in [0, 1] (noise may lead out of it).
        corners: one (n, 4, 2) array a view: x and y of its corners on the film, whose outer edges are -1 and 1; the
            view's upper left corner first, then round. Empty where nobody knows.
    """

    heading: str
    views: Sequence[np.ndarray]
    corners: Sequence[np.ndarray] = ()


def views_panel(films: np.ndarray, groups: Sequence[Group], title: str) -> Figure:
    """One row a film: the film as stored with the frames of its views, then the views, group beside group.

    Views are drawn in true proportion to each other, small ones in several rows. A view's number stands at its upper
    left corner, on the view and on its frame: there one sees it flipped.

    Args:
        films: (n, H, W) stored pixels in [0, 1], H = W.
        groups: at least one, of at least one view each; each has a colour.
        title: which recipe.

    Returns:
        A figure of n rows.
    """
    largest = max(group.views[0].shape[-1] for group in groups)
    sides = [_VIEW * group.views[0].shape[-1] / largest for group in groups]
    places = [_places(len(group.views), side) for group, side in zip(groups, sides, strict=True)]
    widths = [
        max(max(right for right, _ in inside) + side, _LETTER * len(group.heading))
        for group, inside, side in zip(groups, places, sides, strict=True)
    ]
    lefts = list(itertools.accumulate([_EDGE + _FILM, *widths], lambda left, width: left + _BETWEEN + width))
    # A single narrow view would cut title and foot off.
    width, height = max(lefts[-1] + _EDGE, 7.0), _TITLE + _HEAD + len(films) * (_FILM + _GAP) + _FOOT
    figure = theme.figure(width, height, theme.LIGHTBOX)
    figure.set_layout_engine("none")

    def write(x: float, y: float, text: str, **style) -> None:
        style = {"color": theme.LIGHTBOX_INK, "size": 9, "family": theme.FONT, **style}
        figure.text(x / width, y / height, text, **style)

    def show(film: np.ndarray, left: float, top: float, side: float) -> Axes:
        axes = figure.add_axes((left / width, (top - side) / height, side / width, side / height))
        theme.show_film(axes, film)
        return axes

    foot = {"color": theme.LIGHTBOX_QUIET, "size": theme.SMALL_POINTS}
    write(_EDGE, height - 0.2, title, va="top", size=11, weight="bold")
    write(width - _EDGE, 0.12, theme.DISCLAIMER, ha="right", **foot)
    if any(group.corners for group in groups):
        words = "Frames show where views lie on the film, a number where the view has its upper left corner."
        write(_EDGE, 0.12, words, **foot)
    head = height - _TITLE - _HEAD
    tops = [head - row * (_FILM + _GAP) for row in range(len(films))]
    framed = [show(film, _EDGE, top, _FILM) for film, top in zip(films, tops, strict=True)]
    write(_EDGE, head + 0.08, "film")
    numbers = itertools.count(1)
    for group, inside, side, end, color in zip(groups, places, sides, lefts, itertools.cycle(_FRAMES), strict=False):
        left = end + _BETWEEN
        write(left, head + 0.08, f"□ {group.heading}", color=color)
        for index, (view, (right, down)) in enumerate(zip(group.views, inside, strict=True)):
            number = str(next(numbers))
            for row, top in enumerate(tops):
                axes = show(view[row], left + right, top - down, side)
                inset = 0.06 / side
                _write_number(axes, inset, 1 - inset, number, color, transform=axes.transAxes, va="top", ha="left")
                if group.corners:
                    _draw_frame(framed[row], group.corners[index][row], films.shape[-1], number, color)
    return figure


def _places(count: int, side: float) -> list[tuple[float, float]]:
    """Inches to the right and down at which `count` pictures of a side stand in a block as high as a film."""
    fitting = max(1, math.floor((_FILM + _GAP) / (side + _GAP)))
    columns = math.ceil(count / fitting)
    pitch = side + _GAP
    above = (_FILM + _GAP - math.ceil(count / columns) * pitch) / 2
    return [(index % columns * pitch, above + index // columns * pitch) for index in range(count)]


def _draw_frame(axes: Axes, corners: np.ndarray, size: int, number: str, color: str) -> None:
    """Draws a view's outline, (4, 2) corners in [-1, 1], on a film of `size` pixels; what lies outside is cut off."""
    # Pixel centres are whole numbers: the film's outer edges lie half a pixel beyond them.
    axes.add_patch(Polygon(_to_pixels(corners, size), fill=False, edgecolor=color, linewidth=1.0))
    inwards, along = corners.mean(axis=0) - corners[0], corners[1] - corners[0]
    start = corners[0] + _NEAR * inwards / np.linalg.norm(inwards)
    # Inside the film, and beside the numbers that are there.
    spots = [np.clip(start + share * along, _NEAR / 2 - 1, 1 - _NEAR / 2) for share in np.linspace(0, 0.9, 10)]
    taken = [np.array(text.get_position()) for text in axes.texts]
    free = (s for s in spots if all(np.linalg.norm(_to_pixels(s, size) - t) > _NEAR * size / 2 for t in taken))
    _write_number(axes, *_to_pixels(next(free, spots[0]), size), number, color, va="center", ha="center")


def _to_pixels(place: np.ndarray, size: int) -> np.ndarray:
    return (place + 1) * size / 2 - 0.5


def _write_number(axes: Axes, x: float, y: float, number: str, color: str, **style) -> None:
    axes.text(x, y, number, color=color, size=8, weight="bold", family=theme.FONT, path_effects=_STROKE, **style)
