"""A film's file, its values scaled to [0, 1], and the square that the store keeps of it."""

import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

from scarce_cxr.images.png import inflated
from scarce_cxr.images.resampling import resample, strips

Fit = Literal["crop", "pad", "squash"]
Voi = Literal["window", "full", "percentile"]

# The largest detector's film has 40 megapixels, a film that was scanned finely 60; a header that promises more than 100
# is damaged or hostile. A worker then stays below 2 GB, whatever it reads.
MAX_PIXELS = 100_000_000
# JPEG's own limit.
_MAX_SIDE = 65_535
# A progressive JPEG goes over the whole film ten times; who says so a million times stops the work for as long.
_MAX_PIXELS_IN_SCANS = 5_000_000_000

# Pillow would open others too, among them EPS, which it has another program draw.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM")

# The first element's group (2 or 8), its number below 256, and its kind or a length below 256 (little endian); or the
# same of group 8 in big endian.
_WITHOUT_PREAMBLE = re.compile(rb"[\x02\x08]\0.\0([A-Z]{2}|.\0\0\0)|\0\x08\0.[A-Z]{2}", re.DOTALL)

_opening = threading.Lock()
# Pillow warns of damaged headers, and once more of large TIFF files; what is worth telling stands in skipped.csv.
warnings.filterwarnings("ignore", module=r"PIL\.")


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


@dataclass(frozen=True)
class Shown:
    """A film whose file itself says how its values are to be shown, as DICOM does.

    Attributes:
        values: (H, W) in the film's own values, of which the checksum is taken.
        film: (H, W) float32 in [0, 1].
    """

    values: np.ndarray
    film: np.ndarray


def decode(path: Path, max_pixels: int = MAX_PIXELS, voi: Voi = "window") -> np.ndarray | Shown:
    """Reads a DICOM file, or a PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000 or PPM; the content decides, not the name.

    Colour becomes luma (ITU-R 601), opaque alpha is dropped, partial alpha is laid on black, and the EXIF
    orientation is applied. Grey films keep their depth; Pillow reads colour at 8 bits a channel.

    Args:
        path: the file.
        max_pixels: more than this many pixels in the header are refused before anything is decoded.
        voi: how the values of a DICOM film are scaled, see `dicom.read_film`.

    Returns:
        (H, W) in the film's own values: uint8, uint16, int32 or float32; of a DICOM file also how it is shown.

    Raises:
        Skipped: zero bytes, not an image, truncated, several frames, too large, values that are not finite, or blank.
        OSError: the file itself cannot be read.
        MemoryError: it is too large for this machine.
    """
    if path.stat().st_size == 0:
        raise Skipped("zero bytes")
    with path.open("rb") as file:
        if not is_dicom(file):
            return _decode_picture(inflated(file), max_pixels)
        # pydicom takes half a second to import, which pictures need not wait for.
        from scarce_cxr.images.dicom import read_film

        return read_film(file, voi, max_pixels)


def is_dicom(file: BinaryIO) -> bool:
    """Whether a file begins as DICOM does, be it without the preamble of 128 bytes; leaves it at its beginning."""
    head = file.read(132)
    file.seek(0)
    return head[128:] == b"DICM" or _WITHOUT_PREAMBLE.match(head) is not None


def _decode_picture(file: BinaryIO, max_pixels: int) -> np.ndarray:
    with _opened(file) as image:
        width, height = image.size
        if width * height > max_pixels or max(width, height) > _MAX_SIDE:
            raise Skipped(f"too large: {width} x {height} pixels")
        try:
            # To count them, all would have to be gone through.
            if getattr(image, "is_animated", False):
                raise Skipped("several frames")
            if image.format == "JPEG" and width * height * _count_scans(file) > _MAX_PIXELS_IN_SCANS:
                raise Skipped("damaged (more scans than any real picture)")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            array = _grey(image)
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


