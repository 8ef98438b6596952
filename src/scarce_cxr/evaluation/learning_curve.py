"""How the AUROC grows with the shots, and how many more labels would reach a target: a power law with its doubt.

AUROC(k) = ceiling - gain x k^-rate, the form that error curves of many learners follow (Cortes et al., "Learning
curves: asymptotic values and rate of convergence", NeurIPS 1993; Viering and Loog, "The Shape of Learning Curves: A
Review", TPAMI 2023). Draws are resampled; the test's patients are not: the answers hold for these patients, and are
for planning, not for a claim.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

RESAMPLES = 200
# An answer this many times beyond the largest shot is not believed.
FARTHEST = 10.0

_LEVEL = 0.975
# Ceiling, gain and rate. Slower rates are straight lines in log k, whose ceiling no shots could tell.
_LOWEST, _HIGHEST = (0.5, 0.0, 0.1), (1.0, 1.0, 2.0)
_START = (0.9, 0.3, 0.5)


class Curve(NamedTuple):
    """A fitted learning curve, by number of positive patients k.

    Attributes:
        ceiling: AUROC that it nears, in [0.5, 1].
        gain: what a single positive lacks to it, in [0, 1].
        rate: how fast the rest shrinks, in [0.1, 2].
        resampled: (R, 3) the same numbers of curves through resampled draws.
        shots: (S,) the k that it was fitted to, rising.
    """

    ceiling: float
    gain: float
    rate: float
    resampled: np.ndarray
    shots: np.ndarray

    def __call__(self, shots: np.ndarray) -> np.ndarray:
        """AUROC at these shots: (K,) -> (K,)."""
        return _power_law(np.asarray(shots, dtype=np.float64), self.ceiling, self.gain, self.rate)

    def band(self, shots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """95 % interval at each of these shots, over draws: (K,) -> (K,), (K,)."""
        ceilings, gains, rates = self.resampled.T[:, :, None]
        low, high = np.quantile(
            _power_law(np.asarray(shots, dtype=np.float64), ceilings, gains, rates), [1 - _LEVEL, _LEVEL], axis=0
        )
        return low, high


class LabelsNeeded(NamedTuple):
    """How many positive patients would reach a target.

    Attributes:
        estimate, low, high: numbers of positives with a 95 % interval over draws; nan or inf where none can be told.
        told: whether these shots can tell.
        words: the answer as a sentence.
    """

    estimate: float
    low: float
    high: float
    told: bool
    words: str


def fit_curve(shots: np.ndarray, aurocs: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Curve | None:
    """Fits the power law to the mean AUROC at each shot, weighted with the draws' standard error.

    Draws are resampled whole, the same ones at every shot: the draws of a finding contain one another.

    Args:
        shots: (S,) numbers of positive patients, above 0.
        aurocs: (S, D) of every draw; nan where a cell is empty.
        resamples: R.
        seed: of the resampling.

    Returns:
        The curve; None with fewer than four different shots that have two draws or more: three numbers are fitted.
    """
    shots, aurocs = np.asarray(shots, dtype=np.float64), np.asarray(aurocs, dtype=np.float64)
    if aurocs.ndim != 2 or len(shots) != len(aurocs):
        raise ValueError(f"AUROCs must be (S, D) for S shots, got {aurocs.shape} and {shots.shape}")
    usable = np.isfinite(aurocs).sum(axis=1) >= 2
    if len(np.unique(shots[usable])) < 4:
        return None
    order = np.argsort(shots[usable], kind="stable")
    shots, aurocs = shots[usable][order], aurocs[usable][order]
    known = np.isfinite(aurocs).sum(axis=1)
    # No shot is more certain than its neighbours by chance alone: a third of the weight's variance is shared.
    spread = np.nanvar(aurocs, axis=1, ddof=1)
    errors = np.sqrt(np.maximum((2 * spread + spread.mean()) / 3, 1e-8) / known)
    best = _fit(shots, np.nanmean(aurocs, axis=1), errors, _START)
    generator, draws = np.random.default_rng(seed), aurocs.shape[1]
    resampled = []
    for _ in range(resamples):
        chosen = aurocs[:, generator.integers(draws, size=draws)]
        filled = np.isfinite(chosen).any(axis=1)
        if filled.all():
            resampled.append(_fit(shots, np.nanmean(chosen, axis=1), errors, best))
    return Curve(*map(float, best), np.array(resampled or [best]), shots)


def labels_needed(curve: Curve, target: float, farthest: float = FARTHEST) -> LabelsNeeded:
    """How many positive patients the curve needs to reach an AUROC, or that these shots cannot tell.

    It can be told where the whole interval lies within `farthest` times the largest shot, or where no resampled curve's
    ceiling is above the target.

    Args:
        curve: of `fit_curve`.
        target: AUROC, in (0.5, 1).
        farthest: times the largest shot.
    """
    if not 0.5 < target < 1:
        raise ValueError(f"the target must lie between 0.5 and 1, got {target}")
    estimate = float(_shots_at(target, np.array([curve[:3]]))[0])
    needed = _shots_at(target, curve.resampled)
    # Infinite numbers are in order too, but not to be averaged.
    low, high = (float(end) for end in np.quantile(needed, [1 - _LEVEL, _LEVEL], method="nearest"))
    most = curve.shots[-1] * farthest
    if np.isinf(low):
        words = (
            f"no number of labels reaches {target:.2f} from these draws: the curve levels off at {curve.ceiling:.2f}"
        )
        return LabelsNeeded(np.inf, np.inf, np.inf, True, words)
    if high > most or not np.isfinite(estimate):
        words = (
            f"how many positives reach {target:.2f} cannot be told from these shots: {_whole(min(low, most))} or more"
        )
        return LabelsNeeded(np.nan, low, np.inf, False, words)
    words = f"about {_whole(estimate)} positives ({_whole(low)} to {_whole(high)}) reach {target:.2f}"
    return LabelsNeeded(estimate, low, high, True, words)


def _power_law(shots: np.ndarray, ceiling: float, gain: float, rate: float) -> np.ndarray:
    return ceiling - gain * shots**-rate


def _slopes(shots: np.ndarray, ceiling: float, gain: float, rate: float) -> np.ndarray:
    """The power law's derivatives by its three numbers: (S, 3)."""
    left = shots**-rate
    return np.stack([np.ones_like(shots), -left, gain * left * np.log(shots)], axis=1)


def _fit(shots: np.ndarray, means: np.ndarray, errors: np.ndarray, start: tuple[float, float, float]) -> np.ndarray:
    inside = np.clip(start, np.array(_LOWEST) + 1e-6, np.array(_HIGHEST) - 1e-6)
    return curve_fit(
        _power_law, shots, means, inside, errors, True, bounds=(_LOWEST, _HIGHEST), jac=_slopes, ftol=1e-6, xtol=1e-6
    )[0]


def _shots_at(target: float, curves: np.ndarray) -> np.ndarray:
    """Where curves (R, 3) reach the target: (R,) numbers of positives, inf where they level off below it."""
    ceiling, gain, rate = curves.T
    above = ceiling > target
    left = np.where(above, ceiling - target, 1.0)
    with np.errstate(over="ignore"):
        reached = np.maximum((np.maximum(gain, 1e-12) / left) ** (1 / rate), 1.0)
    return np.where(above, reached, np.inf)


def _whole(number: float) -> str:
    """Two digits and no more: 4, 23, 140."""
    return f"{float(f'{max(number, 1):.2g}'):.0f}"
