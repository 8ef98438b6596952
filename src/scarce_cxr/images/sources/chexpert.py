"""CheXpert, small or full (Irvin et al., "CheXpert", AAAI 2019), with its test set if it is there."""

import re
from collections.abc import Callable, Iterable, Mapping
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
_FILM_OR_STUDY = re.compile(r"patient\d+/study\d+(/view\d+_(frontal|lateral)\.\w+)?$", re.IGNORECASE)
_TABLES = (("train", r"train\.csv"), ("valid", r"valid\.csv"), ("test", r"(test|test_labels|groundtruth)\.csv"))


class CheXpertSource:
    """The folder of a CheXpert download: `train.csv`, `valid.csv`, perhaps a table of the test set, and the films.

    Labels are as the owner has them: 1, 0, -1 (uncertain), or nothing where the report does not mention a finding.
    Those of `groundtruth.csv` belong to a study and stand for each of its films. Films that a table without labels
    names have none.

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
        films = list_films(files)
        entries, tables = self._read_entries(files)
        entries = _spread(entries, films)
        joined = join(files, films, entries, _identify, ", ".join(tables), self.folder)
        records = []
        for name, path, image_id, entry in joined.films:
            if _FILM_OR_STUDY.search(image_id):
                records.append(_record(name, path, image_id, *entry))
            else:
                joined.skipped.append((name, "its path does not end in patient, study and view"))
        labelled = [name for name, table in tables.items() if _is_labelled(table)]
        notes = [
            f"labels read from {', '.join(labelled) or 'no table'}",
            *(f"no labels in {name}: its films have none" for name in tables if name not in labelled),
            *note_missing(joined, "the tables"),
        ]
        kept = sort_records(leave_out_laterals(records, self.views, joined.skipped))
        return Listing(kept, list(FINDINGS), joined.skipped, notes)

    def _read_entries(self, files: Files) -> tuple[dict[str, tuple[str, Row]], dict[str, CsvTable]]:
        """Split and row by film or, where a table has a row for each, by study ("patient00001/study1"); the tables."""
        entries: dict[str, tuple[str, Row]] = {}
        tables = {}
        for split, pattern in _TABLES:
            table = _choose_table(files, pattern)
            if table is None:
                continue
            tables[table.name] = table
            key = _key_of(table)
            for row in table:
                named = _identify(row[key])
                if named in entries:
                    raise ScarceError(
                        "one row for each film or study",
                        f"{named} again in row {row.number} of {table.name}",
                        "remove one",
                    )
                entries[named] = (split, row)
        if not tables:
            raise ScarceError(
                f"train.csv, valid.csv or test_labels.csv in {self.folder}", "none of them", "check the folder"
            )
        return entries, tables


def _choose_table(files: Files, pattern: str) -> CsvTable | None:
    """The table of a split: the first that has labels, as one may lie there twice, e.g. unpacked beside its zip."""
    found = find_tables(files, pattern)
    tables = (CsvTable(files[name], name) for name in found)
    labelled = next(filter(_is_labelled, tables), None)
    return labelled or (CsvTable(files[found[0]], found[0]) if found else None)


def _is_labelled(table: CsvTable) -> bool:
    return "Pleural Effusion" in table


def _key_of(table: CsvTable) -> str:
    """The column that names films or, in the test set's published labels, studies."""
    for column in ("Path", "Study"):
        if column in table:
            return column
    raise ScarceError(
        f"a column Path or Study in {table.name}", f"columns there: {', '.join(table.header)}", "check the file"
    )


def _identify(name: str) -> str:
    match = _FILM_OR_STUDY.search(name)
    return match[0] if match else name


def _spread(entries: Mapping[str, tuple[str, Row]], films: Iterable[str]) -> dict[str, tuple[str, Row]]:
    """Gives each film that has no row of its own that of its study; what is left of studies are those without films."""
    spread, seen = dict(entries), set()
    for film in map(_identify, films):
        study = film.rpartition("/")[0]
        if film not in entries and study in entries:
            spread[film] = entries[study]
            seen.add(study)
    return {named: entry for named, entry in spread.items() if named not in seen}


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
    """PA or AP of a frontal film where the table tells; the test set's do not."""
    if "lateral" in image_id.lower():
        return "LATERAL"
    projection = row["AP/PA"].upper()
    return projection if projection in ("PA", "AP") else "UNKNOWN"
