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
    kind: Literal[
        "auto",
        "nih",
        "padchest",
        "chexpert",
        "mimic",
        "vindr",
        "rsna",
        "siim",
        "montgomery",
        "shenzhen",
        "dicom",
        "folder",
    ] = "auto",
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
    names: Literal["source", "common"] = "source",
    names_file: Path | None = None,
    labels: Literal["all", "physician", "chexpert", "negbio"] | None = None,
    exclude: Path | None = None,
    readers: Literal["majority", "any", "all", "uncertain"] | None = None,
    boxes: Literal["mean", "all"] | None = None,
    voi: Literal["window", "full", "percentile"] = "window",
    views: Literal["frontal", "all"] | None = None,
    burned_in: Literal["skip", "keep"] | None = None,
) -> Result:
    """Reads a folder of radiographs into a store; run again, it continues where it was interrupted.

    Args:
        source: folder with the pictures; they may lie in zip or tar archives there, which are not unpacked.
        store: folder to write; NAME.private beside it keeps the key, the original names and the skipped files.
        kind: a public collection as it is downloaded, or "dicom", any folder of DICOM files, or "folder", any folder
            of pictures (PNG, JPEG, TIFF, BMP, WebP and others); "auto" recognises a collection by its tables, and
            DICOM files by their names or content.
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
        names: "source" keeps the collection's names of findings, "common" takes those that collections share.
        names_file: a changed copy of the shipped common_names.yaml.
        labels: whose labels. PadChest: "all" or "physician"; MIMIC: "chexpert" or "negbio".
        exclude: a changed copy of the shipped padchest.yaml: PadChest's labels that are no findings.
        readers: how VinDr's three readers agree on a finding; "majority" by default.
        boxes: "mean" of VinDr's readers (the default), or "all".
        voi: how DICOM films are scaled: "window" as their headers say, "full" from the smallest value to the largest,
            "percentile" but for a thousandth at either end.
        views: "frontal" (the default) leaves out laterals, of kinds "dicom" and "mimic" also obliques; "all" keeps
            them. Films of unknown view stay in either case.
        burned_in: of kind "dicom": whether to "skip" (the default) or "keep" films with text about the patient in
            their pixels, where the header says so.

    Returns:
        What the store holds, what was skipped, and every finding's count.
    """
    from scarce_cxr.images.prepare import prepare as write_store

    options = {
        "csv": csv,
        "path_column": path_column,
        "patient_column": patient_column,
        "patient_pattern": patient_pattern,
        "label_columns": label_columns,
        "labels": labels,
        "exclude": exclude,
        "readers": readers,
        "boxes": boxes,
        "views": views,
        "burned_in": burned_in,
    }
    summary = write_store(
        _source(kind, source, {name: value for name, value in options.items() if value}, names, names_file),
        store,
        size=size,
        fit=fit,
        bits=bits,
        shard_mib=shard_mib,
        jobs=jobs,
        key_file=key,
        voi=voi,
    )
    return _result(summary, store)


# What can be set of a kind, beyond what can be set of all.
_OPTIONS = {
    "folder": ("csv", "path_column", "patient_column", "patient_pattern", "label_columns"),
    "padchest": ("labels", "exclude", "views"),
    "chexpert": ("views",),
    "mimic": ("labels", "views"),
    "vindr": ("readers", "boxes"),
    "dicom": ("views", "burned_in"),
}


def _source(kind: str, folder: Path, options: dict, names: str, names_file: Path | None) -> "Source":
    from scarce_cxr.images.sources import SOURCES, CommonNames, list_files, recognise

    if kind == "auto":
        kind = recognise(list_files(folder)) or "folder"
    wrong = [name for name in options if name not in _OPTIONS.get(kind, ())]
    if wrong:
        of_kind = ", ".join(_OPTIONS.get(kind, ())) or "none of its own"
        raise ScarceError(
            f"settings of a source of kind {kind} ({of_kind})",
            f"the setting {wrong[0]}",
            f"leave it out, or take a kind that has it: {', '.join(k for k in _OPTIONS if wrong[0] in _OPTIONS[k])}",
        )
    # Absolute, since worker processes that were started in another folder may be used again.
    source = SOURCES[kind](Path(folder).absolute(), **options)
    if names == "common":
        return CommonNames(source, names_file)
    if names_file is not None:
        raise ScarceError("names: common with a names_file", "names: source", "add --names common")
    return source


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
