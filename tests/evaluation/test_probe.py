"""Probes, prototypes and neighbours against scikit-learn, a plain loop and hand-worked draws."""

import logging
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation import logistic
from scarce_cxr.evaluation.probe import (
    STRENGTHS,
    assign_folds,
    fit_probes,
    neighbour_scores,
    prototype_scores,
    score_probes,
    standardise,
)


class Draw(NamedTuple):
    rows: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of 300 films in 48 dimensions and labels that one direction explains in part."""
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 48)) @ random.normal(size=(48, 48))
    features = standardise(features, np.arange(200))
    along = features @ random.normal(size=48)
    return features, (along / along.std() + random.normal(size=300) > 0.5).astype(np.int8)


def _draw(labels: np.ndarray, each: int, seed: int) -> Draw:
    random = np.random.default_rng(seed)
    rows = np.concatenate([random.permutation(np.flatnonzero(labels[:200] == value))[:each] for value in (1, 0)])
    return Draw(rows, labels[rows])


def _reference(features: np.ndarray, draw: Draw, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000, solver="newton-cholesky")
    return model.fit(features[draw.rows].astype(float), draw.labels)


def _chosen_by_a_loop(features: np.ndarray, draw: Draw, folds: np.ndarray) -> float:
    means = []
    for strength in STRENGTHS:
        losses = []
        for fold in range(folds.max() + 1):
            kept, held = (Draw(draw.rows[some], draw.labels[some]) for some in (folds != fold, folds == fold))
            odds = _reference(features, kept, strength).predict_proba(features[held.rows].astype(float))
            losses += [log_loss(held.labels, odds, labels=[0, 1], normalize=False)]
        means.append(sum(losses) / len(folds))
    return STRENGTHS[int(np.argmin(means))]


@pytest.mark.parametrize("each", [2, 5, 10, 30])
def test_strength_weights_and_auc_are_those_of_a_plain_scikit_learn_loop(films, each):
    features, labels = films
    draws = [_draw(labels, each, seed) for seed in range(4)]
    probes = fit_probes(features, draws)
    scores = score_probes(features[200:], probes)
    assert probes.converged.all()
    for number, draw in enumerate(draws):
        strength = _chosen_by_a_loop(features, draw, assign_folds(draw.rows, draw.labels))
        assert probes.strength[number] == strength
        theirs = _reference(features, draw, strength)
        np.testing.assert_allclose(probes.weights[number], theirs.coef_[0], atol=1e-4)
        decisions = theirs.decision_function(features[200:].astype(float))
        np.testing.assert_allclose(scores[number], decisions, atol=1e-4, rtol=1e-4)
        aucs = [roc_auc_score(labels[200:], values) for values in (scores[number], decisions)]
        assert abs(aucs[0] - aucs[1]) < 0.002


def test_a_draw_of_all_films_is_fitted_in_the_primal_and_agrees(films):
    features, labels = films
    draw = Draw(np.arange(200), labels[:200])
    probes = fit_probes(features, [draw])
    assert probes.strength[0] == _chosen_by_a_loop(features, draw, assign_folds(draw.rows, draw.labels))
    np.testing.assert_allclose(probes.weights[0], _reference(features, draw, probes.strength[0]).coef_[0], atol=1e-4)


def test_findings_of_the_same_films_are_solved_together_as_they_are_alone(films, monkeypatch):
    features, labels = films
    rare = np.zeros(200, dtype=np.int8)
    rare[[4, 150]] = 1
    lonely = np.zeros(200, dtype=np.int8)
    lonely[7] = 1
    draws = [Draw(np.arange(200), kind) for kind in (labels[:200], 1 - labels[:200], rare, lonely)]
    together = fit_probes(features, draws)
    # No more than two draws of 200 films, 25 problems each.
    monkeypatch.setattr("scarce_cxr.evaluation.probe._SHARED", 2 * 25 * 200)
    parts = fit_probes(features, draws)
    alone = [fit_probes(features, [draw]) for draw in draws]
    assert together.converged.all()
    assert together.strength[3] == 1
    for number, probe in enumerate(alone):
        assert together.strength[number] == parts.strength[number] == probe.strength[0]
        np.testing.assert_allclose(together.weights[number], probe.weights[0], atol=1e-5)
        np.testing.assert_allclose(parts.weights[number], probe.weights[0], atol=1e-5)
    np.testing.assert_allclose(together.weights[0], -together.weights[1], atol=1e-5)


def test_two_films_give_the_direction_between_them_by_hand():
    # At (1, 1) and (-1, 3) the difference is (2, -2), of squared length 8, and w = a (2, -2) with a = C / (1 + e^(4a)),
    # as both films have the margin 4a; the midpoint (0, 2) scores 0. C = 1 is taken, as nothing can be held out.
    features = np.array([[1.0, 1.0], [-1.0, 3.0], [5.0, 7.0]])
    probes = fit_probes(features, [Draw(np.array([0, 1]), np.array([1, 0]))])
    a = probes.weights[0, 0] / 2
    np.testing.assert_allclose(probes.weights[0], [2 * a, -2 * a], atol=1e-7)
    assert a == pytest.approx(1 / (1 + np.exp(4 * a)), abs=1e-6)
    assert probes.strength[0] == 1
    np.testing.assert_allclose(score_probes(np.array([[0.0, 2.0], [1.0, 1.0]]), probes)[0], [0, 4 * a], atol=1e-6)


def test_with_two_films_the_strength_changes_no_ranking(films):
    features, labels = films
    draw = [_draw(labels, 1, 3)]
    orders = [
        np.argsort(score_probes(features[200:], fit_probes(features, draw, strengths=[strength]))[0])
        for strength in STRENGTHS
    ]
    assert all((order == orders[0]).all() for order in orders)


def test_one_positive_film_among_many_takes_the_strength_nearest_to_one(films):
    features, labels = films
    rows = np.concatenate([np.flatnonzero(labels == 1)[:1], np.flatnonzero(labels == 0)[:9]])
    draw = Draw(rows, labels[rows])
    assert fit_probes(features, [draw]).strength[0] == 1
    assert fit_probes(features, [draw], strengths=[20.0, 0.01, 0.3]).strength[0] == 0.3


def test_a_rotation_of_the_features_changes_nothing_but_rotates_the_weights(films):
    features, labels = films
    features = features.astype(float)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(48, 48)))[0]
    draws = [_draw(labels, 10, seed) for seed in range(3)]
    plain, turned = fit_probes(features, draws), fit_probes(features @ rotation, draws)
    np.testing.assert_array_equal(plain.strength, turned.strength)
    np.testing.assert_allclose(plain.weights @ rotation, turned.weights, atol=1e-5)
    np.testing.assert_allclose(plain.bias, turned.bias, atol=1e-5)


def test_neither_the_order_of_films_nor_the_company_of_other_draws_matters(films):
    features, labels = films
    draws = [_draw(labels, each, seed) for seed, each in enumerate((10, 1, 10, 4))]
    mixed = [Draw(draw.rows[::-1], draw.labels[::-1]) for draw in draws]
    for probes in (
        fit_probes(features, mixed),
        *[fit_probes(features, draws[:number] + draws[number:]) for number in (1, 2)],
    ):
        np.testing.assert_allclose(probes.weights, fit_probes(features, draws).weights, atol=1e-5)
    alone = [fit_probes(features, [draw]).weights[0] for draw in draws]
    np.testing.assert_allclose(alone, fit_probes(features, draws).weights, atol=1e-5)


def test_folds_are_stratified_even_and_keep_patients_together():
    labels = np.array([1] * 13 + [0] * 24)
    patients = np.array([str(number // 2) for number in range(100)])
    rows = np.random.default_rng(0).permutation(100)[:37]
    folds = assign_folds(rows, labels)
    for some in (labels == 1, labels == 0, labels >= 0):
        sizes = np.bincount(folds[some], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    grouped = assign_folds(rows, labels, patients=patients)
    for patient in np.unique(patients[rows]):
        assert len(np.unique(grouped[patients[rows] == patient])) == 1
    assert (assign_folds(rows, labels) == folds).all()
    assert (assign_folds(rows, labels, seed=1) != folds).any()


@pytest.mark.parametrize(("positives", "negatives", "count"), [(5, 9, 5), (3, 9, 3), (9, 2, 2), (50, 50, 5)])
def test_there_are_no_more_folds_than_films_of_either_class(positives, negatives, count):
    labels = np.array([1] * positives + [0] * negatives)
    folds = assign_folds(np.arange(len(labels)), labels)
    assert sorted(set(folds)) == list(range(count))
    assert all({0, 1} <= set(labels[folds != fold]) for fold in range(count))


def test_one_film_of_a_class_allows_no_folds():
    assert (assign_folds(np.arange(5), np.array([1, 0, 0, 0, 0])) == -1).all()


def test_standardised_features_are_scikit_learns_from_the_train_split_alone():
    features = np.random.default_rng(0).normal(3, 7, size=(50, 6)).astype(np.float32)
    rows = np.arange(30)
    theirs = StandardScaler().fit(features[rows]).transform(features)
    np.testing.assert_allclose(standardise(features, rows), theirs, atol=1e-5)
    mask = np.arange(50) < 30
    np.testing.assert_array_equal(standardise(features, mask), standardise(features, rows))


def test_constant_dimensions_become_zero_and_numbers_that_are_not_finite_the_mean(caplog):
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    features[:, 1] = 0.1
    features[12:, 1] = 9
    features[3, 2], features[15, 3], features[:, 0] = np.nan, np.inf, np.nan
    with caplog.at_level(logging.WARNING):
        scaled = standardise(features, np.arange(10))
    assert "20 of 20 films" in caplog.text
    assert np.isfinite(scaled).all()
    assert (scaled[:, :2] == 0).all()
    assert scaled[3, 2] == scaled[15, 3] == 0
    assert scaled[:10, 2].mean() == pytest.approx(0, abs=1e-6)


def test_euclidean_prototypes_order_films_as_scikit_learns_nearest_centroid_decides(films):
    features, labels = films
    draw = _draw(labels, 8, 0)
    scores = prototype_scores(features, [draw], np.arange(200, 300), metric="euclidean")[0]
    theirs = NearestCentroid().fit(features[draw.rows], draw.labels)
    np.testing.assert_array_equal(scores > 0, theirs.predict(features[200:]) == 1)
    positive, negative = (np.square(features[200:] - theirs.centroids_[side]).sum(axis=1) for side in (1, 0))
    np.testing.assert_allclose(scores, (negative - positive) / 2, rtol=1e-4, atol=1e-4)


def test_cosine_prototypes_by_hand():
    # At unit length the positive films are (1, 0) and (0, 1), whose mean points along (1, 1); the negative is (-1, 0).
    features = np.array([[2.0, 0.0], [0.0, 9.0], [-3.0, 0.0], [4.0, 0.0], [0.0, -1.0]])
    draw = Draw(np.array([0, 1, 2]), np.array([1, 1, 0]))
    root = np.sqrt(0.5)
    np.testing.assert_allclose(prototype_scores(features, [draw], np.array([3, 4]))[0], [root + 1, -root], atol=1e-12)


def test_neighbours_vote_as_in_scikit_learn(films):
    features, labels = films
    draws = [_draw(labels, 8, 0), _draw(labels, 8, 1), _draw(labels, 1, 2)]
    scores = neighbour_scores(features, draws, np.arange(200, 300))
    for draw, found in zip(draws, scores, strict=True):
        count = min(5, len(draw.rows))
        theirs = KNeighborsClassifier(
            count, metric="cosine", algorithm="brute", weights=lambda distances: np.exp(-distances / 0.07)
        ).fit(features[draw.rows], draw.labels)
        share = theirs.predict_proba(features[200:])[:, 1]
        distances = theirs.kneighbors(features[200:])[0]
        np.testing.assert_allclose(found, (2 * share - 1) * np.exp(-distances / 0.07).sum(axis=1), rtol=1e-3)


def test_neighbours_by_hand_and_in_parts(monkeypatch):
    features = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [1.0, 1.0]])
    draw = Draw(np.array([0, 1]), np.array([1, 0]))
    whole = neighbour_scores(features, [draw], np.array([2, 3]))
    np.testing.assert_allclose(whole[0], [1 - np.exp(-1 / 0.07), 0], atol=1e-12)
    monkeypatch.setattr("scarce_cxr.evaluation.probe._TOGETHER", 2)
    np.testing.assert_array_equal(neighbour_scores(features, [draw], np.array([2, 3])), whole)


def test_probes_that_did_not_converge_are_marked_and_counted(films, monkeypatch, caplog):
    features, labels = films
    monkeypatch.setattr(logistic, "_NEWTON_STEPS", 1)
    with caplog.at_level(logging.WARNING):
        probes = fit_probes(features, [_draw(labels, 10, 0)])
    assert not probes.converged[0]
    assert "1 of 1 probes did not converge" in caplog.text


def test_what_cannot_be_fitted_is_refused(films):
    features, labels = films
    draw = _draw(labels, 5, 0)
    with pytest.raises(ScarceError, match="both classes"):
        fit_probes(features, [Draw(draw.rows[:5], draw.labels[:5])])
    with pytest.raises(ScarceError, match="strengths above 0"):
        fit_probes(features, [draw], strengths=[0.0])
    with pytest.raises(ScarceError, match="at least one draw"):
        prototype_scores(features, [], np.arange(3))
    with pytest.raises(ScarceError, match="finite features"):
        fit_probes(np.full_like(features, np.nan), [draw])
    with pytest.raises(ScarceError, match="train split"):
        standardise(features, np.zeros(300, dtype=bool))
