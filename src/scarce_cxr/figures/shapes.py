"""An encoder and a decoder as they are built: every map with its shape, coarse ones below fine ones."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from scarce_cxr.figures import theme

# Inches: of a network, and of a row of it; above and below all rows.
_WIDTH, _ROW, _MARGINS = 4.2, 0.5, 0.75
# In the axes' units, whose rows are 1 high: the middles of both columns; how wide and high boxes are; a row's words.
_COLUMNS, _WIDEST, _NARROWEST, _HEIGHT, _MARGIN = (0.0, 1.0), 0.66, 0.42, 0.6, 0.12
_IMAGE, _ENCODER, _DECODER = "#e3e6ea", "#cfe4f3", "#fbe0cc"

Shape = tuple[int, int]


class Network(NamedTuple):
    """What leads from a film to a painting; maps are given as (channels, side).

    Attributes:
        title: which network.
        size: side of the film in pixels.
        encoder: the encoder's maps, finest first.
        bridges: what each map that the decoder gets is made into before, coarsest first.
        decoder: the decoder's maps, coarsest first; the last one is the painting.
    """

    title: str
    size: int
    encoder: Sequence[Shape]
    bridges: Sequence[Shape]
    decoder: Sequence[Shape]


def shapes_figure(networks: Sequence[Network]) -> Figure:
    """Draws at least one network, or several beside each other: down the encoder on the left, up the decoder."""
    rows = 1 + max(_row(network, side) for network in networks for _, side in network.encoder)
    figure = theme.figure(_WIDTH * len(networks), _ROW * rows + _MARGINS)
    figure.get_layout_engine().set(rect=(0, 0.2 / figure.get_figheight(), 1, 1 - 0.2 / figure.get_figheight()))
    words = "channels x height x width; dashed: what the decoder is given of the encoder's maps"
    foot = {"size": theme.SMALL_POINTS, "color": theme.LIGHTBOX_QUIET}
    figure.text(0.005, 0.01, words, **foot)
    figure.text(0.995, 0.01, theme.DISCLAIMER, ha="right", **foot)
    for axes, network in zip(figure.subplots(1, len(networks), squeeze=False).ravel(), networks, strict=True):
        axes.set_title(network.title, loc="left", fontsize=10, fontweight="bold", family=theme.FONT)
        axes.set_xlim(_COLUMNS[0] - _WIDEST / 2 - _MARGIN, _COLUMNS[1] + _WIDEST / 2 + 0.03)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_axis_off()
        _draw(axes, network)
    return figure


def _draw(axes: Axes, network: Network) -> None:
    film, deepest = (1, network.size), network.bridges[0]
    chains = [[film, *network.encoder], [deepest, *network.decoder]]
    for x, maps, color in zip(_COLUMNS, chains, (_ENCODER, _DECODER), strict=True):
        places = [_place(network, shape) for shape in maps]
        for start, end in itertools.pairwise(places):
            edge = _HEIGHT / 2 if end > start else -_HEIGHT / 2
            _draw_arrow(axes, (x, start + edge), (x, end - edge), "-")
        for shape, place in zip(maps, places, strict=True):
            _draw_box(axes, network, x, place, shape, _IMAGE if place == 0 else color)
    for (channels, side), (_, encoded) in zip(network.bridges, network.encoder[::-1], strict=False):
        row, reach = _row(network, encoded), _width(network, encoded) / 2
        _draw_arrow(axes, (_COLUMNS[0] + reach, row), (_COLUMNS[1] - reach, row), "--")
        axes.text(sum(_COLUMNS) / 2, row - 0.08, f"{channels} x {side} x {side}", ha="center", va="bottom", fontsize=7)
    left, quiet = _COLUMNS[0] - _WIDEST / 2 - _MARGIN, {"fontsize": 8, "color": theme.LIGHTBOX_QUIET}
    for side in {side for _, side in chains[1]}:
        axes.text(left, _row(network, side), f"1/{network.size // side}".removesuffix("/1"), va="center", **quiet)


def _draw_box(axes: Axes, network: Network, x: float, row: int, shape: Shape, color: str) -> None:
    channels, side = shape
    words = f"{channels} x {side} x {side}"
    if not row:
        words = f"{'film' if x == _COLUMNS[0] else 'painting'} {words}"
    style = {"boxstyle": "round,pad=0,rounding_size=0.03", "facecolor": color, "edgecolor": "none"}
    width = _width(network, side)
    axes.add_patch(FancyBboxPatch((x - width / 2, row - _HEIGHT / 2), width, _HEIGHT, **style))
    axes.text(x, row, words, ha="center", va="center", fontsize=8.5, family=theme.FONT)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], line: str) -> None:
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 0.9, "linestyle": line, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


def _place(network: Network, shape: Shape) -> int:
    """A map's row: images stand above all maps."""
    channels, side = shape
    return 0 if (channels, side) == (1, network.size) else _row(network, side)


def _row(network: Network, side: int) -> int:
    """One row a halving: the film's own resolution has row 1."""
    return (network.size // side).bit_length()


def _width(network: Network, side: int) -> float:
    """Of a box: in even steps from the film's resolution to the coarsest."""
    coarsest = _row(network, network.encoder[-1][1])
    share = (_row(network, side) - 1) / (coarsest - 1)
    return _WIDEST + share * (_NARROWEST - _WIDEST)
