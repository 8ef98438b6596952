"""Splits by patient: no patient's films are ever on both sides."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def patients_of(table: "pd.DataFrame") -> np.ndarray:
    """The patient of each image; where the source knows none, the image stands for a patient of its own.

    Args:
        table: a store's table, n rows.

    Returns:
        (n,) strings.
    """
    return table["patient_id"].where(table["patient_id"].notna(), table["image_id"]).to_numpy(dtype=object)


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
