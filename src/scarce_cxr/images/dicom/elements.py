"""Elements of a DICOM file, read within limits on bytes, lengths and patience, and in silence."""

import io
import logging
import math
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence_item
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from scarce_cxr.images.decode import Skipped, is_dicom
from scarce_cxr.images.dicom.values import Lut

# Five of the largest detectors' films at 16 bits.
_MAX_FILE_BYTES = 512 * 2**20
# A real header has some hundred elements, each of which takes two or three reads.
_MAX_READS = 100_000
# No text or number that is asked for is longer in a real file.
_MAX_VALUE_BYTES = 1024
# Seven tables of 65,536 entries.
_MAX_SEQUENCE_BYTES = 2**20
# Of a deflated file, to see the header alone.
_MAX_HEADER_BYTES = 16 * 2**20
# Radiographs shrink to a half or a third.
_MAX_EXPANSION = 100

_PIXELS = Tag("PixelData")
_SEQUENCES = frozenset(map(Tag, ("ViewCodeSequence", "ModalityLUTSequence", "VOILUTSequence")))


class _TooMuch(Exception):  # noqa: N818 - never leaves this file
    """A header that would be read for ever."""


class _Deflated(Exception):  # noqa: N818 - never leaves this file
    """The rest of the file is one deflated stream."""


class Bounded:
    """A file from which nobody reads beyond its end, nor too often, nor all of it at once.

    Args:
        file: anything that can be read and sought.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.reads = file, 0
        here = file.tell()
        self.size = file.seek(0, io.SEEK_END)
        file.seek(here)
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int = -1) -> bytes:
        """Reads at most `length` bytes."""
        if length < 0:
            # pydicom asks for the whole rest in one case alone: to inflate it, whatever it may grow to.
            raise _Deflated
        self.reads += 1
        if self.reads > _MAX_READS:
            raise _TooMuch
        return self._file.read(max(0, min(length, self.size - self._file.tell())))


def read_elements(file: BinaryIO, keywords: Sequence[str], with_pixels: bool = False) -> Dataset:
    """Reads some elements of a file, and leaves out those whose values are absurdly long.

    A missing preamble or transfer syntax is made up for by pydicom: little endian, of implicit kinds unless the first
    element shows its kind.

    Args:
        file: at its beginning.
        keywords: of the elements.
        with_pixels: whether to read on to the pixels, which `keywords` then must name.

    Raises:
        Skipped: it is no DICOM file, is too large, or its header would take for ever.
        Exception: of any kind, for other damage: call it in `guarded`.
    """
    if not is_dicom(file):
        raise Skipped("not a DICOM file")
    bounded = Bounded(file)
    if with_pixels and bounded.size > _MAX_FILE_BYTES:
        raise Skipped(f"too large: {bounded.size:,} bytes")
    options = {"force": True, "stop_before_pixels": not with_pixels, "specific_tags": list(keywords)}
    try:
        try:
            dataset = dcmread(bounded, **options)
        except _Deflated:
            # Memory is taken for as much as is asked for, be there as much or not.
            packed = file.read(min(bounded.size, _MAX_FILE_BYTES))
            bounded = Bounded(io.BytesIO(_inflate(packed, _MAX_FILE_BYTES if with_pixels else _MAX_HEADER_BYTES)))
            dataset = dcmread(bounded, **options)
    except Exception:
        # Inside of sequences pydicom makes an OSError of it.
        if bounded.reads > _MAX_READS:
            raise Skipped("damaged (more elements than in any real header)") from None
        raise
    for tag in list(dataset.keys()):
        element = _raw(dataset, tag)
        limit = _MAX_SEQUENCE_BYTES if tag in _SEQUENCES else _MAX_VALUE_BYTES
        if tag != _PIXELS and isinstance(element, RawDataElement) and len(element.value or b"") > limit:
            del dataset[tag]
    return dataset


def _inflate(packed: bytes, limit: int) -> bytes:
    """Inflates up to `limit` bytes, or up to what a radiograph may grow to."""
    limit = min(limit, _MAX_HEADER_BYTES + _MAX_EXPANSION * len(packed))
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)


def _raw(dataset: Dataset, keyword: str | BaseTag) -> RawDataElement | DataElement | None:
    """An element as it was read, if nobody has asked for its value before."""
    # Without the option pydicom converts empty ones, of whatever kind they claim to be.
    return dataset.get_item(keyword, keep_deferred=True)


def texts(dataset: Dataset | None, keyword: str) -> list[str]:
    """An element's values without spaces around them; none where it is missing or damaged."""
    try:
        value = None if dataset is None else dataset.get(keyword)
    except Exception:
        # Damaged values raise errors of every kind.
        value = None
    if value is None:
        return []
    return [str(part).strip(" \0\t\r\n") for part in (value if isinstance(value, MultiValue) else [value])]


