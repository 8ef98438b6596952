"""From a source to a finished store: in parallel, by shard, continued where it was interrupted."""

import csv
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import Fit, Shown, Skipped, Square, Voi, decode, fit_square, quantise
from scarce_cxr.images.keys import choose_key, keep_key, keyed_digest, private_folder, pseudonym
from scarce_cxr.images.parallel import map_chunks
from scarce_cxr.images.sources import DicomSource, Record, Source
from scarce_cxr.images.sources.kinds import PICTURES, READ_AS_DICOM
from scarce_cxr.images.store import Store
from scarce_cxr.images.summary import Summary, summarise
from scarce_cxr.images.writer import Plan, StoreWriter, read_plan, refuse_other_plan

Decoder = Callable[[Path], np.ndarray | Shown]

# Large enough that passing a chunk around costs little beside decoding it, small enough that a crash repeats little.
_FILMS_PER_CHUNK = 16


@dataclass(frozen=True)
class _Film:
    """A film as it comes back from a worker: `pixels` (size, size) and what was learned on the way."""

    pixels: np.ndarray
    height: int
    width: int
    square: Square
    sha256: str


def prepare(
    source: Source,
    store_path: Path,
    *,
    size: int = 320,
    fit: Fit = "crop",
    bits: Literal[8, 16] = 8,
    shard_mib: int = 256,
    jobs: int = -1,
    key_file: Path | None = None,
    decoder: Decoder = decode,
    voi: Voi = "window",
) -> Summary:
    """Writes a store, or what is missing of it; a finished one is left as it is.

    Beside the store, `NAME.private/` keeps the key, the original names, and every skipped file with the reason.

    Args:
        source: lists the films.
        store_path: the store's folder.
        size: side of the square pixels.
        fit: how an oblong film becomes a square, see `resize`.
        bits: 8 or 16 a pixel.
        shard_mib: largest size of a shard, in MiB.
        jobs: how many films are read at a time, as joblib counts: -1 is one a core. The backend is joblib's.
        key_file: another store's key, so that both have the same pseudonyms.
        decoder: reads one file; (H, W) numbers, or `Skipped`.
        voi: how DICOM films are scaled. Where a source has files that are no plain pictures, the decoder is called
            with it by this name, and it is kept among the store's settings.

    Returns:
        What was done, and what the store holds.

    Raises:
        ScarceError: a setting is out of range, the source has changed or the settings have, since the store was
            begun, no film could be read, or a file vanished.
    """
    started = time.monotonic()
    store_path = Path(store_path)
    private = private_folder(store_path)
    _check(size, fit, bits, shard_mib, jobs, voi)
    begun = read_plan(store_path)
    if begun is not None and not (private / "key").exists():
        raise ScarceError(
            f"the key of {store_path} in {private}", "none", "put the private folder back, or choose another store"
        )
    key = choose_key(private, key_file)
    listing = source.read(partial(pseudonym, key, source.name, "image"))
    if not listing.records:
        raise _nothing_left((reason for _, reason in listing.skipped), "check the folder and the kind")
    settings = {**source.settings(), "size": size, "fit": fit, "bits": bits, "shard_mib": shard_mib}
    if source.name == DicomSource.name or any(not r.name.lower().endswith(PICTURES) for r in listing.records):
        settings["voi"], decoder = voi, partial(decoder, voi=voi)
    else:
        decoder = partial(_decode_picture, decoder=decoder)
    origin = _origin(key, listing.records, [name for name, _ in listing.skipped])
    plan = Plan(settings, listing.findings, origin)
    if begun is not None:
        refuse_other_plan(store_path, begun, plan)
    new_key = not (private / "key").exists()
    keep_key(private, key)
    decoded = 0
    if not (store_path / "store.json").exists():
        writer = StoreWriter(store_path, plan)
        read = partial(_read_films, decoder=decoder, size=size, fit=fit, bits=bits)
        name = partial(pseudonym, key, getattr(source, "patients_of", source.name))
        decoded = _write_shards(writer, listing.records, read, name, source.name, jobs)
        _write_private(private, writer, listing.records, listing.skipped)
        if not writer.image_ids():
            reasons = [*writer.skipped().values(), *(reason for _, reason in listing.skipped)]
            # What is left would stand in the way of a run with other films, settings or another key.
            writer.discard()
            if new_key:
                (private / "key").unlink()
            raise _nothing_left(reasons, f"see {private / 'skipped.csv'}")
        writer.finish()
    shutil.rmtree(store_path / "parts", ignore_errors=True)
    with (private / "skipped.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        skipped = list(csv.DictReader(file))
    return summarise(Store.open(store_path), skipped, decoded, time.monotonic() - started, listing.notes)


def _check(size: int, fit: str, bits: int, shard_mib: int, jobs: int, voi: str) -> None:
    conditions = (
        (size >= 1, "a size of at least 1 pixel", f"size = {size}", "choose e.g. 320"),
        (fit in ("crop", "pad", "squash"), "fit: crop, pad or squash", f"fit = {fit}", "choose one of them"),
        (bits in (8, 16), "8 or 16 bits", f"bits = {bits}", "choose 8 or 16"),
        (shard_mib > 0, "shards larger than nothing", f"shard_mib = {shard_mib}", "choose e.g. 256"),
        (jobs != 0, "a number of jobs", f"jobs = {jobs}", "choose -1 for one a core"),
        (voi in ("window", "full", "percentile"), "voi: window, full or percentile", f"voi = {voi}", "choose one"),
    )
    for met, *sentence in conditions:
        if not met:
            raise ScarceError(*sentence)


def _nothing_left(reasons: Iterable[str], mend: str) -> ScarceError:
    """The error where every film was left out, with the commonest reasons, counted as `summarise` does."""
    counts = Counter(reason.split(":")[0] for reason in reasons)
    return ScarceError(
        "at least one film in the store",
        "none: " + (", ".join(f"{count:,} x {reason}" for reason, count in counts.most_common(5)) or "no film found"),
        "--views all keeps laterals" if "not a frontal view" in counts else mend,
    )


def _origin(key: str, records: Sequence[Record], others: Iterable[str]) -> dict[str, Any]:
    """What the store is made of, so that a change is noticed; keyed, so that it tells no name."""
    names = chain.from_iterable((record.name, str(_bytes_of(record.path))) for record in records)
    known = (
        repr((r.image_id, r.patient, r.study, r.view, r.split, r.age, r.sex, r.pixel_spacing_mm, r.findings, r.boxes))
        for r in records
    )
    return {
        "films_listed": len(records),
        "digest_of_names_and_sizes": keyed_digest(key, *names, *others)[:16],
        "digest_of_labels": keyed_digest(key, *known)[:16],
    }


def _bytes_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _write_shards(
    writer: StoreWriter,
    records: Sequence[Record],
    read: Callable[[Sequence[Path]], list[_Film | str]],
    name: Callable[[str, str], str],
    source: str,
    jobs: int,
) -> int:
    """Reads the films of all shards that are missing and writes these; returns how many files were opened."""
    length = writer.plan.films_per_shard
    shards = {k: records[k * length : (k + 1) * length] for k in range(-(-len(records) // length)) if not writer.has(k)}
    chunks = [
        [record.path for record in films[first : first + _FILMS_PER_CHUNK]]
        for films in shards.values()
        for first in range(0, len(films), _FILMS_PER_CHUNK)
    ]
    outcomes = chain.from_iterable(map_chunks(read, chunks, jobs))
    total = sum(map(len, shards.values()))
    size = writer.plan.settings["size"]
    with progress.bar("preparing", total) as advance:
        for shard, films in shards.items():
            with writer.open_shard(shard) as opened:
                for position, record in enumerate(films, shard * length):
                    outcome = next(outcomes)
                    advance()
                    if isinstance(outcome, _Film):
                        opened.add(outcome.pixels, _row(record, outcome, name, source))
                        opened.boxes.extend(_boxes(record, outcome, size))
                    else:
                        opened.skipped[str(position)] = outcome or "the decoder crashed"
    return total


def _read_films(
    paths: Sequence[Path], decoder: Decoder, size: int, fit: Fit, bits: Literal[8, 16]
) -> list[_Film | str]:
    """What a worker does: every path becomes a film, or the reason why not."""
    # Once it has freed a block as large as this, glibc keeps the memory of one film for the next. To give it back and
    # take it anew costs up to a sixth of the time.
    np.empty(2**24, np.uint8)
    return [_read_film(path, decoder, size, fit, bits) for path in paths]


def _decode_picture(path: Path, decoder: Decoder) -> np.ndarray | Shown:
    film = decoder(path)
    if isinstance(film, Shown):
        # It would be shown by a setting that this store does not keep.
        raise Skipped(READ_AS_DICOM)
    return film


def _read_film(path: Path, decoder: Decoder, size: int, fit: Fit, bits: Literal[8, 16]) -> _Film | str:
    try:
        array = decoder(path)
        pixels, square = fit_square(array, size, fit)
    except Skipped as skipped:
        return skipped.reason
    except MemoryError:
        return "not enough memory"
    except FileNotFoundError:
        if path.is_symlink():
            return "a link that leads nowhere"
        # More likely a disk that went away than one film less: what was read so far is kept.
        raise ScarceError("the file that was listed", f"nothing at {path}", "bring it back and run it again") from None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    values = array.values if isinstance(array, Shown) else array
    digest = hashlib.sha256(f"{values.dtype.name} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values))
    return _Film(quantise(pixels, bits), *values.shape, square, digest.hexdigest())


def _row(record: Record, film: _Film, name: Callable[[str, str], str], source: str) -> dict[str, Any]:
    return {
        "image_id": record.image_id,
        "source": source,
        "patient_id": None if record.patient is None else name("patient", record.patient),
        "study_id": None if record.study is None else name("study", record.study),
        "view": record.view,
        "split": record.split,
        "age": record.age,
        "sex": record.sex,
        "height": film.height,
        "width": film.width,
        "pixel_spacing_mm": record.pixel_spacing_mm,
        "crop_top": film.square.top,
        "crop_left": film.square.left,
        "crop_height": film.square.height,
        "crop_width": film.square.width,
        "sha256": film.sha256,
        **record.findings,
    }


def _boxes(record: Record, film: _Film, size: int) -> list[dict[str, Any]]:
    """The record's boxes in the store's pixels, cut at the crop's edges and left out where nothing remains."""
    boxes = []
    for box in record.boxes:
        across = np.array([box.left, box.left + box.width]) * film.width - film.square.left
        down = np.array([box.top, box.top + box.height]) * film.height - film.square.top
        left, right = np.clip(across * size / film.square.width, 0, size).tolist()
        top, bottom = np.clip(down * size / film.square.height, 0, size).tolist()
        if right > left and bottom > top:
            place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
            boxes.append({"image_id": record.image_id, "finding": box.finding, **place})
    return boxes


def _write_private(
    private: Path, writer: StoreWriter, records: Sequence[Record], passed_over: Sequence[tuple[str, str]]
) -> None:
    """Writes what must not leave with the store: original names, and the skipped files with their reasons."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {record.image_id: record.name.encode("utf-8", "replace").decode() for record in records}
    stored = writer.image_ids()
    with written_whole(private / "names.parquet") as temporary:
        pq.write_table(pa.table({"image_id": stored, "path": [names[image_id] for image_id in stored]}), temporary)
    skipped = [(records[position].name, reason) for position, reason in writer.skipped().items()]
    with (
        written_whole(private / "skipped.csv") as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "reason"])
        table.writerows(sorted([*skipped, *passed_over]))
