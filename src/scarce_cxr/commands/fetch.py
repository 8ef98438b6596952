"""`scarce fetch`: a public collection is downloaded, and prepared if asked."""

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scarce_cxr.images.collections import Collection, Remote
    from scarce_cxr.images.fetch import Fetched
    from scarce_cxr.images.sources import Source
    from scarce_cxr.images.summary import Summary


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
        delete_archives: delete the archives once the store is finished; those of NIH one by one, each as soon as it is
            prepared and before the next is downloaded.
        size: side of the store's films, in pixels; `scarce prepare` has more settings.
        bits: bits of the store's pixels, 8 or 16.
        jobs: how many films are prepared at a time; -1 is one a core.

    Returns:
        What was downloaded and how it was checked, and what the store holds.
    """
    from scarce_cxr.images.collections import TABLE, read_collections
    from scarce_cxr.images.portions import clear, forget_deleted

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
        return _say_how_to_ask(wanted, folder)
    remotes = _choose(wanted, only)
    if into is None:
        result = _download(wanted, remotes, folder, verify)
        result.notes.append(f"Next: scarce prepare {folder} STORE --kind {wanted.kind}")
        return result
    settings = {"size": size, "fit": "crop", "bits": bits, "shard_mib": 256}
    forget_deleted(into)
    _refuse_store(into, wanted.kind, folder, remotes, settings, jobs)
    if (into / "store.json").exists():
        clear(into)
        return Result(notes=[f"The store {into} is finished: nothing was fetched. Look at it: scarce show {into}"])
    if delete_archives and _goes_by_archive(wanted, remotes, into):
        return _fetch_by_archive(wanted, remotes, folder, into, verify, settings, jobs)
    return _fetch_and_prepare(wanted, remotes, folder, into, verify, delete_archives, settings, jobs)


def _list(collections: "dict[str, Collection]", table: Path) -> Result:
    rows = [
        [name, entry.title, f"{len(entry.files)} files" if entry.files else "ask for it"]
        for name, entry in collections.items()
    ]
    return Result([Table("Collections", ["collection", "what", "how"], rows)], [("addresses", table)])


def _say_how_to_ask(wanted: "Collection", folder: Path) -> Result:
    notes = [wanted.title, wanted.page, wanted.ask, f"Then: scarce prepare {folder} STORE --kind {wanted.kind}"]
    # Nothing was fetched, which a script must not overlook.
    return Result(notes=[note for note in notes if note], exit_code=1)


def _choose(wanted: "Collection", only: list[str] | None) -> "list[Remote]":
    remotes = [remote for remote in wanted.files if not only or any(fnmatch(remote.name, form) for form in only)]
    if not remotes:
        names = ", ".join(remote.name for remote in wanted.files)
        raise ScarceError(f"some of {names}", f"only = {' '.join(only or ())}", "choose among these names")
    return remotes


def _refuse_store(
    store: Path, kind: str, folder: Path, remotes: "Sequence[Remote]", settings: dict[str, Any], jobs: int
) -> None:
    """Refuses, before anything comes over the network, what would be refused when it comes to preparing.

    Raises:
        ScarceError: a setting is out of range, or the store's folder holds something else, or a store with another
            source or other settings.
    """
    from dataclasses import replace

    from scarce_cxr.images.portions import begun_with, origin_now
    from scarce_cxr.images.writer import refuse_other_plan

    if settings["size"] < 1:
        raise ScarceError("a size of at least 1 pixel", f"size = {settings['size']}", "choose e.g. 320")
    if jobs == 0:
        raise ScarceError("a number of jobs", "jobs = 0", "choose -1 for one a core")
    where, begun = begun_with(store)
    if begun is None:
        return
    asked = _source_settings(kind, folder, begun.settings) | settings
    origin = origin_now(store, begun, [remote.name for remote in _archives(remotes)])
    refuse_other_plan(where, begun, replace(begun, settings=asked, origin=origin))


def _source_settings(kind: str, folder: Path, begun: "Mapping[str, Any]") -> dict[str, Any]:
    """What a source of this kind would settle; what only its files can tell is taken from a store that was begun."""
    from scarce_cxr.images.sources import SOURCES

    if kind == "auto":
        return dict(begun)
    try:
        settled = SOURCES[kind](folder).settings()
    except ScarceError:
        settled = {**begun, "source": kind}
    settled.pop("patients", None)
    if "patients" in begun:
        settled["patients"] = begun["patients"]
    if "voi" in begun:
        settled["voi"] = "window"
    return settled


def _goes_by_archive(wanted: "Collection", remotes: "Sequence[Remote]", into: Path) -> bool:
    """Whether one archive after another can be fetched, prepared and deleted."""
    from scarce_cxr.images.portions import is_under_way
    from scarce_cxr.images.writer import read_plan

    # A store that was begun from all archives at once is gone on with in that way.
    begun_at_once = read_plan(into) is not None and not is_under_way(into)
    return wanted.by_archive and len(_archives(remotes)) > 1 and not begun_at_once


def _fetch_by_archive(
    wanted: "Collection",
    remotes: "Sequence[Remote]",
    folder: Path,
    into: Path,
    verify: bool,
    settings: dict[str, Any],
    jobs: int,
) -> Result:
    from scarce_cxr.images.fetch import check_room, fetch, missing_bytes
    from scarce_cxr.images.portions import is_prepared, prepare_by_archive

    archives = {remote.name: remote for remote in _archives(remotes)}
    tables = [remote for remote in remotes if remote.name not in archives]
    needed = [archive for name, archive in archives.items() if not is_prepared(into, name)]
    largest = sorted(needed, key=lambda archive: missing_bytes(archive, folder))[-1:]
    check_room([*tables, *largest], folder, into, _missing_of_store(wanted, remotes, into, settings))
    fetched = [fetch(remote, folder, verify=verify) for remote in tables]

    def bring(name: str) -> None:
        fetched.append(fetch(archives[name], folder, verify=verify))

    summary = prepare_by_archive(
        bring, lambda: _source(wanted.kind, folder), folder, list(archives), into, jobs=jobs, **settings
    )
    result = _say_what_came(wanted, folder, fetched)
    if len(needed) < len(archives):
        result.notes.append(f"{len(archives) - len(needed)} of {len(archives)} archives were prepared before.")
    result.notes.append(f"The archives are deleted, each when it was prepared; the tables and {folder} stay.")
    return _say_what_became(result, summary, into)


def _source(kind: str, folder: Path) -> "Source":
    from scarce_cxr.images.sources import SOURCES, list_files, recognise

    kind = recognise(list_files(folder)) or "folder" if kind == "auto" else kind
    return SOURCES[kind](folder.absolute())


def _fetch_and_prepare(
    wanted: "Collection",
    remotes: "Sequence[Remote]",
    folder: Path,
    into: Path,
    verify: bool,
    delete_archives: bool,
    settings: dict[str, Any],
    jobs: int,
) -> Result:
    from scarce_cxr.commands.prepare import prepare
    from scarce_cxr.images.portions import delete_archive, is_under_way

    if is_under_way(into):
        raise ScarceError(
            f"the command that {into} was begun with, archive by archive",
            "another one",
            "give --delete_archives, and the same --only, again",
        )
    result = _download(wanted, remotes, folder, verify, into, _missing_of_store(wanted, remotes, into, settings))
    prepared = prepare(folder, into, wanted.kind, jobs=jobs, **settings)
    notes = [*result.notes, *prepared.notes]
    if delete_archives:
        freed = sum(delete_archive(folder / archive.name) for archive in _archives(wanted.files))
        notes.append(f"The archives are deleted ({freed / 1e6:,.0f} MB); the tables and {folder} stay.")
    return Result([*result.tables, *prepared.tables], [*result.files, *prepared.files], notes, prepared.exit_code)


def _download(
    wanted: "Collection",
    remotes: "Sequence[Remote]",
    folder: Path,
    verify: bool,
    into: Path | None = None,
    store_bytes: int = 0,
) -> Result:
    from scarce_cxr.images.fetch import check_room, fetch

    check_room(remotes, folder, into, store_bytes)
    return _say_what_came(wanted, folder, [fetch(remote, folder, verify=verify) for remote in remotes])


def _archives(remotes: "Sequence[Remote]") -> "list[Remote]":
    from scarce_cxr.images.archives import is_archive

    return [remote for remote in remotes if is_archive(remote.name)]


def _missing_of_store(wanted: "Collection", remotes: "Sequence[Remote]", into: Path, settings: dict[str, Any]) -> int:
    """How many bytes the store still needs, as far as it is known how many films there are."""
    from scarce_cxr.images.keys import private_folder

    sizes, of_all = ([remote.size for remote in _archives(of)] for of in (remotes, wanted.files))
    if not all(of_all):
        sizes, of_all = ([1] * len(of) for of in (sizes, of_all))
    share = sum(sizes) / sum(of_all) if of_all else 1
    whole = (wanted.films or 0) * share * settings["size"] ** 2 * settings["bits"] / 8
    files = [path for folder in (into, private_folder(into)) for path in folder.rglob("*") if path.is_file()]
    return max(0, round(whole) - sum(path.stat().st_size for path in files))


def _say_what_came(wanted: "Collection", folder: Path, fetched: "Sequence[Fetched]") -> Result:
    from scarce_cxr.images.fetch import SUMS

    rows = [[file.path.name, file.size / 1e6, file.received / 1e6, file.check] for file in fetched]
    table = Table(wanted.title, ["file", "MB", "MB received", "checked by"], rows)
    notes = [f"Terms: {wanted.terms}", f"Owner: {wanted.page}"] if wanted.terms else [f"Owner: {wanted.page}"]
    return Result([table], [("films", folder), ("checksums", folder / SUMS)], notes)


def _say_what_became(result: Result, summary: "Summary", into: Path) -> Result:
    from scarce_cxr.images.keys import private_folder

    facts = [
        ["films", summary.films],
        ["patients", summary.patients],
        ["files skipped", sum(summary.skipped.values())],
        ["megabytes", round(summary.megabytes, 1)],
        ["files opened now", summary.decoded],
        ["seconds, downloads among them", round(summary.seconds, 1)],
    ]
    result.tables.append(Table(f"Store {into.absolute().name}", ["what", "value"], facts))
    if summary.skipped:
        rows = [[reason, count] for reason, count in summary.skipped.items()]
        result.tables.append(Table("Skipped files", ["reason", "files"], rows))
    result.files += [("store", into), ("key and original names: keep them private", private_folder(into))]
    result.notes.append(f"Look at some of them: scarce show {into}")
    return result
