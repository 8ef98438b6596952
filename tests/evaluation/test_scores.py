"""Scores against scikit-learn, ties included, and against values worked out by hand."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from scarce_cxr.evaluation.scores import (
    auprc,
    auroc,
    brier,
    calibrate,
    cut_at,
    expected_calibration_error,
    prevalence,
    sensitivity_at,
)


def draw(draws: int = 6, films: int = 200, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(films) < 0.15).astype(np.int8)
    return np.round(generator.standard_normal((draws, films)) + labels, decimals), labels


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auroc_and_average_precision_are_scikit_learns_with_ties(decimals):
    scores, labels = draw(decimals=decimals)
    assert auroc(scores, labels) == pytest.approx([roc_auc_score(labels, row) for row in scores], abs=1e-14)
    assert auprc(scores, labels) == pytest.approx([average_precision_score(labels, row) for row in scores], abs=1e-14)


def test_auroc_by_hand():
    # Of the six pairs four are in order, one is a tie, one is not in order.
    assert auroc([3.0, 2.0, 2.0, 1.0, 0.0], [1, 0, 1, 0, 0]) == pytest.approx([5.5 / 6])
    assert auroc([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], [1, 0, 0]) == pytest.approx([0.5, 1.0, 0.0])


def test_scores_without_information_have_the_prevalence_as_average_precision():
    labels = np.array([1, 0, 0, 0, 0])
    assert prevalence(labels) == pytest.approx(0.2)
    assert auprc(np.zeros(5), labels) == pytest.approx([0.2])


def test_a_class_without_films_has_no_score():
    assert np.isnan(auroc([[1.0, 2.0]], [0, 0])).all()
    assert np.isnan(auprc([[1.0, 2.0]], [0, 0])).all()
    assert np.isnan(sensitivity_at(0.9, [[1.0, 2.0]], [0, 1], [[1.0, 2.0]], [0, 0]).sensitivity).all()


@pytest.mark.parametrize(("scores", "labels"), [([1.0, 2.0], [0, np.nan]), ([np.nan, 2.0], [0, 1]), ([1.0], [0, 1])])
def test_what_does_not_fit_is_refused(scores, labels):
    with pytest.raises(ValueError, match=r"labels|scores"):
        auroc(np.array(scores), np.array(labels))


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 0.95, 1.0])
def test_a_cut_is_the_best_point_of_scikit_learns_curve(specificity):
    scores, labels = draw()
    found = sensitivity_at(specificity, scores, labels, scores, labels)
    for row, sensitivity, reached in zip(scores, found.sensitivity, found.specificity, strict=True):
        wrong, right, _ = roc_curve(labels, row, drop_intermediate=False)
        allowed = wrong <= 1 - specificity + 1e-9
        assert sensitivity == pytest.approx(right[allowed].max())
        assert reached >= specificity - 1e-9


def test_the_cut_comes_from_the_tuning_films_alone():
    tune_scores, tune_labels = draw(seed=1)
    scores, labels = draw(seed=2)
    found = sensitivity_at(0.9, tune_scores, tune_labels, scores, labels)
    assert found.cuts == pytest.approx(cut_at(0.9, tune_scores, tune_labels))
    for row, cut, sensitivity, specificity in zip(scores, *found[2:], *found[:2], strict=True):
        assert sensitivity == pytest.approx(np.mean(row[labels == 1] > cut))
        assert specificity == pytest.approx(np.mean(row[labels == 0] <= cut))


def test_nine_of_ten_negatives_are_ninety_per_cent():
    # 0.9 x 10 in floating point must not ask for a tenth negative.
    scores = np.arange(11.0)
    assert cut_at(0.9, scores, np.r_[np.zeros(10), 1]) == pytest.approx([8.0])


def test_brier_is_scikit_learns():
    scores, labels = draw()
    probabilities = expit(scores)
    assert brier(probabilities, labels) == pytest.approx([brier_score_loss(labels, row) for row in probabilities])


def test_calibration_error_is_that_of_scikit_learns_curve():
    scores, labels = draw()
    # Ties on the edges of bins too.
    probabilities = np.round(expit(scores), 1)
    for row, error in zip(probabilities, expected_calibration_error(probabilities, labels), strict=True):
        true, predicted = calibration_curve(labels, row, n_bins=10)
        places = np.searchsorted(np.linspace(0, 1, 11)[1:-1], row)
        films = np.bincount(places, minlength=10)
        assert error == pytest.approx((np.abs(true - predicted) * films[films > 0]).sum() / len(row))


def test_calibration_error_by_hand():
    # One bin says 0.25 where a half is positive, the other 0.9 where all are.
    assert expected_calibration_error([0.25, 0.25, 0.9, 0.9], [1, 0, 1, 1], bins=2) == pytest.approx(
        [(0.25 * 2 + 0.1 * 2) / 4]
    )


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_platts_line_is_scikit_learns(scale):
    scores, labels = draw(films=80)
    found = calibrate(scale * scores, labels)
    for row, probabilities in zip(scores, found(scale * scores), strict=True):
        # scikit-learn fits the same line to the decision function of this model, which is the score times a factor.
        model = LogisticRegression().fit(row[:, None], labels)
        theirs = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid", ensemble=False)
        theirs.fit(row[:, None], labels)
        assert probabilities == pytest.approx(theirs.predict_proba(row[:, None])[:, 1], abs=2e-4)


def test_platts_line_stays_finite_where_the_classes_are_apart_or_the_scores_are_equal():
    found = calibrate(np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]]), np.array([0, 0, 1, 1]))
    assert np.isfinite(found.slope).all()
    assert found.slope[0] > 0
    # With one value for all, Platt's targets (p + 1) / (p + 2) and 1 / (q + 2) leave their mean: a half.
    assert found(np.full((2, 1), 5.0))[1] == pytest.approx(0.5)
