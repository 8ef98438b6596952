"""Films side by side."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

# Inches: at the theme's resolution a film of 320 pixels is shown dot for dot.
_SIDE, _GAP, _EDGE, _TITLE, _FOOT = 2.0, 0.12, 0.3, 0.6, 0.3
_LINE = 0.145
_LINES_BELOW = 2
_CHARACTERS = 34


def contact_sheet(films: np.ndarray, captions: Sequence[str], title: str) -> Figure:
    """Draws films in rows, each with its caption below.

    Args:
        films: (n, H, W) uint8, n at least 1; shown as they are, 0 black and 255 white.
        captions: n texts; the first line stands out, what follows is wrapped to two lines.
        title: one line above all.

    Returns:
        A figure of about square shape.

    Raises:
        ValueError: films and captions do not fit together.
    """
    films = np.asarray(films)
    if films.ndim != 3 or films.dtype != np.uint8 or len(films) != len(captions) or not len(films):
        raise ValueError(f"want (n, H, W) uint8 and n captions, got {films.dtype} {films.shape} and {len(captions)}")
    columns = min(len(films), max(3, math.ceil(math.sqrt(1.2 * len(films)))))
    rows = math.ceil(len(films) / columns)
    lines = [_lines(caption) for caption in captions]
    caption_height = _LINE * max(map(len, lines)) + 0.1
    # A single narrow column would cut the title off.
    width = max(2 * _EDGE + columns * (_SIDE + _GAP) - _GAP, 4.5)
    height = _TITLE + rows * (_SIDE + caption_height + _GAP) + _FOOT
    sheet = theme.figure(width, height, theme.LIGHTBOX)
    sheet.set_layout_engine("none")
    font = {"family": theme.FONT, "va": "top"}
    sheet.text(
        _EDGE / width,
        1 - 0.2 / height,
        title,
        color=theme.LIGHTBOX_INK,
        size=theme.TITLE_POINTS,
        weight="bold",
        **font,
    )
    for index, (film, caption) in enumerate(zip(films, lines, strict=True)):
        row, column = divmod(index, columns)
        left = _EDGE + column * (_SIDE + _GAP)
        top = height - _TITLE - row * (_SIDE + caption_height + _GAP)
        axes = sheet.add_axes((left / width, (top - _SIDE) / height, _SIDE / width, _SIDE / height))
        theme.show_film(axes, film / 255)
        for number, line in enumerate(caption):
            place = (left / width, (top - _SIDE - 0.06 - number * _LINE) / height)
            colour = theme.LIGHTBOX_INK if number == 0 else theme.LIGHTBOX_ACCENT
            sheet.text(*place, line, color=colour, size=theme.SMALL_POINTS, **font)
    sheet.text(
        1 - _EDGE / width,
        0.24 / height,
        theme.DISCLAIMER,
        color=theme.LIGHTBOX_QUIET,
        size=theme.SMALL_POINTS,
        ha="right",
        **font,
    )
    return sheet


def _lines(caption: str) -> list[str]:
    first, _, rest = caption.partition("\n")
    wrapped = textwrap.wrap(rest, _CHARACTERS, max_lines=_LINES_BELOW, placeholder=" …")
    return [textwrap.shorten(first, _CHARACTERS, placeholder=" …"), *wrapped]
