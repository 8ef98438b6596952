"""SIIM-ACR's Pneumothorax Segmentation Challenge of 2019 (Filice et al., Journal of Digital Imaging 2020)."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import headers
from scarce_cxr.images.sources.joining import join, note_missing
from scarce_cxr.images.sources.records import SUFFIXES, Box, Listing, Record, list_files, list_films, sort_records
from scarce_cxr.images.sources.tables import CsvTable, find_tables

FINDING = "Pneumothorax"

# The masks are in pixels of the films as released.
_SIDE = 1024
_TABLES = r"(train-rle|stage_2_train)\.csv"


class SiimSource:
    """The folder of the challenge: `dicom-images-train`, perhaps `dicom-images-test`, and `train-rle.csv`; or Kaggle's
    later `stage_2_train.csv`, and `stage_2_images`, which are the films for testing.

    A film has a row for each of its masks, or one row with -1. Masks become the boxes around them. All films are of
    ChestX-ray14, but no public table tells which: patients are unknown, and store.json says so.

    Args:
        folder: holds all of it.
    """

    name = "siim"

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "patients": "unknown"}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films, whose headers tell view, age and sex; as the collection is public, its own names stay.

        Raises:
            ScarceError: folder, table or a column is missing, or no film has a row.
        """
        files = list_files(self.folder)
        tables = find_tables(files, _TABLES)
        if not tables:
            raise ScarceError(
                f"train-rle.csv or stage_2_train.csv in {self.folder}", "neither", "give the folder of the challenge"
            )
        masks: dict[str, dict[str, None] | None] = defaultdict(dict)
        for table_name in tables:
            for row in CsvTable(files[table_name], table_name, ("ImageId", "EncodedPixels")):
                masks[row["ImageId"]] |= {} if row["EncodedPixels"] in ("-1", "") else {row["EncodedPixels"]: None}
        films = list_films(files, (*SUFFIXES, *headers.SUFFIXES))
        for name in films:
            # The challenge keeps the labels of its test films to itself.
            if PurePosixPath(name).stem not in masks and any(map(_is_of_tests, PurePosixPath(name).parts[:-1])):
                masks[PurePosixPath(name).stem] = None
        table = ", ".join(tables)
        joined = join(files, films, masks, lambda name: PurePosixPath(name).stem, table, self.folder)
        told = headers.read_headers({name: path for name, path, *_ in joined.films})
        records = [
            Record(
                path=path,
                name=name,
                image_id=image_id,
                view=told[name].view,
                split="test" if runs is None else "train",
                age=told[name].age,
                sex=told[name].sex,
                pixel_spacing_mm=told[name].pixel_spacing_mm,
                findings={} if runs is None else {FINDING: int(bool(runs))},
                boxes=tuple(filter(None, map(_box, runs or ()))),
            )
            for name, path, image_id, runs in joined.films
        ]
        notes = [
            f"labels read from {table}",
            "no patient is known: films of one patient may stand on both sides of a split",
            *note_missing(joined, table),
        ]
        damaged = sum(_box(text) is None for *_, runs in joined.films for text in runs or ())
        if damaged:
            notes.append(f"{damaged:,} masks that are no list of runs: no box is drawn around them")
        unlabelled = sum(runs is None for *_, runs in joined.films)
        if unlabelled:
            notes.append(f"{unlabelled:,} films for testing without labels")
        return Listing(sort_records(records), [FINDING], joined.skipped, notes)


def _is_of_tests(folder: str) -> bool:
    return "test" in folder or folder == "stage_2_images"


def box_of_runs(runs: np.ndarray, side: int = _SIDE) -> tuple[int, int, int, int]:
    """The box around a mask given as runs down the columns, from the left.

    Args:
        runs: (n, 2): how many pixels lie between the end of the run before (at first: the upper left corner) and this
            one, and how many this one has.
        side: of the square film, in pixels.

    Returns:
        left, top, width, height in pixels.
    """
    ends = np.cumsum(runs.sum(axis=1))
    starts, last = ends - runs[:, 1], ends - 1
    columns = starts // side, last // side
    # A run that goes on into the next column reaches from edge to edge.
    crossing = columns[0] != columns[1]
    top = 0 if crossing.any() else int((starts % side).min())
    bottom = side - 1 if crossing.any() else int((last % side).max())
    left, right = int(columns[0].min()), int(columns[1].max())
    return left, top, right - left + 1, bottom - top + 1


def _box(text: str) -> Box | None:
    """The box around a mask; null where the text is no list of runs that fits into the film."""
    try:
        runs = np.array(text.split(), dtype=np.int64).reshape(-1, 2)
    except ValueError:
        return None
    if len(runs) == 0 or runs.min() < 0 or runs[:, 1].min() == 0 or runs.sum() > _SIDE * _SIDE:
        return None
    return Box(FINDING, *(value / _SIDE for value in box_of_runs(runs)))
