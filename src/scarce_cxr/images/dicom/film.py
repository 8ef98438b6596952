"""A DICOM film, decoded and shown as its header says."""

from typing import BinaryIO

import numpy as np
from pydicom.dataset import Dataset

from scarce_cxr.images.decode import MAX_PIXELS, Shown, Skipped, Voi, full_range, stretch
from scarce_cxr.images.dicom.elements import code, first_item, guarded, integer, lut, number, read_elements, words
from scarce_cxr.images.dicom.pixels import LAYOUT, decode_pixels, is_as_deep_as_it_says, layout_of
from scarce_cxr.images.dicom.values import (
    Window,
    clean_bits,
    find_padding,
    look_up,
    rescale,
    show_through_lut,
    show_through_window,
    to_grey,
)

_KEYWORDS = (
    *LAYOUT,
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    "PixelData",
)
# Beyond as many different values a table of them all would be larger than a film.
_MOST_LEVELS = 2**20
_ROWS_AT_A_TIME = 256


def read_film(file: BinaryIO, voi: Voi = "window", max_pixels: int = MAX_PIXELS) -> Shown:
    """Decodes a film and applies the transforms for modality, VOI and presentation, in this order.

    Padding counts in no statistic and becomes black. MONOCHROME1 and the presentation shape INVERSE invert, last and
    only once: in digital radiographs the one comes with the other (PS3.3, DX Image Module). Colour is made grey, and
    shown as other pictures are.

    Args:
        file: at its beginning.
        voi: `window` shows through the VOI table, or else the first window; where there is neither, or nothing would
            be left to see, it is as `percentile`. `full` maps the film's smallest and largest value to black and
            white; `percentile` lets a thousandth of the pixels go beyond either.
        max_pixels: more than this many pixels in the header are refused before anything is decoded.

    Raises:
        Skipped: no DICOM, no picture, several frames, too large, blank, truncated, damaged, or compressed in a way
            that no installed package reads: then with the transfer syntax, and the package that would.
        OSError: the file itself cannot be read.
        MemoryError: it is too large for this machine.
    """
    with guarded():
        header = read_elements(file, _KEYWORDS, with_pixels=True)
        layout = layout_of(header, max_pixels)
        stored = decode_pixels(header, layout)
        padded = None
        if layout.colours == 3:
            values, header = to_grey(stored), Dataset()
        else:
            cleaned = not is_as_deep_as_it_says(header)
            values = clean_bits(stored, layout.bits_stored, layout.high_bit) if cleaned else stored
            padded = _padding(header, stored, values, layout.bits_stored)
        visible = values if padded is None else values[~padded]
        if visible.size == 0 or visible.min() == visible.max():
            raise Skipped("blank: all pixels are equal")
        return Shown(values, _show(values, padded, header, voi))


def _show(values: np.ndarray, padded: np.ndarray | None, header: Dataset, voi: Voi) -> np.ndarray:
    """The film (H, W) float32 in [0, 1] of its stored values."""
    # All transforms act on single values, so that they are worked out once for each value that occurs.
    low, high = int(values.min()), int(values.max())
    if high - low < _MOST_LEVELS:
        levels = np.arange(low, high + 1)
    else:
        levels, places = np.unique(values, return_inverse=True)
        values, low = places.reshape(values.shape), 0
    units = _to_units(levels, header)
    shown = _through_voi(units, header) if voi == "window" else None
    film = None if shown is None else _take(shown, values, low)
    if film is None or np.ptp(film if padded is None else film[~padded]) == 0:
        seen = _take(units, values, low)
        seen = seen if padded is None else seen[~padded]
        span = (float(seen.min()), float(seen.max())) if voi == "full" else full_range(seen)
        film = _take(stretch(units, *span), values, low)
    if code(header, "PhotometricInterpretation") == "MONOCHROME1" or code(header, "PresentationLUTShape") == "INVERSE":
        np.subtract(1, film, out=film)
    if padded is not None:
        film[padded] = 0
    return film


def _take(table: np.ndarray, values: np.ndarray, low: int) -> np.ndarray:
    """`table[values - low]` as (H, W) float32, in strips: numpy's indices are four times as large as the values."""
    table = table.astype(np.float32)
    taken = np.empty(values.shape, np.float32)
    for top in range(0, len(values), _ROWS_AT_A_TIME):
        strip = values[top : top + _ROWS_AT_A_TIME].astype(np.int64)
        taken[top : top + _ROWS_AT_A_TIME] = table[strip - low]
    return taken


def _to_units(levels: np.ndarray, header: Dataset) -> np.ndarray:
    """The modality transform: a table, or slope and intercept."""
    table = lut(first_item(header, "ModalityLUTSequence"))
    if table is not None:
        return look_up(levels, table)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    # Numbers beyond these (or a slope of 0) come from damage, and would leave nothing to see.
    slope = slope if slope is not None and 1e-6 <= abs(slope) <= 1e6 else 1.0
    return rescale(levels, slope, intercept if intercept is not None and abs(intercept) <= 1e6 else 0.0)


def _through_voi(units: np.ndarray, header: Dataset) -> np.ndarray | None:
    """The first VOI table if there is one, else the first window; null where neither is there and makes sense."""
    table = lut(first_item(header, "VOILUTSequence"))
    if table is not None:
        return show_through_lut(units, table)
    center, width = number(header, "WindowCenter"), number(header, "WindowWidth")
    function = code(header, "VOILUTFunction")
    least = 0 if function in ("LINEAR_EXACT", "SIGMOID") else 1
    if center is None or not width or width < least:
        return None
    return show_through_window(units, Window(center, width, function))


def _padding(header: Dataset, stored: np.ndarray, values: np.ndarray, bits_stored: int) -> np.ndarray | None:
    """Which pixels are padding, (H, W) bool; null where none are."""
    edges = [words(header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if edges[0] is None:
        return None
    signed = integer(header, "PixelRepresentation") == 1
    padding, limit = (None if edge is None else int(edge.view(np.int16)[0] if signed else edge[0]) for edge in edges)
    padded = find_padding(stored, values, bits_stored, padding, limit)
    return padded if padded.any() else None
