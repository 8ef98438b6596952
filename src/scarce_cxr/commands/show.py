"""`scarce show`: what is in a store, as tables and as a sheet of films."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.errors import ScarceError
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import pandas as pd

    from scarce_cxr.images.store import Store


def show(store: Path, out: Path | None = None, films: int = 30, seed: int = 0) -> Result:
    """Draws a contact sheet of a store's films and counts what it holds.

    Args:
        store: the store's folder.
        out: picture to write; by default NAME-contact-sheet.png in the current folder.
        films: how many films to draw, chosen at random.
        seed: another seed chooses others.

    Returns:
        Tables of films, patients and findings, and the picture's path.
    """
    import numpy as np

    from scarce_cxr.figures import theme
    from scarce_cxr.figures.pictures import contact_sheet
    from scarce_cxr.images.store import Store

    if films < 1:
        raise ScarceError("at least one film to draw", f"films = {films}", "choose e.g. 30")
    opened = Store.open(store)
    name = Path(store).resolve().name
    path = Path(f"{name}-contact-sheet.png") if out is None else out
    drawn = min(films, len(opened))
    chosen = np.sort(np.random.default_rng(seed).choice(len(opened), drawn, replace=False))
    pixels = opened.pixels(chosen)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    captions = [_caption(row, opened.findings) for _, row in opened.table.iloc[chosen].iterrows()]
    sheet = contact_sheet(pixels, captions, f"{name}: {drawn:,} of {len(opened):,} films")
    theme.save(sheet, path)
    return Result(_tables(opened, name), [("contact sheet", path)], [f"Films that do not belong: scarce check {store}"])


def _caption(row: "pd.Series", findings: list[str]) -> str:
    import pandas as pd

    facts = [row["view"] if row["view"] != "UNKNOWN" else "view unknown"]
    if pd.notna(row["sex"]):
        facts.append(row["sex"])
    if pd.notna(row["age"]):
        facts.append(f"{row['age']:.0f} years")
    mentioned = {finding: row[finding] for finding in findings if pd.notna(row[finding])}
    words = [name + ("?" if label == -1 else "") for name, label in mentioned.items() if label]
    if not words:
        words = ["none of its findings" if mentioned else "not labelled"]
    return " · ".join(facts) + "\n" + ", ".join(words).replace("_", " ")


def _tables(store: "Store", name: str) -> list[Table]:
    from scarce_cxr.images.splits import patients_of
    from scarce_cxr.images.summary import count_findings

    table = store.table
    patients = len(set(patients_of(table)))
    unknown = int(table["patient_id"].isna().sum())
    ages = table["age"].dropna()
    quartiles = " / ".join(f"{age:.0f}" for age in ages.quantile([0.25, 0.5, 0.75])) if len(ages) else "unknown"
    facts = [
        ["films", len(store)],
        ["patients", patients],
        *([f"view {view}", int(count)] for view, count in table["view"].value_counts().items()),
        *([f"sex {sex}", int(count)] for sex, count in table["sex"].value_counts(dropna=False).items()),
        ["age: first quartile / median / third, years", quartiles],
        ["height before preparing, pixels", _span(table["height"])],
        ["width before preparing, pixels", _span(table["width"])],
        ["stored as", f"{store.size} x {store.size} {store.dtype}, {store.settings['fit']}"],
        ["fingerprint", store.fingerprint[:16]],
    ]
    for fact in facts:
        fact[0] = fact[0].replace("sex nan", "sex unknown").replace("sex None", "sex unknown")
    note = f"{unknown:,} films of unknown patients count as one patient each" if unknown else ""
    tables = [Table(f"Store {name}", ["what", "value"], facts, note=note)]
    counts = count_findings(store)
    if counts:
        columns = ["finding", "present", "uncertain", "films", "patients"]
        note = f"{len(store):,} films of {patients:,} patients; `films` counts those that mention the finding"
        tables.append(Table("Findings", columns, [list(count) for count in counts], note=note))
    return tables


def _span(values: "pd.Series") -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
