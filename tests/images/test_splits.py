"""Held-out patients stay held out whatever is added, and no patient is on both sides."""

import numpy as np
import pandas as pd
import pytest

from scarce_cxr.images.splits import held_out, patients_of


@pytest.fixture
def table() -> pd.DataFrame:
    patients = np.random.default_rng(0).integers(0, 2000, 6000)
    ids = pd.Series([f"{patient:016x}" for patient in patients]).where(np.arange(6000) % 10 != 0, None)
    return pd.DataFrame({"image_id": [f"image{index}" for index in range(6000)], "patient_id": ids})


def test_no_patient_is_on_both_sides(table: pd.DataFrame):
    chosen = held_out(table, 0.3)
    sides = pd.DataFrame({"patient": patients_of(table), "chosen": chosen}).groupby("patient")["chosen"].nunique()
    assert sides.max() == 1


def test_the_share_of_patients_is_the_fraction_asked_for(table: pd.DataFrame):
    one_each = table.assign(patient=patients_of(table)).drop_duplicates("patient")
    for fraction in (0.05, 0.2, 0.5):
        # Three standard deviations of a binomial.
        margin = 3 * np.sqrt(fraction * (1 - fraction) / len(one_each))
        assert held_out(one_each, fraction).mean() == pytest.approx(fraction, abs=margin)
    assert not held_out(table, 0).any()
    assert held_out(table, 1).all()


def test_a_choice_does_not_depend_on_the_other_rows(table: pd.DataFrame):
    chosen = held_out(table, 0.2)
    shuffled = np.random.default_rng(1).permutation(len(table))
    assert np.array_equal(held_out(table.iloc[shuffled], 0.2), chosen[shuffled])
    assert np.array_equal(held_out(table.iloc[:100], 0.2), chosen[:100])


def test_a_larger_fraction_keeps_whom_a_smaller_chose_and_a_key_chooses_anew(table: pd.DataFrame):
    small, large = held_out(table, 0.1), held_out(table, 0.3)
    assert (large | ~small).all()
    other = held_out(table, 0.1, key="other")
    assert (small & other).sum() < 0.5 * small.sum()


def test_images_without_a_patient_are_chosen_one_by_one(table: pd.DataFrame):
    unknown = table["patient_id"].isna().to_numpy()
    assert 0 < held_out(table, 0.5)[unknown].mean() < 1


def test_a_fraction_beyond_one_is_refused(table: pd.DataFrame):
    with pytest.raises(ValueError, match="fraction"):
        held_out(table, 1.5)
