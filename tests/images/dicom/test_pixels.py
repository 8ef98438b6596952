"""What cannot be decoded is skipped by name; what lies about its size is refused before memory is taken for it."""

import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from scarce_cxr.images.decode import Skipped, decode
from scarce_cxr.images.dicom import pixels

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
SHAPE = {"Rows": 20, "Columns": 30, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
SHAPE |= {"BitsAllocated": 8, "BitsStored": 8, "PixelRepresentation": 0}


def reason_for(path: Path, most_seconds: float = 5, most_bytes: int = 2**26) -> str:
    """Why a file is skipped; it may take neither long nor much memory to tell."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(Skipped) as caught:
            decode(path)
        assert time.process_time() - started < most_seconds
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()
    return caught.value.reason


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (JPEGBaseline8Bit, "pillow"),
        (JPEGLSLossless, "pyjpegls"),
        (JPEG2000Lossless, "pylibjpeg-openjpeg"),
        (UID("1.2.840.10008.1.2.4.70"), "python-gdcm"),
    ],
)
def test_a_missing_package_is_named_with_the_transfer_syntax(write_dicom, tmp_path, monkeypatch, syntax, package: str):
    streams = {
        JPEGLSLossless: b"\xff\xd8\xff\xf7\0\x0b\x08\0\x14\0\x1e\x01\x01\x11\0",
        JPEG2000Lossless: j2k(20, 30),
    }
    stream = streams.get(syntax, b"\xff\xd8\xff\xc3\0\x0b\x08\0\x14\0\x1e\x01\x01\x11\0") + bytes(40)
    monkeypatch.setattr(pixels, "_PLUGINS", ())
    reason = reason_for(write_dicom(tmp_path / "a.dcm", stream, syntax, **SHAPE))
    assert reason == f"needs the package {package}: {syntax.name} ({syntax})"


def test_twelve_bit_jpeg_names_the_package_that_pydicom_needs(write_dicom, tmp_path: Path):
    stream = b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x14\0\x1e\x01\x01\x11\0" + bytes(40)
    shape = SHAPE | {"BitsAllocated": 16, "BitsStored": 12}
    reason = reason_for(write_dicom(tmp_path / "a.dcm", stream, JPEGExtended12Bit, **shape))
    assert reason.startswith("needs the package pylibjpeg-libjpeg")


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        (MPEG4HP41, "MPEG-4 AVC/H.264 High Profile / Level 4.1 (1.2.840.10008.1.2.4.102)"),
        (UID("1.2.840.113619.5.99"), "a private transfer syntax"),
    ],
)
def test_what_no_package_reads_is_said_to_be_so(write_dicom, tmp_path: Path, syntax: UID, named: str):
    path = write_dicom(tmp_path / "a.dcm", GREY)
    content = path.read_bytes()
    start = content.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(content[start + 6 : start + 8], "little")
    given = str(syntax).encode() + b"\0" * (len(syntax) % 2)
    element = content[start : start + 6] + len(given).to_bytes(2, "little") + given
    group = int.from_bytes(content[140:144], "little") + len(given) - length
    place = content.index(b"\xe0\x7f\x10\x00O")
    packed = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + encapsulate([bytes(100)]) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    head = content[:140] + group.to_bytes(4, "little") + content[144:start] + element
    path.write_bytes(head + content[start + 8 + length : place] + packed)
    assert reason_for(path) == f"compressed in a way that no package reads: {named}"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_damaged_pixels_are_skipped_with_their_transfer_syntax(write_dicom, tmp_path: Path, syntax: UID):
    path = write_dicom(tmp_path / "a.dcm", RANDOM.integers(0, 256, (64, 64), dtype=np.uint8), syntax)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xe0\x7f\x10\x00OB") + 500
    # Of run lengths, these say nothing at all.
    content[place:-8] = (b"\x80" if syntax == RLELossless else b"\xff") * (len(content) - place - 8)
    path.write_bytes(content)
    assert reason_for(path).startswith(f"damaged pixels: {syntax.name} ({syntax})")


def test_truncated_pixels(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", GREY)
    path.write_bytes(path.read_bytes()[:-100])
    assert reason_for(path).startswith("truncated: Explicit VR Little Endian")
    path = write_dicom(tmp_path / "b.dcm", RANDOM.integers(0, 256, (64, 64), dtype=np.uint8), JPEGLSLossless)
    path.write_bytes(path.read_bytes()[:-1000])
    assert reason_for(path) == "truncated (the end of the pixels is missing)"
    path = write_dicom(tmp_path / "c.dcm", GREY)
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\xe0\x7f\x10\x00")])
    assert reason_for(path) == "truncated (no pixels)"


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_said_to_be_so(write_dicom, tmp_path: Path, keyword: str, kind: str):
    film = dcmread(write_dicom(tmp_path / "a.dcm", GREY))
    for absent in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(film, absent)
    film.BitsAllocated = 8 * np.dtype(kind).itemsize
    setattr(film, keyword, GREY.astype(kind).tobytes())
    film.save_as(tmp_path / "a.dcm")
    assert reason_for(tmp_path / "a.dcm") == "floating-point pixels, or none"


def without_syntax(path: Path) -> Path:
    """Leaves out preamble and transfer syntax."""
    content = path.read_bytes()
    path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    return path


@pytest.mark.parametrize(
    ("syntax", "depth"), [(JPEGLSLossless, np.uint8), (JPEGLSLossless, np.uint16), (JPEG2000Lossless, np.uint16)]
)
def test_a_compressed_film_without_its_transfer_syntax_is_read_by_its_first_bytes(
    write_dicom, tmp_path: Path, syntax: UID, depth: type
):
    film = RANDOM.integers(0, 250, (64, 64)).astype(depth)
    assert np.array_equal(decode(without_syntax(write_dicom(tmp_path / "a.dcm", film, syntax))).values, film)


@pytest.mark.parametrize("before", [b"", b"\xff\xe1\xff\xff" + bytes(65533)])
def test_a_jpeg_without_its_transfer_syntax_is_pillows(write_dicom, tmp_path: Path, before: bytes):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "JPEG")
    stream = buffer.getvalue()[:2] + before + buffer.getvalue()[2:]
    path = without_syntax(write_dicom(tmp_path / "a.dcm", stream + bytes(len(stream) % 2), JPEGBaseline8Bit, **SHAPE))
    assert np.array_equal(decode(path).values, np.asarray(Image.open(buffer)))


def test_what_does_not_show_how_it_is_compressed_misses_its_transfer_syntax(write_dicom, tmp_path: Path):
    reason = "compressed, but the transfer syntax is missing"
    assert reason_for(without_syntax(write_dicom(tmp_path / "a.dcm", GREY, RLELossless))) == reason
    streams = {
        "progressive": b"\xff\xd8\xff\xc2\0\x0b\x08\0\x14\0\x1e\x01\x01\x11\0" + bytes(40),
        "padding": b"\xff\xd8" + b"\xff" * 3_000_000,
        "segments of nothing": b"\xff\xd8" + b"\xff\xe0\0\2" * 10_000,
        "nothing": bytes(4),
    }
    for name, stream in streams.items():
        path = without_syntax(write_dicom(tmp_path / name, stream, JPEGBaseline8Bit, **SHAPE))
        assert reason_for(path) == reason
    # Where a plain one is given, it is not doubted.
    path = write_dicom(tmp_path / "lie", GREY, RLELossless)
    content = path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0")
    path.write_bytes(content)
    assert reason_for(path) == "damaged (compressed, although the transfer syntax says otherwise)"


def test_a_stream_without_its_transfer_syntax_may_not_lie_about_its_size(write_dicom, tmp_path: Path):
    for name, stream in {
        "j2k": j2k(2**31 - 1, 2**31 - 1),
        "jls": b"\xff\xd8\xff\xf7\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0" + bytes(100),
    }.items():
        path = without_syntax(write_dicom(tmp_path / name, stream, JPEG2000Lossless, **SHAPE))
        assert reason_for(path) == "damaged (the compressed picture has another size than the header says)"


def j2k(rows: int, columns: int, colours: int = 1) -> bytes:
    """The beginning of a JPEG 2000 stream."""
    size = b"".join(number.to_bytes(4, "big") for number in (columns, rows, 0, 0, columns, rows, 0, 0))
    head = b"\xff\x4f\xff\x51" + (38 + 3 * colours).to_bytes(2, "big") + b"\0\0" + size
    return head + colours.to_bytes(2, "big") + b"\x07\x01\x01" * colours + bytes(60)


def test_a_header_of_two_gigapixels(write_dicom, tmp_path: Path):
    for syntax in (ExplicitVRLittleEndian, JPEGBaseline8Bit):
        path = write_dicom(tmp_path / f"{syntax}.dcm", bytes(1000), syntax, **SHAPE | {"Rows": 46341, "Columns": 46341})
        assert reason_for(path) == "too large: 46341 x 46341 pixels"


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [
        (JPEG2000Lossless, j2k(2**31 - 1, 2**31 - 1)),
        (JPEG2000Lossless, j2k(20, 30, colours=16384)),
        # A file around the stream, whose second box ends where it begins.
        (JPEG2000Lossless, b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)),
        (JPEGBaseline8Bit, b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0" + bytes(100)),
        (JPEGLSLossless, b"\xff\xd8\xff\xf7\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0" + bytes(100)),
        (JPEGBaseline8Bit, b"\xff\xd8" + b"\xff" * 1000),
    ],
)
def test_a_stream_of_another_size_than_its_header(write_dicom, tmp_path: Path, syntax: UID, stream: bytes):
    assert reason_for(write_dicom(tmp_path / "a.dcm", stream, syntax, **SHAPE)).startswith("damaged")


def test_run_lengths_that_unpack_to_a_bomb(write_dicom, tmp_path: Path):
    head = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    path = write_dicom(tmp_path / "a.dcm", head + b"\x81\x07" * 4_000_000, RLELossless, **SHAPE)
    assert reason_for(path).startswith("damaged pixels: RLE Lossless")


@pytest.mark.parametrize(
    "lie",
    [
        {"BitsAllocated": 64},
        {"BitsStored": 9},
        {"SamplesPerPixel": 2},
        {"PixelRepresentation": 7},
        {"BitsAllocated": 0},
        {"Rows": 0},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "SECRET"},
    ],
)
def test_impossible_layouts(write_dicom, tmp_path: Path, lie: dict):
    reason = reason_for(write_dicom(tmp_path / "a.dcm", GREY, **lie))
    assert "SECRET" not in reason
