"""`scarce check`: which of a store's films do not belong there, and how stores differ."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from scarce_cxr.images.gap import Shades
    from scarce_cxr.images.store import Store

_COPIES = {
    "file": "the same pixels as another film",
    "near-duplicate": "a copy of another film, cropped, resized or brightened",
    "patient": "of a patient who is in the other store too",
}


def check(
    stores: list[Path],
    out: Path = Path("scarce-check"),
    pictures: int = 12,
    copies: bool = True,
    redact: bool = False,
    jobs: int = -1,
) -> Result:
    """Looks for films that do not belong in a store, for copies, and for differences between stores.

    Negatives, films that lie on their side or head, laterals among frontals, pictures that show no chest, blank and
    clipped ones, odd shapes, outliers in size and intensity; copies within a store and between stores, and patients
    who are in two. Nothing is changed: the suspects are for you to look at.

    Args:
        stores: One or more stores' folders.
        out: Folder for suspects.csv, suspects.png and gap.png; what is there is replaced.
        pictures: Most suspects of a kind that are drawn.
        copies: Whether to look for copies; the time for it goes with the square of the number of films.
        redact: Draw no film: the sheet of suspects is left out.
        jobs: How many processes measure; -1 is one a core.

    Returns:
        Counts of suspects by store and kind, what films look like by their view, and the gap between stores.
    """
    import pandas as pd

    from scarce_cxr.images.gap import gaps, read_shades
    from scarce_cxr.images.quality import SIDE
    from scarce_cxr.images.store import Store

    if not stores:
        raise ScarceError("at least one store", "none", "scarce check STORE [STORE ...]")
    if pictures < 1:
        raise ScarceError("at least one picture of a kind", f"pictures = {pictures}", "choose e.g. 12, or add --redact")
    opened = dict(zip(_name(stores), map(Store.open, stores), strict=True))
    for store in opened.values():
        if store.size < SIDE:
            raise ScarceError(
                f"films of at least {SIDE} pixels a side",
                f"size = {store.size} in {store.path}",
                "prepare them again with a larger --size",
            )
    measures = {name: _measure(store, jobs) for name, store in opened.items()}
    found = [_look(name, store, measures[name], copies) for name, store in opened.items()]
    notes = []
    for one, other in combinations(opened, 2):
        found.append(_compare((one, opened[one]), (other, opened[other]), copies, notes))
    suspects = pd.concat(found, ignore_index=True)
    out.mkdir(parents=True, exist_ok=True)
    files = [("suspects", _write(suspects, out / "suspects.csv"))]
    sheet = out / "suspects.png"
    sheet.unlink(missing_ok=True)
    if len(suspects) and not redact:
        files.append(("sheet of suspects", _draw_suspects(suspects, opened, pictures, sheet)))
    shades = [read_shades(name, store, measures[name]) for name, store in opened.items()]
    tables = [_count(suspects, opened), *_views(opened, measures), _gap_table(gaps(shades))]
    files.append(("gap", _draw_gap([whole for whole, _, _ in shades], out / "gap.png")))
    if len(suspects):
        notes.append("Suspects are guesses, many of them wrong: look at the sheet before you leave a film out.")
    notes.append(f"Then: scarce pretrain --config small/spark --store {stores[0]} --run RUN")
    return Result(tables, files, notes)


def _name(paths: list[Path]) -> list[str]:
    """A short name for each store: its folder's, or its path where two folders have one name."""
    names = [path.resolve().name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def _measure(store: "Store", jobs: int) -> "pd.DataFrame":
    from functools import partial

    import pandas as pd

    from scarce_cxr import progress
    from scarce_cxr.images.parallel import map_chunks
    from scarce_cxr.images.quality import batches

    chunks = list(batches(len(store)))
    # Starting processes takes longer than measuring a few hundred films.
    jobs = 1 if len(store) < 500 else jobs
    measured = []
    with progress.bar("looking", len(store)) as advance:
        for rows, outcome in zip(chunks, map_chunks(partial(_measure_rows, store), chunks, jobs), strict=True):
            measured += outcome
            advance(len(rows))
    return pd.DataFrame(measured)


def _measure_rows(store: "Store", rows: "np.ndarray") -> list[dict[str, float]]:
    from scarce_cxr.images.quality import measure_films

    return measure_films(store.pixels(rows)).to_dict("records")


def _look(name: str, store: "Store", measures: "pd.DataFrame", copies: bool) -> "pd.DataFrame":
    """Suspects within one store: `store`, `kind`, `image_id`, `number`, `why`; of a pair, `other` and `other_store`."""
    import pandas as pd

    from scarce_cxr.images.copies import copies_within
    from scarce_cxr.images.quality import outliers, suspects

    table = store.table
    ids = table["image_id"].to_numpy()
    single = pd.concat([suspects(measures, table["view"].to_numpy()), outliers(table, measures)])
    single["image_id"], single["other"] = ids[single["row"]], ""
    if not copies:
        return single.assign(store=name, other_store=name)
    pairs = copies_within(store)
    of = {"same": "one patient", "different": "two patients", "unknown": "a patient who is not known"}
    twice = pd.DataFrame(
        {
            "kind": pairs["kind"],
            "image_id": ids[pairs["a"].to_numpy(dtype=int)],
            "other": ids[pairs["b"].to_numpy(dtype=int)],
            "number": pairs["likeness"],
        }
    )
    twice["why"] = [
        f"one film with {other}, of {of[patients]}"
        for other, patients in zip(twice["other"], pairs["patients"], strict=True)
    ]
    return pd.concat([single, twice]).assign(store=name, other_store=name)


def _compare(one: tuple[str, "Store"], other: tuple[str, "Store"], copies: bool, notes: list[str]) -> "pd.DataFrame":
    """Suspects between two stores, as of `_look`; what could not be compared is added to the notes."""
    import numpy as np
    import pandas as pd

    from scarce_cxr.images.duplicates import Leak, leaks_between, patients_comparable

    (name_a, a), (name_b, b) = one, other
    if not patients_comparable(a, b):
        notes.append(
            f"{name_a} and {name_b} do not share a key: a patient who is in both goes unnoticed. "
            "Prepare one with the other's key (scarce prepare --key) to see them."
        )
    if copies and a.settings["fit"] != b.settings["fit"]:
        notes.append(f"{name_a} and {name_b} differ in how films were fitted: near-duplicates may go unnoticed.")
    if copies:
        leaks = leaks_between(a, np.arange(len(a)), b, np.arange(len(b)))
    else:
        both = a.table.drop_duplicates("patient_id").merge(b.table.drop_duplicates("patient_id"), on="patient_id")
        both = both.dropna(subset="patient_id")
        leaks = [Leak("patient", *ids) for ids in both[["image_id_x", "image_id_y"]].itertuples(index=False)]
    words = {"patient": "its patient is in {} too, e.g. {}", "file": "the same pixels as {}'s {}"}
    rows = [
        {
            "store": name_a,
            "kind": leak.kind,
            "image_id": leak.a,
            "number": 1.0,
            "why": words.get(leak.kind, "a copy of {}'s {}").format(name_b, leak.b),
            "other": leak.b,
            "other_store": name_b,
        }
        for leak in leaks
    ]
    return pd.DataFrame(rows, columns=["store", "kind", "image_id", "number", "why", "other", "other_store"])


def _write(suspects: "pd.DataFrame", path: Path) -> Path:
    from scarce_cxr.images.atomic import written_whole

    with written_whole(path) as temporary:
        suspects[["store", "kind", "image_id", "number", "why"]].to_csv(temporary, index=False, float_format="%.6g")
    return path


def _count(suspects: "pd.DataFrame", stores: dict[str, "Store"]) -> Table:
    from scarce_cxr.images.quality import KINDS
    from scarce_cxr.images.splits import patients_of

    rows = []
    for name, store in stores.items():
        patients = dict(zip(store.table["image_id"], patients_of(store.table), strict=True))
        for other in dict.fromkeys((name, *stores)):
            there = suspects[(suspects["store"] == name) & (suspects["other_store"] == other)]
            for kind, what in (KINDS | _COPIES).items():
                ids = there.loc[there["kind"] == kind, "image_id"].unique()
                if len(ids):
                    where = name if other == name else f"{name}, {other}"
                    rows.append([where, kind, len(ids), len({patients[image_id] for image_id in ids}), what])
    counts = {name: (len(store), len(set(patients_of(store.table)))) for name, store in stores.items()}
    behind = "; ".join(
        f"{name}: {films:,} films of {patients:,} patients" for name, (films, patients) in counts.items()
    )
    note = f"Looked at {behind}." + ("" if rows else " Nothing was found.")
    return Table("Suspects", ["store", "kind", "films", "patients", "what it is"], rows, note)


def _views(stores: dict[str, "Store"], measures: dict[str, "pd.DataFrame"]) -> list[Table]:
    """For stores that have laterals: how well these are told from frontal films."""
    from scarce_cxr.images.quality import views_as_seen

    rows = []
    for name, store in stores.items():
        views = store.table["view"].fillna("UNKNOWN").to_numpy()
        if "LATERAL" in views:
            rows += [[name, *row] for row in views_as_seen(measures[name], views).itertuples(index=False)]
    note = "Of laterals among frontal films, as many go unnoticed as of those that the table calls LATERAL."
    columns = ["store", "view by the table", "films", "look frontal", "look lateral", "look otherwise"]
    return [Table("What films look like", columns, [[_plain(v) for v in row] for row in rows], note)] if rows else []


def _plain(value):
    return value.item() if hasattr(value, "item") else value


def _gap_table(distances: "pd.DataFrame") -> Table:
    columns = ["between", "and", "films (patients)", "pixels", "means", "deviations", "shift"]
    note = (
        "Frontal films; of pixels, films' means and standard deviations the largest gap between cumulative "
        "distributions: 0 alike, 1 no overlap. Shift: of mean brightness, in its standard deviations. What chance does "
        "is seen between two halves of one store."
    )
    rows = [
        [row.one, row.other, row.films, *(round(value, 3) for value in (row.pixels, row.means, row.stds, row.shift))]
        for row in distances.itertuples()
    ]
    return Table("Domain gap", columns, rows, note)


def _draw_gap(shades: list["Shades"], path: Path) -> Path:
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.quality import gap_figure

    counts = {one.name: f"{len(one.means):,} films of {len(set(one.patients)):,} patients" for one in shades}
    parts = ({one.name: getattr(one, part) for one in shades} for part in ("histogram", "means", "stds"))
    return theme.save(gap_figure(*parts, counts, "What frontal films' pixels are like"), path)


def _draw_suspects(suspects: "pd.DataFrame", stores: dict[str, "Store"], most: int, path: Path) -> Path:
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.quality import suspect_sheet
    from scarce_cxr.images.quality import KINDS

    rows = {name: dict(zip(store.table["image_id"], range(len(store)), strict=True)) for name, store in stores.items()}

    def read(store: str, image_id: str) -> "np.ndarray":
        pixels = stores[store].pixels([rows[store][image_id]])[0]
        return pixels / (2 ** (8 * pixels.itemsize) - 1)

    groups = {}
    for kind, what in (KINDS | _COPIES).items():
        of_kind = suspects[suspects["kind"] == kind]
        # The most suspicious first; a blank film's number is small.
        order = of_kind["number"].abs().sort_values(ascending=kind == "blank", kind="stable").index
        drawn = []
        for film in of_kind.loc[order].itertuples():
            drawn.append((read(film.store, film.image_id), f"{film.image_id}\n{film.why}"))
            if film.other:
                drawn.append((read(film.other_store, film.other), f"{film.other}\n{film.other_store}"))
            if len(drawn) >= most:
                break
        shown = f", {len(drawn)} drawn" if len(of_kind) > len(drawn) else ""
        groups[f"{kind}: {what} ({len(of_kind):,}{shown})"] = drawn
    return theme.save(suspect_sheet(groups, f"Suspects in {', '.join(stores)}"), path)
