"""What a source tells of its films, and how the files below a folder are listed."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member, is_archive, list_members

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
        path: the file, or the member of an archive.
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

    path: Path | Member
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
        patients_of: optional; the name of the source whose patients these are, where it is another one's. Stores of
            both that share a key then share the patients' and studies' pseudonyms.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """What shapes the table and may stand in store.json: no path, no name of a file.

        `patients: unknown` among them says that films of one patient cannot be told, so that no split is by patient.
        """
        ...

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the films.

        Args:
            pseudonym: replaces a name that must not stand in the store.

        Raises:
            ScarceError: the folder, a table or one of its columns is missing.
        """
        ...


class Files(dict[str, Path | Member]):
    """Files by their path below the source's folder; an archive's members as if it were a folder.

    Attributes:
        refused: (name, reason) of members that must not be read, and of archives that cannot be.
    """

    def __init__(self, found: Mapping[str, Path | Member], refused: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(found)
        self.refused = list(refused)


def list_files(folder: Path) -> Files:
    """Every file below `folder` by its path below it (with slashes), sorted; hidden ones and macOS's "._" left out.

    Zip and tar archives are looked into and not unpacked; `folder` may itself be one.

    Raises:
        ScarceError: there is no such folder or archive.
    """
    if folder.is_file() and is_archive(folder.name):
        return _with_members({"": folder})
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
    return _with_members(found)


def _with_members(paths: Mapping[str, Path]) -> Files:
    found: dict[str, Path | Member] = {}
    refused = []
    for name, path in paths.items():
        if not is_archive(path.name):
            found[name] = path
            continue
        contents = list_members(path)
        prefix = f"{name}/" if name else ""
        found |= {
            prefix + inside: member
            for inside, member in contents.members.items()
            if not any(part.startswith(".") for part in inside.split("/"))
        }
        refused += [((prefix + inside).rstrip("/") or path.name, reason) for inside, reason in contents.refused]
    return Files(dict(sorted(found.items())), refused)


def list_films(files: Mapping[str, Path | Member], suffixes: tuple[str, ...] = SUFFIXES) -> dict[str, Path | Member]:
    """Those of `files` whose suffix is a picture's, in either case."""
    return {name: path for name, path in files.items() if name.lower().endswith(suffixes)}


def leave_out_laterals(
    records: Iterable[Record], views: Literal["frontal", "all"], skipped: list[tuple[str, str]]
) -> Iterator[Record]:
    """Yields the records; where `views` is "frontal" those of laterals are added to `skipped` instead."""
    for record in records:
        if views == "frontal" and record.view == "LATERAL":
            skipped.append((record.name, "not a frontal view: lateral"))
        else:
            yield record


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
