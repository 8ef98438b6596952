"""RSNA's Pneumonia Detection Challenge of 2018 (Shih et al., Radiology: Artificial Intelligence 2019)."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import headers
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.nih import NihSource
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
from scarce_cxr.images.sources.tables import CsvTable, find_tables, label, number, require_table

FINDINGS = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")

# The boxes are in pixels of the films as released.
_SIDE = 1024


@dataclass
class _Entry:
    split: str
    target: int | None = None
    kind: str = ""
    places: dict[tuple[float, ...], None] = field(default_factory=dict)


class RsnaSource:
    """The folder of the challenge: `stage_2_train_images`, `stage_2_train_labels.csv`, and the classes if present.

    A film has a row for each box. What the tables call `patientId` names a film: films of one patient have several.
    All are films of ChestX-ray14, and RSNA's own `pneumonia-challenge-dataset-mappings_2018.json` tells which. If it
    lies in the folder, patients are NIH's (with the same key, those of an NIH store); without it they are unknown.

    Args:
        folder: holds all of it.
    """

    name = "rsna"
    # So that a store of either collection, made with the same key, knows the other's patients.
    patients_of = NihSource.name

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name} | ({} if self._patients is not None else {"patients": "unknown"})

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films, whose headers tell view, age and sex; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder, table or a column is missing, the mapping is damaged, or no film has a row.
        """
        files = self._files
        table_name = require_table(
            files, r"stage_2_train_labels\.csv", "stage_2_train_labels.csv", self.name, self.folder
        )
        entries = _read_entries(files, table_name)
        classes = _read_classes(files, entries)
        patients = self._patients
        films = list_films(files, (*SUFFIXES, *headers.SUFFIXES))
        for name in films:
            # The challenge keeps the labels of its test films to itself.
            if any("test" in part for part in PurePosixPath(name).parts[:-1]):
                entries.setdefault(PurePosixPath(name).stem, _Entry("test"))
        joined = join(files, films, entries, lambda name: PurePosixPath(name).stem, table_name, self.folder)
        told = headers.read_headers({name: path for name, path, *_ in joined.films})
        records = [
            Record(
                path=path,
                name=name,
                image_id=image_id,
                patient=(patients or {}).get(image_id),
                view=told[name].view,
                split=entry.split,
                age=told[name].age,
                sex=told[name].sex,
                pixel_spacing_mm=told[name].pixel_spacing_mm,
                findings=_labels(entry, classes),
                boxes=tuple(Box(FINDINGS[0], *(side / _SIDE for side in place)) for place in entry.places),
            )
            for name, path, image_id, entry in joined.films
        ]
        notes = [f"labels read from {table_name}", *note_missing(joined, table_name)]
        if patients is None:
            notes.append(
                "no pneumonia-challenge-dataset-mappings_2018.json: patients are unknown, and films of one may stand "
                "on both sides of a split"
            )
        unlabelled = sum(entry.target is None for *_, entry in joined.films)
        if unlabelled:
            notes.append(f"{unlabelled:,} films for testing without labels")
        return Listing(sort_records(records), list(FINDINGS if classes else FINDINGS[:1]), joined.skipped, notes)

    @cached_property
    def _files(self) -> Files:
        return list_files(self.folder)

    @cached_property
    def _patients(self) -> dict[str, str] | None:
        return _read_patients(self._files)


def _read_entries(files: Files, table_name: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = defaultdict(lambda: _Entry("train"))
    for row in CsvTable(files[table_name], table_name, ("patientId", "x", "y", "width", "height", "Target")):
        entry = entries[row["patientId"]]
        entry.target = max(entry.target or 0, label(row["Target"]) or 0)
        place = tuple(number(row[side]) for side in ("x", "y", "width", "height"))
        if None not in place:
            entry.places[place] = None
    return dict(entries)


def _read_classes(files: Files, entries: dict[str, _Entry]) -> bool:
    """Adds the three classes to the entries; false where their table is missing."""
    found = find_tables(files, r"stage_2_detailed_class_info\.csv")
    for row in CsvTable(files[found[0]], found[0], ("patientId", "class")) if found else ():
        if row["patientId"] in entries:
            entries[row["patientId"]].kind = row["class"]
    return bool(found)


def _read_patients(files: Files) -> dict[str, str] | None:
    """NIH's patient of each film, as RSNA's mapping has it; null where there is no mapping."""
    found = find_tables(files, r"pneumonia-challenge-dataset-mappings_2018\.json")
    if not found:
        return None
    try:
        # NIH's own table has the patient of 00000013_005.png as 13.
        return {
            film["subset_img_id"]: str(int(re.match(r"\d+", film["img_id"])[0]))
            for film in json.loads(files[found[0]].read_text("utf-8"))
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ScarceError(
            f"a list of films with subset_img_id and img_id in {found[0]}",
            f"{type(error).__name__}: {error}",
            "download it anew, or remove it",
        ) from None


def _labels(entry: _Entry, classes: bool) -> dict[str, int]:
    if entry.target is None:
        return {}
    labels = {FINDINGS[0]: entry.target}
    return labels | {kind: int(kind == entry.kind) for kind in FINDINGS[1:] if classes and entry.kind}
