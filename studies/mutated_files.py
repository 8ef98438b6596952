"""Prepares thousands of damaged and hostile films: does any crash the program, stall it, fill the memory, or get lost?

    uv run python studies/mutated_files.py [--count 10000] [--slice 1000] [--films ../shared/data] [--only NUMBER]

File number n is always the same: a whole PNG, JPEG, TIFF or DICOM file (made up, and real ones if there are any) with
bits flipped, cut off, with hostile numbers, or built to be a bomb. The files of a slice go through `prepare` in a
process of its own, as a folder of pictures and as one of DICOM. A file that kills it, or takes 20 seconds of the
processor, is noted and left out, and the slice begins anew. Every other file must be in the table or in `skipped.csv`.

results/mutated_files.csv has a row for every slice, kind of file and mutation: how many were stored, skipped, lost,
crashed and stalled, the seconds of the slowest (of the processor, and on the clock) and the largest memory in MB of
the process while it read one. Slices that are there already are not run again. Linux only.
"""

import argparse
import csv
import io
import multiprocessing
import signal
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from scarce_cxr.images import dicom
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import decode
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import DicomSource, FolderSource

RESULTS = Path(__file__).parent / "results/mutated_files.csv"
REAL = Path(__file__).parents[1] / "../shared/data"
# Of the processor: a busy machine is no stall.
SECONDS_TO_STALL = 20
HOSTILE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)


class Mutant(NamedTuple):
    """A damaged file: `kind` of the whole one, what was done to it, its bytes, and whether it is DICOM."""

    kind: str
    mutation: str
    content: bytes
    is_dicom: bool


def mutant(number: int, bases: Mapping[str, list[bytes]], seed: int = 0) -> Mutant:
    """File number `number`: most are whole files with random damage, every fortieth is built to do harm."""
    random = np.random.default_rng([seed, number])
    if number % 40 == 39:
        name = list(BUILT)[number // 40 % len(BUILT)]
        return Mutant("built", name, BUILT[name](random), name.startswith("dicom"))
    kind = list(bases)[number % len(bases)]
    whole = bases[kind][random.integers(len(bases[kind]))]
    name = list(DAMAGE)[random.integers(len(DAMAGE))]
    return Mutant(kind, name, DAMAGE[name](whole, random), kind.startswith("dicom"))


def make_bases(real: Path | None = None) -> dict[str, list[bytes]]:
    """Whole files by kind: made-up films of 96 x 80 pixels, and real ones from the folders `nih64` and `dicom`."""
    random = np.random.default_rng(0)
    grey = Image.fromarray(random.integers(0, 256, (12, 10), dtype=np.uint8)).resize((80, 96))
    deep = Image.fromarray((np.asarray(grey).astype(np.uint16) * 200) + 7)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "png": [_saved(grey.convert(mode), "PNG") for mode in ("L", "LA", "P", "RGB", "RGBA", "1")]
        + [_saved(deep, "PNG"), _saved(grey, "PNG", exif=exif)],
        "jpeg": [
            _saved(grey, "JPEG"),
            _saved(grey.convert("RGB"), "JPEG", progressive=True),
            _saved(grey.convert("CMYK"), "JPEG"),
            _saved(grey, "JPEG", exif=exif),
        ],
        "tiff": [
            _saved(image, "TIFF", compression=way)
            for image, way in ((grey, "raw"), (grey, "tiff_lzw"), (deep, "tiff_adobe_deflate"), (deep, "raw"))
        ],
        "dicom": [
            _dicom(np.asarray(grey), ImplicitVRLittleEndian),
            _dicom(np.asarray(grey), ExplicitVRLittleEndian, PhotometricInterpretation="MONOCHROME1"),
            _dicom(np.asarray(deep), ExplicitVRBigEndian, BitsStored=16, WindowCenter=20000, WindowWidth=9000),
            _dicom(np.asarray(deep), DeflatedExplicitVRLittleEndian, RescaleSlope=-1, RescaleIntercept=5),
            _dicom(np.asarray(grey.convert("RGB")), ExplicitVRLittleEndian),
            _dicom(np.asarray(deep), ExplicitVRLittleEndian, VOILUTSequence=_table(), ViewCodeSequence=_view()),
            _dicom(np.asarray(deep).astype(np.int16), ExplicitVRLittleEndian, PixelPaddingValue=-5),
        ],
        "dicom compressed": [
            _dicom(np.asarray(image), syntax)
            for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless)
            for image in (grey, deep)
        ]
        + [_dicom(np.asarray(grey), JPEGBaseline8Bit, _saved(grey, "JPEG")), *_lossless(_dicom(np.asarray(deep)))],
    }
    if real is not None and (real / "nih64").is_dir():
        made["png"] += [path.read_bytes() for path in sorted((real / "nih64/images").glob("*.png"))[:8]]
    if real is not None and (real / "dicom").is_dir():
        made["dicom compressed"] += [path.read_bytes() for path in sorted((real / "dicom").glob("*jpeg*.dcm"))]
        made["dicom"] += [(real / "dicom/nih_test1.dcm").read_bytes()]
    return made


