"""A picture file, its values scaled to [0, 1], and the square that the store keeps of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

Fit = Literal["crop", "pad", "squash"]

# 200 megapixels are five times the largest detector's film; a header that promises more is damaged or hostile.
MAX_PIXELS = 200_000_000

_opening = threading.Lock()


class Skipped(Exception):  # noqa: N818 - not a failure of the run: one film less, and a line in skipped.csv
    """A file that cannot become a film.

    Args:
        reason: why, in words that name neither the file nor the patient.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Square:
    """The square (for `squash`: the rectangle) of a decoded film that the stored pixels show, in decoded pixels.

    `top` and `left` are negative where the film was padded.
    """

    top: int
    left: int
    height: int
    width: int


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads a PNG, JPEG, TIFF, BMP or whatever else Pillow opens.

    Colour becomes luma (ITU-R 601), opaque alpha is dropped, partial alpha is laid on black, and the EXIF
    orientation is applied. Grey films keep their depth; Pillow reads colour at 8 bits a channel.

    Args:
        path: the file.
        max_pixels: more than this many pixels in the header are refused before anything is decoded.

    Returns:
        (H, W) in the film's own values: uint8, uint16, int32 or float32.

    Raises:
        Skipped: zero bytes, not an image, truncated, several frames, too large, values that are not finite, or blank.
        OSError: the file itself cannot be read.
        MemoryError: it is too large for this machine.
    """
    if path.stat().st_size == 0:
        raise Skipped("zero bytes")
    with _opened(path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise Skipped(f"too large: {width} x {height} pixels")
        try:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise Skipped(f"several frames: {frames}")
            image.load()
            array = _grey(ImageOps.exif_transpose(image))
        except (Skipped, MemoryError):
            raise
        except Exception as error:
            # Decoders meet damaged data with errors of every kind (OSError, SyntaxError, struct.error, zlib.error).
            cut = "truncated" in str(error).lower()
            raise Skipped("truncated" if cut else f"damaged ({type(error).__name__})") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Skipped("values that are not finite")
    if array.min() == array.max():
        raise Skipped("blank: all pixels are equal")
    return array


def scale(array: np.ndarray, lowest: float = 0.1, highest: float = 99.9) -> np.ndarray:
    """Maps a film's own range to [0, 1]; a few burnt-out or dead pixels do not set the range.

    Args:
        array: (H, W) numbers.
        lowest, highest: percentiles that become 0 and 1; values beyond are clipped. Where both coincide (a small
            object on a flat ground), minimum and maximum take their place.

    Returns:
        (H, W) float32.
    """
    low, high = (float(value) for value in np.percentile(array, [lowest, highest]))
    if low == high:
        low, high = float(array.min()), float(array.max())
    scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, np.finfo(np.float32).tiny))
    return np.clip(scaled, 0, 1, out=scaled)


def resize(film: np.ndarray, size: int, fit: Fit = "crop") -> tuple[np.ndarray, Square]:
    """Resamples a film to a square with an anti-aliased Lanczos filter in float32.

    Args:
        film: (H, W) float32 in [0, 1].
        size: the side of the square, in pixels; smaller films are enlarged.
        fit: `crop` keeps the middle square, `pad` adds black at both sides of the shorter axis, `squash` gives up
            the aspect.

    Returns:
        (size, size) float32 in [0, 1], and which part of the film it shows.
    """
    square = _square(*film.shape, fit)
    if fit == "pad":
        padded = np.zeros((square.height, square.width), np.float32)
        padded[-square.top :, -square.left :][: film.shape[0], : film.shape[1]] = film
        film = padded
    elif fit == "crop":
        film = film[square.top :, square.left :][: square.height, : square.width]
    image = Image.fromarray(np.ascontiguousarray(film, np.float32))
    resized = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    # The filter overshoots at sharp edges.
    return np.clip(resized, 0, 1), square


def quantise(film: np.ndarray, bits: Literal[8, 16] = 8) -> np.ndarray:
    """Rounds values in [0, 1] to uint8 (0 to 255) or uint16 (0 to 65535)."""
    top, dtype = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    return np.rint(film * np.float32(top)).astype(dtype)


def _square(height: int, width: int, fit: Fit) -> Square:
    if fit == "squash":
        return Square(0, 0, height, width)
    side = min(height, width) if fit == "crop" else max(height, width)
    # Rounded towards zero, so that an odd pixel goes to the right and to the bottom whether cut off or added.
    return Square(int((height - side) / 2), int((width - side) / 2), side, side)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens a file with Pillow's own limit on size lifted: it warns at half of what a large mammogram has."""
    with path.open("rb") as file:
        with _opening:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file)
            except Exception:
                raise Skipped("not an image") from None
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with image:
            yield image


def _grey(image: Image.Image) -> np.ndarray:
    """Brings a loaded picture of any mode to one channel; (H, W) in the narrowest type that holds its values."""
    if image.mode.startswith("I"):
        array = np.asarray(image)
        fits = array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max
        return array.astype(np.uint16 if fits else np.int32)
    if image.mode == "F":
        return np.asarray(image, np.float32)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
        luma = image.convert("RGB").convert("L")
        if alpha.getextrema() != (255, 255):
            luma = Image.composite(luma, Image.new("L", luma.size), alpha)
        return np.asarray(luma)
    if image.mode != "L":
        image = (image if image.mode in ("1", "RGB") else image.convert("RGB")).convert("L")
    return np.asarray(image)
