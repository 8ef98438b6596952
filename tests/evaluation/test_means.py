"""Intervals of means, rates and calibration agree with textbooks, hand-worked cases and simulated truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t, ttest_1samp

from scarce_cxr.evaluation.intervals import auroc_interval, delong_covariance, place
from scarce_cxr.evaluation.means import (
    auroc_influence,
    correlations,
    film_mean_interval,
    mean_interval,
    p_of,
    perfect_calibration_error,
    rate_interval,
)
from scarce_cxr.evaluation.scores import auroc, expected_calibration_error


def draw_films(seed: int, films: int = 120, draws: int = 1, findings: int = 1, distance: float = 1.0):
    """Labels (F, n) and scores (F, D, n) of findings that share patients (two films each) and what films look like."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((findings, films), dtype=int)
    for row in labels:
        row[generator.permutation(films)[: films // 5]] = 1
    likeness = generator.normal(size=films) + np.repeat(generator.normal(size=films // 2), 2)
    own = generator.normal(size=(findings, draws, films))
    scores = likeness + own + distance * np.sqrt(3) * labels[:, None]
    return labels, scores, np.repeat(np.arange(films // 2).astype(str), 2)


def test_the_influence_has_delongs_variance_for_one_draw():
    labels, scores, patients = draw_films(0)
    found = auroc_influence(scores[0], labels[0], patients)
    assert found.estimates == pytest.approx(auroc(scores[0], labels[0]))
    assert found.values.sum() == pytest.approx(0, abs=1e-12)
    # The factors differ: that of all patients here, those of each class there.
    assert found.variance == pytest.approx(delong_covariance(place(scores[0], labels[0], patients))[0, 0], rel=0.06)


def test_the_influence_is_what_leaving_a_patient_out_changes():
    labels, scores, patients = draw_films(1, films=400)
    found = auroc_influence(scores[0], labels[0], patients)
    change = []
    for patient in found.patients[:20]:
        kept = patients != patient
        change.append(auroc(scores[0][:, kept], labels[0][kept])[0] - found.estimates[0])
    np.testing.assert_allclose(-found.values[0, :20], change, atol=2e-4)


def test_findings_that_share_films_vary_together_as_resampled_patients_say():
    labels, scores, patients = draw_films(2, films=600, findings=3)
    labels[1] = labels[0]
    found = correlations([auroc_influence(scores[f], labels[f], patients) for f in range(3)])
    generator, resampled = np.random.default_rng(0), []
    films_of = np.arange(600).reshape(-1, 2)
    for _ in range(600):
        films = films_of[generator.integers(300, size=300)].ravel()
        resampled.append([auroc(scores[f][:, films], labels[f][films])[0] for f in range(3)])
    np.testing.assert_allclose(found, np.corrcoef(np.array(resampled).T), atol=0.12)
    assert found[0, 1] > 0.4


def test_the_mean_of_one_is_itself_and_of_two_equal_ones_too():
    ends = np.array([[0.6, 0.9]])
    assert mean_interval(np.array([0.8]), ends, np.eye(1))[:2] == pytest.approx((0.6, 0.9))
    twice = mean_interval(np.array([0.8, 0.8]), np.repeat(ends, 2, axis=0), np.ones((2, 2)))
    assert twice[:2] == pytest.approx((0.6, 0.9))


def test_the_mean_of_two_independent_ones_by_hand():
    # Mean 0.7; below it sqrt(0.3^2 + 0.4^2) / 2 = 0.25, above it sqrt(0.12^2 + 0.05^2) / 2 = 0.065.
    found = mean_interval(np.array([0.8, 0.6]), np.array([[0.5, 0.92], [0.2, 0.65]]), np.eye(2))
    assert found[:2] == pytest.approx((0.45, 0.765))


@pytest.mark.parametrize(("films", "draws", "least"), [(60, 1, 0.91), (160, 4, 0.91)])
def test_intervals_of_a_mean_cover_the_truth(films, draws, least):
    truth, covered, studies = norm.cdf(1 / np.sqrt(2)), 0, 150
    for study in range(studies):
        labels, scores, patients = draw_films(100 + study, films, draws, findings=3)
        cells = [(scores[f], labels[f], patients) for f in range(3)]
        influences = [auroc_influence(*cell) for cell in cells]
        ends = np.array([auroc_interval(*cell)[:2] for cell in cells])
        estimates = np.array([influence.estimates.mean() for influence in influences])
        low, high, _ = mean_interval(estimates, ends, correlations(influences))
        covered += low <= truth <= high
    # With 95 %, 150 studies fall below 91 % once in fifty times.
    assert covered / studies >= least


def test_the_p_value_of_an_interval_is_students():
    values = np.array([0.1, 0.3, -0.05, 0.2, 0.15, 0.02])
    said = ttest_1samp(values, 0)
    low, high = said.confidence_interval(0.95)
    assert p_of(values.mean(), low, high, 5) == pytest.approx(said.pvalue)
    assert p_of(-values.mean(), -high, -low, 5) == pytest.approx(said.pvalue)
    assert p_of(0.1, 0.0, 0.2, 12) == pytest.approx(0.05)
    assert p_of(0.0, -0.1, 0.1, 12) == 1


@pytest.mark.parametrize("hits", [0, 1, 9, 30])
def test_a_rate_of_one_draw_and_one_film_a_patient_has_wilsons_interval(hits):
    decisions = (np.arange(30) < hits)[None]
    rate, found = rate_interval(decisions, np.arange(30).astype(str))
    said = binomtest(hits, 30).proportion_ci(method="wilson")
    assert rate == pytest.approx(hits / 30)
    assert found[:2] == pytest.approx((said.low, said.high), abs=1e-9)


def test_a_rate_counts_patients_and_draws():
    decisions = (np.arange(30) < 9)[None]
    alone = rate_interval(decisions, np.arange(30).astype(str))[1]
    # Three films a patient, all alike, are ten observations; and draws that disagree widen the interval.
    tripled = rate_interval(np.repeat(decisions, 3, axis=1)[:, ::1], np.repeat(np.arange(30), 3))[1]
    assert tripled[:2] == pytest.approx(alone[:2])
    disagreeing = rate_interval(np.array([[True] * 30, [False] * 30]), np.arange(30).astype(str))[1]
    assert disagreeing.high - disagreeing.low > 2 * (alone.high - alone.low)


def test_a_mean_over_films_has_students_interval():
    values = np.random.default_rng(0).uniform(size=(1, 50))
    mean, found = film_mean_interval(values, np.arange(50).astype(str))
    said = ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert mean == pytest.approx(values.mean())
    assert found[:2] == pytest.approx((said.low, said.high))


def test_draws_that_differ_widen_the_interval_of_a_mean_over_films():
    values = np.random.default_rng(0).uniform(size=(4, 50)) * 0.01 + np.array([[0.1], [0.2], [0.3], [0.4]])
    _, found = film_mean_interval(values, np.arange(50).astype(str))
    error = np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2
    assert found.high - found.low == pytest.approx(2 * t.ppf(0.975, 49) * error, rel=0.05)


def test_perfect_probabilities_have_the_calibration_error_that_is_foretold():
    generator = np.random.default_rng(0)
    probabilities = generator.beta(1, 4, size=(2, 150))
    labels = generator.uniform(size=(400, 2, 150)) < probabilities
    simulated = [
        [expected_calibration_error(probabilities[draw : draw + 1], of[draw])[0] for draw in range(2)] for of in labels
    ]
    foretold = perfect_calibration_error(probabilities)
    np.testing.assert_allclose(foretold, np.mean(simulated, axis=0), rtol=0.06)
