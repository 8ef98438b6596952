"""`scarce merge`: one store of several sources."""

from pathlib import Path

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table


def merge(
    stores_and_out: list[Path], names: list[str] | None = None, drop_duplicates: bool = False, near: bool = True
) -> Result:
    """Makes one store of several; run again, it continues where it was interrupted.

    The stores need the same size, bits and fit, and voi where they have DICOM films. Image_ids that clash get their
    source's name in front, findings are united, splits are kept, and patients of different sources stay apart. The
    private folders are left alone.

    Args:
        stores_and_out: Two or more stores, and last the folder to write.
        names: A name for each store, in their order: what its films' source is called in the new one.
        drop_duplicates: Of films that are in two stores, keep the earlier store's alone.
        near: Also look for near-duplicates; the time for it goes with the product of the numbers of films.

    Returns:
        What came from each store, and the films that two of them share.
    """
    from scarce_cxr.images.merge import merge as write_store

    if len(stores_and_out) < 3:
        raise ScarceError(
            "two or more stores, and the folder to write",
            " ".join(map(str, stores_and_out)) or "nothing",
            "scarce merge STORE STORE ... OUT",
        )
    *paths, out = stores_and_out
    merged = write_store(paths, out, names=names, drop_duplicates=drop_duplicates, near=near)
    store = merged.store
    note = (
        f"{len(store):,} films in all, {len(store.findings)} findings; "
        f"{merged.shared_patients:,} patients are in two of the stores"
    )
    tables = [Table(f"Store {out.absolute().name}", list(merged.parts), merged.parts.to_numpy().tolist(), note)]
    if len(merged.copies):
        counts = merged.copies.groupby(["store_a", "store_b", "kind"], as_index=False, sort=False).agg(
            films=("b", "nunique"), example_a=("a", "first"), example_b=("b", "first")
        )
        note = "The later store's were dropped." if drop_duplicates else "All were kept: --drop-duplicates drops some."
        columns = ["store", "other store", "kind", "films", "for example", "is also"]
        tables.append(Table("Films in two stores", columns, counts.to_numpy().tolist(), note))
    return Result(tables, [("store", out)], [*merged.notes, f"Look at some of them: scarce show {out}"])
