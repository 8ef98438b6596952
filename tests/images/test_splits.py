"""Held-out patients stay held out whatever is added, and no patient is on both sides."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.splits import evenly, held_out, patients_of, refuse_shared_patients, split
from scarce_cxr.images.store import Store


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


def with_official(table: pd.DataFrame, sides: list[str | None], source: str = "nih") -> pd.DataFrame:
    """Every patient gets one of these sides, on one of its films alone where the patient has several."""
    patients = pd.Series(patients_of(table))
    codes = pd.factorize(patients)[0]
    said = pd.Series(np.array(sides, dtype=object)[codes % len(sides)]).where(~patients.duplicated(), None)
    return table.assign(split=said, source=source)


def test_a_split_never_divides_a_patient(table: pd.DataFrame):
    for sides in ([None], ["train_val", "test"], ["train", "validate", "test", None], ["train", "valid"]):
        chosen = split(with_official(table, sides))
        sides_of = pd.DataFrame({"patient": patients_of(table), "side": chosen}).groupby("patient")["side"].nunique()
        assert sides_of.max() == 1
        assert set(chosen) == {"train", "tune", "test"}


def test_data_that_is_added_moves_nobody(table: pd.DataFrame):
    generator = np.random.default_rng(2)
    for sides in ([None], ["train_val", "test", None], ["train", "validate", "test", None]):
        official = with_official(table, sides)
        whole = split(official)
        for share in (0.1, 0.5, 0.9):
            patients = np.unique(patients_of(table).astype(str))
            there_before = np.isin(patients_of(table).astype(str), generator.permutation(patients)[: int(2000 * share)])
            assert np.array_equal(split(official[there_before].reset_index(drop=True)), whole[there_before])
    # Films of patients who were there already do not move them either.
    unsplit = table.assign(split=None, source="folder")
    assert np.array_equal(split(unsplit.iloc[:200]), split(unsplit)[:200])


def test_without_an_official_split_testing_takes_whom_pretraining_holds_out(table: pd.DataFrame):
    chosen = split(table)
    assert np.array_equal(chosen == "test", held_out(table, 0.2))
    assert set(chosen[held_out(table, 0.02)]) == {"test"}
    one_each = pd.Series(chosen)[~pd.Series(patients_of(table)).duplicated()]
    # 15 % of the 80 % that testing leaves.
    assert (one_each == "tune").mean() == pytest.approx(0.12, abs=3 * np.sqrt(0.12 * 0.88 / len(one_each)))
    assert set(split(table, test=0, tune=0)) == {"train"}


def test_a_larger_test_share_takes_from_both_other_sides_alike(table: pd.DataFrame):
    small, large = split(table, test=0.1), split(table, test=0.4)
    stayed = large != "test"
    assert np.array_equal(small[stayed], large[stayed])
    assert (small[~stayed] == "tune").any()


def test_official_sides_win(table: pd.DataFrame):
    official = with_official(table, ["Train", "validate", "test"])
    said = official["split"].groupby(patients_of(official)).transform("first")
    assert (split(official) == said.map({"Train": "train", "validate": "tune", "test": "test"})).all()
    assert np.array_equal(split(official, official=False), split(table))


def test_train_val_lends_to_tuning_and_never_to_testing(table: pd.DataFrame):
    official = with_official(table, ["train_val", "test"])
    said = official["split"].groupby(patients_of(official)).transform("first").to_numpy()
    chosen = split(official)
    assert set(chosen[said == "test"]) == {"test"}
    assert set(chosen[said == "train_val"]) == {"train", "tune"}
    assert np.array_equal(
        chosen[said == "train_val"] == "tune", held_out(official, 0.15, key="tune")[said == "train_val"]
    )


def test_a_source_without_a_test_side_lends_one(table: pd.DataFrame):
    official = with_official(table, ["train", "valid"])
    said = official["split"].groupby(patients_of(official)).transform("first").to_numpy()
    chosen = split(official)
    assert set(chosen[said == "valid"]) == {"tune"}
    assert np.array_equal(chosen[said == "train"] == "test", held_out(official, 0.2)[said == "train"])


def test_the_official_split_of_one_source_leaves_the_others_alone(table: pd.DataFrame):
    first, second = table.iloc[:3000], table.iloc[3000:].assign(patient_id=lambda t: "other" + t["patient_id"])
    both = pd.concat([with_official(first, ["train", "val", "test"]), second.assign(source="ours", split=None)])
    assert np.array_equal(split(both)[3000:], split(second))


def test_a_shared_patient_is_refused_with_both_films_and_the_id(table: pd.DataFrame):
    official = with_official(table, ["train_val", "test"])
    films = np.flatnonzero(table["patient_id"] == table["patient_id"].value_counts().index[0])[:2]
    official.loc[films, "split"] = ["train_val", "test"]
    with pytest.raises(ScarceError) as caught:
        split(official)
    for part in (table["patient_id"][films[0]], f"image{films[0]} in train", f"image{films[1]} in test"):
        assert part in caught.value.got
    assert np.array_equal(split(official, official=False), split(table))


def test_a_leak_into_testing_is_named_before_one_into_tuning():
    table = pd.DataFrame({"image_id": list("abcd"), "patient_id": ["p1", "p1", "p2", "p2"]})
    with pytest.raises(ScarceError, match=r"patient p2 on two: d in test and c in train \(2 such patients in all\)"):
        refuse_shared_patients(table, np.array(["train", "tune", "train", "test"]))
    refuse_shared_patients(table, np.array(["train", None, "", "test"], dtype=object))


def test_a_refusal_names_original_paths_where_the_private_folder_is_there(small_store: Path, tmp_path: Path):
    store = Store.open(small_store)
    table = store.table.assign(split="train_val")
    patient = table["patient_id"].iloc[0]
    films = np.flatnonzero(table["patient_id"] == patient)
    table.loc[films[0], "split"] = "test"
    names = pd.read_parquet(private_folder(small_store) / "names.parquet")["path"]
    with pytest.raises(ScarceError) as caught:
        split(table, store_path=small_store)
    assert all(f"{table['image_id'][film]} ({names[film]})" in caught.value.got for film in films)
    assert patient in caught.value.got
    alone = shutil.copytree(small_store, tmp_path / "alone")
    with pytest.raises(ScarceError) as caught:
        split(table, store_path=alone)
    assert "png" not in caught.value.got


def test_a_side_of_unknown_name_is_refused(table: pd.DataFrame):
    with pytest.raises(ScarceError, match="'fold 3' for image0"):
        split(with_official(table, ["fold 3"]))


def test_even_steps_by_hand():
    assert evenly(9, 3).tolist() == [0, 4, 8]
    assert evenly(3, 9).tolist() == [0, 1, 2]
    assert evenly(0, 3).tolist() == []
    assert len(evenly(1000, 256)) == 256
