"""A user's own folder of pictures, with or without a table of labels."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member
from scarce_cxr.images.sources.kinds import PICTURES, READ_AS_DICOM, looks_like_dicom
from scarce_cxr.images.sources.records import Listing, Record, list_files, list_films, sort_records
from scarce_cxr.images.store import COLUMNS
from scarce_cxr.images.user_tables import read_table

_LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


class FolderSource:
    """Pictures at any depth of a folder and inside its archives; their names never enter the store.

    Args:
        folder: holds the pictures.
        csv: a table (comma, semicolon or tab) with one row a picture.
        path_column: its column with paths below `folder`, or file names; by default the first column.
        patient_column: its column with the patient.
        patient_pattern: instead of a column: a regular expression with one group that finds the patient in the path
            below `folder`, e.g. `^([^/]+)/`.
        label_columns: its columns with findings: 1, 0, -1 (uncertain) or nothing (not mentioned).

    Raises:
        ScarceError: these settings contradict one another.
    """

    name = "folder"

    def __init__(
        self,
        folder: Path,
        csv: Path | None = None,
        path_column: str | None = None,
        patient_column: str | None = None,
        patient_pattern: str | None = None,
        label_columns: Sequence[str] = (),
    ) -> None:
        self.folder, self.csv = Path(folder), csv
        self.path_column, self.patient_column, self.label_columns = path_column, patient_column, list(label_columns)
        if csv is None and (path_column or patient_column or label_columns):
            raise ScarceError("a csv for the columns named", "none", "give the setting csv too")
        if patient_column and patient_pattern:
            raise ScarceError("the patient from a column or from a pattern", "both", "leave one out")
        taken = [name for name in self.label_columns if name in COLUMNS or self.label_columns.count(name) > 1]
        if taken:
            raise ScarceError("labels with names of their own", f"{taken[0]!r}", "rename the column in the csv")
        self.pattern = None if patient_pattern is None else _compile(patient_pattern)

    def settings(self) -> dict[str, Any]:
        # The rest may name people or places; the digest of the records tells when it changes.
        return {"source": self.name}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the pictures.

        Raises:
            ScarceError: folder, csv or a column is missing, a row fits several pictures or a picture several rows,
                no row fits any, the pattern fits no path, or a label is not 1, 0, -1 or nothing.
        """
        files = list_files(self.folder)
        films = list_films(files, PICTURES)
        dicom = [name for name, path in files.items() if looks_like_dicom(name, path)]
        if not films:
            raise ScarceError(
                "pictures (PNG, JPEG, TIFF, BMP and alike)",
                f"none in {self.folder}" + (f", but {len(dicom):,} DICOM files" if dicom else ""),
                "take --kind dicom" if dicom else "check it; --kind dicom reads DICOM files",
            )
        rows, missing = ({}, 0) if self.csv is None else self._join(films)
        records = []
        for name, path in films.items():
            number, row = rows.get(name, (0, {}))
            records.append(
                Record(
                    path=path,
                    name=name,
                    image_id=pseudonym(name),
                    patient=self._patient(name, row),
                    findings=self._labels(number, row) if row else {},
                )
            )
        notes = []
        if self.csv is not None and len(rows) < len(films):
            notes.append(f"{len(films) - len(rows):,} films have no row in {self.csv.name}: their labels stay empty")
        if missing:
            notes.append(f"{missing:,} rows of {self.csv.name} have no film here")
        lonely = sum(record.patient is None for record in records)
        if self.pattern is not None and lonely == len(records):
            raise ScarceError(
                "a patient_pattern that finds the patient in a path",
                f"{self.pattern.pattern!r}, which finds none in e.g. {records[0].name!r}",
                "try the pattern on this path",
            )
        if lonely:
            notes.append(f"{lonely:,} films without a patient: each counts as a patient of its own")
        skipped = [*files.refused, *((name, READ_AS_DICOM) for name in dicom)]
        return Listing(sort_records(records), list(self.label_columns), skipped, notes)

    def _patient(self, name: str, row: Mapping[str, str]) -> str | None:
        if self.pattern is not None:
            match = self.pattern.search(name)
            return (match[1] or None) if match else None
        return row.get(self.patient_column, "").strip() or None if self.patient_column else None

    def _labels(self, number: int, row: Mapping[str, str]) -> dict[str, int]:
        labels = {}
        for column in self.label_columns:
            text = row[column].strip()
            if not text:
                continue
            if text not in _LABELS:
                raise ScarceError(
                    f"1, 0, -1 or nothing in the column {column!r}",
                    f"{text!r} in row {number} of {self.csv}",
                    "mend it",
                )
            labels[column] = _LABELS[text]
        return labels

    def _join(self, films: Mapping[str, Path | Member]) -> tuple[dict[str, tuple[int, dict[str, str]]], int]:
        """The csv's rows with their line numbers, by the film that each describes; and how many describe none."""
        header, rows = self._read_csv()
        column = self.path_column or header[0]
        by_file_name: dict[str, list[str]] = {}
        for name in films:
            by_file_name.setdefault(PurePosixPath(name).name, []).append(name)
        joined: dict[str, tuple[int, dict[str, str]]] = {}
        missing = 0
        for number, row in rows:
            text = PurePosixPath(row[column].strip().replace("\\", "/")).as_posix()
            candidates = [text] if text in films else by_file_name.get(text, [])
            if len(candidates) > 1:
                raise ScarceError(
                    f"one picture for row {number} of {self.csv}",
                    f"{text!r}, which is {' and '.join(candidates[:3])}",
                    f"write the path below {self.folder} into the column {column!r}",
                )
            missing += not candidates
            for name in candidates:
                if name in joined:
                    raise ScarceError(
                        "one row for each picture", f"rows {joined[name][0]} and {number} for {name}", "remove one"
                    )
                joined[name] = (number, row)
        if not joined:
            raise ScarceError(
                f"pictures' paths or file names in the column {column!r} of {self.csv}",
                f"e.g. {rows[0][1][column]!r} for {next(iter(films))!r}",
                f"set path_column; columns there: {', '.join(header)}",
            )
        return joined, missing

    def _read_csv(self) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
        table = read_table(self.csv)
        header = list(table)
        wanted = [*filter(None, (self.path_column, self.patient_column)), *self.label_columns]
        missing = [column for column in wanted if column not in header]
        if missing:
            raise ScarceError(
                f"the columns {', '.join(missing)} in {self.csv}",
                f"columns there: {', '.join(header)}",
                "check the names",
            )
        # The first row is the header.
        return header, list(enumerate(table.to_dict("records"), 2))


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ScarceError("a regular expression", f"patient_pattern = {pattern!r} ({error})", "mend it") from None
    if compiled.groups != 1:
        raise ScarceError(
            "one group in patient_pattern",
            f"{compiled.groups} in {pattern!r}",
            "put the patient's part in ( ), others in (?: )",
        )
    return compiled
