"""Films and what a table says of them, brought together by the name that both know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member
from scarce_cxr.images.sources.records import Files

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Joined(Generic[Entry]):
    """Films with their entries.

    Attributes:
        films: (name, path, image_id, entry) of each film that has an entry, in the order of names.
        skipped: (name, reason) of the others, and of what was refused in archives.
        missing: how many entries have no film.
    """

    films: list[tuple[str, Path | Member, str, Entry]]
    skipped: list[tuple[str, str]]
    missing: int


def join(
    files: Files,
    films: Mapping[str, Path | Member],
    entries: Mapping[str, Entry],
    identify: Callable[[str], str],
    table: str,
    folder: Path,
) -> Joined[Entry]:
    """Gives every film its entry; the first of several files with one name counts.

    Args:
        files: everything in the folder.
        films: those that are films.
        entries: what the table says, by the films' public names.
        identify: a film's public name, from its path below the folder.
        table: what messages call the table.
        folder: the source's folder.

    Raises:
        ScarceError: no film has an entry.
    """
    found, skipped = [], list(files.refused)
    named: set[str] = set()
    for name, path in films.items():
        image_id = identify(name)
        if image_id not in entries:
            skipped.append((name, f"no row in {table}"))
        elif image_id in named:
            skipped.append((name, "another file has its name"))
        else:
            named.add(image_id)
            found.append((name, path, image_id, entries[image_id]))
    if not found:
        raise ScarceError(
            f"films named in {table}", f"none among {len(films)} picture files in {folder}", "check the folder"
        )
    return Joined(found, skipped, len(entries) - len(named))


def note_missing(joined: Joined, table: str) -> list[str]:
    """A note that tells how many rows have no film; none where all have."""
    return [f"{joined.missing:,} rows of {table} have no film here"] if joined.missing else []
