"""A folder of phantom films in the layout and the table formats of NIH ChestX-ray14's 2017 release."""

from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from PIL import Image

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.phantoms.detector import SITES
from scarce_cxr.images.phantoms.film import Film, count_films, draw_film

ENTRY_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
)
"""Columns of the entries, as a CSV reader sees them: two of NIH's header cells contain a comma."""
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
BOX_SIDE = 1024
"""The side in pixels of the square film in which NIH gives its boxes."""


def write_collection(out: Path, *, images: int = 2000, seed: int = 0, size: int = 512, jobs: int = -1) -> pd.DataFrame:
    """Draw a collection of phantom films into a folder.

    A film depends on nothing but the seed, its patient and its number, so a larger collection begins with the smaller
    one's films (only the last patient's may be cut off). Writes ``images/PPPPPPPP_FFF.png`` (8-bit grey from site A,
    16-bit grey from site B), ``Data_Entry_2017.csv`` and ``BBox_List_2017.csv``.

    Args:
        out: the folder, made if it is missing; files of the same names are replaced.
        images: how many films, 1 or more.
        seed: 0 or more.
        size: the films' height and width in pixels, 32 or more.
        jobs: how many processes draw, as joblib counts them (-1 for one per core).

    Returns:
        The entries, one row per film in `ENTRY_COLUMNS`.

    Raises:
        ScarceError: for arguments out of range.
    """
    for name, value, least in (("images", images, 1), ("seed", seed, 0), ("size", size, 32)):
        if value < least:
            raise ScarceError(f"{name} of {least} or more", f"{name} = {value}", f"choose {name} from {least} up")
    if jobs == 0:
        raise ScarceError("a number of jobs, or -1 for one per core", "jobs = 0", "choose 1 or more, or -1")
    out = Path(out)
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    plan = _plan_patients(seed, images)
    tasks = (joblib.delayed(_write_patient)(folder, seed, patient, films, size) for patient, films in plan)
    entries, boxes = [], []
    with progress.bar("drawing films", images) as advance:
        for rows, lines in joblib.Parallel(n_jobs=jobs, return_as="generator")(tasks):
            entries.extend(rows)
            boxes.extend(lines)
            advance(len(rows))
    table = pd.DataFrame(entries, columns=list(ENTRY_COLUMNS))
    # NIH ends the header and every row with a comma.
    lines = [",".join(ENTRY_COLUMNS) + ","] + [",".join(map(str, row)) + "," for row in entries]
    _replace_file(out / "Data_Entry_2017.csv", "\n".join(lines) + "\n")
    _replace_file(out / "BBox_List_2017.csv", "\n".join([BOX_HEADER, *boxes]) + "\n")
    return table


def _plan_patients(seed: int, images: int) -> list[tuple[int, int]]:
    """Return pairs (patient, how many of its films) that add up to `images`."""
    plan, left, patient = [], images, 1
    while left > 0:
        films = min(count_films(seed, patient), left)
        plan.append((patient, films))
        left, patient = left - films, patient + 1
    return plan


def _write_patient(folder: Path, seed: int, patient: int, films: int, size: int) -> tuple[list[tuple], list[str]]:
    """Draw and write a patient's films; returns their entries and their boxes' lines."""
    entries, boxes = [], []
    for number in range(films):
        film = draw_film(seed, patient, number, size)
        name = f"{patient:08d}_{number:03d}.png"
        _write_image(folder / name, film)
        labels = "|".join(film.findings) or "No Finding"
        age = min(film.age + number // 2, 95)
        detector = (*film.detector_size, film.detector_pixel, film.detector_pixel)
        entries.append((name, labels, number, patient, age, film.sex, film.view, *detector))
        boxes.extend(_format_boxes(name, film, size))
    return entries, boxes


def _format_boxes(name: str, film: Film, size: int) -> Iterator[str]:
    for box in film.boxes:
        numbers = (round(value * BOX_SIDE / size, 6) for value in (box.left, box.top, box.width, box.height))
        yield ",".join([name, box.finding, *map(str, numbers)])


def _write_image(path: Path, film: Film) -> None:
    deep = SITES[film.site].bits == 16
    levels = np.rint(film.pixels * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    partial = path.with_suffix(".part")
    Image.fromarray(levels).save(partial, format="PNG", compress_level=1)
    partial.replace(path)


def _replace_file(path: Path, text: str) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
