"""How a folder's kind is guessed from the names of its files."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from scarce_cxr.images.sources.records import SUFFIXES

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
}


def recognise(names: Iterable[str]) -> str | None:
    """The kind of collection that files with these paths (with slashes) are; null where they are none of the known."""
    ends = {"/".join(PurePosixPath(name).parts[-3:]) for name in names}
    ends |= {PurePosixPath(name).name for name in ends}
    for kind, sign in _SIGNS.items():
        pattern = re.compile(sign, re.IGNORECASE)
        if any(pattern.fullmatch(end) for end in ends):
            return kind
    suffixes = {PurePosixPath(end).suffix.lower() for end in ends}
    return "dicom" if suffixes & {".dcm", ".dicom"} and not suffixes & set(SUFFIXES) else None
