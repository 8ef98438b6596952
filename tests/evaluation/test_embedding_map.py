"""A planted site is found and a missing one is not; neighbours are scikit-learn's; errors are worked by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tests.evaluation.planted import make_store

from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.embedding_map import (
    JoinedStores,
    lay_out,
    nearest_of_others,
    tell_apart,
    worst_errors,
)
from scarce_cxr.evaluation.probe import standardise

PATIENTS = np.array([f"p{number // 2}" for number in range(400)])
TRAIN, TEST = np.arange(400) < 240, np.arange(400) >= 280


def make_features(groups: np.ndarray, shift: float, seed: int = 0) -> np.ndarray:
    """Noise that films of a patient share in part; the first group lies off in one direction."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(400, 20)) + np.repeat(generator.normal(size=(200, 20)), 2, axis=0)
    noise[:, 3] += shift * (groups == groups[0])
    return standardise(noise, TRAIN)


def make_groups(*names: str) -> np.ndarray:
    return np.repeat(np.random.default_rng(9).choice(names, 200), 2)


def test_a_planted_site_is_flagged_and_its_auroc_is_scikit_learns():
    groups = make_groups("a", "b")
    features = make_features(groups, 2.5)
    (told,) = tell_apart(features, "site", groups, PATIENTS, TRAIN, TEST)
    assert told.flagged
    assert told.low > 0.6
    assert (told.films + told.others_films, told.patients) == (120, 60)
    assert {told.group, told.others} == {"a", "b"}
    model = LogisticRegression(C=0.01).fit(features[TRAIN], groups[TRAIN] == told.group)
    theirs = roc_auc_score(groups[TEST] == told.group, model.decision_function(features[TEST]))
    assert told.auroc == pytest.approx(theirs, abs=0.02)


def test_features_that_know_nothing_of_the_site_are_not_flagged():
    flags = []
    for seed in range(10):
        groups = np.repeat(np.random.default_rng(seed).choice(["a", "b"], 200), 2)
        features = make_features(groups, 0.0, seed)
        (told,) = tell_apart(features, "site", groups, PATIENTS, TRAIN, TEST)
        assert told.low <= told.auroc <= told.high
        flags.append(told.flagged)
    assert sum(flags) == 0


def test_of_more_than_two_groups_each_is_told_from_all_others_and_unknown_films_are_left_out():
    groups = make_groups("a", "b", "c")
    groups[0] = "c"
    groups[290:300] = ""
    features = make_features(groups, 3.0)
    told = {each.group: each for each in tell_apart(features, "site", groups, PATIENTS, TRAIN, TEST)}
    assert set(told) == {"a", "b", "c"}
    assert told["c"].flagged
    assert told["c"].others == "all others"
    assert all(each.films + each.others_films == 110 for each in told.values())


def test_what_cannot_be_told_says_why():
    (one,) = tell_apart(make_features(PATIENTS, 0), "site", np.repeat("nih", 400), PATIENTS, TRAIN, TEST)
    assert one.missing == "all films are nih"
    assert not one.flagged
    (none,) = tell_apart(make_features(PATIENTS, 0), "view", np.repeat("", 400), PATIENTS, TRAIN, TEST)
    assert none.missing == "not known of any film"
    groups = np.repeat("a", 400).astype(object)
    groups[:40] = groups[390:396] = "b"
    (few,) = tell_apart(make_features(groups, 5.0), "site", groups.astype(str), PATIENTS, TRAIN, TEST)
    assert few.missing == "3 patients, 5 needed"
    assert np.isnan(few.auroc)


def test_neighbours_are_those_of_scikit_learn_among_other_patients():
    features = make_features(PATIENTS, 0.0)
    rows = np.array([0, 7, 399])
    nearest, cosines = nearest_of_others(features, rows, PATIENTS, 5)
    for row, found, likeness in zip(rows, nearest, cosines, strict=True):
        others = np.flatnonzero(PATIENTS[row] != PATIENTS)
        model = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features[others])
        distances, places = model.kneighbors(features[[row]])
        assert found.tolist() == others[places[0]].tolist()
        np.testing.assert_allclose(likeness, 1 - distances[0], atol=1e-5)
    # Films of a patient share half of their noise: without the rule they would be each other's first.
    assert not (PATIENTS[nearest] == PATIENTS[rows][:, None]).any()
    with pytest.raises(ScarceError, match="398"):
        nearest_of_others(features, rows, PATIENTS, 399)


