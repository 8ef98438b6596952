"""Splits by patient: no patient's films are ever on both sides."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.names import original_names

if TYPE_CHECKING:
    import pandas as pd

_SIDES = {
    "train": "train",
    "training": "train",
    "train_val": "train",
    "trainval": "train",
    "tune": "tune",
    "val": "tune",
    "valid": "tune",
    "validate": "tune",
    "validation": "tune",
    "test": "test",
    "testing": "test",
}


def patients_of(table: "pd.DataFrame") -> np.ndarray:
    """The patient of each image; where the source knows none, the image stands for a patient of its own.

    Args:
        table: a store's table, n rows.

    Returns:
        (n,) strings.
    """
    return table["patient_id"].where(table["patient_id"].notna(), table["image_id"]).to_numpy(dtype=object)


def split(
    table: "pd.DataFrame",
    *,
    test: float = 0.2,
    tune: float = 0.15,
    official: bool = True,
    store_path: Path | None = None,
) -> np.ndarray:
    """Sorts a store's films into training, tuning and testing, whole patients at a time.

    Where a patient goes depends on the patient alone, so data that is added later moves nobody. The test patients are
    those of `held_out(table, test)`, whom pretraining leaves out first. A source's own split wins where it has one: all
    films of a patient follow the side that the source names for any of them. Sides that a source's own split lacks are
    filled from its training patients: NIH's train_val lends to tuning, a split without a test side to testing.

    Args:
        table: a store's table, n rows.
        test: share of the patients, official sides aside, that are tested on, in [0, 1].
        tune: share of the patients who are left that are tuned on, in [0, 1].
        official: whether the source's own split counts, where the table has one.
        store_path: the store's folder; with it, a refusal names the films' original paths.

    Returns:
        (n,) strings: train, tune or test.

    Raises:
        ScarceError: the official split has one patient on two sides, or a side of unknown name.
        ValueError: a share is not in [0, 1].
    """
    tested, tuned = held_out(table, test), held_out(table, tune, key="tune")
    by_hash = np.select([tested, tuned], ["test", "tune"], "train")
    if not official or "split" not in table:
        return by_hash
    said = _official_sides(table)
    refuse_shared_patients(table, said.to_numpy(), store_path=store_path)
    patients = patients_of(table)
    # A patient's films have one side or none, and none ("") comes first.
    side = said.groupby(patients).transform("max").to_numpy(dtype="<U5")
    for lacking, lent in (("test", tested), ("tune", tuned)):
        exists = (said == lacking).groupby(table["source"].to_numpy()).transform("any")
        side[(side == "train") & lent & ~exists.groupby(patients).transform("any").to_numpy()] = lacking
    return np.where(side == "", by_hash, side)


def refuse_shared_patients(table: "pd.DataFrame", split: np.ndarray, *, store_path: Path | None = None) -> None:
    """Refuses a split that has one patient on two sides.

    Args:
        table: a store's table, n rows.
        split: (n,) names of sides; "" or null is none.
        store_path: the store's folder; with it, a refusal names the films' original paths, where they are known.

    Raises:
        ScarceError: a patient is on two sides; it is named, with a film of each. One between train and test goes first.
    """
    films = table[["image_id"]].assign(patient=patients_of(table), side=np.asarray(split, dtype=object))
    films = films[films["side"].notna() & (films["side"] != "")].drop_duplicates(["patient", "side"])
    shared = films[films["patient"].duplicated(keep=False)].sort_values(["patient", "side"])
    if shared.empty:
        return
    leaks = shared[shared["side"].isin(["train", "test"])]
    leaks = leaks[leaks["patient"].duplicated(keep=False)]
    worst = shared if leaks.empty else leaks
    patient, count = worst["patient"].iloc[0], shared["patient"].nunique()
    first, second = worst.iloc[:2].to_dict("records")
    names = None if store_path is None else original_names(store_path)
    raise ScarceError(
        "every patient on one side of the split",
        f"patient {patient} on two: {_describe(first, names)} and {_describe(second, names)}"
        + (f" ({count:,} such patients in all)" if count > 1 else ""),
        "mend the source's split and prepare the store again, or leave the official split aside (official: false)",
    )


def refuse_unknown_patients(settings: Mapping[str, Any]) -> None:
    """Refuses to split by patient a store whose source cannot tell which films are of one patient.

    Args:
        settings: a store's; such a source says `patients: unknown` among them.

    Raises:
        ScarceError: the patients are unknown.
    """
    if settings.get("patients") == "unknown":
        raise ScarceError(
            "a store whose patients are known, to split it by patient",
            f"one of kind {settings.get('source')}, whose files do not tell which films are of one patient",
            "evaluate on another collection, or use the source's own split, knowing that patients may be on both sides",
        )


def held_out(table: "pd.DataFrame", fraction: float, key: str = "held-out") -> np.ndarray:
    """Chooses the images that are set aside, by patient.

    Whether a patient is chosen depends on the patient alone: data that is added later moves nobody, and a larger
    fraction keeps whom a smaller one chose.

    Args:
        table: a store's table, n rows.
        fraction: share of the patients to set aside, in [0, 1].
        key: another key makes another choice.

    Returns:
        (n,) bool, true for what is set aside.

    Raises:
        ValueError: the fraction is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}")
    patients, rows = np.unique(patients_of(table).astype(str), return_inverse=True)
    return np.array([_place(patient, key) < fraction for patient in patients], dtype=bool)[rows]


def _place(patient: str, key: str) -> float:
    """A number in [0, 1), uniform over patients."""
    digest = hashlib.blake2b(patient.encode(), key=key.encode()[:64], digest_size=8).digest()
    # 53 bits are what a float holds: with all 64, rounding could reach 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _official_sides(table: "pd.DataFrame") -> "pd.Series":
    """(n,) train, tune or test as the source has it; "" where it has none."""
    names = table["split"].fillna("").astype(str).str.strip().str.lower().str.replace("-", "_")
    sides = names.map({**_SIDES, "": ""})
    if sides.isna().any():
        row = int(np.flatnonzero(sides.isna())[0])
        raise ScarceError(
            f"an official split of {', '.join(_SIDES)}",
            f"{table['split'].iloc[row]!r} for {table['image_id'].iloc[row]}",
            "rename it in the source, or leave the official split aside (official: false)",
        )
    return sides


def _describe(film: dict[str, str], names: "pd.Series | None") -> str:
    path = None if names is None else names.get(film["image_id"])
    return f"{film['image_id']}{f' ({path})' if path else ''} in {film['side']}"


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` positions, in even steps from first to last: a store is often sorted by patient."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else np.empty(0, int)
