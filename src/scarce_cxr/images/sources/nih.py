"""NIH ChestX-ray14, as it is downloaded (Wang et al., "ChestX-ray8", CVPR 2017), and collections laid out like it."""

import csv
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.records import Box, Listing, Record, list_files, list_films, sort_records

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    "No Finding",
)

_VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "LATERAL": "LATERAL"}
_YEARS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25, "": 1.0}
# The 2017 release holds a few ages above 400, which the 2020 release corrects.
_OLDEST = 120.0
# The owner's boxes are in pixels of the films as released.
_BOX_SIDE = 1024
# The owner's list of boxes has its own word for one of the findings.
_BOX_WORDS = {"Infiltrate": "Infiltration"}


class NihSource:
    """The folder of an NIH download: films at any depth, `Data_Entry_2017*.csv`, and the owner's lists if present.

    A finding is 1 where the row names it and 0 where it does not.

    Args:
        folder: holds all of it.
    """

    name = "nih"

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder, table or a column is missing, or no film has a row.
        """
        files = list_files(self.folder)
        films = list_films(files)
        table_name, others = _choose_table(self.folder, files)
        entries = _read_entries(files[table_name])
        splits, boxes = _read_splits(files), _read_boxes(files)
        names = {name for entry in entries.values() for name in entry["findings"]}
        findings = [*FINDINGS, *sorted(names - set(FINDINGS))]
        records, skipped = [], []
        named: set[str] = set()
        for name, path in films.items():
            image_id = path.name
            entry = entries.get(image_id)
            if entry is None or image_id in named:
                skipped.append((name, "another file has its name" if entry else f"no row in {Path(table_name).name}"))
                continue
            named.add(image_id)
            present = entry["findings"]
            known = {key: value for key, value in entry.items() if key != "findings"}
            records.append(
                Record(
                    path=path,
                    name=name,
                    image_id=image_id,
                    split=splits.get(image_id),
                    findings={finding: int(finding in present) for finding in findings},
                    boxes=tuple(boxes.get(image_id, ())),
                    **known,
                )
            )
        if not records:
            raise ScarceError(
                f"films named in {table_name}",
                f"none among {len(films)} picture files in {self.folder}",
                "check the folder",
            )
        notes = [f"labels read from {table_name}" + (f" (not from {', '.join(others)})" if others else "")]
        missing = len(entries) - len(named)
        if missing:
            notes.append(f"{missing:,} rows of {table_name} have no film here")
        return Listing(sort_records(records), findings, skipped, notes)


def _choose_table(folder: Path, files: Mapping[str, Path]) -> tuple[str, list[str]]:
    """The table of labels and those passed over; the plain 2017 name comes first, then the nearest to the top."""
    tables = [name for name in files if re.fullmatch(r"Data_Entry_2017.*\.csv", Path(name).name)]
    if not tables:
        csvs = [name for name in files if name.lower().endswith(".csv")]
        raise ScarceError(
            f"Data_Entry_2017.csv or Data_Entry_2017_v2020.csv in {folder}",
            f"csv files there: {', '.join(csvs) or 'none'}",
            "give the folder of an NIH download, or use the kind `folder`",
        )
    tables.sort(key=lambda name: (Path(name).name != "Data_Entry_2017.csv", name.count("/"), name))
    return tables[0], tables[1:]


def _read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """What the table says of each film, by its file name."""
    header, rows = _read_rows(path)
    wanted = ("Image Index", "Finding Labels", "Patient ID")
    missing = [column for column in wanted if column not in header]
    if missing:
        raise ScarceError(
            f"the columns {', '.join(missing)} in {path}",
            f"columns there: {', '.join(filter(None, header))}",
            "check the file",
        )
    column = {name: position for position, name in enumerate(header)}
    # "OriginalImagePixelSpacing[x" and "y]": the names' own commas split them, as they split the values.
    spacing = next((place for name, place in column.items() if name.startswith("OriginalImagePixelSpacing")), None)
    sex = column.get("Patient Gender", column.get("Patient Sex"))
    entries = {}
    for number, row in rows:

        def value(position: int | None, row: list[str] = row) -> str:
            return row[position].strip() if position is not None and position < len(row) else ""

        image_id = value(column["Image Index"])
        if image_id in entries:
            raise ScarceError("one row for each film", f"{image_id} again in row {number} of {path}", "remove one")
        patient = value(column["Patient ID"]) or None
        visit = value(column.get("Follow-up #"))
        entries[image_id] = {
            "patient": patient,
            "study": f"{patient} {visit}" if patient and visit else None,
            "view": _VIEWS.get(value(column.get("View Position")).upper(), "UNKNOWN"),
            "age": _years(value(column.get("Patient Age"))),
            "sex": {"M": "M", "F": "F"}.get(value(sex).upper()),
            "pixel_spacing_mm": _number(value(spacing)),
            "findings": frozenset(filter(None, (name.strip() for name in value(column["Finding Labels"]).split("|")))),
        }
    return entries


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """A table's header and its rows with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            return header, [(reader.line_num, row) for row in reader if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ScarceError(f"a CSV table in {path}", str(error), "save it as CSV in UTF-8") from None


def _read_splits(files: Mapping[str, Path]) -> dict[str, str]:
    """The owner's lists of films for training and testing, by file name."""
    lists = {"train_val_list.txt": "train_val", "test_list.txt": "test"}
    splits = {}
    for path in files.values():
        if path.name in lists:
            splits |= dict.fromkeys(path.read_text("utf-8").split(), lists[path.name])
    return splits


def _read_boxes(files: Mapping[str, Path]) -> dict[str, list[Box]]:
    """The owner's boxes by file name; the header's own commas make it longer than the rows."""
    path = next((path for path in files.values() if path.name == "BBox_List_2017.csv"), None)
    boxes: dict[str, list[Box]] = {}
    if path is None:
        return boxes
    for number, row in _read_rows(path)[1]:
        try:
            image_id, word, *place = (cell.strip() for cell in row[:6])
            left, top, width, height = (float(number) / _BOX_SIDE for number in place)
        except ValueError:
            raise ScarceError("film, finding, x, y, w, h", f"row {number} of {path}: {row}", "mend the row") from None
        boxes.setdefault(image_id, []).append(Box(_BOX_WORDS.get(word, word), left, top, width, height))
    return boxes


def _years(text: str) -> float | None:
    """Reads "58", and "058Y", "018M", "012D" of the first release; null where unknown or impossible."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([YMWD]?)", text.upper())
    if match is None:
        return None
    years = float(match[1]) / _YEARS[match[2]]
    return years if years <= _OLDEST else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
