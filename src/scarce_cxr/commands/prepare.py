"""`scarce prepare`: pictures become a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.images.sources import Source
    from scarce_cxr.images.summary import Summary


def prepare(
    source: Path,
    store: Path,
    kind: Literal["auto", "nih", "folder"] = "auto",
    size: int = 320,
    fit: Literal["crop", "pad", "squash"] = "crop",
    bits: Literal[8, 16] = 8,
    shard_mib: int = 256,
    jobs: int = -1,
    key: Path | None = None,
    csv: Path | None = None,
    path_column: str | None = None,
    patient_column: str | None = None,
    patient_pattern: str | None = None,
    label_columns: list[str] | None = None,
) -> Result:
    """Reads a folder of radiographs into a store; run again, it continues where it was interrupted.

    Args:
        source: folder with the pictures.
        store: folder to write; NAME.private beside it keeps the key, the original names and the skipped files.
        kind: "nih" is a download of ChestX-ray14 or alike, "folder" any folder of PNG, JPEG, TIFF or BMP files;
            "auto" takes nih where its table of labels lies in the folder.
        size: side of the stored square, in pixels.
        fit: "crop" keeps the middle square, "pad" adds black, "squash" gives up the aspect.
        bits: bits of a stored pixel, 8 or 16.
        shard_mib: largest size of a file of pixels, in MiB.
        jobs: how many pictures are read at a time; -1 is one a core.
        key: another store's key file, so that patients have the same pseudonyms in both.
        csv: table with a row for each picture (kind "folder").
        path_column: its column with the picture's path below the folder or its file name; by default the first.
        patient_column: its column with the patient.
        patient_pattern: instead, a regular expression with one group that finds the patient in the path.
        label_columns: its columns with findings: 1, 0, -1 (uncertain) or empty (not mentioned).

    Returns:
        What the store holds, what was skipped, and every finding's count.
    """
    from scarce_cxr.images.prepare import prepare as write_store

    table = {
        "csv": csv,
        "path_column": path_column,
        "patient_column": patient_column,
        "patient_pattern": patient_pattern,
        "label_columns": label_columns or (),
    }
    summary = write_store(
        _source(kind, source, table),
        store,
        size=size,
        fit=fit,
        bits=bits,
        shard_mib=shard_mib,
        jobs=jobs,
        key_file=key,
    )
    return _result(summary, store)


def _source(kind: str, folder: Path, table: dict) -> "Source":
    from scarce_cxr.images.sources import FolderSource, NihSource

    if kind == "auto":
        kind = "nih" if any(folder.glob("Data_Entry_2017*.csv")) else "folder"
    if kind == "folder":
        return FolderSource(folder, **table)
    given = [name for name, value in table.items() if value]
    if given:
        raise ScarceError(
            "a source of kind nih, whose tables are known",
            f"the setting {given[0]}",
            "leave it out, or take kind folder",
        )
    return NihSource(folder)


def _result(summary: "Summary", path: Path) -> Result:
    from scarce_cxr.images.keys import private_folder

    store = summary.store
    facts = [
        ["films", summary.films],
        ["patients", summary.patients],
        *([f"view {view}", count] for view, count in summary.views.items()),
        ["files skipped", sum(summary.skipped.values())],
        [f"films smaller than {store.size} pixels (enlarged)", summary.smaller],
        ["films with identical pixels", summary.identical],
        ["pixel mean (0 to 1)", round(store.mean, 4)],
        ["pixel standard deviation", round(store.std, 4)],
        ["shards", len(store.shards)],
        ["megabytes", round(summary.megabytes, 1)],
        ["files opened now", summary.decoded],
        ["seconds", round(summary.seconds, 1)],
    ]
    tables = [Table(f"Store {path.absolute().name}", ["what", "value"], facts, note="; ".join(summary.notes))]
    private = private_folder(path)
    files = [("store", path), ("key and original names: keep them private", private)]
    if summary.skipped:
        rows = [[reason, count] for reason, count in summary.skipped.items()]
        tables.append(Table("Skipped files", ["reason", "files"], rows))
        files.append(("every skipped file with its reason", private / "skipped.csv"))
    if summary.findings:
        columns = ["finding", "present", "uncertain", "mentioned", "patients"]
        tables.append(
            Table("Findings (films, and patients with it present)", columns, [list(row) for row in summary.findings])
        )
    notes = [f"Look at some of them: scarce show {path}"]
    if summary.decoded == 0:
        notes.insert(0, "The store was finished before: nothing was read again.")
    return Result(tables, files, notes)
