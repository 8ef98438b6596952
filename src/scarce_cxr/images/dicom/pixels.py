"""A DICOM file's pixels as stored, by pydicom's decoders and whichever of their packages are installed."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from scarce_cxr.images.decode import Skipped
from scarce_cxr.images.dicom.elements import Bounded, code, integer, text

# The elements that say how pixels are stored.
LAYOUT = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)

_J2K = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "
# Of those that a JPEG's start of frame stands for, the more general.
_FRAMES = {0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xC3: JPEGLossless, 0xF7: JPEGLSNearLossless}
_FILLING = re.compile(rb"\xff+")
# Profiles of colour and thumbnails are smaller.
_MOST_BEFORE_FRAME = 2**20
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# pydicom's plugins, in the order of preference: GDCM comes last, as it may crash on damaged pixels.
_PLUGINS = ("pyjpegls", "pylibjpeg", "pydicom", "pillow", "gdcm")
_PACKAGES = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.57": "python-gdcm",
    "1.2.840.10008.1.2.4.70": "python-gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.5": "pydicom",
}


def compressed_syntaxes() -> Iterator[tuple[str, str, bool]]:
    """Name of each compressed transfer syntax, the package that reads it, and whether one that does is installed."""
    for syntax, package in _PACKAGES.items():
        yield UID(syntax).name, package, bool(_installed(UID(syntax)))


@dataclass(frozen=True)
class Layout:
    """How pixels are stored: `colours` of `bits_allocated` bits each, of which `bits_stored` are the value's."""

    rows: int
    columns: int
    colours: int
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: int


def layout_of(header: Dataset, max_pixels: int) -> Layout:
    """Reads the layout; what is missing is guessed.

    Raises:
        Skipped: there are no pixels, too many, several frames, or it makes no sense.
    """
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    colours = integer(header, "SamplesPerPixel", 1)
    allocated = integer(header, "BitsAllocated", 16 if integer(header, "BitsStored") > 8 else 8)
    stored = integer(header, "BitsStored", allocated)
    signed = integer(header, "PixelRepresentation")
    frames = integer(header, "NumberOfFrames", 1)
    photometric = code(header, "PhotometricInterpretation") or ("MONOCHROME2" if colours == 1 else "RGB")
    if len(header) == 0:
        # pydicom drops what it has read when it meets the end of the file inside of compressed pixels.
        raise Skipped("truncated (the end of the pixels is missing)")
    if rows <= 0 or columns <= 0:
        raise Skipped("a DICOM file without a picture")
    if rows * columns > max_pixels or rows * columns * colours * allocated > 32 * max_pixels:
        raise Skipped(f"too large: {columns} x {rows} pixels")
    if "PixelData" not in header:
        # Pixels of as many bits are floating-point ones, in an element of their own (PS3.3 C.7.6.24, C.7.6.25).
        raise Skipped("floating-point pixels, or none" if allocated in (32, 64) else "truncated (no pixels)")
    if frames > 1:
        raise Skipped(f"several frames: {frames}")
    if photometric == "PALETTE COLOR":
        raise Skipped("a colour palette")
    if colours not in (1, 3) or allocated not in (1, 8, 16, 32) or not 1 <= stored <= allocated or signed not in (0, 1):
        raise Skipped("damaged (an impossible layout of pixels)")
    return Layout(
        rows,
        columns,
        colours,
        photometric,
        planar=integer(header, "PlanarConfiguration"),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=integer(header, "HighBit", stored - 1),
        signed=signed,
    )


def decode_pixels(header: Dataset, layout: Layout) -> np.ndarray:
    """Decodes the pixels.

    Args:
        header: with the element PixelData.
        layout: its own.

    Returns:
        (H, W), or (H, W, 3) red, green and blue: whole numbers, with whatever stands in the bits around the value.

    Raises:
        Skipped: truncated, damaged, or compressed in a way that no installed package reads.
    """
    element = header.get_item("PixelData", keep_deferred=True)
    if not isinstance(element, RawDataElement):
        raise Skipped("damaged (a sequence in place of pixels)")
    syntax = transfer_syntax(header)
    content = element.value or b""
    if syntax in _NATIVE:
        if _is_compressed(element):
            raise Skipped("damaged (compressed, although the transfer syntax says otherwise)")
        plugin, options = "", {"pixel_vr": element.VR or "OW"}
    else:
        frame = _frame(content, syntax)
        _refuse_other_size(frame, syntax, layout)
        plugin, options = _plugin(syntax, layout, frame), {}
        content = encapsulate([frame], has_bot=False)
    try:
        stored, _ = get_decoder(syntax).as_array(
            content,
            index=0,
            decoding_plugin=plugin,
            rows=layout.rows,
            columns=layout.columns,
            samples_per_pixel=layout.colours,
            photometric_interpretation=layout.photometric,
            planar_configuration=layout.planar,
            bits_allocated=layout.bits_allocated,
            bits_stored=layout.bits_stored,
            pixel_representation=layout.signed,
            number_of_frames=1,
            pixel_keyword="PixelData",
            # It would not see the high bit.
            correct_unused_bits=False,
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:
        # Damaged pixels raise errors of every kind.
        said = str(error).lower()
        cut = "truncated" in said or "less than expected" in said
        raise Skipped(
            f"{'truncated' if cut else 'damaged pixels'}: {_named(syntax)}{plugin and f', by {plugin}'}"
        ) from None
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def transfer_syntax(header: Dataset) -> UID:
    """The transfer syntax; where it is not given, what compressed pixels begin with, or how the header was read.

    Raises:
        Skipped: it is not given, and the pixels are compressed in a way that does not show.
    """
    given = text(getattr(header, "file_meta", None), "TransferSyntaxUID")
    if given:
        return UID(given)
    element = header.get_item("PixelData", keep_deferred=True)
    if _is_compressed(element):
        return _syntax_of_stream(element.value or b"")
    implicit, little = header.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def is_as_deep_as_it_says(header: Dataset) -> bool:
    """Whether the compressed pixels state their own depth, so that no stray bits stand around the values."""
    return transfer_syntax(header) in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)


