"""How a folder's kind is guessed: from the names of its files, and from what a few of them begin with."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member
from scarce_cxr.images.decode import is_dicom
from scarce_cxr.images.sources import headers
from scarce_cxr.images.sources.records import SUFFIXES
from scarce_cxr.images.sources.tables import CsvTable, find_tables
from scarce_cxr.images.sources.vindr import KAGGLE_COLUMNS

# In this order: the first whose pattern fits a file's name (for CheXpert and the collections of tuberculosis: a film's)
# decides.
_SIGNS = {
    "nih": r"Data_Entry_2017.*\.csv",
    "padchest": r"PADCHEST.*labels.*\.csv(\.gz)?",
    "mimic": r"mimic-cxr-2\.\d\.\d-metadata\.csv(\.gz)?",
    "vindr": r"image_labels_(train|test)\.csv",
    "rsna": r"stage_2_train_labels\.csv",
    "siim": r"(train-rle|stage_2_train)\.csv",
    "chexpert": r"patient\d+/study\d+/view\d+_(frontal|lateral)\.\w+",
    "montgomery": r"MCUCXR_\d{4}_[01]\.png",
    "shenzhen": r"CHNCXR_\d{4}_[01]\.png",
    "dicom": r"DICOMDIR",
}

# All that `decode` reads, by the suffixes that Pillow knows them by.
PICTURES = (
    *SUFFIXES,
    *(".apng", ".jpe", ".jfif", ".dib", ".gif", ".webp"),
    *(".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
)
# Why a source of pictures leaves such a file out.
READ_AS_DICOM = "a DICOM file, which the kind dicom reads"

# A folder may hold a report of each film: too many to open.
_TEXTS = (".csv", ".tsv", ".txt", ".json", ".xml", ".html", ".pdf", ".gz")
# So many files of unknown content tell what the others are.
_OPENED = 16


def recognise(files: Iterable[str] | Mapping[str, Path | Member]) -> str | None:
    """The kind of collection that files with these paths (with slashes) are; null where they are none of the known.

    Args:
        files: the paths. Where they are given with the files that they lead to, a few of these are opened if the names
            do not tell.
    """
    names = list(files)
    ends = {"/".join(PurePosixPath(name).parts[-3:]) for name in names}
    ends |= {PurePosixPath(name).name for name in ends}
    for kind, sign in _SIGNS.items():
        pattern = re.compile(sign, re.IGNORECASE)
        if any(pattern.fullmatch(end) for end in ends):
            return kind
    paths = files if isinstance(files, Mapping) else {}
    # CheXpert has a table of this name too, with other columns.
    if any(_has_columns(paths[name], name, KAGGLE_COLUMNS) for name in find_tables(paths, r"train\.csv")):
        return "vindr"
    films = _estimate_dicom(names, paths)
    return "dicom" if films and films >= sum(name.lower().endswith(PICTURES) for name in names) else None


def looks_like_dicom(name: str, path: Path | Member) -> bool:
    """Whether a file is DICOM by its name or, where that is no picture's or text's, by what it begins with."""
    return name.lower().endswith(headers.SUFFIXES) or (_is_unknown(name) and _begins_as_dicom(path))


def _estimate_dicom(names: Iterable[str], paths: Mapping[str, Path | Member]) -> float:
    """How many files are DICOM: those named so, and a share of the unknown ones, of which a few are opened."""
    unknown = [path for name, path in paths.items() if _is_unknown(name)]
    opened = unknown[:: max(1, -(-len(unknown) // _OPENED))]
    share = sum(map(_begins_as_dicom, opened)) / max(1, len(opened))
    return sum(name.lower().endswith(headers.SUFFIXES) for name in names) + share * len(unknown)


def _is_unknown(name: str) -> bool:
    return not name.lower().endswith((*headers.SUFFIXES, *PICTURES, *_TEXTS))


def _begins_as_dicom(path: Path | Member) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file)
    except OSError:
        return False


def _has_columns(path: Path | Member, name: str, columns: Iterable[str]) -> bool:
    try:
        CsvTable(path, name, columns)
    except ScarceError:
        return False
    return True
