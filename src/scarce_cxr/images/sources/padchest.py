"""PadChest, as it is downloaded (Bustos et al., "PadChest", Medical Image Analysis 2020)."""

import ast
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.lists import choose, digest, read_lists
from scarce_cxr.images.sources.records import (
    Listing,
    Record,
    leave_out_laterals,
    list_files,
    list_films,
    sort_records,
)
from scarce_cxr.images.sources.tables import CsvTable, number, require_table, sex

LISTS = Path(__file__).with_name("padchest.yaml")

_VIEWS = {"PA": "PA", "AP": "AP", "AP_HORIZONTAL": "AP", "L": "LATERAL"}
# How spreadsheets and readers of 64-bit numbers write the 128-bit identifiers: a thousand patients become one.
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+?\d+")


@dataclass(frozen=True)
class _Entry:
    patient: str | None
    study: str | None
    view: str
    age: float | None
    sex: str | None
    pixel_spacing_mm: float | None
    labels: frozenset[str] | None
    by_physician: bool


class PadChestSource:
    """The folder of a PadChest download: films in numbered zips or folders or all in one, and the table of labels.

    A finding is 1 where the labels name it and 0 where they do not. A film without labels, or with one of those that
    say that the report is of no use, has no zeros: what its labels do not name is not known. Labels of devices,
    surgery and the like become no column; the list is `padchest.yaml`.

    Args:
        folder: holds all of it.
        labels: "all", or "physician" for those that a physician gave (27 %), not a network (`MethodLabel`); other films
            are then kept without labels.
        exclude: a changed copy of `padchest.yaml`.
        views: "frontal" leaves out laterals; films of unknown view stay in either case.

    Raises:
        ScarceError: `exclude` is no such file, or another setting none of its words.
    """

    name = "padchest"

    def __init__(
        self,
        folder: Path,
        labels: Literal["all", "physician"] = "all",
        exclude: Path | None = None,
        views: Literal["frontal", "all"] = "frontal",
    ) -> None:
        choose("labels", labels, ("all", "physician"))
        choose("views", views, ("frontal", "all"))
        self.folder, self.labels, self.views = Path(folder), labels, views
        self.lists = read_lists(LISTS if exclude is None else exclude, ("excluded", "unreadable", "broken"))

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "labels": self.labels, "lists": digest(self.lists), "views": self.views}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder, table or a column is missing, the table's identifiers were rounded by another
                program, or no film has a row.
        """
        files = list_files(self.folder)
        wanted = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .csv.gz)"
        table_name = require_table(files, r"PADCHEST.*labels.*\.csv(\.gz)?", wanted, self.name, self.folder)
        table = PurePosixPath(table_name).name
        entries = self._read_entries(CsvTable(files[table_name], table, ("ImageID", "PatientID", "Labels")))
        joined = join(files, list_films(files), entries, lambda name: PurePosixPath(name).name, table, self.folder)
        excluded, unreadable = set(self.lists["excluded"]), set(self.lists["unreadable"])
        named = set().union(*(entry.labels or () for entry in entries.values()))
        findings = sorted(named - excluded, key=str.casefold)
        broken = set(self.lists["broken"])
        records, counts = [], Counter()
        for name, path, image_id, entry in joined.films:
            if image_id in broken or entry.view == "EXCLUDE":
                reason = "known to be broken" if image_id in broken else "excluded by the collection (Projection)"
                joined.skipped.append((name, reason))
                continue
            used = entry.labels if self.labels == "all" or entry.by_physician else None
            counts["physician" if entry.by_physician else "network"] += 1
            counts["without labels"] += not used
            known = bool(used) and not used & unreadable
            records.append(
                Record(
                    path=path,
                    name=name,
                    image_id=image_id,
                    patient=entry.patient,
                    study=entry.study,
                    view=entry.view,
                    age=entry.age,
                    sex=entry.sex,
                    pixel_spacing_mm=entry.pixel_spacing_mm,
                    findings={f: int(f in (used or ())) for f in findings if known or f in (used or ())},
                )
            )
        notes = [
            f"labels read from {table_name}: {counts['physician']:,} films labelled by physicians, "
            f"{counts['network']:,} by a network",
            f"{counts['without labels']:,} films without usable labels: their findings stay empty",
            *note_missing(joined, table),
        ]
        kept = sort_records(leave_out_laterals(records, self.views, joined.skipped))
        return Listing(kept, findings, joined.skipped, notes)

    def _read_entries(self, table: CsvTable) -> dict[str, _Entry]:
        entries = {}
        for row in table:
            patient = row["PatientID"]
            if _ROUNDED.fullmatch(patient):
                raise ScarceError(
                    f"whole numbers as PatientID in {table.name}",
                    f"{patient} in row {row.number}: another program has rounded it",
                    "take the table as it was downloaded",
                )
            projection = row["Projection"].upper()
            entries[row["ImageID"]] = _Entry(
                patient=patient or None,
                study=row["StudyID"] or None,
                view="EXCLUDE" if projection == "EXCLUDE" else _VIEWS.get(projection, "UNKNOWN"),
                age=_age(row["StudyDate_DICOM"], row["PatientBirth"]),
                sex=sex(row["PatientSex_DICOM"]),
                pixel_spacing_mm=number(row["SpatialResolution_DICOM"]),
                labels=_labels(row["Labels"]),
                by_physician=row["MethodLabel"].casefold() == "physician",
            )
        return entries


def _labels(text: str) -> frozenset[str] | None:
    """Reads "['COPD signs', ' air trapping']"; null for nothing, "nan" and whatever is no list."""
    try:
        labels = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(labels, list):
        return None
    return frozenset(filter(None, (" ".join(label.split()) for label in labels if isinstance(label, str)))) or None


def _age(study_date: str, birth: str) -> float | None:
    """Full years between the years of the study (20170124) and of birth (1953.0), which is all that is told."""
    studied, born = number(study_date[:4]), number(birth)
    if studied is None or born is None or not 0 <= studied - born <= 120:
        return None
    return studied - born
