"""`FewShotProbe` keeps scikit-learn's conventions, and is the probe of `scarce probe`."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from scarce_cxr.evaluation.estimator import FewShotProbe
from scarce_cxr.evaluation.probe import assign_folds, fit_probes, score_probes, standardise
from scarce_cxr.images.shots import Shots

GENERATOR = np.random.default_rng(0)
POOL = GENERATOR.normal(size=(300, 40)) * np.linspace(0.1, 5, 40) + 3
LABELLED, PATIENTS = np.arange(30), np.array([f"p{number // 2}" for number in range(300)])
LABELS = (POOL[:, :8].sum(axis=1) + 2 * GENERATOR.normal(size=300) > POOL[:, :8].sum(axis=1).mean()).astype(int)


# check_array_api_input skips itself unless SCIPY_ARRAY_API is set; there is no array API here.
@parametrize_with_checks([FewShotProbe()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_it_is_the_probe_of_the_command():
    """Standardised by the whole pool, which is not labelled, as `scarce probe` standardises by the train split."""
    shown = standardise(POOL, np.arange(300))
    shots = Shots(LABELLED, LABELS[LABELLED], int(LABELS[LABELLED].sum()), 0, 15)
    expected = fit_probes(shown, [shots], patients=PATIENTS)
    probe = FewShotProbe().fit(POOL[LABELLED], LABELS[LABELLED], groups=PATIENTS[LABELLED], unlabelled=POOL)
    assert probe.strength_ == expected.strength[0]
    assert np.allclose(probe.decision_function(POOL), score_probes(shown, expected)[0], atol=1e-4)


def test_it_agrees_with_scikit_learns_logistic_regression_of_the_chosen_strength():
    probe = FewShotProbe(strengths=[0.05]).fit(POOL[LABELLED], LABELS[LABELLED])
    scaler = StandardScaler().fit(POOL[LABELLED])
    theirs = LogisticRegression(C=0.05, tol=1e-8).fit(scaler.transform(POOL[LABELLED]), LABELS[LABELLED])
    assert np.allclose(probe.predict_proba(POOL), theirs.predict_proba(scaler.transform(POOL)), atol=1e-4)


def test_classes_may_have_names_and_the_later_one_is_the_positive_one():
    names = np.where(LABELS == 1, "sick", "healthy")
    probe = FewShotProbe().fit(POOL[LABELLED], names[LABELLED])
    assert probe.classes_.tolist() == ["healthy", "sick"]
    assert np.array_equal(probe.predict(POOL) == "sick", probe.predict_proba(POOL)[:, 1] > 0.5)


def test_groups_keep_a_patients_films_in_one_fold():
    """Every film is there twice, under labels of chance: only folds that part the copies make a weak bond look good."""
    once = GENERATOR.normal(size=(20, 200))
    features, labels = np.repeat(once, 2, axis=0), np.repeat(np.arange(20) % 2, 2)
    patients = np.repeat([f"p{number}" for number in range(20)], 2)
    folds = assign_folds(np.arange(40), labels, 5, patients)
    assert all(len(set(folds[patients == name])) == 1 for name in patients)
    grouped = FewShotProbe().fit(features, labels, groups=patients)
    apart = FewShotProbe().fit(features, labels)
    assert grouped.strength_ < apart.strength_


def test_it_goes_through_cross_validation_by_patients():
    scores = cross_val_score(
        FewShotProbe(), POOL, LABELS, groups=PATIENTS, cv=GroupKFold(3), scoring="roc_auc", params=None
    )
    assert scores.min() > 0.6


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({"strengths": [0.0]}, {}, "strengths above 0"),
        ({}, {"unlabelled": POOL[:, :3]}, "unlabelled films of 40 features"),
        ({}, {"groups": ["p1"]}, "inconsistent numbers of samples"),
    ],
)
def test_what_does_not_fit_is_said_in_a_value_error(settings: dict, more: dict, words: str):
    with pytest.raises(ValueError, match=words):
        FewShotProbe(**settings).fit(POOL[LABELLED], LABELS[LABELLED], **more)
