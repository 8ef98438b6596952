"""Intervals against a published example, formulas written out, scikit-learn, and simulated studies."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t
from sklearn.metrics import average_precision_score, roc_auc_score

from scarce_cxr.evaluation.intervals import (
    MANY_PATIENTS,
    auprc_interval,
    auroc_interval,
    auroc_intervals,
    bootstrap,
    bootstrap_interval,
    delong,
    delong_covariance,
    place,
)

STUDY = Path(__file__).parents[2] / "studies" / "interval_coverage.py"


@pytest.fixture(scope="module")
def study() -> object:
    """The study that measures how often intervals cover."""
    specification = importlib.util.spec_from_file_location("interval_coverage", STUDY)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def draw(draws: int = 3, films: int = 120, patients: int = 50, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores with ties, labels of which a third are positive, and patients, some with films of both classes."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(films) < 0.33).astype(int)
    scores = np.round(generator.standard_normal((draws, films)) + generator.standard_normal(films) + labels, 1)
    return scores, labels, generator.integers(0, patients, films)


def test_delong_agrees_with_the_published_example(ovarian):
    """Areas and standard errors as SAS prints them for the data of DeLong et al. 1988."""
    placements = place(*ovarian)
    assert placements.auroc == pytest.approx([0.7366, 0.7258, 0.6478], abs=5e-5)
    assert np.sqrt(np.diag(delong_covariance(placements))) == pytest.approx([0.0927, 0.1028, 0.1000], abs=5e-5)
    low, high, _ = delong(ovarian[0][0], ovarian[1])
    assert (low, high) == pytest.approx((0.5549, 0.9182), abs=5e-5)


def test_covariance_is_obuchowskis_formula_written_out():
    scores, labels, patients = draw()
    first, second = scores[:2]
    M, N = labels.sum(), (1 - labels).sum()

    def components(row):
        wins = (row[labels == 1][:, None] > row[labels == 0]) + 0.5 * (row[labels == 1][:, None] == row[labels == 0])
        return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)

    sums = {"10": 0.0, "01": 0.0, "11": 0.0}
    (area_a, v10_a, v01_a), (area_b, v10_b, v01_b) = components(first), components(second)
    with_positive = with_negative = 0
    for patient in np.unique(patients):
        own_positives, own_negatives = patients[labels == 1] == patient, patients[labels == 0] == patient
        with_positive, with_negative = with_positive + own_positives.any(), with_negative + own_negatives.any()
        x_a, x_b = ((v - area)[own_positives].sum() for v, area in ((v10_a, area_a), (v10_b, area_b)))
        y_a, y_b = ((v - area)[own_negatives].sum() for v, area in ((v01_a, area_a), (v01_b, area_b)))
        sums["10"], sums["01"] = sums["10"] + x_a * x_b, sums["01"] + y_a * y_b
        sums["11"] += x_a * y_b + x_b * y_a
    known = len(np.unique(patients))
    s10 = with_positive / (with_positive - 1) / M * sums["10"]
    s01 = with_negative / (with_negative - 1) / N * sums["01"]
    s11 = known / (known - 1) * sums["11"]
    expected = s10 / M + s01 / N + s11 / (M * N)
    assert delong_covariance(place(scores, labels, patients))[0, 1] == pytest.approx(expected, rel=1e-12)


def test_a_patient_whose_films_are_copies_counts_once():
    scores, labels, _ = draw()
    single = delong_covariance(place(scores, labels))
    copied = place(np.repeat(scores, 3, axis=1), np.repeat(labels, 3), np.repeat(np.arange(len(labels)), 3))
    assert delong_covariance(copied) == pytest.approx(single, rel=1e-12)


@pytest.mark.parametrize("method", ["DeLong", "logit-DeLong", "shrunken logit-DeLong"])
def test_intervals_have_the_symmetries_of_the_area(method):
    scores, labels, patients = draw()
    low, high, _ = auroc_intervals(place(scores, labels, patients), method)
    # Scores turned round and classes exchanged: the same area.
    assert auroc_intervals(place(-scores, 1 - labels, patients), method)[0] == pytest.approx(low)
    # Scores turned round alone: one less the area.
    turned = auroc_intervals(place(-scores, labels, patients), method)
    assert 1 - turned[1] == pytest.approx(low)
    assert 1 - turned[0] == pytest.approx(high)
    # Only the order counts.
    assert auroc_intervals(place(np.exp(scores), labels, patients), method)[1] == pytest.approx(high)


def test_method_is_chosen_by_the_patients_of_the_rarer_class():
    generator = np.random.default_rng(0)
    for positives, method in ((MANY_PATIENTS, "logit-DeLong"), (MANY_PATIENTS - 1, "shrunken logit-DeLong")):
        labels = np.repeat([1, 0], [positives, 2 * MANY_PATIENTS])
        found = auroc_interval(generator.standard_normal(len(labels)) + labels, labels)
        assert found.method == method
    # As many films, but of half as many patients.
    labels = np.repeat([1, 0], [MANY_PATIENTS, 2 * MANY_PATIENTS])
    scores = generator.standard_normal(len(labels))
    assert auroc_interval(scores, labels, np.arange(len(labels)) // 2).method == "shrunken logit-DeLong"


def test_many_patients_make_all_methods_agree():
    generator = np.random.default_rng(1)
    labels = np.repeat([1, 0], [600, 1500])
    scores = generator.standard_normal(2100) + labels
    first, *others = (
        np.ravel(auroc_intervals(place(scores, labels), method)[:2])
        for method in ("DeLong", "logit-DeLong", "shrunken logit-DeLong")
    )
    others.append(bootstrap_interval(scores, labels, replicates=1000)[:2])
    for ends in others:
        assert ends == pytest.approx(first, abs=0.1 * np.ptp(first))


def test_perfect_separation_leaves_doubt_that_shrinks_with_the_patients():
    lows = []
    for positives in (3, 10, 30, 100, 300):
        labels = np.repeat([1, 0], [positives, 300])
        low, high, method = auroc_interval(labels + np.linspace(0, 0.5, len(labels)), labels)
        assert method == "shrunken logit-DeLong"
        assert high == 1
        lows.append(low)
    assert lows == sorted(lows)
    # Three positives above all negatives leave much open, a hundred hardly anything.
    assert 0.3 < lows[0] < 0.8
    assert 0.85 < lows[1] < 0.97
    assert 0.98 < lows[3] < lows[4] < 1


def test_a_single_positive_says_nearly_nothing():
    labels = np.r_[1, np.zeros(100, dtype=int)]
    low, high, _ = auroc_interval(np.linspace(0, 1, 101)[::-1], labels)
    assert low < 0.5
    assert high == 1


def test_draws_that_are_all_the_same_are_one_model():
    scores, labels, patients = draw(draws=1)
    single, copied = (auroc_interval(each, labels, patients) for each in (scores, np.repeat(scores, 5, axis=0)))
    assert copied[:2] == pytest.approx(single[:2], abs=1e-9)


def test_with_endless_patients_only_the_draws_are_left():
    """The interval of the mean of D numbers by Student's t, on the logit scale."""
    generator = np.random.default_rng(2)
    labels = np.repeat([1, 0], 20_000)
    scores = generator.standard_normal((5, 40_000)) + labels * np.array([[0.5], [1.0], [1.5], [2.0], [2.5]])
    areas = np.array([roc_auc_score(labels, row) for row in scores])
    mean = areas.mean()
    half = t.ppf(0.975, 4) * areas.std(ddof=1) / np.sqrt(5) / (mean * (1 - mean))
    low, high, _ = auroc_interval(scores, labels)
    assert (low, high) == pytest.approx((expit(logit(mean) - half), expit(logit(mean) + half)), abs=0.002)