def run_slice(numbers: range, bases: Mapping[str, list[bytes]], work: Path, seed: int = 0) -> pd.DataFrame:
    """Prepares the mutants with these numbers; a row each: number, kind, mutation, outcome, seconds, clock, mb."""
    mutants = {}
    for number in numbers:
        made = mutant(number, bases, seed)
        # Of the DICOM files every sixth is given a picture's name, which leads it another way.
        folder = "dicom" if made.is_dicom and number % 6 else "pictures"
        name = f"{number:06d}" if folder == "dicom" else f"{number:06d}.png"
        mutants[f"{folder}/{name}"] = (number, made)
    outcomes: dict[str, dict[str, Any]] = {}
    for folder, whole in (("pictures", bases["png"][0]), ("dicom", bases["dicom"][0])):
        names = [name for name in mutants if name.startswith(folder)]
        outcomes |= _prepare_folder({name: mutants[name][1].content for name in names}, whole, work / folder)
    return pd.DataFrame(
        [
            {"number": number, "kind": made.kind, "mutation": made.mutation, **outcomes[name]}
            for name, (number, made) in mutants.items()
        ]
    )


def _prepare_folder(contents: Mapping[str, bytes], whole: bytes, work: Path) -> dict[str, dict[str, Any]]:
    """Prepares one folder of files, beside a whole film; outcome and cost of each by its name."""
    films, log = work / "films", work / "log"
    films.mkdir(parents=True)
    (films / "whole.png").write_bytes(whole)
    for name, content in contents.items():
        (films / Path(name).name).write_bytes(content)
    found: dict[str, dict[str, Any]] = {}
    for attempt in range(len(contents) + 1):
        store = work / f"store-{attempt}"
        process = multiprocessing.get_context("spawn").Process(
            target=_prepare, args=(films, store, log, work.name == "dicom")
        )
        process.start()
        process.join()
        costs = _read_log(log)
        if process.exitcode == 0:
            break
        # Whatever was being read last did it.
        guilty = list(costs)[-1]
        outcome = "stalled" if process.exitcode == -signal.SIGPROF else "crashed"
        found[guilty] = {"outcome": outcome, **costs[guilty]}
        (films / guilty).unlink()
    stored = set(pd.read_parquet(store.with_name(f"{store.name}.private") / "names.parquet")["path"])
    with (store.with_name(f"{store.name}.private") / "skipped.csv").open(newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    for name in (Path(name).name for name in contents):
        if name not in found:
            both = name in stored and name in skipped
            outcome = "lost" if both else "stored" if name in stored else skipped.get(name, "lost")
            found[name] = {"outcome": outcome, **costs.get(name, {"seconds": 0.0, "clock": 0.0, "mb": 0.0})}
    return {name: found[Path(name).name] for name in contents}


def _prepare(films: Path, store: Path, log: Path, as_dicom: bool) -> None:
    """What the process of its own does: `prepare`, with a line in the log before each file that is opened."""
    with log.open("w") as lines:
        begin = partial(_begin, lines=lines)
        watched_header = partial(_watched_header, begin=begin, read=dicom.read_header)
        with mock.patch.object(dicom, "read_header", watched_header):
            source = DicomSource(films) if as_dicom else FolderSource(films)
            prepare(source, store, size=32, jobs=1, decoder=partial(_watched_decode, begin=begin))
        begin("")


def _watched_decode(path: Path, begin: Callable[[str], None], **options):
    begin(path.name)
    return decode(path, **options)


def _watched_header(file, begin: Callable[[str], None], read: Callable):
    begin(Path(file.name).name)
    return read(file)


def _begin(name: str, lines) -> None:
    """Notes that a file is begun, which ends the one before: what it took and how large the process became."""
    # Nobody handles this signal, so that it ends the process, wherever it is.
    signal.setitimer(signal.ITIMER_PROF, SECONDS_TO_STALL)
    lines.write(f"{name}\t{time.process_time()}\t{time.monotonic()}\t{_peak_mb()}\n")
    lines.flush()


def _peak_mb() -> float:
    """The largest memory since this was last asked for."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _read_log(log: Path) -> dict[str, dict[str, float]]:
    """What each file took in all; of the last, which may have been the end, only for how long it was alone."""
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    costs: dict[str, dict[str, float]] = {}
    after = [*rows[1:], [None, rows[-1][1], time.monotonic(), rows[-1][3]]]
    for (name, processor, clock, _), (_, processor_after, clock_after, peak) in zip(rows, after, strict=True):
        cost = costs.pop(name, {"seconds": 0.0, "clock": 0.0, "mb": 0.0})
        if name:
            costs[name] = {
                "seconds": cost["seconds"] + float(processor_after) - float(processor),
                "clock": cost["clock"] + float(clock_after) - float(clock),
                "mb": max(cost["mb"], float(peak)),
            }
    return costs


def _saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _dicom(
    pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, encoded: bytes | None = None, **elements: Any
) -> bytes:
    """A DICOM file of a digital radiograph; `encoded` are the pixels if they are compressed already."""
    bits = 8 * pixels.dtype.itemsize
    colours = pixels.shape[2] if pixels.ndim == 3 else 1
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed and not encoded else syntax
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
    stored = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "ViewPosition": "PA",
        "PatientID": "p1",
        "StudyInstanceUID": "1.2.3.4",
        "SamplesPerPixel": colours,
        "PhotometricInterpretation": "MONOCHROME2" if colours == 1 else "RGB",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    } | ({"PlanarConfiguration": 0} if colours == 3 else {})
    for keyword, value in (stored | elements).items():
        setattr(dataset, keyword, value)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    dataset.PixelData = encapsulate([encoded]) if encoded else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OB" if encoded or bits == 8 else "OW"
    dataset["PixelData"].is_undefined_length = bool(encoded)
    if syntax.is_encapsulated and not encoded:
        dataset.compress(syntax, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _lossless(whole: bytes) -> list[bytes]:
    """The film as lossless JPEG, which GDCM alone writes; none where it is not installed."""
    try:
        import gdcm
    except ImportError:
        return []
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder, "a")), str(Path(folder, "b"))
        Path(source).write_bytes(whole)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(source)
        reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        change.Change()
        writer.SetFileName(target)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        return [Path(target).read_bytes()]


def _table() -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.LUTData = (np.arange(4096, dtype="<u2")).tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


def _view() -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "272479007", "SCT", "postero-anterior"
    return Sequence([item])


def _flip(whole: bytes, random: np.random.Generator, end: int | None = None) -> bytes:
    content = bytearray(whole)
    for place in random.integers(0, min(end or len(content), len(content)), 2 ** random.integers(0, 7)):
        content[place] ^= 1 << random.integers(8)
    return bytes(content)


def _put(whole: bytes, random: np.random.Generator, end: int | None = None) -> bytes:
    content = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        form = random.choice(["<H", ">H", "<I", ">I"])
        size = struct.calcsize(form)
        place = random.integers(0, max(1, min(end or len(content), len(content)) - size))
        value = HOSTILE[random.integers(len(HOSTILE))] & (256**size - 1)
        content[place : place + size] = struct.pack(form, value)
    return bytes(content)


def _span(whole: bytes, random: np.random.Generator) -> tuple[int, int]:
    first = int(random.integers(len(whole)))
    return first, first + int(2 ** random.uniform(0, 12))


def _cut_out(whole: bytes, random: np.random.Generator) -> bytes:
    first, end = _span(whole, random)
    return whole[:first] + whole[end:]


def _fill(whole: bytes, random: np.random.Generator) -> bytes:
    first, end = _span(whole, random)
    return whole[:first] + bytes([random.choice([0, 0xFF])]) * len(whole[first:end]) + whole[end:]


def _repeat(whole: bytes, random: np.random.Generator) -> bytes:
    first, end = _span(whole, random)
    return whole[:first] + whole[first:end] * int(min(2 ** random.uniform(1, 12), 2**21 // (end - first))) + whole[end:]


def _push_in(whole: bytes, random: np.random.Generator) -> bytes:
    first, end = _span(whole, random)
    return whole[:first] + random.bytes(end - first) + whole[first:]


DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bits flipped": _flip,
    "bits flipped in the header": partial(_flip, end=400),
    "cut off": lambda whole, random: whole[: random.integers(len(whole))],
    "hostile numbers": _put,
    "hostile numbers in the header": partial(_put, end=400),
    "a piece cut out": _cut_out,
    "a piece filled": _fill,
    "a piece repeated": _repeat,
    "a piece pushed in": _push_in,
    "something appended": lambda whole, random: whole + random.bytes(int(2 ** random.uniform(0, 16))),
}


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(
    width: int, height: int, packed: bytes, *chunks: bytes, bits: int = 8, colour: int = 0, laced: int = 0
) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, laced))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


@cache
def _zeros(count: int, first: bytes = b"") -> bytes:
    """A few bytes and then so many zeros, deflated."""
    packer = zlib.compressobj(1)
    blocks = [2**20] * (count // 2**20) + [count % 2**20]
    return b"".join([packer.compress(first), *(packer.compress(bytes(n)) for n in blocks), packer.flush()])


def _large_png(bits: int, colour: int, channels: int, random: np.random.Generator) -> bytes:
    """As large as is let through; all is black but for its first pixel."""
    side = 9999
    packed = _zeros(side * (side * channels * bits // 8 + 3), b"\0\xff")
    return _png(side, side, packed, bits=bits, colour=colour, laced=int(random.integers(2)))


def _text_bomb(name: bytes, random: np.random.Generator) -> bytes:
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name]
    return _png(64, 64, _zeros(64 * 65), _chunk(name, head + _zeros(2**29)))


def _many_text_chunks(random: np.random.Generator) -> bytes:
    return _png(64, 64, _zeros(64 * 65, b"\0\x09"), _chunk(b"tEXt", b"a\0b") * 200_000)


def _animated_png(random: np.random.Generator) -> bytes:
    return _png(64, 64, _zeros(64 * 65, b"\0\x09"), _chunk(b"acTL", struct.pack(">II", 0x7FFF_FFFF, 0)))


@cache
def _jpeg_of_many_scans() -> bytes:
    """A progressive JPEG of 16 megapixels whose last scan comes a thousand times."""
    whole = _saved(Image.new("L", (4000, 4000), 9), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * 1000 + whole[-2:]


def _jpeg_of_size(random: np.random.Generator) -> bytes:
    whole = _saved(Image.effect_noise((64, 64), 50), "JPEG", progressive=bool(random.integers(2)))
    place = max(whole.find(b"\xff\xc0"), whole.find(b"\xff\xc2")) + 5
    height, width = [(65500, 65500), (9999, 9999), (65500, 1500), (1, 65500)][random.integers(4)]
    return whole[:place] + struct.pack(">HH", height, width) + whole[place + 4 :]


def _tiff(
    random: np.random.Generator, directories: int = 1, loop: bool = False, side: int = 8, packed: bytes = b""
) -> bytes:
    """A TIFF file with so many directories, each of the same picture; the last may lead back to the first."""
    start, size = 8, 2 + 12 * 8 + 4
    pixels = packed or bytes(range(64))
    place = start + directories * size
    tags = {256: side, 257: side, 258: 8, 259: 8 if packed else 1, 262: 1, 273: place, 278: side, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    heads = [
        struct.pack("<H", len(tags)) + entries + struct.pack("<I", start + (number + 1) * size)
        for number in range(directories)
    ]
    heads[-1] = heads[-1][:-4] + struct.pack("<I", start if loop else 0)
    return b"II*\0" + struct.pack("<I", start) + b"".join(heads) + pixels


def _postscript(random: np.random.Generator) -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n%%EOF\n"


@cache
def _dicom_before_pixels() -> bytes:
    """All of a film's file up to its pixels, explicit and little endian."""
    whole = _dicom(np.arange(64, dtype=np.uint8).reshape(8, 8))
    return whole[: whole.index(b"\xe0\x7f\x10\x00")]


def _dicom_with(inside: bytes, random: np.random.Generator) -> bytes:
    """A film with something more before its pixels."""
    return _dicom_before_pixels() + inside + b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", 64) + bytes(range(64))


def _deflated_dicom(random: np.random.Generator) -> bytes:
    """Half a gigabyte of zeros where the data set should be."""
    whole = _dicom(np.arange(64, dtype=np.uint8).reshape(8, 8), DeflatedExplicitVRLittleEndian)
    meta = 144 + struct.unpack("<I", whole[140:144])[0]
    packer = zlib.compressobj(1, wbits=-15)
    head = _dicom_before_pixels()
    start = 144 + struct.unpack("<I", head[140:144])[0]
    private = b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", 2**29)
    packed = packer.compress(head[start:]) + packer.compress(private)
    return whole[:meta] + packed + b"".join(packer.compress(bytes(2**20)) for _ in range(512)) + packer.flush()


def _nested(depth: int, random: np.random.Generator) -> bytes:
    """Sequences within sequences, of undefined lengths."""
    open_ = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    close = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return _dicom_with(open_ * depth + close * depth, random)


def _dicom_of_size(random: np.random.Generator) -> bytes:
    rows, columns = [(65535, 65535), (9999, 9999), (65535, 1), (0, 5)][random.integers(4)]
    return _dicom(np.arange(64, dtype=np.uint8).reshape(8, 8), Rows=rows, Columns=columns)


def _dicom_of_frames(random: np.random.Generator) -> bytes:
    return _dicom(np.arange(64, dtype=np.uint8).reshape(8, 8), NumberOfFrames=int(random.choice([0, 2, 2**31 - 1])))


@cache
def _large_run_lengths() -> bytes:
    """Run lengths of as many pixels as are let through, nearly all black."""
    side = 9999
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\0\xff" + b"\x81\0" * (side * side // 128 + 1)
    elements = {"Rows": side, "Columns": side, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return _dicom(np.zeros((8, 8), np.uint8), RLELossless, frame + b"\0" * (len(frame) % 2), **elements)


def _many_fragments(random: np.random.Generator) -> bytes:
    whole = _dicom(np.zeros((8, 8), np.uint8), JPEGBaseline8Bit, _saved(Image.effect_noise((8, 8), 50), "JPEG"))
    place = whole.rindex(b"\xfe\xff\xdd\xe0")
    return whole[:place] + b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000 + whole[place:]


BUILT: dict[str, Callable[[np.random.Generator], bytes]] = {
    "png of 2^31 x 2^31 pixels": lambda random: _png(2**31 - 1, 2**31 - 1, _zeros(2**20)),
    "png of 1 x 100 million pixels": lambda random: _png(100_000_000, 1, _zeros(100_000_000, b"\0\xff")),
    "png of 1 x 65,535 pixels": lambda random: _png(1, 65535, _zeros(2 * 65535, b"\0\xff")),
    "png of 100 megapixels, grey": partial(_large_png, 8, 0, 1),
    "png of 100 megapixels, 16 bits": partial(_large_png, 16, 0, 1),
    "png of 100 megapixels, with alpha": partial(_large_png, 8, 6, 4),
    "png that inflates to a gigabyte": lambda random: _png(64, 64, _zeros(2**30)),
    "png of 64 x 64 without pixels": lambda random: _png(64, 64, b""),
    "png with a bomb of text": partial(_text_bomb, b"zTXt"),
    "png with a bomb of wide text": partial(_text_bomb, b"iTXt"),
    "png with a bomb of a colour profile": partial(_text_bomb, b"iCCP"),
    "png of 200,000 chunks": _many_text_chunks,
    "png of 2^31 frames": _animated_png,
    "jpeg of a thousand scans": lambda random: _jpeg_of_many_scans(),
    "jpeg of another size than it says": _jpeg_of_size,
    "tiff of 50,000 directories": partial(_tiff, directories=50_000),
    "tiff of directories in a circle": partial(_tiff, directories=2, loop=True),
    "tiff of 100 megapixels, deflated": lambda random: _tiff(random, side=9999, packed=_zeros(9999**2, b"\xff")),
    "postscript": _postscript,
    "dicom of another size than it says": _dicom_of_size,
    "dicom of 2^31 frames": _dicom_of_frames,
    "dicom that inflates to half a gigabyte": _deflated_dicom,
    "dicom of sequences in 5,000 sequences": partial(_nested, 5000),
    "dicom of sequences in 200 sequences": partial(_nested, 200),
    "dicom of 300,000 elements": partial(_dicom_with, b"\x09\x00\x10\x10LO\x02\x00aa" * 300_000),
    "dicom of 100,000 items": partial(
        _dicom_with,
        b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000 + b"\xfe\xff\xdd\xe0\0\0\0\0",
    ),
    "dicom with an element of 4 gigabytes": partial(_dicom_with, b"\x09\x00\x10\x10OB\0\0\xfe\xff\xff\xff"),
    "dicom of 100 megapixels in run lengths": lambda random: _large_run_lengths(),
    "dicom of 300,000 fragments": _many_fragments,
}


def summarise(rows: pd.DataFrame, part: int) -> pd.DataFrame:
    """A row for every kind and mutation of a slice's files."""
    named = rows["outcome"].isin(["stored", "lost", "crashed", "stalled"])
    counts = pd.crosstab([rows["kind"], rows["mutation"]], rows["outcome"].where(named, "skipped"))
    counts = counts.reindex(columns=["stored", "skipped", "lost", "crashed", "stalled"], fill_value=0)
    worst = (
        rows.groupby(["kind", "mutation"])[["seconds", "clock", "mb"]].max().round({"seconds": 2, "clock": 2, "mb": 0})
    )
    counts.insert(0, "files", counts.sum(axis=1))
    return counts.join(worst).reset_index().assign(slice=part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--slice", type=int, default=1000)
    parser.add_argument("--films", type=Path, default=REAL)
    parser.add_argument("--only", type=int, help="prepare this one alone, and say what came of it")
    arguments = parser.parse_args()
    bases = make_bases(arguments.films)
    if arguments.only is not None:
        with tempfile.TemporaryDirectory() as work:
            print(run_slice(range(arguments.only, arguments.only + 1), bases, Path(work)).T.to_string())
        return
    done = [pd.read_csv(RESULTS)] if RESULTS.is_file() else []
    for part in _slices(arguments.count, arguments.slice):
        number = part.start // arguments.slice
        if any(number in set(rows["slice"]) for rows in done):
            continue
        with tempfile.TemporaryDirectory() as work:
            rows = run_slice(part, bases, Path(work))
        for row in rows.sort_values("seconds").tail(3).itertuples():
            print(f"slow: {row.number} {row.kind}, {row.mutation}: {row.seconds:.2f} s, {row.mb:.0f} MB, {row.outcome}")
        for row in rows[rows["outcome"].isin(["lost", "crashed", "stalled"])].itertuples():
            print(f"{row.outcome}: {row.number} {row.kind}, {row.mutation}")
        done.append(summarise(rows, number))
        with written_whole(RESULTS) as temporary:
            pd.concat(done).to_csv(temporary, index=False)
        print(f"slice {number}: {_totals(pd.concat(done))}", flush=True)


def _slices(count: int, length: int) -> Iterator[range]:
    for first in range(0, count, length):
        yield range(first, min(first + length, count))


def _totals(rows: pd.DataFrame) -> str:
    sums = rows[["files", "stored", "skipped", "lost", "crashed", "stalled"]].sum()
    counts = ", ".join(f"{count:,} {what}" for what, count in sums.items())
    return f"{counts}; slowest {rows['seconds'].max():.1f} s, largest {rows['mb'].max():.0f} MB"


if __name__ == "__main__":
    main()