def _is_compressed(element: RawDataElement | DataElement | None) -> bool:
    return isinstance(element, RawDataElement) and element.length == 0xFFFFFFFF


def _syntax_of_stream(content: bytes) -> UID:
    """The transfer syntax, or the more general of two, whose pictures begin as the first fragment does."""
    offsets = int.from_bytes(content[4:8], "little")
    frame = content[16 + offsets : 16 + offsets + _MOST_BEFORE_FRAME]
    if frame.startswith((_J2K, _JP2)):
        return JPEG2000
    place = _start_of_frame(frame)
    syntax = None if place is None else _FRAMES.get(frame[place + 1])
    if syntax is None:
        raise Skipped("compressed, but the transfer syntax is missing")
    return syntax


def _named(syntax: UID) -> str:
    """A transfer syntax's name and number; only the standard's are repeated."""
    known = re.fullmatch(r"1\.2\.840\.10008[.0-9]+", syntax)
    return f"{syntax.name} ({syntax})" if known else "a private transfer syntax"


def _frame(content: bytes, syntax: UID) -> bytes:
    """The compressed picture, joined from its fragments."""
    try:
        frame = get_frame(Bounded(io.BytesIO(content)), 0, number_of_frames=1)
    except Exception:
        raise Skipped(f"damaged pixels: {_named(syntax)}") from None
    if syntax in JPEG2000TransferSyntaxes:
        # Some wrap it in a file of its own (JP2), which the standard forbids, and which may lead pydicom in circles.
        return frame[max(frame[:4096].find(_J2K), 0) :]
    return frame


def _plugin(syntax: UID, layout: Layout, frame: bytes) -> str:
    """The plugin of pydicom that decodes a frame.

    Raises:
        Skipped: none is installed.
    """
    try:
        available = _installed(syntax)
    except NotImplementedError:
        # How pydicom says that it knows no decoder for a transfer syntax.
        raise Skipped(f"compressed in a way that no package reads: {_named(syntax)}") from None
    if syntax == JPEGExtended12Bit and _stream_size(frame)[1] > 8:
        available = [plugin for plugin in available if plugin == "pylibjpeg"]
    if not available:
        raise Skipped(f"needs the package {_PACKAGES.get(syntax, 'that reads it')}: {_named(syntax)}")
    return available[0]


def _installed(syntax: UID) -> list[str]:
    decoders = get_decoder(syntax).available_plugins
    return [plugin for plugin in _PLUGINS if plugin in decoders]


def _refuse_other_size(frame: bytes, syntax: UID, layout: Layout) -> None:
    """Compares a compressed picture's own size with the header's, as it is its own that memory is taken for.

    Raises:
        Skipped: they differ, or the picture has none.
    """
    if syntax == RLELossless:
        if not _fits_run_lengths(frame, layout):
            raise Skipped(f"damaged pixels: {_named(syntax)}")
        return
    if syntax not in _PACKAGES:
        return
    size, bits = _stream_size(frame)
    if size is None:
        raise Skipped(f"damaged pixels: {_named(syntax)}")
    if size != (layout.rows, layout.columns, layout.colours) or bits > layout.bits_allocated:
        raise Skipped("damaged (the compressed picture has another size than the header says)")


def _stream_size(frame: bytes) -> tuple[tuple[int, int, int] | None, int]:
    """Height, width and colours, and the bits of each, as a JPEG of any kind has them; null where it has none."""
    if frame.startswith(_J2K) and len(frame) > 42:
        right, bottom, left, top = (int.from_bytes(frame[place : place + 4], "big") for place in (8, 12, 16, 20))
        return (bottom - top, right - left, int.from_bytes(frame[40:42], "big")), (frame[42] & 0x7F) + 1
    place = _start_of_frame(frame)
    if place is None:
        return None, 0
    height, width = (int.from_bytes(frame[place + at : place + at + 2], "big") for at in (5, 7))
    return (height, width, frame[place + 9]), frame[place + 4]


def _start_of_frame(frame: bytes) -> int | None:
    """Where the marker stands, of a JPEG of any kind, that its height and width follow; null where there is none."""
    place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while place + 10 <= min(len(frame), _MOST_BEFORE_FRAME) and frame[place] == 0xFF:
        # Any number of FF may stand before a marker.
        place = _FILLING.match(frame, place).end() - 1
        marker = int.from_bytes(frame[place + 1 : place + 2])
        # A start of frame: C0 to CF but for three others, and F7 of JPEG-LS.
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return place if place + 10 <= len(frame) else None
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def _fits_run_lengths(frame: bytes, layout: Layout) -> bool:
    """Whether no segment of run lengths unpacks to much more than the header says: two bytes may stand for 128."""
    segments = int.from_bytes(frame[:4], "little")
    if segments != layout.colours * layout.bits_allocated // 8:
        return False
    starts = [int.from_bytes(frame[4 * n : 4 * n + 4], "little") for n in range(1, segments + 1)]
    for place, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        unpacked = 0
        while place < end:
            if place >= len(frame) or unpacked > 2 * layout.rows * layout.columns:
                return False
            run = frame[place]
            place += run + 2 if run < 128 else 2 if run > 128 else 1
            unpacked += run + 1 if run < 128 else 257 - run if run > 128 else 0
    return True
