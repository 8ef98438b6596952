"""Is one start better than another, is a start better than chance, and how much of a number may be printed."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t

from scarce_cxr.evaluation.intervals import (
    REPLICATES,
    Measure,
    Placements,
    auprc_interval,
    auroc_interval,
    bootstrap,
    delong_covariance,
    over_draws,
    place,
    variance_parts,
)
from scarce_cxr.evaluation.scores import auprc, auroc, sorted_out

FEW_POSITIVES = 5

_LEVEL = 0.975
_MOST_DIGITS = 3
# Numbers of the permutations that are held at once.
_CHUNK = 2**22


class Difference(NamedTuple):
    """Of the first start less the second: the estimate, its 95 % interval, and the p value of no difference.

    The interval leaves 0 out where p is below 0.05, and only there.
    """

    estimate: float
    low: float
    high: float
    p: float


class Permutation(NamedTuple):
    """A test against chance.

    Attributes:
        auroc: mean of the draws.
        p: the share of the permutations, the labels' own order being one of them, that did at least as well.
        exchanged: patients who have another one with as many films to exchange labels with.
        patients: all of them.
    """

    auroc: float
    p: float
    exchanged: int
    patients: int


def paired_difference(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    measure: Measure = "auroc",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Difference:
    """Compares two starts on the same patients and the same draws: draw d of one with draw d of the other.

    Several draws: a bootstrap over patients and draws, both starts on the same resampled ones. The percentiles'
    distances from the estimate are stretched in two ways. By what Student's t lies further out than the normal
    distribution, as percentiles lie too close with few patients (Hesterberg, "What Teachers Should Know About the
    Bootstrap", The American Statistician, 2015); its degrees of freedom are those of the patients of the rarer class
    and of the draws together. And to the standard error of `variance_parts`, as resampling patients and draws at once
    counts three times what both do together (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics, 2007). p
    belongs to the widest such interval that leaves 0 out. A single draw: two fixed models, compared by DeLong's
    covariance (Biometrics, 1988; by patients, Obuchowski 1997) and Student's t; average precision by the bootstrap.

    Args:
        scores_a, scores_b: (D, n) or (n,) of either start.
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.
        measure: "auroc", or "auprc" for average precision.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: the starts have not as many draws, or a class has no film.
    """
    scores_a, scores_b = np.atleast_2d(scores_a), np.atleast_2d(scores_b)
    if scores_a.shape != scores_b.shape:
        raise ValueError(f"paired scores must have one shape, got {scores_a.shape} and {scores_b.shape}")
    first, second = (place(scores, labels, patients) for scores in (scores_a, scores_b))
    of = auroc if measure == "auroc" else auprc
    estimates = of(scores_a, labels) - of(scores_b, labels)
    if np.array_equal(scores_a, scores_b):
        return Difference(0.0, 0.0, 0.0, 1.0)
    if (first.auroc == 1).all() and (second.auroc == 1).all():
        return _difference_of_faultless(scores_a, scores_b, labels, patients, measure)
    if measure == "auroc" and len(scores_a) == 1:
        return _paired_delong(float(estimates[0]), first, second)
    resampled = bootstrap(np.concatenate([scores_a, scores_b]), labels, patients, measure, replicates, seed)
    apart = resampled[:, : len(estimates)] - resampled[:, len(estimates) :]
    return _by_percentiles(estimates, apart, _rarer(first), seed)


def holm(p: np.ndarray) -> np.ndarray:
    """P values of m comparisons, corrected so that all of them together err with 5 %: (m,) -> (m,), in their order.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics, 1979: the
    smallest times m, the next times m - 1, ..., none below one before it, none above 1. A nan is no comparison, and
    stays nan.
    """
    p = np.asarray(p, dtype=np.float64)
    corrected, known = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def permutation_p(
    scores: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    permutations: int = REPLICATES,
    seed: int = 0,
) -> Permutation:
    """Does a start do better than chance? Labels are exchanged among patients, the scores stay.

    A patient's labels go, as a whole, to another patient with as many films: so a patient's films stay as alike as they
    are, and the p value is exact. Who has no such other keeps the labels; where they are many, little can be shown, and
    `exchanged` says so. Worse than chance is no finding: the test has one side.

    Args:
        scores: (D, n) or (n,).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.
        permutations: their number; the smallest p is 1 / (permutations + 1).
        seed: the same seed makes the same permutations.
    """
    scores, positive = sorted_out(scores, labels)
    # The AUROC is linear in the ranks, so the draws' mean has the ranks' mean.
    ranks = rankdata(scores, axis=1).mean(axis=0)
    owner = np.arange(len(positive)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    films = np.bincount(owner)
    by_patient, starts = np.argsort(owner, kind="stable"), np.cumsum(films) - films
    generator, sums, exchanged = np.random.default_rng(seed), np.zeros(permutations), 0
    for size in np.unique(films):
        places = by_patient[starts[films == size][:, None] + np.arange(size)]
        sums += _permuted_sums(ranks[places], positive[places], permutations, generator)
        exchanged += len(places) if len(places) > 1 else 0
    own = ranks[positive].sum()
    # Sums of the same ranks in another order differ in their last digits.
    better = np.count_nonzero(sums >= own - 1e-9 * abs(own))
    value = float(auroc(scores, labels).mean())
    return Permutation(value, float((1 + better) / (1 + permutations)), exchanged, len(films))


def warning(labels: np.ndarray, patients: np.ndarray | None = None) -> str | None:
    """What must stand beside a score of a test with fewer than `FEW_POSITIVES` positive patients; None with more."""
    positive = np.asarray(labels) == 1
    films = int(positive.sum())
    found = films if patients is None else len(np.unique(np.asarray(patients)[positive]))
    if found >= FEW_POSITIVES:
        return None
    return (
        f"only {found} test {'patient has' if found == 1 else 'patients have'} it ({films} films): little can be told"
    )


def digits(low: float, high: float) -> int:
    """Decimals that an interval supports: 0 to 3.

    The last one is that of the standard error's first digit, the error being the 95 % interval's width / 3.92: what
    comes after it would be noise.
    """
    width = high - low
    if not np.isfinite(width):
        return 0
    if width <= 0:
        return _MOST_DIGITS
    # The small amount undoes a rounding down: an error of 0.01 has two decimals.
    decimals = np.ceil(-np.log10(width / (2 * norm.ppf(_LEVEL))) - 1e-9)
    return int(np.clip(decimals, 0, _MOST_DIGITS))


def in_digits(estimate: float, low: float, high: float, most: int = _MOST_DIGITS) -> str:
    """An estimate with its interval, in no more digits than it supports: "0.83 (0.71 to 0.91)", "0.9 (0.5 to 1.0)".

    Args:
        estimate, low, high: the number and its 95 % interval.
        most: fewer decimals than the interval supports, if wanted.

    Raises:
        ValueError: the estimate does not lie in the interval.
    """
    if not low <= estimate <= high:
        raise ValueError(f"the estimate must lie in its interval, got {estimate} and {low} to {high}")
    decimals = min(digits(low, high), most)
    # Adding 0 turns -0.0 into 0.0.
    shown = (f"{round(value, decimals) + 0.0:.{decimals}f}" for value in (estimate, low, high))
    return "{} ({} to {})".format(*shown)


def _paired_delong(estimate: float, first: Placements, second: Placements) -> Difference:
    apart = first._replace(positive=first.positive - second.positive, negative=first.negative - second.negative)
    error = np.sqrt(max(delong_covariance(apart)[0, 0], 0))
    freedom = max(_rarer(first) - 1, 1)
    half = t.ppf(_LEVEL, freedom) * error
    p = 2 * t.sf(abs(estimate) / error, freedom) if error > 0 else float(not estimate)
    return Difference(estimate, max(estimate - half, -1.0), min(estimate + half, 1.0), float(p))


def _by_percentiles(estimates: np.ndarray, resampled: np.ndarray, patients: int, seed: int) -> Difference:
    """The difference's interval from its estimates (D,) and those of the replicates (R, D)."""
    estimate, replicates, draws = float(estimates.mean()), len(resampled), len(estimates)
    means = np.sort(over_draws(resampled, seed))
    common, apart = variance_parts(estimates, resampled)
    common *= patients / max(patients - 1, 1)
    doubt = common**2 / max(patients - 1, 1) + apart**2 / max(draws - 1, 1)
    freedom = (common + apart) ** 2 / doubt if doubt else 1.0
    # From the widest interval of two percentiles to the narrowest.
    tails = np.arange(1, replicates // 2 + 1) / (replicates + 1)
    stretch = t.isf(tails, freedom) / norm.isf(tails) * np.sqrt((common + apart) / max(means.var(), 1e-300))
    lows = estimate - np.maximum(estimate - means[: len(tails)], 0) * stretch
    highs = estimate + np.maximum(means[::-1][: len(tails)] - estimate, 0) * stretch
    holding = np.count_nonzero((lows <= 0) & (highs >= 0))
    chosen = max(int((1 - _LEVEL) * (replicates + 1)) - 1, 0)
    p = float(min(2 * (holding + 1) / (replicates + 1), 1))
    return Difference(estimate, float(max(lows[chosen], -1)), float(min(highs[chosen], 1)), p)


def _difference_of_faultless(
    scores_a: np.ndarray, scores_b: np.ndarray, labels: np.ndarray, patients: np.ndarray | None, measure: Measure
) -> Difference:
    """Where both starts have every positive above every negative, no resample differs.

    Their own intervals then say how far apart they may be (Zou and Donner, "Construction of confidence limits about
    effect measures", Statistics in Medicine, 2008).
    """
    interval = auroc_interval if measure == "auroc" else auprc_interval
    low, high = (1 - interval(scores, labels, patients).low for scores in (scores_a, scores_b))
    return Difference(0.0, -low, high, 1.0)


def _rarer(placements: Placements) -> int:
    """Patients of the class that fewer have."""
    return min(np.count_nonzero(placements.positives), np.count_nonzero(placements.negatives))


def _permuted_sums(
    ranks: np.ndarray, positive: np.ndarray, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    """Ranks' sums over positives of patients with equally many films: (G, f), (G, f) -> (permutations,)."""
    patients, carriers = len(ranks), positive[positive.any(axis=1)].astype(np.float64)
    # What the labels of each patient with a positive come to at each patient.
    gains = ranks @ carriers.T
    sums, share = [], max(1, _CHUNK // patients)
    for start in range(0, permutations, share):
        orders = np.tile(np.arange(patients), (min(share, permutations - start), 1))
        takers = generator.permuted(orders, axis=1)[:, : len(carriers)]
        sums.append(gains[takers, np.arange(len(carriers))].sum(axis=1))
    return np.concatenate(sums)
