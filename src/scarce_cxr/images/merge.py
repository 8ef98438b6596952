"""Several stores become one: whole or not there, continued where it was interrupted."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.duplicates import leaks_between, patients_comparable
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import BOX_COLUMNS, COLUMNS, Store
from scarce_cxr.images.writer import Plan, StoreWriter, read_plan, refuse_other_plan

# What must be the same in stores whose films are to lie side by side; those without DICOM films have no `voi`.
_SHARED = ("size", "bits", "fit", "voi")


@dataclass(frozen=True)
class Merged:
    """What a merge has done.

    Attributes:
        store: the finished store.
        parts: by store, in order: `store`, `source`, `films` (that were taken), `patients`, `dropped` (copies left
            out), `renamed` (films whose image_id has its source's name in front).
        copies: films that are in two of the stores: `a` (in the earlier store), `b` and `kind` (file or
            near-duplicate); image_ids as they were, `store_a` and `store_b` beside them.
        shared_patients: how many patients are in two of the stores.
        notes: what the user should know.
    """

    store: Store
    parts: pd.DataFrame
    copies: pd.DataFrame
    shared_patients: int
    notes: list[str]


def merge(
    paths: Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] | None = None,
    drop_duplicates: bool = False,
    near: bool = True,
) -> Merged:
    """Writes a store with the films of several, in their order, or what is missing of it.

    Image_ids that occur in two stores get their source's name and a slash in front, in each of them. Findings are
    united; one that a store does not know is null in its films. Splits, patients and everything else stay as they are:
    pseudonyms of one patient are equal only where source and key are, so that patients of different sources stay apart.
    The private folders stay where they are: nothing of them goes into the new store, which has none.

    Args:
        paths: two or more stores with the same size, bits and fit, and voi where they have one.
        out: folder of the new store.
        names: of the stores, each of its own: the new store's films have them for a source. By default each film keeps
            its source.
        drop_duplicates: of films that are in two stores, keep the earlier store's alone, with its labels.
        near: also look for near-duplicates; the time for it goes with the product of the numbers of films.

    Returns:
        What was done, and what the stores share.

    Raises:
        ScarceError: fewer than two stores, one named twice, settings that differ, names that are not one a store,
            films of one source and name that stay, or a folder that holds something else.
    """
    stores = [Store.open(path) for path in paths]
    _check(stores)
    tables = _tables(stores, names)
    copies, shared = _shared_films(stores, near)
    kept = [np.ones(len(store), bool) for store in stores]
    if drop_duplicates:
        for number, row in zip(copies["number_b"], copies["row_b"], strict=True):
            kept[number][row] = False
    ids, renamed = _unique_ids(tables, kept, drop_duplicates)
    plan = _plan(stores, names, drop_duplicates, near)
    begun = read_plan(Path(out))
    if begun is not None:
        refuse_other_plan(Path(out), begun, plan)
    if not (Path(out) / "store.json").exists():
        tables = [table.assign(image_id=new) for table, new in zip(tables, ids, strict=True)]
        _write(StoreWriter(Path(out), plan), stores, tables, kept)
    shutil.rmtree(Path(out) / "parts", ignore_errors=True)
    parts = pd.DataFrame(
        [
            {
                "store": _name(store),
                "source": ", ".join(sorted(table["source"].dropna().unique())),
                "films": int(chosen.sum()),
                "patients": len(set(patients_of(store.table[chosen]))),
                "dropped": int((~chosen).sum()),
                "renamed": int(changed[chosen].sum()),
            }
            for store, table, chosen, changed in zip(stores, tables, kept, renamed, strict=True)
        ]
    )
    columns = ["store_a", "a", "store_b", "b", "kind"]
    return Merged(Store.open(out), parts, copies[columns], shared, _notes(stores))


def _check(stores: Sequence[Store]) -> None:
    if len(stores) < 2:
        raise ScarceError("two or more stores, and the folder to write", f"{len(stores)} store", "name another one")
    twice = [name for name, count in Counter(store.fingerprint for store in stores).items() if count > 1]
    if twice:
        path = next(store.path for store in stores if store.fingerprint == twice[0])
        raise ScarceError("stores that differ", f"the store in {path} twice", "name it once")
    for name in _SHARED:
        values = {store.path: store.settings[name] for store in stores if name in store.settings}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{value} in {path}" for path, value in values.items())
            raise ScarceError(
                f"stores with the same {name}", said, f"prepare one of them again with the other's {name}"
            )


def _tables(stores: Sequence[Store], names: Sequence[str] | None) -> list[pd.DataFrame]:
    """The stores' tables, with the stores' names for a source where they have any."""
    if names is None:
        return [store.table for store in stores]
    if len(names) != len(stores) or len(set(names)) < len(names) or not all(names):
        raise ScarceError(
            f"a name of its own for each of the {len(stores)} stores",
            f"names = {', '.join(names) or 'none'}",
            "name them in the stores' order, e.g. --names ward-a ward-b",
        )
    return [store.table.assign(source=name) for store, name in zip(stores, names, strict=True)]


def _shared_films(stores: Sequence[Store], near: bool) -> tuple[pd.DataFrame, int]:
    """Films that two stores share, with their stores' numbers and rows, and how many patients they share."""
    found, shared = [], set()
    for (number_a, a), (number_b, b) in combinations(enumerate(stores), 2):
        leaks = leaks_between(a, np.arange(len(a)), b, np.arange(len(b)), near=near)
        rows_a, rows_b = ({name: row for row, name in enumerate(store.table["image_id"])} for store in (a, b))
        found += [
            (number_a, rows_a[leak.a], _name(a), leak.a, number_b, rows_b[leak.b], _name(b), leak.b, leak.kind)
            for leak in leaks
            if leak.kind != "patient"
        ]
        shared |= set(a.table["patient_id"].dropna()) & set(b.table["patient_id"].dropna())
    columns = ["number_a", "row_a", "store_a", "a", "number_b", "row_b", "store_b", "b", "kind"]
    return pd.DataFrame(found, columns=columns), len(shared)


def _unique_ids(
    tables: Sequence[pd.DataFrame], kept: Sequence[np.ndarray], dropping: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """New image_ids by store, (n,) each, and (n,) bool, whether they changed; those of dropped films are moot."""
    counts = pd.concat(table["image_id"][chosen] for table, chosen in zip(tables, kept, strict=True)).value_counts()
    clashing = set(counts.index[counts > 1])
    renamed = [table["image_id"].isin(clashing).to_numpy() for table in tables]
    ids = [
        np.where(changed, table["source"] + "/" + table["image_id"], table["image_id"]).astype(object)
        for table, changed in zip(tables, renamed, strict=True)
    ]
    taken = pd.Series(np.concatenate([names[chosen] for names, chosen in zip(ids, kept, strict=True)]))
    again = taken[taken.duplicated()]
    if len(again):
        raise ScarceError(
            "films of one source under different image_ids",
            f"{again.iloc[0]} in two stores" + (f" ({len(again):,} such films)" if len(again) > 1 else ""),
            "they are different films of one name: tell the stores apart with --names"
            if dropping
            else "add --drop-duplicates, if they are the same films, or tell the stores apart with --names",
        )
    return ids, renamed


def _plan(stores: Sequence[Store], names: Sequence[str] | None, drop_duplicates: bool, near: bool) -> Plan:
    settings: dict[str, Any] = {"shard_mib": stores[0].settings["shard_mib"]}
    settings |= {name: store.settings[name] for store in stores for name in _SHARED if name in store.settings}
    settings |= {"source": "merged", "merged": [store.settings for store in stores]}
    if any(store.settings.get("patients") == "unknown" for store in stores):
        settings["patients"] = "unknown"
    findings = list(dict.fromkeys(finding for store in stores for finding in store.findings))
    origin = {
        "stores": [store.fingerprint for store in stores],
        "drop_duplicates": drop_duplicates,
        "near_duplicates": near,
    }
    if names is not None:
        origin["names"] = list(names)
    return Plan(settings, findings, origin)


def _write(
    writer: StoreWriter, stores: Sequence[Store], tables: Sequence[pd.DataFrame], kept: Sequence[np.ndarray]
) -> None:
    """Writes the films that are kept, with what these tables say of them, a row for each of the store's films."""
    places = [(number, row) for number, chosen in enumerate(kept) for row in np.flatnonzero(chosen).tolist()]
    length = writer.plan.films_per_shard
    with progress.bar("merging", len(places)) as advance:
        for shard in range(-(-len(places) // length)):
            part = places[shard * length : (shard + 1) * length]
            if not writer.has(shard):
                writer.write_shard(shard, *_shard(writer.plan, stores, tables, part))
            advance(len(part))
    writer.finish()


def _shard(
    plan: Plan, stores: Sequence[Store], tables: Sequence[pd.DataFrame], places: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, list[dict[str, Any]], list[dict[str, Any]]]:
    """Pixels, rows and boxes of the films at these places (number of the store, row of its table)."""
    pixels, rows, boxes = [], [], []
    for number in dict.fromkeys(number for number, _ in places):
        store = stores[number]
        chosen = np.array([row for of, row in places if of == number])
        pixels.append(store.pixels(chosen))
        table = tables[number].iloc[chosen][[*COLUMNS, *store.findings]]
        names = dict(zip(store.table["image_id"].iloc[chosen], table["image_id"], strict=True))
        rows += _records(table)
        of_films = store.boxes[store.boxes["image_id"].isin(names)]
        boxes += _records(of_films.assign(image_id=of_films["image_id"].map(names))[list(BOX_COLUMNS)])
    return np.concatenate(pixels).astype(plan.dtype, copy=False), rows, boxes


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries of plain values, None for null."""
    plain = table.astype(object)
    return plain.where(plain.notna(), None).to_dict("records")


def _name(store: Store) -> str:
    return store.path.resolve().name


def _notes(stores: Sequence[Store]) -> list[str]:
    apart = [f"{_name(a)} and {_name(b)}" for a, b in combinations(stores, 2) if not patients_comparable(a, b)]
    notes = ["The private folders were not merged: original names stay with each store's own."]
    if apart:
        notes.append(f"Without a key in common, a patient who is in both counts twice: {'; '.join(apart)}.")
    return notes
