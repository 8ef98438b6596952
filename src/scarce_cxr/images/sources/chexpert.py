"""CheXpert, small or full (Irvin et al., "CheXpert", AAAI 2019), with its test set if it is there."""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from scarce_cxr.errors import ScarceError
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
from scarce_cxr.images.sources.tables import CsvTable, Row, find_tables, label, sex, years

FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

# The paths in the tables begin "CheXpert-v1.0-small/train/" or "CheXpert-v1.0/train/", whereas the full release's films
# lie in folders such as "CheXpert-v1.0 batch 2 (train 1)": only the end is common to both.
_FILM = re.compile(r"(patient\d+)/(study\d+)/view\d+_(frontal|lateral)\.\w+$", re.IGNORECASE)
_TABLES = (("train", r"train\.csv"), ("valid", r"valid\.csv"), ("test", r"(test|test_labels|groundtruth)\.csv"))


class CheXpertSource:
    """The folder of a CheXpert download: `train.csv`, `valid.csv`, perhaps `test_labels.csv`, and the films.

    Labels are as the owner has them: 1, 0, -1 (uncertain), or nothing where the report does not mention a finding.

    Args:
        folder: holds all of it.
        views: "frontal" leaves out laterals; films of unknown view stay in either case.

    Raises:
        ScarceError: `views` is none of the two.
    """

    name = "chexpert"

    def __init__(self, folder: Path, views: Literal["frontal", "all"] = "frontal") -> None:
        choose("views", views, ("frontal", "all"))
        self.folder, self.views = Path(folder), views

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "views": self.views}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; as the collection is public, its own names (patient00001/study1/view1_frontal.jpg) stay.

        Raises:
            ScarceError: folder, tables or a column is missing, a film has two rows, or no film has one.
        """
        files = list_files(self.folder)
        entries, tables = self._read_entries(files)
        joined = join(files, list_films(files), entries, _identify, ", ".join(tables), self.folder)
        records = [_record(name, path, image_id, *entry) for name, path, image_id, entry in joined.films]
        notes = [f"labels read from {', '.join(tables)}", *note_missing(joined, "the tables")]
        kept = sort_records(leave_out_laterals(records, self.views, joined.skipped))
        return Listing(kept, list(FINDINGS), joined.skipped, notes)

    def _read_entries(self, files: Files) -> tuple[dict[str, tuple[str, Row]], list[str]]:
        entries: dict[str, tuple[str, Row]] = {}
        tables = []
        for split, pattern in _TABLES:
            # The same table may lie there twice, e.g. unpacked beside its zip.
            for table_name in find_tables(files, pattern)[:1]:
                tables.append(table_name)
                for row in CsvTable(files[table_name], table_name, ("Path", "Pleural Effusion")):
                    image_id = _identify(row["Path"])
                    if image_id in entries:
                        raise ScarceError(
                            "one row for each film",
                            f"{image_id} again in row {row.number} of {table_name}",
                            "remove one",
                        )
                    entries[image_id] = (split, row)
        if not tables:
            raise ScarceError(
                f"train.csv, valid.csv or test_labels.csv in {self.folder}", "none of them", "check the folder"
            )
        return entries, tables


def _identify(name: str) -> str:
    match = _FILM.search(name)
    return match[0] if match else name


def _record(name: str, path: Any, image_id: str, split: str, row: Row) -> Record:
    patient, study, *_ = PurePosixPath(image_id).parts
    labels = {finding: label(row[finding]) for finding in FINDINGS}
    return Record(
        path=path,
        name=name,
        image_id=image_id,
        patient=patient,
        study=f"{patient}/{study}",
        view=_view(image_id, row),
        split=split,
        # Adults only: the few zeros stand for an unknown age.
        age=years(row["Age"]) or None,
        sex=sex(row["Sex"]),
        findings={finding: value for finding, value in labels.items() if value is not None},
    )


def _view(image_id: str, row: Row) -> str:
    """PA or AP of a frontal film where the table tells; the test set's does not."""
    if "lateral" in image_id.lower():
        return "LATERAL"
    projection = row["AP/PA"].upper()
    return projection if projection in ("PA", "AP") else "UNKNOWN"