def text(dataset: Dataset | None, keyword: str) -> str:
    """The first of an element's values, or ""."""
    return next(iter(texts(dataset, keyword)), "")


def code(dataset: Dataset | None, keyword: str) -> str:
    """The same in capitals."""
    return text(dataset, keyword).upper()


def number(dataset: Dataset | None, keyword: str) -> float | None:
    """The first of an element's values, if it is a finite number."""
    try:
        value = float(text(dataset, keyword))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def integer(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """The first of an element's values without its fraction; the default where it is no number."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """A sequence's first item; the others are not even parsed, unless that was the way to find the sequence's end."""
    element = _raw(dataset, keyword)
    if element is None:
        return None
    try:
        if not isinstance(element, RawDataElement):
            return element.value[0]
        file = Bounded(io.BytesIO(element.value))
        return read_sequence_item(file, element.is_implicit_VR, element.is_little_endian, "iso8859")
    except Exception:
        # Damaged or empty: one element less.
        return None


def words(dataset: Dataset | None, keyword: str) -> np.ndarray | None:
    """An element's bytes as (n,) uint16, n > 0; what kind of numbers they are, headers often say wrongly."""
    element = None if dataset is None else _raw(dataset, keyword)
    if not isinstance(element, RawDataElement) or len(element.value or b"") < 2:
        return None
    content = element.value[: len(element.value) // 2 * 2]
    return np.frombuffer(content, "<u2" if element.is_little_endian else ">u2").astype(np.uint16)


def lut(item: Dataset | None) -> Lut | None:
    """The table in an item of a LUT sequence; null where it is missing, or shorter than it says."""
    descriptor, entries = words(item, "LUTDescriptor"), words(item, "LUTData")
    if descriptor is None or entries is None or len(descriptor) != 3:
        return None
    count, first, bits = (int(part) for part in descriptor)
    count = count or 65536
    if bits <= 8 and len(entries) < count:
        entries = entries.astype("<u2").view(np.uint8)
    return Lut(first, bits, entries[:count]) if 1 <= bits <= 16 and len(entries) >= count else None


class _Silence:
    """Warnings, and the log lines of pydicom and its decoders, turned off for as long as any thread is inside."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._levels: dict[logging.Logger, int] = {}

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
                for logger in map(logging.getLogger, _LOGGERS):
                    self._levels[logger] = logger.level
                    logger.setLevel(logging.CRITICAL + 1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._warnings.__exit__(None, None, None)
                for logger, level in self._levels.items():
                    logger.setLevel(level)


_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg")
_silence = _Silence()


@contextmanager
def guarded() -> Iterator[None]:
    """Lets nothing of a file out but its elements: no warning, no log line, and no error.

    Raises:
        Skipped: instead of whatever pydicom and its decoders meet damage with, as they quote the file in their words.
        OSError: the file itself cannot be read.
        MemoryError: it is too large for this machine.
    """
    _silence.enter()
    try:
        yield
    except (Skipped, MemoryError):
        raise
    except Exception as error:
        # pydicom raises some of its own as OSError; those of the disk have a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Skipped(f"damaged ({type(error).__name__})") from None
    finally:
        _silence.leave()
