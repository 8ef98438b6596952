"""Pictures in rows and columns, with labels at the side and on top."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

# Inches.
_SIDE, _GAP, _EDGE, _TITLE, _FOOT, _LABEL, _HEAD = 1.7, 0.08, 0.25, 0.55, 0.35, 0.3, 0.25


def film_grid(
    rows: Sequence[Sequence[np.ndarray]],
    title: str,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    side: float = _SIDE,
) -> Figure:
    """Draws square pictures on a dark ground.

    Args:
        rows: rows of (S, S) pictures in [0, 1], all rows equally long; NaN pixels stand for what was not seen.
        title: one line above all.
        row_labels: one a row, or none.
        column_labels: one a column, or none.
        side: of a picture, in inches.

    Returns:
        A figure that is just as large as its pictures need.
    """
    left_edge = _EDGE + (_LABEL if row_labels else 0)
    head = _HEAD if column_labels else 0
    # A single narrow column would cut the title off.
    width = max(left_edge + len(rows[0]) * (side + _GAP) - _GAP + _EDGE, 6.0)
    height = _TITLE + head + len(rows) * (side + _GAP) + _FOOT
    figure = theme.figure(width, height, theme.LIGHTBOX)
    figure.set_layout_engine("none")
    font = {"family": theme.FONT}

    def write(x: float, y: float, text: str, **style) -> None:
        figure.text(x / width, y / height, text, **{"color": theme.LIGHTBOX_INK, "size": 9, **font, **style})

    write(_EDGE, height - 0.2, title, va="top", size=11, weight="bold")
    write(width - _EDGE, 0.12, theme.DISCLAIMER, ha="right", color=theme.LIGHTBOX_QUIET, size=theme.SMALL_POINTS)
    for number, pictures in enumerate(rows):
        top = height - _TITLE - head - number * (side + _GAP)
        if row_labels:
            write(_EDGE + 0.1, top - side / 2, row_labels[number], rotation=90, ha="center", va="center")
        for column, picture in enumerate(pictures):
            left = left_edge + column * (side + _GAP)
            axes = figure.add_axes((left / width, (top - side) / height, side / width, side / height))
            theme.show_film(axes, picture)
    for column, label in enumerate(column_labels):
        write(left_edge + column * (side + _GAP) + side / 2, height - _TITLE - 0.12, label, ha="center", va="center")
    return figure
