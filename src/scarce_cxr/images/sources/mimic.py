"""MIMIC-CXR-JPG (Johnson et al., "MIMIC-CXR-JPG", arXiv:1901.07042)."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from scarce_cxr.images.sources.chexpert import FINDINGS
from scarce_cxr.images.sources.dicom import view_in_words
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.lists import choose
from scarce_cxr.images.sources.records import (
    Files,
    Listing,
    Record,
    leave_out_laterals,
    list_files,
    list_films,
    sort_records,
)
from scarce_cxr.images.sources.tables import CsvTable, Row, find_tables, label, require_table

# Decubitus ("PA LLD") and axial films are none of these; what is oblique, its words tell.
_VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LATERAL": "LATERAL",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "XTABLE LATERAL": "LATERAL",
    "POSTERO-ANTERIOR": "PA",
    "ANTERO-POSTERIOR": "AP",
    "LEFT LATERAL": "LATERAL",
    "RIGHT LATERAL": "LATERAL",
}


class MimicSource:
    """The folder of a MIMIC-CXR-JPG download: `files/p10/p10000032/s50414267/*.jpg` and `mimic-cxr-2.*.csv.gz`.

    Labels belong to a study (a report) and stand for each of its films: 1, 0, -1 (uncertain), or nothing.

    Args:
        folder: holds all of it.
        labels: whose: "chexpert" or "negbio", two programs that read the reports.
        views: "frontal" leaves out laterals and obliques; films of unknown view stay in either case.

    Raises:
        ScarceError: a setting is none of its words.
    """

    name = "mimic"

    def __init__(
        self,
        folder: Path,
        labels: Literal["chexpert", "negbio"] = "chexpert",
        views: Literal["frontal", "all"] = "frontal",
    ) -> None:
        choose("labels", labels, ("chexpert", "negbio"))
        choose("views", views, ("frontal", "all"))
        self.folder, self.labels, self.views = Path(folder), labels, views

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "labels": self.labels, "views": self.views}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; their own names (dicom_id) stay, patients and studies become pseudonyms.

        Raises:
            ScarceError: folder, a table (metadata, labels) or a column is missing, or no film has a row.
        """
        files = list_files(self.folder)
        metadata_name, metadata = self._table(files, "metadata", ("dicom_id", "subject_id", "study_id"))
        _, labels_table = self._table(files, self.labels, ("study_id", "Pleural Effusion"))
        labels = {row["study_id"]: _labels(row) for row in labels_table}
        splits = self._read_splits(files)
        entries = {row["dicom_id"]: (row["subject_id"], row["study_id"], _view(row)) for row in metadata}
        joined = join(
            files, list_films(files), entries, lambda name: PurePosixPath(name).stem, metadata_name, self.folder
        )
        records = []
        for name, path, image_id, (patient, study, view) in joined.films:
            if view == "OBLIQUE" and self.views == "frontal":
                joined.skipped.append((name, "not a frontal view: oblique"))
                continue
            records.append(
                Record(
                    path=path,
                    name=name,
                    image_id=image_id,
                    patient=patient or None,
                    study=study or None,
                    view="UNKNOWN" if view == "OBLIQUE" else view,
                    split=splits.get(image_id),
                    findings=labels.get(study, {}),
                )
            )
        unlabelled = sum(study not in labels for *_, (_, study, _) in joined.films)
        notes = [f"labels of {self.labels}", *note_missing(joined, metadata_name)]
        if unlabelled:
            notes.append(f"{unlabelled:,} films of studies without labels: their findings stay empty")
        if not splits:
            notes.append("no table mimic-cxr-2.*-split.csv.gz: the official split stays empty")
        kept = sort_records(leave_out_laterals(records, self.views, joined.skipped))
        return Listing(kept, list(FINDINGS), joined.skipped, notes)

    def _table(self, files: Files, what: str, required: tuple[str, ...]) -> tuple[str, CsvTable]:
        wanted = f"mimic-cxr-2.0.0-{what}.csv.gz (or .csv)"
        name = require_table(files, rf"mimic-cxr-2\.\d\.\d-{what}\.csv(\.gz)?", wanted, self.name, self.folder)
        table = PurePosixPath(name).name
        return table, CsvTable(files[name], table, required)

    def _read_splits(self, files: Files) -> dict[str, str]:
        """The official split: train, validate or test, by dicom_id."""
        found = find_tables(files, r"mimic-cxr-2\.\d\.\d-split\.csv(\.gz)?")
        if not found:
            return {}
        return {row["dicom_id"]: row["split"] for row in CsvTable(files[found[0]], found[0], ("dicom_id", "split"))}


def _labels(row: Row) -> dict[str, int]:
    values = {finding: label(row[finding]) for finding in FINDINGS}
    return {finding: value for finding, value in values.items() if value is not None}


def _view(row: Row) -> str:
    """PA, AP, LATERAL, OBLIQUE or UNKNOWN."""
    written = row["ViewPosition"] or row["ViewCodeSequence_CodeMeaning"]
    return _VIEWS.get(written.upper()) or ("OBLIQUE" if view_in_words(written) == "OBLIQUE" else "UNKNOWN")
