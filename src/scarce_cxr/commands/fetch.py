"""`scarce fetch`: a public collection is downloaded, and prepared if asked."""

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.images.collections import Collection


def fetch(
    collection: str,
    folder: Path | None = None,
    only: list[str] | None = None,
    table: Path | None = None,
    verify: bool = False,
    into: Path | None = None,
    delete_archives: bool = False,
    size: int = 320,
    bits: Literal[8, 16] = 8,
    jobs: int = -1,
) -> Result:
    """Downloads a public collection; run again, it goes on where it was interrupted.

    For collections that need an agreement it says how to ask, and where to put the files.

    Args:
        collection: nih, montgomery, shenzhen, or one to ask for; "list" lists them.
        folder: where to put the files; by default a folder of the collection's name here.
        only: the files wanted, e.g. 'images_001*' '*.csv' '*.txt'; by default all.
        table: a changed copy of the shipped collections.yaml, where the addresses stand.
        verify: read files that are there already once more, and compare their checksums.
        into: go on and prepare this store.
        delete_archives: delete the archives once the store is finished.
        size: side of the store's films, in pixels; `scarce prepare` has more settings.
        bits: bits of the store's pixels, 8 or 16.
        jobs: how many films are prepared at a time; -1 is one a core.

    Returns:
        What was downloaded and how it was checked, and what the store holds.
    """
    from scarce_cxr.images.collections import TABLE, read_collections

    collections = read_collections(table)
    if collection == "list":
        return _list(collections, table or TABLE)
    if collection not in collections:
        raise ScarceError(
            f"a collection of {table or TABLE}: {', '.join(collections)}", collection, "choose one, or list them: list"
        )
    if delete_archives and into is None:
        raise ScarceError("--into with --delete_archives", "no store", "name one, or leave it out")
    wanted, folder = collections[collection], folder or Path(collection)
    if not wanted.files:
        return _say_how_to_ask(collection, wanted, folder)
    if into is not None and (into / "store.json").exists():
        return Result(notes=[f"The store {into} is finished: nothing was fetched. Look at it: scarce show {into}"])
    result = _download(wanted, folder, only, verify)
    if into is None:
        result.notes.append(f"Next: scarce prepare {folder} STORE --kind {collection}")
        return result
    return _prepare(result, collection, wanted, folder, into, delete_archives, size, bits, jobs)


def _list(collections: "dict[str, Collection]", table: Path) -> Result:
    rows = [
        [kind, entry.title, f"{len(entry.files)} files" if entry.files else "ask for it"]
        for kind, entry in collections.items()
    ]
    return Result([Table("Collections", ["collection", "what", "how"], rows)], [("addresses", table)])


def _say_how_to_ask(kind: str, wanted: "Collection", folder: Path) -> Result:
    notes = [wanted.title, wanted.page, wanted.ask, f"Then: scarce prepare {folder} STORE --kind {kind}"]
    # Nothing was fetched, which a script must not overlook.
    return Result(notes=[note for note in notes if note], exit_code=1)


def _download(wanted: "Collection", folder: Path, only: list[str] | None, verify: bool) -> Result:
    from scarce_cxr.images.fetch import SUMS, check_room, fetch

    remotes = [remote for remote in wanted.files if not only or any(fnmatch(remote.name, form) for form in only)]
    if not remotes:
        names = ", ".join(remote.name for remote in wanted.files)
        raise ScarceError(f"some of {names}", f"only = {' '.join(only or ())}", "choose among these names")
    check_room(remotes, folder)
    fetched = [fetch(remote, folder, verify=verify) for remote in remotes]
    rows = [[file.path.name, file.size / 1e6, file.received / 1e6, file.check] for file in fetched]
    table = Table(wanted.title, ["file", "MB", "MB received", "checked by"], rows)
    notes = [f"Terms: {wanted.terms}", f"Owner: {wanted.page}"] if wanted.terms else [f"Owner: {wanted.page}"]
    return Result([table], [("films", folder), ("checksums", folder / SUMS)], notes)


def _prepare(
    result: Result,
    kind: str,
    wanted: "Collection",
    folder: Path,
    into: Path,
    delete_archives: bool,
    size: int,
    bits: Literal[8, 16],
    jobs: int,
) -> Result:
    from scarce_cxr.commands.prepare import prepare
    from scarce_cxr.images.archives import is_archive

    prepared = prepare(folder, into, kind, size=size, bits=bits, jobs=jobs)
    notes = [*result.notes, *prepared.notes]
    if delete_archives:
        archives = [folder / remote.name for remote in wanted.files if is_archive(remote.name)]
        freed = sum(archive.stat().st_size for archive in archives if archive.exists())
        for archive in archives:
            archive.unlink(missing_ok=True)
        notes.append(f"The archives are deleted ({freed / 1e6:,.0f} MB); the tables and {folder} stay.")
    return Result([*result.tables, *prepared.tables], [*result.files, *prepared.files], notes, prepared.exit_code)
