"""What Montgomery's and Shenzhen's collections of tuberculosis share (Jaeger et al., "Two public chest X-ray datasets
for computer-aided screening of pulmonary diseases", Quantitative Imaging in Medicine and Surgery 2014)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.records import Files, Listing, Record, list_files, list_films, sort_records
from scarce_cxr.images.sources.tables import years

FINDING = "Tuberculosis"

_UNITS = {"y": "Y", "m": "M", "w": "W", "d": "D"}


@dataclass(frozen=True)
class Reading:
    """What the clinical reading of a film says: years, M or F, and its words."""

    age: float | None
    sex: str | None
    text: str


def read_films(
    folder: Path, prefix: str, view: str, read_text: Callable[[str], Reading], kind: str
) -> tuple[Listing, dict[str, Reading]]:
    """Lists the films PREFIX_0001_0.png, whose last digit says whether there are signs of tuberculosis (1) or not (0).

    Masks of the lungs, which may have the films' own names, are left out.

    Args:
        folder: the folder of the download.
        prefix: how the films' names begin.
        view: of all films.
        read_text: understands a reading.
        kind: of the source, for messages.

    Returns:
        The films, with a patient each, and their readings by image_id.

    Raises:
        ScarceError: folder missing, or no film in it.
    """
    files = list_files(folder)
    films = {
        name: path
        for name, path in list_films(files).items()
        if re.fullmatch(rf"{prefix}_\d+_[01]\.\w+", PurePosixPath(name).name, re.IGNORECASE)
    }
    masks = {name for name in films if any("mask" in part.lower() for part in name.split("/")[:-1])}
    if len(films) == len(masks):
        raise ScarceError(
            f"films named {prefix}_0001_0.png in {folder}",
            f"none among {len(files)} files",
            f"check the folder of {kind}",
        )
    texts = _texts(files, prefix)
    readings, records, skipped = {}, [], list(files.refused)
    for name, path in films.items():
        stem = PurePosixPath(name).stem
        image_id = PurePosixPath(name).name
        if name in masks:
            continue
        if image_id in readings:
            skipped.append((name, "another file has its name"))
            continue
        readings[image_id] = read_text(texts[stem].strip()) if stem in texts else Reading(None, None, "")
        records.append(
            Record(
                path=path,
                name=name,
                image_id=image_id,
                patient=stem.split("_")[1],
                view=view,
                age=readings[image_id].age,
                sex=readings[image_id].sex,
                findings={FINDING: int(stem[-1])},
            )
        )
    notes = [f"{len(masks):,} masks of lungs are left out"] if masks else []
    unread = sum(PurePosixPath(record.image_id).stem not in texts for record in records)
    if unread:
        notes.append(f"{unread:,} films without a clinical reading: age and sex stay empty")
    return Listing(sort_records(records), [FINDING], skipped, notes), readings


def age_of(text: str) -> float | None:
    """Years, of "027Y", "45yrs", "16month", "64days"; null where the number has no unit."""
    match = re.search(r"(\d+)\s*([ymwd])", text, re.IGNORECASE)
    return years(match[1] + _UNITS[match[2].lower()]) if match else None


def _texts(files: Files, prefix: str) -> dict[str, str]:
    """The readings by their files' names without suffix; some have a few bytes that are no UTF-8."""
    return {
        path.stem: path.read_text("utf-8", "replace")
        for name, path in files.items()
        if name.lower().endswith(".txt") and path.name.upper().startswith(prefix)
    }