@pytest.mark.parametrize(
    ("measure", "reference"), [("auroc", roc_auc_score), ("auprc", average_precision_score)], ids=["auroc", "auprc"]
)
def test_replicates_are_scikit_learns_score_of_films_that_are_repeated(measure, reference, monkeypatch):
    from scarce_cxr.evaluation import intervals

    seen = []
    resampled = intervals._resampled
    monkeypatch.setattr(intervals, "_resampled", lambda *given: seen.append(resampled(*given)) or seen[-1])
    scores, labels, patients = draw()
    found = bootstrap(scores, labels, patients, measure, replicates=20)
    owner = np.unique(patients, return_inverse=True)[1]
    for row, weights in zip(found, np.concatenate(seen, axis=1)[owner].T, strict=True):
        assert row == pytest.approx([reference(labels, each, sample_weight=weights) for each in scores])


def test_replicates_keep_the_patients_of_either_kind():
    labels = np.r_[1, 1, np.zeros(50, dtype=int)]
    scores = np.r_[5.0, 5.0, np.zeros(50)]
    # Both positives are one patient, who is in every replicate.
    assert (bootstrap(scores, labels, np.r_[0, 0, np.arange(1, 51)], replicates=200) == 1).all()


def test_replicates_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    from scarce_cxr.evaluation import intervals

    given = draw()
    whole = bootstrap(*given, replicates=50)
    assert np.array_equal(whole, bootstrap(*given, replicates=50))
    monkeypatch.setattr(intervals, "_CHUNK", 500)
    parts = bootstrap(*given, replicates=50)
    assert parts.shape == whole.shape
    assert parts.mean(axis=0) == pytest.approx(whole.mean(axis=0), abs=0.05)


def test_average_precision_lies_in_its_interval_at_the_edges_too():
    labels = np.repeat([1, 0], [10, 100])
    perfect = auprc_interval(labels + np.linspace(0, 0.5, 110), labels, replicates=200)
    assert perfect.high == 1
    assert 0.5 < perfect.low < 0.95
    scores, labels, patients = draw()
    low, high, _ = auprc_interval(scores, labels, patients, replicates=200)
    assert low < np.mean([average_precision_score(labels, row) for row in scores]) < high


