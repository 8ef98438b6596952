"""`scarce phantom`: procedural chest films."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def phantom(out: Path, images: int = 2000, seed: int = 0, size: int = 512, jobs: int = -1) -> Result:
    """Draws procedural frontal chest films with their labels, in the layout of NIH ChestX-ray14.

    They show the software without data; they teach nobody anything about disease.

    Args:
        out: Folder to write into.
        images: Number of films; patients have one to six each.
        seed: Another seed draws other patients.
        size: Side of the square films in pixels.
        jobs: Processes; -1 takes every core.
    """
    from scarce_cxr.images.phantoms import write_collection

    entries = write_collection(out, images=images, seed=seed, size=size, jobs=jobs)
    counts = entries["Finding Labels"].str.split("|").explode().value_counts()
    patients = entries["Patient ID"].nunique()
    table = Table(
        "Phantom films",
        ["finding", "films"],
        [[finding, int(count)] for finding, count in counts.items()],
        f"{len(entries):,} films of {patients:,} patients, {size} x {size}; a film may have several findings",
    )
    notes = [f"\nNext: scarce prepare {out} STORE --kind nih"]
    return Result([table], [("films", out / "images"), ("labels", out / "Data_Entry_2017.csv")], notes)