def test_the_worst_errors_by_hand():
    scores = np.array([5.0, 4.0, 1.0, 0.0, 3.0, 2.0, -1.0, 6.0])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    patients = np.array(["a", "a", "b", "c", "d", "e", "f", "g"])
    errors = worst_errors(scores, labels, patients, 6)
    # Films with it score -1, 2, 3, 6: 5 is above three of them, 1 and 0 are above one; 4 is the first's patient's.
    assert errors.positives.tolist() == [0, 2, 3]
    assert errors.above.tolist() == [0.75, 0.25, 0.25]
    # Films without it score 0, 1, 4, 5: all are higher than -1, two than 2 and 3, none than 6.
    assert errors.negatives.tolist() == [6, 5, 4]
    assert errors.below.tolist() == [1.0, 0.5, 0.5]
    assert worst_errors(scores, labels, patients, 1).positives.tolist() == [0]
    faultless = worst_errors(labels.astype(float), labels, patients)
    assert not len(faultless.positives)
    assert not len(faultless.negatives)


def test_pca_is_that_of_a_singular_value_decomposition_and_both_layouts_are_the_same_again():
    features = make_features(make_groups("a", "b"), 4.0)[:120]
    pca, tsne = lay_out(features)
    left, values, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(pca.places), np.abs(left[:, :2] * values[:2]), rtol=1e-3, atol=1e-3)
    share = values**2 / (values**2).sum()
    assert pca.name == f"PCA: {100 * share[0]:.0f} %, {100 * share[1]:.0f} % of variance"
    assert np.array_equal(tsne.places, lay_out(features)[1].places)
    assert not np.array_equal(tsne.places, pca.places)


def test_t_sne_keeps_planted_groups_apart():
    groups = np.repeat(["a", "b"], 40)
    features = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32) + 12 * (groups == "a")[:, None]
    places = lay_out(features)[1].places
    model = NearestNeighbors(n_neighbors=6).fit(places)
    assert (groups[model.kneighbors(places, return_distance=False)] == groups[:, None]).all()


def test_too_few_films_or_features_that_are_all_the_same_are_refused():
    with pytest.raises(ScarceError, match="at least 10"):
        lay_out(np.zeros((9, 3)))
    with pytest.raises(ScarceError, match="differ"):
        lay_out(np.ones((20, 3)))


def test_joined_stores_are_one_after_the_other_and_each_is_a_site(tmp_path):
    first, second = make_store(tmp_path / "first", patients=8), make_store(tmp_path / "second", patients=5, seed=1)
    joined = JoinedStores([first, second])
    assert len(joined) == len(joined.table) == 26
    assert joined.sites.tolist() == ["first"] * 16 + ["second"] * 10
    assert JoinedStores([first]).sites.tolist() == ["here"] * 16
    start = parse_start("test_resnet", size=32)
    features = joined.features(start)
    np.testing.assert_array_equal(features[16:], embed(second, start).array)
    for row, store, own in ((0, first, 0), (15, first, 15), (16, second, 0), (25, second, 9)):
        np.testing.assert_array_equal(joined.film(row), store.pixels([own])[0] / 255)
    labels = joined.labels()
    assert labels.table["Effusion"].tolist() == pd.concat([first.table, second.table])["Effusion"].tolist()
    assert labels.counts.loc["Effusion", "positive"] == 10
    assert (labels.abnormal | labels.normal).all()
    # A patient has one side.
    sides = joined.split(test=0.3, tune=0.2)
    assert (
        pd.DataFrame({"patient": joined.table["patient_id"], "side": sides}).groupby("patient")["side"].nunique().max()
        == 1
    )
