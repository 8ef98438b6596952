"""DICOM's way from stored values to what is shown (PS3.5 8.1.1; PS3.3 C.7.6.3, C.11.1, C.11.2), as pure functions."""

from typing import NamedTuple

import numpy as np

# ITU-R 601, as for colour pictures.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Lut(NamedTuple):
    """A table of values.

    Attributes:
        first: the input that the first entry is for; inputs below take the first entry, inputs beyond the last one.
        bits: of an entry.
        entries: (n,) whole numbers.
    """

    first: int
    bits: int
    entries: np.ndarray


class Window(NamedTuple):
    """A window on the values: its centre and width in their units, and LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str = "LINEAR"


def clean_bits(stored: np.ndarray, bits_stored: int, high_bit: int) -> np.ndarray:
    """Cuts a value out of the bits around it, where old devices keep overlays.

    Args:
        stored: whole numbers of any type and shape; signed ones keep their sign.
        bits_stored: how many bits are the value's.
        high_bit: the highest of them, counted from 0.

    Returns:
        Values in the same type and shape.
    """
    bits = 8 * stored.dtype.itemsize
    if not bits_stored - 1 <= high_bit < bits:
        high_bit = bits_stored - 1
    return (stored << (bits - 1 - high_bit)) >> (bits - bits_stored)


def to_grey(colour: np.ndarray) -> np.ndarray:
    """Luma of (H, W, 3) red, green and blue, in their own type; grey colours keep their value exactly."""
    return np.rint(colour.astype(np.float32) @ _LUMA).astype(colour.dtype)


def find_padding(
    stored: np.ndarray, values: np.ndarray, bits_stored: int, padding: int, limit: int | None = None
) -> np.ndarray:
    """Finds the pixels that a device has set to the padding value, or to one between it and the limit.

    Args:
        stored: (H, W) as decoded.
        values: (H, W), `stored` without the bits around the value.
        bits_stored: how many bits are the value's.
        padding, limit: whole numbers of the values' sign. What `bits_stored` cannot hold is sought in `stored`.

    Returns:
        (H, W) bool.
    """
    low, high = sorted((padding, padding if limit is None else limit))
    signed = values.dtype.kind == "i"
    lowest, highest = (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1) if signed else (0, (1 << bits_stored) - 1)
    sought = values if lowest <= low and high <= highest else stored
    # A number that the type cannot hold would wrap in the comparison.
    bounds = np.iinfo(sought.dtype)
    if high < bounds.min or low > bounds.max:
        return np.zeros(sought.shape, bool)
    return (sought >= max(low, bounds.min)) & (sought <= min(high, bounds.max))


def look_up(values: np.ndarray, lut: Lut) -> np.ndarray:
    """Replaces values (fractions are rounded) by their entries of a table; float64."""
    # "First" is written without a sign, also where values have one.
    first = lut.first - 65536 if lut.first >= 32768 and values.min() < 0 else lut.first
    places = np.clip(np.rint(values).astype(np.int64) - first, 0, len(lut.entries) - 1)
    return lut.entries[places].astype(np.float64)


def rescale(values: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """The device's units, in float64; the slope may be negative."""
    return values.astype(np.float64) * slope + intercept


def show_through_window(values: np.ndarray, window: Window) -> np.ndarray:
    """What a window shows of the values, from 0 (black) to 1 (white); float64.

    LINEAR is the standard's own formula, whose width counts values (1 shows a single step); LINEAR_EXACT is the plain
    straight line, SIGMOID the logistic curve with the same slope at the centre.
    """
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if window.function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def show_through_lut(values: np.ndarray, lut: Lut) -> np.ndarray:
    """What a VOI table shows of the values, from 0 to 1; float64."""
    # Some tables hold more bits than they say.
    top = max((1 << lut.bits) - 1, int(lut.entries.max()), 1)
    return look_up(values, lut) / top
