"""VinDr-CXR from PhysioNet or Kaggle (Nguyen et al., "VinDr-CXR", Scientific Data 2022)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
from scipy.sparse.csgraph import connected_components

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import headers
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.lists import choose
from scarce_cxr.images.sources.records import (
    SUFFIXES,
    Box,
    Files,
    Listing,
    Record,
    list_files,
    list_films,
    sort_records,
)
from scarce_cxr.images.sources.tables import CsvTable, find_tables, label, number

Readers = Literal["majority", "any", "all", "uncertain"]
Boxes = Literal["mean", "all"]

NOTHING = "No finding"

# Those of Kaggle's train.csv without which it tells no label.
KAGGLE_COLUMNS = ("image_id", "rad_id", "class_name")
_KEYS = ("image_id", "rad_id", "class_name", "class_id", "x_min", "y_min", "x_max", "y_max")
# The two tables of the same release spell it differently.
_SPELLINGS = {"Other disease": "Other diseases"}
# Two readers' boxes are of one spot if they share at least this much of their union.
_SAME_SPOT = 0.4


@dataclass
class _Entry:
    """What the readers saw on a film: findings, and places (left, top, right, bottom) in its pixels, by reader."""

    split: str
    seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    places: dict[str, list[tuple[str, list[float]]]] = field(default_factory=lambda: defaultdict(list))


class VinDrSource:
    """The folder of a VinDr-CXR download: `train` and `test` with DICOM files, and `annotations` (Kaggle: `train.csv`).

    Three readers labelled each film for training; a film for testing has one label that five agreed on. No file tells
    which films are of one patient, so that this collection cannot be split by patient: store.json says
    `patients: unknown`.

    Args:
        folder: holds all of it.
        readers: when a finding is present: "majority" where more than half of the readers saw it, "any" where one
            did, "all" where each did, "uncertain": 1 where each did, 0 where none did, -1 in between. For "No finding",
            "any" and "all" change places.
        boxes: "mean" draws one box around each spot: boxes of one finding that overlap by at least 0.4 (intersection
            over union) are averaged, and kept where as many readers drew them as `readers` demands; "all" keeps every
            reader's.

    Raises:
        ScarceError: `readers` or `boxes` is none of these words.
    """

    name = "vindr"

    def __init__(self, folder: Path, readers: Readers = "majority", boxes: Boxes = "mean") -> None:
        choose("readers", readers, get_args(Readers))
        choose("boxes", boxes, get_args(Boxes))
        self.folder, self.readers, self.boxes = Path(folder), readers, boxes

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "patients": "unknown", "readers": self.readers, "boxes": self.boxes}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films, whose headers tell size, age and sex; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder, tables or a column is missing, or no film has a row.
        """
        files = list_files(self.folder)
        entries, findings, tables = _read_labels(files, self.folder)
        _read_places(files, entries)
        films = list_films(files, (*SUFFIXES, *headers.SUFFIXES))
        for name in films:
            # Kaggle keeps the labels of its test films to itself.
            if "test" in PurePosixPath(name).parts[:-1]:
                entries.setdefault(PurePosixPath(name).stem, _Entry("test"))
        joined = join(files, films, entries, lambda name: PurePosixPath(name).stem, ", ".join(tables), self.folder)
        told = headers.read_headers({name: path for name, path, *_ in joined.films})
        records = [
            Record(
                path=path,
                name=name,
                image_id=image_id,
                # The owners chose PA films alone.
                view="PA",
                split=entry.split,
                # Adults only: the zeros stand for an unknown age.
                age=told[name].age or None,
                sex=told[name].sex,
                pixel_spacing_mm=told[name].pixel_spacing_mm,
                findings=self._decide(entry, findings),
                boxes=self._boxes(entry, told[name]),
            )
            for name, path, image_id, entry in joined.films
        ]
        notes = [
            f"labels read from {', '.join(tables)}; present where {self._in_words()} saw it",
            "no patient is known: films of one patient may stand on both sides of a split",
            *note_missing(joined, "the tables"),
        ]
        unlabelled = sum(not entry.seen for *_, entry in joined.films)
        if unlabelled:
            notes.append(f"{unlabelled:,} films for testing without labels")
        unsized = sum(bool(entry.places) and not told[name].width for name, *_, entry in joined.films)
        if unsized:
            notes.append(f"{unsized:,} films that are no DICOM: their boxes, in pixels of the originals, are left out")
        return Listing(sort_records(records), findings, joined.skipped, notes)

    def _in_words(self) -> str:
        return {"majority": "most readers", "any": "any reader", "all": "every reader"}.get(
            self.readers, "every reader (uncertain where they disagree)"
        )

    def _decide(self, entry: _Entry, findings: Sequence[str]) -> dict[str, int]:
        readers = len(entry.seen)
        if not readers:
            return {}
        votes = {finding: sum(finding in seen for seen in entry.seen.values()) for finding in findings}
        return {finding: decide(votes[finding], readers, self._rule(finding)) for finding in findings}

    def _rule(self, finding: str) -> Readers:
        swapped: dict[str, Readers] = {"any": "all", "all": "any"}
        return swapped.get(self.readers, self.readers) if finding == NOTHING else self.readers

    def _boxes(self, entry: _Entry, header: headers.Header) -> tuple[Box, ...]:
        if not header.width or not header.height:
            return ()
        boxes = []
        for finding, drawn in entry.places.items():
            places = np.array([place for _, place in drawn])
            if self.boxes == "mean":
                readers = max(len(entry.seen), 1)
                least = next(votes for votes in range(1, readers + 1) if decide(votes, readers, self.readers))
                places = mean_places(places, [reader for reader, _ in drawn], least)
            film = np.array([header.width, header.height, header.width, header.height])
            for left, top, right, bottom in (places / film).tolist():
                boxes.append(Box(finding, left, top, right - left, bottom - top))
        return tuple(boxes)


