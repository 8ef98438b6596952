"""Draws are by patient, nested, the same whoever asks, and never silently smaller."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.labels import Labels
from scarce_cxr.images.shots import SHOTS, Missing, Shots, draw_shots, negative_kinds

FILMS = 3000


@pytest.fixture(scope="module")
def cohort() -> dict[str, np.ndarray]:
    """3,000 films of about 1,000 patients; a finding on a sixth of them, unknown on a tenth."""
    generator = np.random.default_rng(0)
    labels = generator.choice([1.0, 0.0, np.nan], FILMS, p=[0.15, 0.75, 0.1])
    patients = np.array([f"{number:04x}" for number in generator.integers(0, 1000, FILMS)], dtype=object)
    return {"labels": labels, "patients": patients, "candidates": generator.random(FILMS) < 0.7}


def test_a_shot_of_k_is_k_patients_with_and_k_without_one_film_each(cohort: dict):
    ill = set(cohort["patients"][cohort["candidates"] & (cohort["labels"] == 1)])
    for shot in SHOTS[:-1]:
        for draw in range(10):
            shots = draw_shots(**cohort, shot=shot, draw=draw, finding="Mass")
            count = int(shot)
            assert shots[2:] == (count, count, 2 * count)
            assert shots.labels.tolist() == [1] * count + [0] * count
            assert np.array_equal(shots.labels, cohort["labels"][shots.rows])
            assert cohort["candidates"][shots.rows].all()
            drawn = cohort["patients"][shots.rows]
            assert len(set(drawn)) == 2 * count
            # Who has films of both kinds counts as one with the finding.
            assert [patient in ill for patient in drawn] == [True] * count + [False] * count


def test_a_larger_shot_contains_the_smaller_ones_of_its_draw(cohort: dict):
    for options in ({}, {"one_film_per_patient": False}):
        rows = [
            set(draw_shots(**cohort, shot=shot, draw=3, finding="Mass", **options).rows.tolist()) for shot in SHOTS[:-1]
        ]
        assert all(small < large for small, large in pairwise(rows))


def test_finding_draw_and_seed_each_give_other_films(cohort: dict):
    def rows(draw: int = 0, finding: str = "Mass", seed: int = 0) -> set[int]:
        return set(draw_shots(**cohort, shot="20", draw=draw, finding=finding, seed=seed).rows.tolist())

    assert rows() == rows()
    for other in (rows(draw=1), rows(finding="Edema"), rows(seed=1)):
        # 20 of about 250 patients with, 20 of about 600 without: two films are shared by chance.
        assert len(rows() & other) < 12


def test_every_patient_is_drawn_as_often_as_any_other_and_so_is_every_film():
    patients = np.array(["a", "a", "b", "c", "d", "e"] * 2, dtype=object)
    labels = np.array([1.0] * 6 + [0.0] * 6)
    patients[6:] = [f"healthy {patient}" for patient in patients[6:]]
    everyone = np.ones(12, bool)
    drawn = [draw_shots(labels, patients, everyone, "1", draw, finding="Mass").rows[0] for draw in range(2000)]
    counts = np.bincount(drawn, minlength=6)
    by_patient = [counts[0] + counts[1], *counts[2:6]]
    assert chisquare(by_patient).pvalue > 1e-3
    assert chisquare(counts[:2]).pvalue > 1e-3


def test_a_patient_who_joins_takes_at_most_one_place(cohort: dict):
    for joins in (1.0, 0.0):
        for number in range(20):
            grown = {
                "labels": np.append(cohort["labels"], joins),
                "patients": np.append(cohort["patients"], f"new {number}"),
                "candidates": np.append(cohort["candidates"], True),
            }
            before = draw_shots(**cohort, shot="20", draw=0, finding="Mass").rows
            after = draw_shots(**grown, shot="20", draw=0, finding="Mass").rows
            assert len(set(before.tolist()) - set(after.tolist())) == (FILMS in after)


def test_the_order_of_the_table_does_not_choose_the_patients(cohort: dict):
    order = np.random.default_rng(1).permutation(FILMS)
    shuffled = {name: array[order] for name, array in cohort.items()}
    for draw in range(5):
        before = draw_shots(**cohort, shot="20", draw=draw, finding="Mass").rows
        after = draw_shots(**shuffled, shot="20", draw=draw, finding="Mass").rows
        assert cohort["patients"][before].tolist() == shuffled["patients"][after].tolist()


def test_too_few_patients_are_a_reason_and_never_a_smaller_draw():
    patients = np.array(["a", "a", "b", "c", "d", "e", "f"], dtype=object)
    labels = np.array([1, 1, 1, 0, 0, 0, np.nan])
    everyone = np.ones(7, bool)

    def draw(shot: str, **options) -> Shots | Missing:
        return draw_shots(labels, patients, everyone, shot, 0, finding="Mass", **options)

    assert draw("5") == Missing("2 patients with the finding, 5 needed; 3 patients without the finding, 5 needed")
    assert draw("3") == Missing("2 patients with the finding, 3 needed")
    assert draw("3", one_film_per_patient=False)[2:] == (3, 3, 5)
    assert draw("4", one_film_per_patient=False).reason.startswith("3 films with")
    nobody = draw_shots(labels, patients, ~everyone, "1", 0, finding="Mass")
    assert nobody.reason.startswith("0 patients with")


def test_all_takes_every_labelled_candidate_in_one_draw(cohort: dict):
    shots = draw_shots(**cohort, shot="all", draw=0, finding="Mass")
    labelled = cohort["candidates"] & np.isin(cohort["labels"], (0, 1))
    assert sorted(shots.rows) == np.flatnonzero(labelled).tolist()
    assert np.array_equal(shots.labels, cohort["labels"][shots.rows])
    assert shots.positives == (cohort["labels"][labelled] == 1).sum()
    assert shots.patients == len(set(cohort["patients"][labelled]))
    assert isinstance(draw_shots(**cohort, shot="all", draw=1, finding="Mass"), Missing)
    cohort = {**cohort, "labels": np.where(cohort["labels"] == 1, np.nan, cohort["labels"])}
    assert draw_shots(**cohort, shot="all", draw=0, finding="Mass") == Missing("no film with the finding")


def test_negatives_come_from_the_allowed_films_alone(cohort: dict):
    allowed = np.random.default_rng(2).random(FILMS) < 0.2
    for shot in ("20", "all"):
        shots = draw_shots(**cohort, shot=shot, draw=0, finding="Mass", negatives=allowed)
        assert allowed[shots.rows[shots.labels == 0]].all()
        assert not allowed[shots.rows[shots.labels == 1]].all()
    assert isinstance(draw_shots(**cohort, shot="1", draw=0, finding="Mass", negatives=np.zeros(FILMS, bool)), Missing)


def test_a_shot_that_is_no_number_is_refused(cohort: dict):
    for wrong in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(ScarceError, match="number of shots"):
            draw_shots(**cohort, shot=wrong, draw=0, finding="Mass")


def test_negatives_are_told_apart_by_what_else_a_film_shows():
    table = pd.DataFrame({"Mass": [0, 0, 0, 1, np.nan, 0], "Edema": [0, 1, np.nan, 0, 0, 0]})
    # The last film shows a finding that is known but not asked for.
    normal, abnormal = np.array([1, 0, 0, 0, 0, 0], bool), np.array([0, 1, 0, 1, 0, 1], bool)
    kinds = negative_kinds(Labels(table, pd.DataFrame(), [], normal, abnormal), "Mass")
    assert kinds["normals"].tolist() == [True, False, False, False, False, False]
    assert kinds["other findings"].tolist() == [False, True, False, False, False, True]
