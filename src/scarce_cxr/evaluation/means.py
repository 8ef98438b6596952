"""95 % intervals of what is made from several scores: the mean of findings, a rate at a cut, and calibration.

As everywhere here, patients are sampled and not films, and with several draws both what the patients and what the draws
leave open is in an interval.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

from scarce_cxr.evaluation.intervals import Interval, place

_LEVEL = 0.975


class Influence(NamedTuple):
    """Estimates of D draws, and how far each patient moves them: the first-order terms of a resampling of patients.

    Attributes:
        estimates: (D,).
        patients: (P,) names, each once, sorted.
        values: (D, P) summing to 0 in every draw.
    """

    estimates: np.ndarray
    patients: np.ndarray
    values: np.ndarray

    def __sub__(self, other: "Influence") -> "Influence":
        """Of the difference of two estimates from the same patients and draws."""
        return Influence(self.estimates - other.estimates, self.patients, self.values - other.values)

    @property
    def variance(self) -> float:
        """Of the mean over draws: the covariance of different draws over patients, and the variance among draws."""
        draws, together = len(self.estimates), np.square(self.values.sum(axis=0)).sum()
        correction = _correction(len(self.patients))
        if draws == 1:
            return float(correction * together)
        # What a patient and a draw do together is in the variance among draws already.
        common = (together - np.square(self.values).sum()) / (draws * (draws - 1))
        return float(correction * max(common, 0) + self.estimates.var(ddof=1) / draws)


def auroc_influence(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Influence:
    """How patients move the AUROC: placements of their positives and negatives (DeLong; Obuchowski 1997).

    Args:
        scores: (D, n).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is.
    """
    placed = place(scores, labels, patients)
    values = placed.positive / placed.positives.sum() + placed.negative / placed.negatives.sum()
    return Influence(placed.auroc, np.unique(patients), values)


def correlations(influences: Sequence[Influence]) -> np.ndarray:
    """How alike several estimates (their means over draws) would vary over samples of patients and draws: (F, F).

    A patient counts in every finding, so findings' AUROCs are not independent; their draws are, as each finding draws
    films of its own.
    """
    names = np.unique(np.concatenate([influence.patients for influence in influences]))
    moved = np.zeros((len(influences), len(names)))
    for row, influence in zip(moved, influences, strict=True):
        row[np.searchsorted(names, influence.patients)] = influence.values.mean(axis=0)
    deviation = np.sqrt([influence.variance for influence in influences])
    scale = np.outer(deviation, deviation)
    covariance = _correction(len(names)) * moved @ moved.T
    found = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0).clip(-1, 1)
    np.fill_diagonal(found, 1)
    return found


def mean_interval(estimates: np.ndarray, intervals: np.ndarray, correlation: np.ndarray) -> Interval:
    """The interval of the mean of several estimates, from their own intervals.

    Each end's squared distance from the mean is the mean of all products of two estimates' distances times their
    correlation (Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine,
    2008). So intervals that keep their promise with few positives keep it in the mean, where a bootstrap's percentiles
    would again be too narrow. The mean over findings is of these findings: other findings are not sampled.

    Args:
        estimates: (F,).
        intervals: (F, 2) lower and upper ends; each estimate lies between its own.
        correlation: (F, F) of the estimates.
    """
    estimates, (lows, highs) = np.asarray(estimates, dtype=np.float64), np.asarray(intervals, dtype=np.float64).T
    below, above = (np.sqrt(max(gap @ correlation @ gap, 0)) for gap in (estimates - lows, highs - estimates))
    middle, count = estimates.mean(), len(estimates)
    return Interval(float(middle - below / count), float(middle + above / count), "combined")


def p_of(estimate: float, low: float, high: float, freedom: int) -> float:
    """The two-sided p value of no difference that belongs to an interval: below 0.05 where it leaves 0 out.

    Student's t, with the standard error that the end towards 0 stands for.

    Args:
        estimate, low, high: a difference and its 95 % interval.
        freedom: degrees of freedom of the interval.
    """
    half = estimate - low if estimate > 0 else high - estimate
    if estimate == 0 or half <= 0:
        return float(estimate == 0)
    return float(2 * t.sf(t.ppf(_LEVEL, freedom) * abs(estimate) / half, freedom))


def rate_interval(decisions: np.ndarray, patients: np.ndarray) -> tuple[float, Interval]:
    """A rate, such as the share of positives above the draw's cut, and its interval; the cuts are held fixed.

    Wilson's interval at the number of films that would leave as much open without patients and draws (Dean and Pagano,
    "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys", Journal of Survey Statistics
    and Methodology, 2015), never more than there are patients.

    Args:
        decisions: (D, m) bool.
        patients: (m,) whose film it is.

    Returns:
        The mean rate and its interval.
    """
    rates = decisions.mean(axis=1)
    rate, variance = float(rates.mean()), _mean_influence(decisions, patients).variance
    found = len(np.unique(patients))
    count = float(found)
    if variance > 0 and 0 < rate < 1:
        count = min(count, _correction(found) * rate * (1 - rate) / variance)
    z = norm.ppf(_LEVEL)
    middle = (rate + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    low, high = min(max(middle - half, 0), rate), max(min(middle + half, 1), rate)
    return rate, Interval(float(low), float(high), "Wilson, by patients and draws")


def film_mean_interval(values: np.ndarray, patients: np.ndarray) -> tuple[float, Interval]:
    """The mean over films and draws of a number that each film has, +- t standard errors over patients and draws.

    Args:
        values: (D, n), e.g. squared distances of probability and label: their mean is the Brier score.
        patients: (n,) whose film it is.

    Returns:
        The mean and its interval.
    """
    influence = _mean_influence(values, patients)
    mean, error = float(influence.estimates.mean()), np.sqrt(influence.variance)
    half = t.ppf(_LEVEL, max(len(influence.patients) - 1, 1)) * error
    return mean, Interval(float(mean - half), float(mean + half), "t, by patients and draws")


def perfect_calibration_error(probabilities: np.ndarray, bins: int = 10) -> np.ndarray:
    """The expected calibration error that probabilities would have by chance if they were perfect: (D, n) -> (D,).

    An absolute value is never 0 with so many films, and no interval around it keeps its promise where it is near 0
    (simulated: a bootstrap's covers half of the time); what perfect ones would have is to stand beside it. In each bin
    the sum of distances is then normal with variance sum p (1 - p), films counting as independent.
    """
    draws, films = probabilities.shape
    # A probability on an edge belongs to the bin below it, as in `scores.expected_calibration_error`.
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)
    flat = (places + bins * np.arange(draws)[:, None]).ravel()
    variance = np.bincount(flat, (probabilities * (1 - probabilities)).ravel(), minlength=draws * bins)
    return np.sqrt(2 / np.pi * variance).reshape(draws, bins).sum(axis=1) / films


def _mean_influence(values: np.ndarray, patients: np.ndarray) -> Influence:
    """Of the mean over films (D, m)."""
    names, owners = np.unique(patients, return_inverse=True)
    means = values.mean(axis=1)
    apart = (values - means[:, None]) / values.shape[1]
    return Influence(means, names, np.stack([np.bincount(owners, row, minlength=len(names)) for row in apart]))


def _correction(patients: int) -> float:
    return patients / (patients - 1) if patients > 1 else 1.0
