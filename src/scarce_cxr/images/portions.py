"""A store that grows archive by archive, so that no more than one of a collection's archives need lie on the disk.

Beside the store, `NAME.private/portions/` holds what is under way, by an archive's name: a small store of its films,
until it is taken into the large one; that small store's own private folder; and, once it is taken in, how many shards
it had. All of it is gone when the large store is finished. A file `taking` says that films have been moved to the large
store.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import Fit
from scarce_cxr.images.keys import choose_key, keep_key, keyed_digest, private_folder
from scarce_cxr.images.names import original_names
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import Listing, Source
from scarce_cxr.images.store import Store
from scarce_cxr.images.summary import Summary, summarise
from scarce_cxr.images.writer import Plan, StoreWriter, read_plan, refuse_other_plan

_TAKING = "taking"


def prepare_by_archive(
    bring: Callable[[str], object],
    source: Callable[[], Source],
    folder: Path,
    archives: Sequence[str],
    store_path: Path,
    *,
    size: int = 320,
    fit: Fit = "crop",
    bits: Literal[8, 16] = 8,
    shard_mib: int = 256,
    jobs: int = -1,
) -> Summary:
    """Writes a store, or what is missing of it, from one archive after another; each is deleted once it is prepared.

    Films, pixels, pseudonyms, labels and boxes are those of `prepare` with all archives at once, provided that the
    source tells of a film by its own archive and what lies beside the archives. Films come in the order of the
    archives, and a shard holds films of one archive. Of films of one name in two archives the first counts.

    Args:
        bring: sees to it that the archive of this name lies in the folder.
        source: makes the source; called whenever an archive has come.
        folder: the source's.
        archives: their names, in the order of the films; with the first come films that lie beside the archives.
        store_path: the store's folder.
        size, fit, bits, shard_mib, jobs: as in `prepare`.

    Returns:
        What was done, and what the store holds.

    Raises:
        ScarceError: as `prepare`; or an archive holds no film of the source.
    """
    started = time.monotonic()
    store_path = Path(store_path)
    private = private_folder(store_path)
    settings = {"size": size, "fit": fit, "bits": bits, "shard_mib": shard_mib}
    forget_deleted(store_path)
    where, begun = begun_with(store_path)
    if begun is not None and not (private / "key").exists():
        raise ScarceError(
            f"the key of {store_path} in {private}", "none", "put the private folder back, or choose another store"
        )
    key = choose_key(private)
    origin = _origin(key, archives)
    if begun is not None:
        of_store = begun.origin if where != store_path else origin
        refuse_other_plan(where, begun, replace(begun, settings={**begun.settings, **settings}, origin=of_store))
    keep_key(private, key)
    decoded = 0
    if not (store_path / "store.json").exists():
        for number, name in enumerate(archives):
            if not is_prepared(store_path, name):
                bring(name)
                portion = _Portion(source(), name, () if number else archives[1:])
                part = prepare(portion, _portion(store_path, name), key_file=private / "key", jobs=jobs, **settings)
                decoded += part.decoded
            delete_archive(folder / name)
            if not _is_taken(store_path, name):
                _take(store_path, archives[:number], name, origin)
        _finish(store_path, archives)
    clear(store_path)
    return summarise(Store.open(store_path), _read_skipped(private), decoded, time.monotonic() - started, [])


def is_under_way(store_path: Path) -> bool:
    """Whether a store was begun archive by archive, and is not finished."""
    return _portions(store_path).is_dir() and not (store_path / "store.json").exists()


def is_prepared(store_path: Path, archive: str) -> bool:
    """Whether the archive of this name is no longer needed for the store."""
    return _is_taken(store_path, archive) or (_portion(store_path, archive) / "store.json").exists()


def begun_with(store_path: Path) -> tuple[Path, Plan | None]:
    """The plan of a store that is finished or under way, and where it lies; with none yet, that of its first portion.

    Raises:
        ScarceError: the folder holds something that is not a store.
    """
    plan = read_plan(store_path)
    folder = _portions(store_path)
    if plan is None and folder.is_dir():
        portions = (path for path in sorted(folder.iterdir()) if path.is_dir() and path.suffix != ".private")
        plan = next((plan for path in portions if (plan := read_plan(path)) is not None), None)
        return folder, plan
    return store_path, plan


def forget_deleted(store_path: Path) -> None:
    """Removes what is left of a store under way whose folder the user has deleted, with films that lay there alone."""
    if (_portions(store_path) / _TAKING).exists() and read_plan(store_path) is None:
        shutil.rmtree(_portions(store_path))


def origin_now(store_path: Path, begun: Plan, archives: Sequence[str]) -> Mapping[str, Any]:
    """The origin that a store has if it is gone on with from these archives; as begun, where that cannot be told."""
    key = private_folder(store_path) / "key"
    by_archive = "digest_of_archives" in begun.origin and key.exists()
    return _origin(choose_key(key.parent), archives) if by_archive else begun.origin


def delete_archive(path: Path) -> int:
    """Deletes an archive, if it is there; returns how many bytes it had."""
    if not path.exists():
        return 0
    length = path.stat().st_size
    if not path.is_symlink() and path.stat().st_nlink == 1:
        # Processes that read films of it keep it open for the next, and its room with it, however often it is unlinked.
        os.truncate(path, 0)
    path.unlink()
    return length


def clear(store_path: Path) -> None:
    """Removes what a finished store was made from."""
    shutil.rmtree(store_path / "parts", ignore_errors=True)
    shutil.rmtree(_portions(store_path), ignore_errors=True)


class _Portion:
    """A source's films in one archive; with the first of the archives, all that are not in one of the others.

    Args:
        source: the source.
        archive: the archive's name.
        others: where it is the first: the names of the others.
    """

    def __init__(self, source: Source, archive: str, others: Sequence[str]) -> None:
        self._source, self._archive, self._others = source, archive, others
        self.name = source.name
        self.patients_of = getattr(source, "patients_of", source.name)

    def settings(self) -> dict[str, Any]:
        return self._source.settings()

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        listing = self._source.read(pseudonym)
        records = [record for record in listing.records if self._holds(record.name)]
        if not records:
            raise ScarceError(
                f"films of kind {self.name} in {self._archive}", "none", "prepare all archives at once (scarce prepare)"
            )
        skipped = [(name, reason) for name, reason in listing.skipped if self._holds(name)]
        return replace(listing, records=records, skipped=skipped)

    def _holds(self, name: str) -> bool:
        first = name.partition("/")[0]
        return first not in self._others if self._others else first == self._archive


def _origin(key: str, archives: Sequence[str]) -> dict[str, Any]:
    """What the store is made from; keyed, so that it tells no name."""
    return {"archives": len(archives), "digest_of_archives": keyed_digest(key, *archives)[:16]}


def _portions(store_path: Path) -> Path:
    return private_folder(store_path) / "portions"


def _portion(store_path: Path, archive: str) -> Path:
    return _portions(store_path) / archive


def _taken(store_path: Path, archive: str) -> Path:
    return _portions(store_path) / f"{archive}.json"


def _is_taken(store_path: Path, archive: str) -> bool:
    return _taken(store_path, archive).exists()


def _take(store_path: Path, before: Sequence[str], archive: str, origin: dict[str, Any]) -> None:
    """Appends a portion's shards to the store's, behind those of the archives before it, and removes the portion."""
    first = sum(json.loads(_taken(store_path, name).read_text("utf-8"))["shards"] for name in before)
    shards = _append(store_path, first, _portion(store_path, archive), set(_names(store_path, before).index), origin)
    with written_whole(_taken(store_path, archive)) as temporary:
        temporary.write_text(json.dumps({"shards": shards}), "utf-8")
    shutil.rmtree(_portion(store_path, archive))


def _append(store_path: Path, first: int, portion: Path, known: set[str], origin: dict[str, Any]) -> int:
    """Moves the portion's films into shards from number `first` on, but for those `known`; returns how many."""
    part = Store.open(portion)
    writer = StoreWriter(store_path, Plan(part.settings, part.findings, origin))
    (_portions(store_path) / _TAKING).touch()
    rows = pq.read_table(portion / "table.parquet")
    new = ~part.table["image_id"].isin(known).to_numpy()
    end = 0
    for number, shard in enumerate(part.shards, first):
        begin, end = end, end + shard["films"]
        if not writer.has(number):
            films = np.flatnonzero(new[begin:end]) + begin
            boxes = part.boxes[part.boxes["image_id"].isin(part.table["image_id"].iloc[films])]
            # Opened for this shard alone, so that it can be deleted where a mapped file could not be.
            pixels = Store.open(portion).pixels(films)
            writer.write_shard(number, pixels, rows.take(films).to_pylist(), boxes.to_dict("records"))
        (portion / shard["file"]).unlink(missing_ok=True)
    return len(part.shards)


def _names(store_path: Path, archives: Sequence[str]) -> pd.Series:
    """The original names of these portions' films, by image_id; one may occur twice."""
    return pd.concat([pd.Series(dtype=object), *(original_names(_portion(store_path, name)) for name in archives)])


def _finish(store_path: Path, archives: Sequence[str]) -> None:
    """Joins what the portions' private folders hold, and finishes the store."""
    private, plan = private_folder(store_path), read_plan(store_path)
    names = _names(store_path, archives)
    again = names[names.index.duplicated()]
    skipped = [(path, "another file has its name") for path in again]
    for name in archives:
        rows = _read_skipped(private_folder(_portion(store_path, name)))
        skipped += [(row["path"], row["reason"]) for row in rows]
    writer = StoreWriter(store_path, plan)
    stored = writer.image_ids()
    paths = names[~names.index.duplicated()].loc[stored]
    with written_whole(private / "names.parquet") as temporary:
        pq.write_table(pa.table({"image_id": stored, "path": paths.tolist()}), temporary)
    with (
        written_whole(private / "skipped.csv") as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "reason"])
        table.writerows(sorted(skipped))
    writer.finish()


def _read_skipped(private: Path) -> list[dict[str, str]]:
    with (private / "skipped.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))