def test_more_draws_that_agree_do_not_narrow_the_interval_of_average_precision():
    scores, labels, patients = draw(draws=1)
    single, copied = (
        auprc_interval(each, labels, patients, replicates=300) for each in (scores, np.repeat(scores, 5, axis=0))
    )
    assert copied[:2] == pytest.approx(single[:2], abs=1e-9)


@pytest.mark.parametrize("function", [auroc_interval, auprc_interval, bootstrap_interval])
def test_one_class_alone_has_no_interval(function):
    with pytest.raises(ValueError, match="both classes"):
        function(np.arange(4.0), np.zeros(4))


def test_ten_positives_are_covered_where_delong_is_not(study):
    rows = {row["method"]: row for row in study.measure(study.Cell("model", 10, 100, 0.9, "binormal", True), 300)}
    assert rows["chosen"]["coverage"] >= 0.93
    assert rows["DeLong"]["coverage"] < 0.88


def test_simulated_truths_are_those_of_large_samples(study):
    generator = np.random.default_rng(3)
    for name, auc in (("binormal", 0.9), ("wide", 0.7), ("exponential", 0.9), ("t3", 0.9), ("ratings", 0.7)):
        cell = study.Cell("model", 8_000, 8_000, auc, name, False)
        sample = study.draw_sample(cell, generator)
        assert place(study.draw_scores(cell, sample, 1, generator), *sample).auroc == pytest.approx([auc], abs=0.012)
    cell = study.Cell("auprc", 10_000, 30_000, 0.8, "binormal", False)
    sample = study.draw_sample(cell, generator)
    scores = study.draw_scores(cell, sample, 1, generator)[0]
    assert average_precision_score(sample.labels, scores) == pytest.approx(study.truth_of(cell), abs=0.015)


def test_simulated_patients_have_one_to_four_films_that_are_alike(study):
    generator = np.random.default_rng(4)
    cell = study.Cell("model", 300, 3000, 0.7, "binormal", True)
    sample = study.draw_sample(cell, generator)
    films = np.bincount(sample.patients)
    assert sample.labels.sum() == 300
    assert len(sample.labels) == 3300
    assert set(films) == {1, 2, 3, 4}
    effects = study.draw_effects(sample, True, 200, generator)
    pairs = np.flatnonzero(sample.patients[:-1] == sample.patients[1:])
    assert np.mean(effects[:, pairs] * effects[:, pairs + 1]) == pytest.approx(study.LIKENESS, abs=0.02)


@pytest.fixture(scope="module")
def table(study) -> pd.DataFrame:
    """The kept results of the study."""
    return pd.read_csv(study.RESULTS)


def test_kept_study_is_whole(study, table):
    assert set(table[list(study.Cell._fields)].itertuples(index=False, name=None)) == set(map(tuple, study.cells()))
    assert (table["studies"] >= 1000).all()


def test_kept_study_shows_that_the_chosen_intervals_cover(table):
    chosen = table[(table["method"] == "chosen") & (table["measured"] == "model")]
    assert (chosen[chosen["positives"] <= 10]["coverage"] >= 0.95).all()
    more = chosen[chosen["positives"] >= 30]
    assert more[more["distribution"] == "binormal"]["coverage"].between(0.93, 0.977).all()
    assert more["coverage"].between(0.93, 0.97).mean() > 0.9
    # Of so many cells some lie outside by chance: none by more than that.
    assert ((more["covered_low"] <= 0.97) & (more["covered_high"] >= 0.93)).all()


def test_kept_study_shows_that_the_other_printed_intervals_cover(table):
    methods = {"draws": "chosen", "auprc": "shrunken logit-bootstrap", "difference": "stretched bootstrap"}
    printed = table[table["method"] == table["measured"].map(methods)]
    assert set(printed["measured"]) == set(methods)
    assert printed["coverage"].between(0.93, 0.985).all()


@pytest.mark.slow
@pytest.mark.parametrize("clustered", [True, False])
@pytest.mark.parametrize("auc", [0.9, 0.7])
@pytest.mark.parametrize(("positives", "least", "most"), [(10, 0.92, 1.0), (30, 0.92, 0.98), (100, 0.92, 0.98)])
def test_intervals_cover_the_truth(study, positives, least, most, auc, clustered):
    (chosen,) = (
        row
        for row in study.measure(study.Cell("model", positives, 100, auc, "exponential", clustered), 500)
        if row["method"] == "chosen"
    )
    assert least <= chosen["coverage"] <= most


@pytest.mark.slow
@pytest.mark.parametrize("positives", [10, 30])
@pytest.mark.parametrize(
    ("measured", "draws", "method"),
    [("draws", 20, "chosen"), ("auprc", 1, "shrunken logit-bootstrap"), ("difference", 5, "stretched bootstrap")],
)
def test_other_intervals_cover_the_truth(study, measured, draws, method, positives):
    rows = study.measure(study.Cell(measured, positives, 100, 0.9, "binormal", True, draws), 200)
    (found,) = (row for row in rows if row["method"] == method)
    assert found["coverage"] >= 0.91
