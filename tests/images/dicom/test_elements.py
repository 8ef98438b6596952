"""Hostile headers are refused in time and within memory, and nothing of a header is warned of or logged."""

import io
import logging
import threading
import time
import tracemalloc
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from scarce_cxr.images.decode import Skipped, decode
from scarce_cxr.images.dicom import elements, read_header
from scarce_cxr.images.dicom.elements import Bounded, first_item, guarded, lut, read_elements

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
# A file without a preamble: the kind of object, and the first of a sequence (0040,0260) of undefined length.
START = b"\x08\x00\x16\x00UI\x04\x001.2\0"
SEQUENCE = b"\x40\x00\x60\x02SQ\0\0\xff\xff\xff\xff"
ITEM = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
EMPTY = b"\xfe\xff\x00\xe0\0\0\0\0"


def refuse(path: Path, most_seconds: float = 5) -> None:
    """Asserts that both ways of reading a file end in time and in nothing but `Skipped`."""
    for read in (lambda: read_header(io.BytesIO(path.read_bytes())), lambda: decode(path)):
        started = time.process_time()
        with suppress(Skipped):
            read()
        assert time.process_time() - started < most_seconds


@pytest.mark.parametrize(
    "content",
    [
        START + SEQUENCE + (ITEM + SEQUENCE) * 20_000,
        START + SEQUENCE + EMPTY * 200_000,
        START + b"\x28\x00\x10\x30SQ\0\0" + (8 * 200_000).to_bytes(4, "little") + EMPTY * 200_000,
        START + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + EMPTY * 200_000,
        START + b"\x28\x00\x50\x10LT\x00\x00" * 200_000,
    ],
    ids=["nested", "items", "items of known length", "fragments", "elements"],
)
def test_headers_that_would_be_read_for_ever(tmp_path: Path, content: bytes):
    (tmp_path / "a.dcm").write_bytes(content)
    refuse(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "content",
    [
        START + b"\x08\x00\x60\x00UT\0\0\xff\xff\xff\xfe" + b"DX" * 100,
        START + b"\x10\x00\x20\x00UT\0\0\x00\x00\x00\x80",
        START + b"\xe0\x7f\x10\x00OW\0\0\xfe\xff\xff\xff" + bytes(1000),
    ],
    ids=["4 GB text", "2 GB text", "4 GB pixels"],
)
def test_lying_lengths_take_no_memory(tmp_path: Path, content: bytes):
    (tmp_path / "a.dcm").write_bytes(content)
    tracemalloc.start()
    try:
        refuse(tmp_path / "a.dcm")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_long_list_of_numbers_is_not_parsed(write_dicom, tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", GREY, WindowCenter=77, WindowWidth=100)
    content = path.read_bytes()
    place = content.index(b"\x28\x00\x50\x10DS")
    long = b"\\".join([b"1"] * 30_000)
    rest = content[place + 8 + content[place + 6] :]
    path.write_bytes(content[: place + 6] + len(long).to_bytes(2, "little") + long + rest)
    with path.open("rb") as file:
        read = read_elements(file, ("WindowCenter", "WindowWidth"))
    assert "WindowCenter" not in read
    assert read.WindowWidth == 100
    refuse(path, most_seconds=1)


def test_a_deflated_bomb(tmp_path: Path, monkeypatch):
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()
    syntax = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + syntax + bomb)
    # Counting memory makes the many reads of a header of zeros slow.
    monkeypatch.setattr(elements, "_MAX_READS", 1000)
    tracemalloc.start()
    try:
        with pytest.raises(Skipped):
            decode(tmp_path / "a.dcm")
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + syntax + b"no deflated stream")
    with pytest.raises(Skipped, match="damaged"):
        decode(tmp_path / "a.dcm")


def test_a_bounded_file_ends_where_it_ends():
    file = Bounded(io.BytesIO(b"0123456789"))
    file.seek(8)
    assert file.read(2**40) == b"89"
    assert file.read(5) == b""
    assert file.size == 10


def test_tables_that_are_shorter_than_they_say_are_none(write_dicom, tmp_path: Path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1000, 0, 16])
    item.add_new("LUTData", "OW", bytes(1000))
    path = write_dicom(tmp_path / "a.dcm", GREY, VOILUTSequence=[item])
    with path.open("rb") as file:
        read = read_elements(file, ("VOILUTSequence",))
    assert lut(first_item(read, "VOILUTSequence")) is None
    assert decode(path).film.max() == 1


def test_bytes_in_pairs_are_taken_apart(write_dicom, tmp_path: Path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", bytes(range(255, -1, -1)))
    path = write_dicom(tmp_path / "a.dcm", GREY, VOILUTSequence=[item])
    assert np.allclose(decode(path).film, 1 - GREY / 255)


def test_nothing_of_the_header_is_warned_of_or_logged(write_dicom, tmp_path: Path, caplog, recwarn):
    path = write_dicom(tmp_path / "a.dcm", GREY, WindowCenter=77, SeriesDescription="x" * 20, PatientAge="045Y")
    content = path.read_bytes().replace(b"x" * 20, b"MARKER  \xff\xfe  MARKER  ").replace(b"045Y", b"MARK")
    path.write_bytes(content.replace(b"1.2.3\0", b"MARKER").replace(b"\x0077", b"\x00MA"))
    with caplog.at_level(logging.DEBUG), path.open("rb") as file:
        header = read_header(file)
        decode(path)
    assert "MARKER" in header.descriptions[0]
    assert not recwarn.list
    assert not caplog.records


def test_silence_ends_when_the_last_thread_leaves():
    level, filters = logging.getLogger("pydicom").level, list(warnings.filters)
    first, second = threading.Event(), threading.Event()

    def stay() -> None:
        with guarded():
            first.set()
            second.wait(5)

    thread = threading.Thread(target=stay)
    with guarded():
        thread.start()
        first.wait(5)
    assert logging.getLogger("pydicom").level > logging.CRITICAL
    second.set()
    thread.join()
    assert (logging.getLogger("pydicom").level, list(warnings.filters)) == (level, filters)
