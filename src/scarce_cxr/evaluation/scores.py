"""How well scores tell the films with a finding from those without: pure functions, over all draws at once.

Scores are (D, n), one row a draw, larger where the finding is likelier; labels are (n,) of 0 and 1, the same for every
draw. A single draw may come as (n,) and then counts as D = 1. Films without a label are left out beforehand. Films with
equal scores are never put in an order: a tie between a positive and a negative is half right.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

_NEWTON_STEPS = 100


class Operating(NamedTuple):
    """What a threshold does on the test films: sensitivity and specificity (D,) each, at `cuts` (D,).

    A film counts as positive where its score is above the cut.
    """

    sensitivity: np.ndarray
    specificity: np.ndarray
    cuts: np.ndarray


class Calibration(NamedTuple):
    """A straight line through log-odds, one a draw: the probability is expit(slope x score + offset); (D,) each."""

    slope: np.ndarray
    offset: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities in (0, 1) of scores: (D, n) -> (D, n)."""
        return expit(self.slope[:, None] * np.atleast_2d(scores) + self.offset[:, None])


def sorted_out(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (D, n) as float64 and which of the n films are positive, once both are seen to fit.

    Raises:
        ValueError: the lengths differ, a score is not finite, or a label is neither 0 nor 1.
    """
    scores, labels = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.asarray(labels)
    if labels.ndim != 1 or scores.ndim != 2 or scores.shape[1] != len(labels):
        raise ValueError(f"scores must be (D, n) and labels (n,), got {scores.shape} and {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1: leave films without a label out")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    return scores, labels == 1


def prevalence(labels: np.ndarray) -> float:
    """Share of positives: (n,) -> [0, 1]. What `auprc` of scores without any information comes to."""
    return float(np.mean(np.asarray(labels) == 1))


def auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs of a positive and a negative that are in order, a tie being half.

    By midranks (Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", Annals of Mathematical Statistics, 1947): exact, without a curve.

    Args:
        scores: (D, n).
        labels: (n,) of 0 and 1.

    Returns:
        (D,) in [0, 1]; nan where a class has no film.
    """
    scores, positive = sorted_out(scores, labels)
    positives, negatives = positive.sum(), (~positive).sum()
    if not positives or not negatives:
        return np.full(len(scores), np.nan)
    ranks = rankdata(scores, axis=1)[:, positive].sum(axis=1)
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def auprc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision: over the positives, the precision at the score of each, as scikit-learn has it.

    It depends on the share of positives, which is stated beside it (`prevalence`): values are compared on the same
    test films only.

    Args:
        scores: (D, n).
        labels: (n,) of 0 and 1.

    Returns:
        (D,) in (0, 1]; nan where there is no positive.
    """
    scores, positive = sorted_out(scores, labels)
    if not positive.any():
        return np.full(len(scores), np.nan)
    at_least = rankdata(-scores, method="max", axis=1)[:, positive]
    return (rankdata(-scores[:, positive], method="max", axis=1) / at_least).mean(axis=1)


def cut_at(specificity: float, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The lowest cut at which at least this share of the negatives is not above it: (D, n), (n,) -> (D,).

    Chosen on the films set aside for tuning, never on those of the test.

    Args:
        specificity: in [0, 1].
        scores: (D, n).
        labels: (n,) of 0 and 1.

    Returns:
        (D,) scores of negatives, -inf where every film may be called positive.

    Raises:
        ValueError: the specificity is not in [0, 1], or there is no negative.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], got {specificity}")
    scores, positive = sorted_out(scores, labels)
    negatives = np.sort(scores[:, ~positive], axis=1)
    if not negatives.shape[1]:
        raise ValueError("a cut for a specificity needs negatives")
    # The small amount undoes a rounding up: 0.9 x 10 is to be 9.
    below = int(np.ceil(specificity * negatives.shape[1] - 1e-9))
    return negatives[:, below - 1] if below else np.full(len(scores), -np.inf)


def sensitivity_at(
    specificity: float, tune_scores: np.ndarray, tune_labels: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> Operating:
    """Sensitivity on the test films at the cut that gives the specificity on the tuning films.

    The specificity that comes out on the test films is another than the one asked for, and belongs beside it.

    Args:
        specificity: in [0, 1], on the tuning films.
        tune_scores, tune_labels: (D, t) and (t,), with which the cut is chosen.
        scores, labels: (D, n) and (n,) of the test films.

    Returns:
        Both rates, nan where the test has no film of the class, and the cuts.
    """
    cuts = cut_at(specificity, tune_scores, tune_labels)
    scores, positive = sorted_out(scores, labels)
    above = scores > cuts[:, None]
    nothing = np.full(len(scores), np.nan)
    return Operating(
        above[:, positive].mean(axis=1) if positive.any() else nothing,
        1 - above[:, ~positive].mean(axis=1) if not positive.all() else nothing,
        cuts,
    )


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean squared distance of probability and label: (D, n), (n,) -> (D,) in [0, 1]."""
    probabilities, positive = sorted_out(probabilities, labels)
    return np.square(probabilities - positive).mean(axis=1)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> np.ndarray:
    """Distance of mean probability and share of positives, mean over bins of equal width, weighted by their films.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3. With few films it is above 0 for
    perfect probabilities too: about sqrt(bins / n) / 3 where they are spread evenly.

    Args:
        probabilities: (D, n) in [0, 1].
        labels: (n,) of 0 and 1.
        bins: their number.

    Returns:
        (D,) in [0, 1].
    """
    probabilities, positive = sorted_out(probabilities, labels)
    draws, films = probabilities.shape
    # A probability on an edge belongs to the bin below it, as in scikit-learn's curve.
    places = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)
    flat = (places + bins * np.arange(draws)[:, None]).ravel()
    gaps = np.bincount(flat, (probabilities - positive).ravel(), minlength=draws * bins)
    return np.abs(gaps).reshape(draws, bins).sum(axis=1) / films


