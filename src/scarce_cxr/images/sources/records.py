"""What a source tells of its films, and how the files below a folder are listed."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scarce_cxr.errors import ScarceError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Box:
    """A finding's place, as fractions (0 to 1) of the decoded film's width and height, from its upper left corner."""

    finding: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Record:
    """What a source knows of one film before it is opened; null where it does not say.

    Attributes:
        path: the file.
        name: its path below the source's folder, with slashes; may identify the patient.
        image_id: the collection's public name, or a pseudonym.
        patient, study: as the source has them; `prepare` replaces them by pseudonyms.
        view: PA, AP, LATERAL or UNKNOWN.
        split: the source's official one.
        age: years.
        sex: M or F.
        pixel_spacing_mm: as the source gives it (NIH: of the film before NIH's own reduction to 1024 x 1024).
        findings: 1, 0 or -1 (uncertain); what is not mentioned is left out.
        boxes: findings' places.
    """

    path: Path
    name: str
    image_id: str
    patient: str | None = None
    study: str | None = None
    view: str = "UNKNOWN"
    split: str | None = None
    age: float | None = None
    sex: str | None = None
    pixel_spacing_mm: float | None = None
    findings: Mapping[str, int] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Listing:
    """A source's films.

    Attributes:
        records: sorted by image_id, which are unique.
        findings: names of all findings, in the order of the table's columns.
        skipped: (name, reason) of files that are no films of this source.
        notes: what the user should know, e.g. which table was read.
    """

    records: list[Record]
    findings: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """The contract of a source.

    Attributes:
        name: goes into the table's column `source` and into every pseudonym.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """What shapes the table and may stand in store.json: no path, no name of a file."""
        ...

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films.

        Args:
            pseudonym: replaces a name that must not stand in the store.

        Raises:
            ScarceError: the folder, a table or one of its columns is missing.
        """
        ...


def list_files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its path below it (with slashes), sorted; hidden ones and macOS's "._" left out.

    Raises:
        ScarceError: there is no such folder.
    """
    if not folder.is_dir():
        raise ScarceError("a folder of films", f"no folder {folder}", "check the path")
    found = {}
    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in visited:
            # A link that leads back to a folder above would be walked for ever.
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(parent).relative_to(folder)
        found |= {(below / file).as_posix(): Path(parent, file) for file in files if not file.startswith(".")}
    return dict(sorted(found.items()))


def list_films(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those of `files` whose suffix is a picture's, in either case."""
    return {name: path for name, path in files.items() if name.lower().endswith(SUFFIXES)}


def sort_records(records: Iterable[Record]) -> list[Record]:
    """Sorts by image_id.

    Raises:
        ScarceError: two records share an image_id.
    """
    ordered = sorted(records, key=lambda record: record.image_id)
    twice = [image_id for image_id, count in Counter(r.image_id for r in ordered).items() if count > 1]
    if twice:
        names = [record.name for record in ordered if record.image_id == twice[0]]
        raise ScarceError("one file for each image", f"{' and '.join(names)} as one", "remove or rename all but one")
    return ordered
