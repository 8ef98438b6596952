"""NIH ChestX-ray14, as it is downloaded (Wang et al., "ChestX-ray8", CVPR 2017), and collections laid out like it."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.records import Box, Files, Listing, Record, list_files, list_films, sort_records
from scarce_cxr.images.sources.tables import CsvTable, find_tables, number, require_table, sex, years

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
# The owner's boxes are in pixels of the films as released.
_BOX_SIDE = 1024
# The owner's list of boxes has its own word for one of the findings.
_BOX_WORDS = {"Infiltrate": "Infiltration"}


class NihSource:
    """The folder of an NIH download: films at any depth or in its tar.gz archives, `Data_Entry_2017*.csv`, and the
    owner's lists of the split and of boxes if present.

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
        table_name, others = _choose_table(self.folder, files)
        table = PurePosixPath(table_name).name
        entries = _read_entries(files[table_name])
        splits, boxes = _read_splits(files), _read_boxes(files)
        joined = join(files, list_films(files), entries, lambda name: PurePosixPath(name).name, table, self.folder)
        names = {name for entry in entries.values() for name in entry["findings"]}
        findings = [*FINDINGS, *sorted(names - set(FINDINGS))]
        records = [
            Record(
                path=path,
                name=name,
                image_id=image_id,
                split=splits.get(image_id),
                findings={finding: int(finding in entry["findings"]) for finding in findings},
                boxes=tuple(boxes.get(image_id, ())),
                **{key: value for key, value in entry.items() if key != "findings"},
            )
            for name, path, image_id, entry in joined.films
        ]
        notes = [f"labels read from {table_name}" + (f" (not from {', '.join(others)})" if others else "")]
        return Listing(sort_records(records), findings, joined.skipped, notes + note_missing(joined, table_name))


def _choose_table(folder: Path, files: Files) -> tuple[str, list[str]]:
    """The table of labels and those passed over; the plain 2017 name comes first, then the nearest to the top."""
    wanted = "Data_Entry_2017.csv or Data_Entry_2017_v2020.csv"
    require_table(files, r"Data_Entry_2017.*\.csv", wanted, "nih", folder)
    tables = find_tables(files, r"Data_Entry_2017.*\.csv")
    tables.sort(key=lambda name: PurePosixPath(name).name != "Data_Entry_2017.csv")
    return tables[0], tables[1:]


def _read_entries(path: Path | Member) -> dict[str, dict[str, Any]]:
    """What the table says of each film, by its file name."""
    table = CsvTable(path, str(path), ("Image Index", "Finding Labels", "Patient ID"))
    # "OriginalImagePixelSpacing[x" and "y]": the names' own commas split them, as they split the values.
    spacing = table.column_like("OriginalImagePixelSpacing")
    gender = "Patient Gender" if "Patient Gender" in table else "Patient Sex"
    entries = {}
    for row in table:
        image_id = row["Image Index"]
        if image_id in entries:
            raise ScarceError("one row for each film", f"{image_id} again in row {row.number} of {path}", "remove one")
        patient, visit = row["Patient ID"] or None, row["Follow-up #"]
        entries[image_id] = {
            "patient": patient,
            "study": f"{patient} {visit}" if patient and visit else None,
            "view": _VIEWS.get(row["View Position"].upper(), "UNKNOWN"),
            "age": years(row["Patient Age"]),
            "sex": sex(row[gender]),
            "pixel_spacing_mm": number(row[spacing]),
            "findings": frozenset(filter(None, (name.strip() for name in row["Finding Labels"].split("|")))),
        }
    return entries


def _read_splits(files: Files) -> dict[str, str]:
    """The owner's lists of films for training and testing, by file name."""
    splits = {}
    for pattern, split in ((r"train_val_list(_NIH)?\.txt", "train_val"), (r"test_list(_NIH)?\.txt", "test")):
        for name in find_tables(files, pattern):
            splits |= dict.fromkeys(files[name].read_text("utf-8").split(), split)
    return splits


def _read_boxes(files: Files) -> dict[str, list[Box]]:
    """The owner's boxes by file name; the header's own commas make it longer than the rows."""
    boxes: dict[str, list[Box]] = {}
    tables = find_tables(files, r"BBox_List_2017.*\.csv")
    for row in CsvTable(files[tables[0]], tables[0]) if tables else ():
        try:
            image_id, word, *place = (cell.strip() for cell in row.cells[:6])
            left, top, width, height = (float(number) / _BOX_SIDE for number in place)
        except ValueError:
            raise ScarceError(
                "film, finding, x, y, w, h", f"row {row.number} of {tables[0]}: {row.cells}", "mend the row"
            ) from None
        boxes.setdefault(image_id, []).append(Box(_BOX_WORDS.get(word, word), left, top, width, height))
    return boxes
