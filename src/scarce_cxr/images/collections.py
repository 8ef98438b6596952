"""Where collections are downloaded, or how to ask for them: the table that the user may change."""

import re
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources import SOURCES
from scarce_cxr.images.sources.lists import read_yaml

TABLE = Path(__file__).with_name("collections.yaml")

_DIGITS = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        name: what it is called in the folder.
        address: http or https.
        size: bytes; null where the owner does not say.
        checksum: "md5:..." or "sha256:..."; empty where the owner does not say.
    """

    name: str
    address: str
    size: int | None = None
    checksum: str = ""


@dataclass(frozen=True)
class Collection:
    """A collection: files that anyone may download, or else how to ask for them.

    Attributes:
        title: a line about it.
        page: the owner's.
        terms: the owner's conditions, in short.
        ask: how to get the files and where to put them, where they cannot be downloaded without an agreement.
        files: none where one has to ask.
        kind: as `scarce prepare --kind` has it.
        films: how many, where that is known.
        by_archive: whether each archive may be prepared without the others: beside its films lie only the files that
            are no archives.
    """

    title: str
    page: str
    terms: str = ""
    ask: str = ""
    files: tuple[Remote, ...] = ()
    kind: str = "auto"
    films: int | None = None
    by_archive: bool = False


def read_collections(table: Path | None = None) -> dict[str, Collection]:
    """Reads the table, by default the shipped `collections.yaml`; collections by their names.

    Where an entry names no kind, its name is the kind if there is one of that name.

    Raises:
        ScarceError: it is missing, is no YAML, or an entry makes no sense.
    """
    path = table or TABLE
    collections = {}
    for name, content in read_yaml(path).items():
        where = f"{name} in {path}"
        entry = _fields(Collection, content, where)
        files = entry.get("files") or []
        if not isinstance(files, list) or not (files or entry.get("ask")):
            raise ScarceError(f"files, or words under `ask`, for {where}", "neither", "add them")
        remotes = tuple(_remote(file, where) for file in files)
        kind = entry.get("kind") or (name if name in SOURCES else "auto")
        if kind not in ("auto", *SOURCES):
            raise ScarceError(f"kind: auto, {', '.join(SOURCES)}, for {where}", f"kind: {kind}", "mend the entry")
        if not isinstance(entry.get("by_archive", False), bool):
            raise ScarceError(f"by_archive: true or false, for {where}", f"{entry['by_archive']!r}", "mend the entry")
        if entry.get("films") is not None and not _is_count(entry["films"]):
            raise ScarceError(f"films: how many, for {where}", f"{entry['films']!r}", "mend the entry")
        collections[str(name)] = Collection(**(entry | {"files": remotes, "kind": kind}))
    return collections


def _fields(form: type, content: Any, where: str) -> dict[str, Any]:
    known = [field.name for field in fields(form)]
    needed = known[:2]
    if not isinstance(content, dict) or not set(needed) <= set(content) <= set(known):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)[:80]
        raise ScarceError(f"{' and '.join(needed)}, maybe {', '.join(known[2:])}, for {where}", got, "mend the entry")
    return content


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number > 0


def _remote(content: Any, where: str) -> Remote:
    remote = Remote(**_fields(Remote, content, f"a file of {where}"))
    method, _, digits = str(remote.checksum or "").partition(":")
    conditions = (
        (
            "a name without a folder",
            "name",
            PurePosixPath(str(remote.name)).name == remote.name and "\\" not in remote.name,
        ),
        ("an address with http or https", "address", re.match(r"https?://", str(remote.address))),
        ("a size in bytes", "size", remote.size is None or _is_count(remote.size)),
        (
            'a checksum as "md5:..." or "sha256:..."',
            "checksum",
            not remote.checksum or (len(digits) == _DIGITS.get(method) and re.fullmatch("[0-9a-f]+", digits)),
        ),
    )
    for expected, name, met in conditions:
        if not met:
            raise ScarceError(f"{expected} for {where}", f"{name}: {getattr(remote, name)}", "mend the entry")
    return remote