def scale(array: np.ndarray | Shown, lowest: float = 0.1, highest: float = 99.9) -> np.ndarray:
    """Maps a film's own range to [0, 1]; a few burnt-out or dead pixels do not set the range.

    Args:
        array: (H, W) numbers. A film whose file says how it is shown is returned as it says.
        lowest, highest: percentiles that become 0 and 1, see `full_range`; values beyond are clipped.

    Returns:
        (H, W) float32.
    """
    if isinstance(array, Shown):
        return array.film
    return stretch(array, *full_range(array, lowest, highest))


def full_range(array: np.ndarray, lowest: float = 0.1, highest: float = 99.9) -> tuple[float, float]:
    """The percentiles `lowest` and `highest` of any number of values.

    Where both coincide (a small object on a flat ground), minimum and maximum take their place.
    """
    if array.dtype in (np.uint8, np.uint16):
        low, high = _percentiles(histogram(array), (lowest, highest))
    else:
        low, high = (float(value) for value in np.percentile(array, [lowest, highest]))
    return (low, high) if low < high else (float(array.min()), float(array.max()))


def histogram(array: np.ndarray) -> np.ndarray:
    """How often each value of uint8 or uint16 occurs, (256,) or (65536,)."""
    if array.dtype == np.uint8:
        return np.array(Image.fromarray(array.reshape(1, -1)).histogram())
    counts = np.zeros(65536, np.int64)
    # Strip by strip: numpy's indices are four times as large as the values.
    for strip in np.array_split(array.ravel(), -(-array.size // 2**20)):
        counts += np.bincount(strip, minlength=65536)
    return counts


def _percentiles(counts: np.ndarray, wanted: tuple[float, float]) -> list[float]:
    """Percentiles of values that occur `counts` times, interpolated between neighbours as numpy does."""
    until = np.cumsum(counts)
    places = np.array(wanted) / 100 * (until[-1] - 1)
    below, above = (np.searchsorted(until, edge(places), side="right") for edge in (np.floor, np.ceil))
    return (below + (above - below) * (places - np.floor(places))).tolist()


def stretch(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps `low` to 0 and `high` to 1, and clips what lies beyond; float32."""
    scaled = array.astype(np.float32)
    scaled -= np.float32(low)
    scaled /= np.float32(max(high - low, np.finfo(np.float32).tiny))
    return np.clip(scaled, 0, 1, out=scaled)


def fit_square(array: np.ndarray | Shown, size: int, fit: Fit = "crop") -> tuple[np.ndarray, Square]:
    """Does what `resize(scale(array), size, fit)` does, and never holds a whole film of floats."""
    if isinstance(array, Shown):
        return resize(array.film, size, fit)
    low, high = full_range(array)
    return _resize(array, size, fit, lambda rows: stretch(rows, low, high))


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
    return _resize(film, size, fit, lambda rows: np.asarray(rows, np.float32))


def _resize(
    film: np.ndarray, size: int, fit: Fit, through: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, Square]:
    square = _square(*film.shape, fit)
    inside = film[max(square.top, 0) :, max(square.left, 0) :][: square.height, : square.width]
    down = strips(square.height, size, max(-square.top, 0), inside.shape[0])
    across = strips(square.width, size, max(-square.left, 0), inside.shape[1], rows=size)
    resized = resample(inside, down, across, through)
    # The filter overshoots at sharp edges.
    return np.clip(resized, 0, 1, out=resized), square


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
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """Opens a picture with Pillow's own limit on size lifted: it warns at half of what a large mammogram has."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=_FORMATS)
        except Exception:
            raise Skipped("not an image") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _count_scans(file: BinaryIO) -> int:
    """How often a JPEG file has the marker that begins a scan; leaves it where it is."""
    here = file.tell()
    file.seek(0)
    scans = file.read().count(b"\xff\xda")
    file.seek(here)
    return scans


def _grey(image: Image.Image) -> np.ndarray:
    """Brings a loaded picture of any mode to one channel; (H, W) in the narrowest type that holds its values."""
    if image.mode.startswith("I"):
        array = np.asarray(image)
        fits = array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max
        return array.astype(np.uint16 if fits else np.int32, copy=False)
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