def calibrate(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fits a line from score to log-odds on the films set aside for tuning, one a draw.

    Platt, "Probabilistic Outputs for Support Vector Machines", 1999, with his targets: (p + 1) / (p + 2) for the
    positives and 1 / (q + 2) for the negatives of p and q films, which keep the line finite where the classes are
    apart. Newton's method, all draws at once.

    Args:
        scores: (D, n).
        labels: (n,) of 0 and 1, both there.

    Returns:
        The lines; call them with other films' scores.

    Raises:
        ValueError: a class has no film.
    """
    scores, positive = sorted_out(scores, labels)
    positives, negatives = positive.sum(), (~positive).sum()
    if not positives or not negatives:
        raise ValueError(f"calibration needs both classes, got {positives} positives and {negatives} negatives")
    targets = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, width = scores.mean(axis=1, keepdims=True), scores.std(axis=1, keepdims=True)
    # Scores that are all the same have no slope: theirs stays 0.
    width = np.where(width > 0, width, 1.0)
    design = np.stack([(scores - middle) / width, np.ones_like(scores)], axis=2)
    line = np.zeros((len(scores), 2))
    line[:, 1] = np.log(targets.mean() / (1 - targets.mean()))
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(design, line, targets)
        line += step
        if np.abs(step).max() < 1e-10:
            break
    slope = line[:, 0] / width[:, 0]
    return Calibration(slope, line[:, 1] - slope * middle[:, 0])


def _newton_step(design: np.ndarray, line: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Towards the least cross-entropy, at most 1 in either number: design (D, n, 2), line (D, 2) -> (D, 2)."""
    guessed = expit(np.einsum("dnc,dc->dn", design, line))
    gradient = np.einsum("dnc,dn->dc", design, targets - guessed)
    curvature = np.einsum("dnc,dn,dne->dce", design, guessed * (1 - guessed), design)
    curvature += 1e-12 * np.eye(2)
    return np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0].clip(-1, 1)