def decide(votes: int, readers: int, rule: Readers) -> int:
    """The label (1, 0 or -1) of a finding that `votes` of `readers` saw."""
    if rule == "uncertain":
        return 1 if votes == readers else -1 if votes else 0
    return int({"majority": 2 * votes > readers, "any": votes > 0, "all": votes == readers}[rule])


def mean_places(places: np.ndarray, readers: Sequence[str], least: int) -> np.ndarray:
    """Averages boxes of one spot.

    Args:
        places: (n, 4) left, top, right, bottom.
        readers: who drew each.
        least: how many readers must have drawn a spot for it to stay.

    Returns:
        (m, 4), a box a spot.
    """
    corners = np.maximum(places[:, None, :2], places[None, :, :2]), np.minimum(places[:, None, 2:], places[None, :, 2:])
    shared = np.clip(corners[1] - corners[0], 0, None).prod(axis=2)
    areas = (places[:, 2:] - places[:, :2]).prod(axis=1)
    union = areas[:, None] + areas[None, :] - shared
    spots, spot_of = connected_components(shared >= _SAME_SPOT * union, directed=False)
    drawn = [np.flatnonzero(spot_of == spot) for spot in range(spots)]
    kept = [places[rows].mean(axis=0) for rows in drawn if len({readers[row] for row in rows}) >= least]
    return np.array(kept).reshape(-1, 4)


def _read_labels(files: Files, folder: Path) -> tuple[dict[str, _Entry], list[str], list[str]]:
    """Entries by film, the findings in the tables' order, and the tables' names."""
    entries: dict[str, _Entry] = {}
    findings: dict[str, None] = {}
    tables = [
        (split, name) for split in ("train", "test") for name in find_tables(files, rf"image_labels_{split}\.csv")[:1]
    ]
    for split, table_name in tables:
        table = CsvTable(files[table_name], table_name, ("image_id",))
        columns = [column for column in table.header if column.lower() not in _KEYS]
        findings |= dict.fromkeys(_SPELLINGS.get(column, column) for column in columns)
        for row in table:
            entry = entries.setdefault(row["image_id"], _Entry(split))
            # Empty where five readers agreed: they count as one.
            seen = entry.seen[row["rad_id"]]
            seen |= {_SPELLINGS.get(column, column) for column in columns if label(row[column])}
    if not tables:
        found = [name for name in find_tables(files, r"train\.csv") if "class_name" in CsvTable(files[name], name)]
        if not found:
            raise ScarceError(
                f"annotations/image_labels_train.csv (PhysioNet) or train.csv (Kaggle) in {folder}",
                "neither",
                "give the folder of a VinDr-CXR download",
            )
        tables = [("train", found[0])]
        for row in CsvTable(files[found[0]], found[0], KAGGLE_COLUMNS):
            entries.setdefault(row["image_id"], _Entry("train")).seen[row["rad_id"]].add(row["class_name"])
        names = {finding for entry in entries.values() for seen in entry.seen.values() for finding in seen}
        findings = dict.fromkeys([*sorted(names - {NOTHING}), NOTHING])
    return entries, list(findings), [name for _, name in tables]


def _read_places(files: Files, entries: dict[str, _Entry]) -> None:
    """Adds the readers' boxes to the entries; a row without numbers says that the reader saw nothing there."""
    for pattern in (r"annotations_train\.csv", r"annotations_test\.csv", r"train\.csv"):
        for table_name in find_tables(files, pattern)[:1]:
            table = CsvTable(files[table_name], table_name)
            for row in table if "class_name" in table and "x_min" in table else ():
                place = [number(row[side]) for side in ("x_min", "y_min", "x_max", "y_max")]
                entry = entries.get(row["image_id"])
                if entry is not None and None not in place and place[2] > place[0] and place[3] > place[1]:
                    finding = _SPELLINGS.get(row["class_name"], row["class_name"])
                    entry.places[finding].append((row["rad_id"], place))
