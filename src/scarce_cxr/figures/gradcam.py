"""Where on a film a finding's score comes from: starts side by side, and one stage after the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from scarce_cxr.figures import theme
from scarce_cxr.figures.grid import film_grid

# Perceptually uniform, and nowhere grey, so that no colour is taken for a part of the film.
_COLORS = colormaps["plasma"]
# Where a map is largest the film still shows through.
_OPAQUE = 0.65
_DIMMED = 0.25
# A few hot pixels would leave all other maps dark.
_QUANTILE = 0.995
_BOX = theme.COLORS[4]


class Box(NamedTuple):
    """Where somebody drew the finding, in pixels of the film."""

    left: float
    top: float
    width: float
    height: float


class Column(NamedTuple):
    """What one start makes of the films.

    Attributes:
        name: of the start.
        maps: (n, H, W) at least 0, as large as the films: what speaks for the finding.
        scores: (n,) log-odds.
    """

    name: str
    maps: np.ndarray
    scores: np.ndarray


class StageMap(NamedTuple):
    """One stage's map of one film.

    Attributes:
        name: of the stage, and what else stands on top of its column.
        map: (H, W) at least 0, as large as the film.
        note: a few words in the picture's corner, or none.
    """

    name: str
    map: np.ndarray
    note: str = ""


def gradcam_grid(
    films: np.ndarray,
    columns: Sequence[Column],
    finding: str,
    of: int,
    *,
    names: Sequence[str] = (),
    boxes: Sequence[Sequence[Box]] = (),
) -> Figure:
    """A row a film: the film as it is, then every start's map on it with its score.

    One colour scale serves all pictures: shares of what speaks most for the finding in a start's own maps. The heads of
    two starts need not be equally bold, so their log-odds would not compare; films of one start do.

    Args:
        films: (n, H, W) in [0, 1].
        columns: the starts.
        finding: whose score it is.
        of: how many films with the finding these n were taken from.
        names: n short names of the films, or none.
        boxes: where the finding was drawn, one sequence a film, or none at all.
    """
    title = f"{finding}: where its score comes from, {len(films)} of {of:,} films with it"
    figure = film_grid(
        [[film] * (len(columns) + 1) for film in films], title, names, ["film", *(column.name for column in columns)]
    )
    pictures = np.array(figure.axes).reshape(len(films), -1)
    for row, column in enumerate(columns, start=1):
        shares = _shares(column.maps)
        for axes, share, score in zip(pictures[:, row], shares, column.scores, strict=True):
            _overlay(axes, share)
            _write(axes, f"{score:+.1f}")
    for row, outlined in zip(pictures, boxes or [()] * len(films), strict=True):
        for axes in row:
            _outline(axes, outlined)
    _scale(figure, "share of the start's largest value; numbers: log-odds", any(map(len, boxes)))
    return figure


def stage_panel(
    film: np.ndarray,
    rows: Sequence[tuple[str, Sequence[StageMap]]],
    finding: str,
    *,
    boxes: Sequence[Box] = (),
    notes: str = "",
) -> Figure:
    """A row a start: one film, then the map of every stage on it, as shares of the map's own largest value.

    Args:
        film: (H, W) in [0, 1].
        rows: names of starts, and their stages' maps, the same stages in every row.
        finding: whose score it is.
        boxes: where the finding was drawn.
        notes: what the pictures' notes are.
    """
    stages = [stage.name for stage in rows[0][1]]
    title = f"{finding}: where its score comes from, stage by stage, 1 film"
    figure = film_grid([[film] * (len(stages) + 1)] * len(rows), title, [name for name, _ in rows], ["film", *stages])
    for row, (_, maps) in zip(np.array(figure.axes).reshape(len(rows), -1), rows, strict=True):
        for axes, stage in zip(row[1:], maps, strict=True):
            _overlay(axes, _shares(stage.map))
            _write(axes, stage.note)
        for axes in row:
            _outline(axes, boxes)
    words = "share of the picture's largest value" + (f"; numbers: {notes}" if notes else "")
    _scale(figure, words, len(boxes) > 0)
    return figure


def _shares(maps: np.ndarray) -> np.ndarray:
    """Maps in [0, 1], 1 where the colours end."""
    return np.clip(maps / (float(np.quantile(maps, _QUANTILE)) or 1.0), 0, 1)


def _overlay(axes: Axes, share: np.ndarray) -> None:
    colors = _COLORS(share)
    # What says nothing leaves the film as it is, a little darker, so that colours stand out from bones too.
    axes.imshow(np.zeros_like(share), cmap="gray", alpha=_DIMMED)
    colors[..., 3] = _OPAQUE * share
    axes.imshow(colors, interpolation="antialiased")


def _outline(axes: Axes, boxes: Sequence[Box]) -> None:
    for box in boxes:
        place = (box.left - 0.5, box.top - 0.5)
        for width, color in ((2.4, "black"), (1.2, _BOX)):
            axes.add_patch(Rectangle(place, box.width, box.height, fill=False, edgecolor=color, linewidth=width))


def _write(axes: Axes, words: str) -> None:
    style = {"color": "white", "size": 9, "family": theme.FONT, "transform": axes.transAxes}
    axes.text(0.03, 0.03, words, path_effects=[withStroke(linewidth=2, foreground="black")], **style)


def _scale(figure: Figure, words: str, framed: bool) -> None:
    """The colours' meaning, in the foot of a grid, above the line of the disclaimer."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.37 / width, 0.23 / height, 0.8 / width, 0.09 / height))
    steps = np.linspace(0, 1, 128)[None]
    axes.imshow(_COLORS(steps), aspect="auto")
    axes.set_axis_off()
    style = {"color": theme.LIGHTBOX_QUIET, "size": theme.SMALL_POINTS, "family": theme.FONT}
    figure.text(0.26 / width, 0.24 / height, "0", **style)
    figure.text(1.22 / width, 0.24 / height, f"1  {words}" + ("; frames: readers' boxes" if framed else ""), **style)
