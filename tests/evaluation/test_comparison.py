"""Comparisons against values worked out by hand, a published example, and shuffled labels."""

import numpy as np
import pytest
from scipy.stats import t

from scarce_cxr.evaluation.comparison import (
    FEW_POSITIVES,
    digits,
    holm,
    in_digits,
    paired_difference,
    permutation_p,
    warning,
)
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.scores import auprc, auroc


def draw(draws: int = 4, gain: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores of two starts, the second better by `gain`, labels and patients of 100 films."""
    generator = np.random.default_rng(seed)
    patients = np.arange(100) // 2
    labels = np.isin(patients % 5, 0).astype(int)
    film = generator.standard_normal(100) + labels
    first = film + generator.standard_normal((draws, 100))
    return first, film + gain * labels + generator.standard_normal((draws, 100)), labels, patients


def test_two_fixed_models_agree_with_the_published_example(ovarian):
    """Estimate and standard error as SAS prints them for the data of DeLong et al. 1988; Student's t instead of z."""
    (albumin, score, protein), outcome = ovarian
    quantile = t.ppf(0.975, min(outcome.sum(), (1 - outcome).sum()) - 1)
    for first, estimate, error in ((albumin, 0.0108, 0.0953), (protein, -0.0780, 0.1046)):
        found = paired_difference(first, score, outcome)
        assert found.estimate == pytest.approx(estimate, abs=5e-5)
        assert (found.high - found.low) / (2 * quantile) == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("measure", ["auroc", "auprc"])
def test_starts_exchanged_turn_the_difference_round(draws, measure):
    first, second, labels, patients = draw(draws)
    there = paired_difference(second, first, labels, patients, measure, replicates=400)
    back = paired_difference(first, second, labels, patients, measure, replicates=400)
    of = auroc if measure == "auroc" else auprc
    assert there.estimate == pytest.approx(np.mean(of(second, labels)) - np.mean(of(first, labels)))
    assert (-back.high, -back.low) == pytest.approx((there.low, there.high))
    assert back.p == pytest.approx(there.p)
    assert there.low < there.estimate < there.high


def test_p_is_below_five_per_cent_where_the_interval_leaves_zero_out_and_only_there():
    found = [
        paired_difference(*draw(draws, gain, seed)[1::-1], *draw(draws)[2:], replicates=200)
        for gain in (0.0, 0.6, 1.2)
        for draws in (1, 3)
        for seed in range(12)
    ]
    outside = [not each.low <= 0 <= each.high for each in found]
    assert outside == [each.p < 0.05 for each in found]
    assert 0 < sum(outside) < len(outside)


def test_a_clear_difference_is_found_and_pairing_is_what_finds_it():
    first, second, labels, patients = draw(10, gain=1.0)
    found = paired_difference(second, first, labels, patients, replicates=500)
    assert found.low > 0
    assert found.p < 0.02
    # Both starts see the same hard films: apart, their intervals overlap.
    assert auroc_interval(first, labels, patients).high > auroc_interval(second, labels, patients).low


def test_the_same_scores_do_not_differ():
    first, _, labels, patients = draw()
    assert paired_difference(first, first.copy(), labels, patients) == (0, 0, 0, 1)


@pytest.mark.parametrize("draws", [1, 3])
def test_two_starts_without_fault_may_differ_all_the_same(draws):
    labels = np.repeat([1, 0], [5, 50])
    first, second = (labels + np.random.default_rng(seed).uniform(0, 0.9, (draws, 55)) for seed in range(2))
    found = paired_difference(first, second, labels)
    assert found.estimate == 0
    assert found.p == 1
    assert found.low < -0.05
    assert found.high > 0.05


def test_starts_with_other_draws_are_no_pair():
    first, second, labels, patients = draw()
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(first, second[:2], labels, patients)


def test_holm_by_hand():
    # In order: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert holm([]).shape == (0,)


def test_permutation_value_is_the_share_of_all_orders_worked_out_by_hand():
    # Two positives on top of four films: one of six choices of two does as well.
    found = permutation_p([4.0, 3.0, 2.0, 1.0], [1, 1, 0, 0], permutations=20_000)
    assert found.auroc == 1
    assert found.p == pytest.approx(1 / 6, abs=0.01)
    assert (found.exchanged, found.patients) == (4, 4)


def test_labels_go_to_patients_with_as_many_films_only():
    # Of the two patients with two films either may have the two positives; the third, with three, has nobody.
    scores, labels = [6.0, 5.0, 2.0, 1.0, 4.0, 3.0, 0.0], [1, 1, 0, 0, 0, 0, 0]
    found = permutation_p(scores, labels, np.array(["a", "a", "b", "b", "c", "c", "c"]), permutations=20_000)
    assert found.p == pytest.approx(1 / 2, abs=0.015)
    assert (found.exchanged, found.patients) == (2, 3)


def test_worse_than_chance_is_no_finding():
    labels = np.repeat([1, 0], 10)
    assert permutation_p(-labels.astype(float), labels, permutations=500).p > 0.95


def test_permutations_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    from scarce_cxr.evaluation import comparison

    first, _, labels, patients = draw()
    whole = permutation_p(first, labels, patients, permutations=2000)
    monkeypatch.setattr(comparison, "_CHUNK", 1000)
    assert permutation_p(first, labels, patients, permutations=2000).p == pytest.approx(whole.p, abs=0.02)


def test_shuffled_labels_are_seldom_better_than_chance_and_their_interval_holds_a_half():
    """200 shuffles over patients of five draws' scores, which are alike within a patient."""
    generator = np.random.default_rng(6)
    patients = np.repeat(np.arange(120), np.resize([1, 1, 2, 3], 120))
    own = generator.standard_normal(120)[patients]
    scores = own + generator.standard_normal((5, len(patients)))
    rejected = held = 0
    for shuffle in range(200):
        labels = (generator.permutation(120) < 20)[patients].astype(int)
        rejected += permutation_p(scores, labels, patients, permutations=300, seed=shuffle).p < 0.05
        low, high, _ = auroc_interval(scores, labels, patients)
        held += low <= 0.5 <= high
    assert rejected <= 17
    assert held >= 183


def test_a_real_finding_is_better_than_chance():
    first, _, labels, patients = draw()
    assert permutation_p(first, labels, patients, permutations=999).p < 0.01


def test_fewer_than_five_positive_patients_are_warned_of():
    labels = np.r_[np.ones(8), np.zeros(20)]
    assert warning(labels) is None
    assert "only 4 test patients have it (8 films)" in warning(labels, np.arange(28) // 2)
    assert "only 1 test patient has" in warning(labels[7:])
    assert warning(labels[8 - FEW_POSITIVES :]) is None


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.8312, 0.7123, 0.9087), "0.83 (0.71 to 0.91)"),
        ((0.9132, 0.5171, 0.9812), "0.9 (0.5 to 1.0)"),
        ((0.9132, 0.9011, 0.9242), "0.913 (0.901 to 0.924)"),
        ((0.0004, -0.12, 0.11), "0.00 (-0.12 to 0.11)"),
        ((-0.001, -0.12, 0.11), "0.00 (-0.12 to 0.11)"),
    ],
)
def test_no_more_digits_are_printed_than_the_interval_supports(numbers, words):
    assert in_digits(*numbers) == words


def test_digits_follow_the_standard_error():
    assert digits(0.5, 0.5 + 3.92 * 0.011) == 2
    assert digits(0.5, 0.5 + 3.92 * 0.009) == 3
    assert digits(0.0, 3.92 * 0.11) == 1
    assert digits(0.0, 1.0) == 1
    assert digits(0.0, np.inf) == 0


def test_fewer_digits_may_be_asked_for_but_not_more():
    assert in_digits(0.8312, 0.7123, 0.9087, most=1) == "0.8 (0.7 to 0.9)"
    assert in_digits(0.8312, 0.7123, 0.9087, most=5) == "0.83 (0.71 to 0.91)"
    with pytest.raises(ValueError, match="lie in its interval"):
        in_digits(0.6, 0.7, 0.9)
