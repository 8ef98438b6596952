"""Learning curves whose law is known."""

import numpy as np
import pytest

from scarce_cxr.evaluation.learning_curve import Curve, fit_curve, labels_needed

SHOTS = np.array([1, 5, 10, 20, 50])


def draw(ceiling: float, gain: float, rate: float, noise: float = 0.0, draws: int = 20, seed: int = 0) -> np.ndarray:
    """AUROCs (5, draws) that scatter around a power law, less so with more shots."""
    law = ceiling - gain * SHOTS[:, None] ** -rate
    return law + noise * SHOTS[:, None] ** -0.3 * np.random.default_rng(seed).standard_normal((5, draws))


def test_a_law_without_noise_is_found_again():
    curve = fit_curve(SHOTS, draw(0.9, 0.35, 0.5), resamples=3)
    assert curve[:3] == pytest.approx((0.9, 0.35, 0.5), abs=1e-3)
    assert curve([100]) == pytest.approx([0.9 - 0.35 * 100**-0.5], abs=1e-3)
    # 0.9 - 0.35 / sqrt(k) = 0.83 at k = 25.
    found = labels_needed(curve, 0.83)
    assert found.told
    assert found.words == "about 25 positives (25 to 25) reach 0.83"


def test_order_of_the_shots_and_empty_cells_do_not_matter():
    aurocs = draw(0.9, 0.35, 0.5, noise=0.02)
    whole, turned = fit_curve(SHOTS, aurocs, resamples=5), fit_curve(SHOTS[::-1], aurocs[::-1], resamples=5)
    assert turned[:3] == pytest.approx(whole[:3], abs=1e-4)
    with_gap = np.vstack([aurocs, np.full((1, 20), np.nan)])
    assert fit_curve([*SHOTS, 100], with_gap, resamples=5)[:3] == pytest.approx(whole[:3])
    holed = aurocs.copy()
    holed[2, 3] = np.nan
    assert fit_curve(SHOTS, holed, resamples=5)[:3] == pytest.approx(whole[:3], abs=0.05)


def test_three_shots_are_too_few_for_three_numbers_and_their_doubt():
    assert fit_curve(SHOTS[:3], draw(0.9, 0.35, 0.5)[:3]) is None
    single = draw(0.9, 0.35, 0.5)
    single[:2, 1:] = np.nan
    assert fit_curve(SHOTS, single) is None


def test_intervals_hold_the_true_number_of_labels():
    held = 0
    for seed in range(8):
        curve = fit_curve(SHOTS, draw(0.9, 0.35, 0.5, noise=0.08, seed=seed), resamples=60, seed=seed)
        low, high = curve.band([30])
        assert low[0] < curve([30])[0] < high[0]
        found = labels_needed(curve, 0.83)
        held += found.low <= 25 <= found.high
    assert held >= 6


def test_a_target_far_beyond_the_shots_cannot_be_told():
    curve = fit_curve(SHOTS, draw(0.9, 0.35, 0.5, noise=0.08), resamples=60)
    found = labels_needed(curve, 0.89)
    assert not found.told
    assert np.isnan(found.estimate)
    assert found.high == np.inf
    assert "cannot be told from these shots" in found.words


def test_a_curve_that_levels_off_below_the_target_never_reaches_it():
    resampled = np.array([[0.80, 0.2, 1.0], [0.81, 0.2, 1.0], [0.82, 0.2, 1.0]])
    found = labels_needed(Curve(0.81, 0.2, 1.0, resampled, SHOTS), 0.9)
    assert found.told
    assert found.low == np.inf
    assert "levels off at 0.81" in found.words


def test_a_flat_curve_above_the_target_needs_one_label():
    found = labels_needed(fit_curve(SHOTS, draw(0.9, 0.0, 1.0), resamples=3), 0.8)
    assert found.told
    assert found.estimate == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="AUROCs must be"):
        fit_curve(SHOTS, np.zeros((4, 20)))
    curve = Curve(0.9, 0.3, 0.5, np.array([[0.9, 0.3, 0.5]]), SHOTS)
    with pytest.raises(ValueError, match="must lie between"):
        labels_needed(curve, 1.0)
