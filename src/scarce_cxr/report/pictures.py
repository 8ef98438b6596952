"""Pictures inside a page: shrunk until all of them fit, as WebP in data URIs."""

import base64
import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)

# Sides in pixels, the largest first that lets all pictures fit; and WebP's quality, which keeps ribs and labels sharp.
_WIDTHS = (1400, 1000, 720, 480, 320)
_QUALITY = 80
# 2 of 6: a fifth of the time of the default, a twentieth more bytes.
_EFFORT = 2


class Picture(NamedTuple):
    """A picture in a page.

    Attributes:
        source: a data URI.
        width, height: in pixels.
        words: what it shows, for those who do not see it.
    """

    source: str
    width: int
    height: int
    words: str


class Sheet(NamedTuple):
    """Many small films in one picture, row by row.

    Attributes:
        source: a data URI.
        columns, rows: how many films stand beside and below each other.
        side: of a film, in pixels.
    """

    source: str
    columns: int
    rows: int
    side: int


def load_pictures(files: Sequence[tuple[Path, str]], most: int) -> list[Picture]:
    """Reads picture files, all as large as it takes to need no more than `most` bytes together.

    Args:
        files: path and words of each.
        most: bytes of all data URIs; pictures that need more at the smallest size are taken at that.
    """
    opened = [_open(path, words) for path, words in files]
    pictures: list[Picture] = []
    for width in _WIDTHS:
        pictures = [_shrunk(image, width, words) for image, words in opened]
        if sum(len(picture.source) for picture in pictures) <= most:
            break
    return pictures


def _open(path: Path, words: str) -> tuple[Image.Image, str]:
    """A picture and its words; where the file is damaged a grey one that says so, as the page is worth more than it."""
    try:
        return Image.open(path).convert("RGB"), words
    except OSError:
        logger.warning("%s is no whole picture: the page shows a grey one in its place", path)
        return Image.new("RGB", (320, 180), "grey"), f"{words} (the file {path.name} cannot be read)"


def make_sheet(films: np.ndarray, side: int) -> Sheet:
    """Lays (n, H, W) films of uint8 or uint16 on a sheet of about square shape."""
    columns = math.ceil(math.sqrt(len(films)))
    rows = math.ceil(len(films) / columns)
    sheet = Image.new("L", (columns * side, rows * side))
    for number, film in enumerate(films):
        film = film if film.dtype == np.uint8 else (film >> 8).astype(np.uint8)
        place = (number % columns * side, number // columns * side)
        sheet.paste(Image.fromarray(film).resize((side, side), Image.Resampling.LANCZOS), place)
    return Sheet(_as_uri(sheet), columns, rows, side)


def _shrunk(image: Image.Image, width: int, words: str) -> Picture:
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    return Picture(_as_uri(image), image.width, image.height, words)


def _as_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
