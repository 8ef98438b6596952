"""95 % intervals of AUROC and average precision that keep their promise with ten positives too.

What an interval is for. With one row of scores (D = 1): the AUROC of that very model on all patients such as those of
the test. With D > 1 rows, one a draw of the training films: the AUROC that a model trained on a fresh draw of as many
films has on average, on all such patients; both what the test's patients and what the draws leave open is in it. Draws
come from one pool of training patients: what another pool would have given is not in it, and where a draw takes a good
part of the pool, draws are more alike than those of several hospitals would be.

Patients, not films, are sampled, so a patient's films count as one observation of each class. How the method is chosen
and how often its intervals cover the truth: `studies/interval_coverage.py`.

Symbols as in the papers: M positives, N negatives. A film's placement is the share of the other class that it is on
the right side of; the AUROC is the mean placement of either class.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, logit
from scipy.stats import norm, rankdata, t

from scarce_cxr.evaluation.scores import auprc, sorted_out

# With as many patients of both classes the correction is below a hundredth, and the interval without it covers too.
MANY_PATIENTS = 200
REPLICATES = 2000

_LEVEL = 0.975
# Patients of each class that the correction adds, as they would place in Hanley and McNeil's exponential model.
_ADDED_PATIENTS = 3.0
# Kerman's neutral prior, Beta(1/3, 1/3): it draws the AUROC off 0 and 1 by as little as a median should move.
_ADDED_HALVES = 1 / 3
# How alike the added patients' films are, which their number per patient then discounts.
_ADDED_LIKENESS = 0.25
# Below it, what draws seem to have in common is too uncertain to be believed.
_LEAST_LIKENESS = 0.25
# Numbers of a bootstrap that are held at once.
_CHUNK = 2**24

Measure = Literal["auroc", "auprc"]


class Interval(NamedTuple):
    """A 95 % interval and how it was made."""

    low: float
    high: float
    method: str


class Placements(NamedTuple):
    """The AUROC of each draw, and what each patient's films add to it.

    Attributes:
        auroc: (D,).
        positive: (D, P) sums over a patient's positives of placement less AUROC; 0 for who has none.
        negative: (D, P) the same of the negatives.
        positives, negatives: (P,) films of either class.
    """

    auroc: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def factors(self) -> tuple[float, float, float]:
        """What squares of `positive`, of `negative`, and their products are multiplied with to be (co)variances."""
        M, N = self.positives.sum(), self.negatives.sum()
        with_positives, with_negatives = np.count_nonzero(self.positives), np.count_nonzero(self.negatives)
        return (
            _correction(with_positives) / M**2,
            _correction(with_negatives) / N**2,
            _correction(len(self.positives)) / (M * N),
        )


class _Parts(NamedTuple):
    """The variance of AUROCs, split by where it comes from; all (S,).

    Attributes:
        positives, negatives: from the patients with films of either class.
        shared: from those with films of both.
        draws: from the draws, what they do together with patients included.
        likeness: the part of a single draw's variance over patients that different draws have in common, in (0, 1].
    """

    positives: np.ndarray
    negatives: np.ndarray
    shared: np.ndarray
    draws: np.ndarray
    likeness: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        return np.maximum(self.positives + self.negatives + self.shared, 0) + self.draws


def place(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None) -> Placements:
    """Placements by midranks, in n log n steps (Sun and Xu, IEEE Signal Processing Letters, 2014), summed by patient.

    Args:
        scores: (D, n).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.

    Raises:
        ValueError: a class has no film, or the scores and labels do not fit.
    """
    scores, positive = sorted_out(scores, labels)
    M, N = positive.sum(), (~positive).sum()
    if not M or not N:
        raise ValueError(f"an AUROC needs both classes, got {M} positives and {N} negatives")
    ranks = rankdata(scores, axis=1)
    of_positives = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / N
    of_negatives = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / M
    auroc = of_positives.mean(axis=1)
    owners, films = _ownership(patients, len(positive))
    return Placements(
        auroc,
        (of_positives - auroc[:, None]) @ owners[positive],
        (of_negatives - auroc[:, None]) @ owners[~positive],
        np.bincount(films[positive], minlength=owners.shape[1]),
        np.bincount(films[~positive], minlength=owners.shape[1]),
    )


def delong_covariance(placements: Placements) -> np.ndarray:
    """Covariance (D, D) of the draws' AUROCs over samples of patients, the models being fixed.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics, 1988; with patients as clusters, which may have films of both classes:
    Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics, 1997. One film a patient gives the
    former, but for a term between the classes that is then 0.
    """
    positive, negative = placements.positive, placements.negative
    of_positives, of_negatives, shared = placements.factors
    crossed = positive @ negative.T
    return of_positives * positive @ positive.T + of_negatives * negative @ negative.T + shared * (crossed + crossed.T)


def delong(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None) -> Interval:
    """The textbook's interval of one model: AUROC +- 1.96 standard errors, cut off at 0 and 1.

    It is too narrow with some 100 positives or fewer, and a point where the classes are apart: it is here to compare
    with what others print.

    Args:
        scores: (n,) or (1, n).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.
    """
    low, high, method = auroc_intervals(place(_one_row(scores), labels, patients), "DeLong")
    return Interval(float(low[0]), float(high[0]), method)


def auroc_interval(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray | None = None) -> Interval:
    """The interval to print beside the mean AUROC of the draws, or beside the AUROC of a single model.

    With `MANY_PATIENTS` of both classes, unless these are quite apart: "logit-DeLong". Logit of the AUROC +- t standard
    errors, which the logit keeps inside of 0 and 1; t by the degrees of freedom that the patients of both classes and
    the draws give together (Satterthwaite).

    With fewer: "shrunken logit-DeLong". As few positives often miss the low tail of theirs, their placements look
    better and more alike than they are. Three patients of each class are added that place as in Hanley and McNeil's
    exponential model ("The meaning and use of the area under a ROC curve", Radiology, 1982), and a third of a pair in
    order and of one out of order to the AUROC at the interval's middle. The idea is that of Agresti and Coull for
    proportions, and of Newcombe's method 5 for the AUROC ("Confidence intervals for an effect size measure based on
    the Mann-Whitney statistic, part 2", Statistics in Medicine, 2006).

    With draws, their variance joins that of the patients as in Obuchowski and Rockette's analysis of readers and cases
    (Communications in Statistics, 1995; Hillis, "A comparison of denominator degrees of freedom methods", Statistics
    in Medicine, 2007): draws stand for readers. What patients and draws do together is counted once.

    Args:
        scores: (D, n) or (n,).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.

    Returns:
        The interval, in which the mean AUROC always lies.

    Raises:
        ValueError: a class has no film.
    """
    placements = place(scores, labels, patients)
    parts, draws = _together(placements), len(placements.auroc)
    method, bounds = _chosen(placements)
    low, high = bounds(placements, placements.auroc.mean(keepdims=True), parts, draws)
    return Interval(float(low[0]), float(high[0]), method)


def auroc_intervals(placements: Placements, method: str | None = None) -> tuple[np.ndarray, np.ndarray, str]:
    """One interval a row, each row a fixed model by itself.

    Args:
        placements: of D rows of scores, by `place`.
        method: "DeLong", "logit-DeLong" or "shrunken logit-DeLong"; None: as `auroc_interval` chooses.

    Returns:
        Lower and upper ends (D,), and the method.
    """
    chosen, bounds = _chosen(placements) if method is None else (method, _METHODS[method])
    return *bounds(placements, placements.auroc, _each(placements), 1), chosen


def bootstrap(
    scores: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    measure: Measure = "auroc",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> np.ndarray:
    """The measure of every draw on resampled patients: (D, n) -> (R, D).

    Patients with a positive and those without are resampled apart, whole, as many as there are, so that no replicate
    is without positives. Every row has the same patients in all draws: the draws' means, differences of two starts and
    resampled draws are made from its columns.

    Args:
        scores: (D, n) or (n,).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.
        measure: "auroc", or "auprc" for average precision.
        replicates: R.
        seed: the same seed resamples the same patients.
    """
    scores, positive = sorted_out(scores, labels)
    if positive.all() or not positive.any():
        raise ValueError(f"resampling needs both classes, got {positive.sum()} positives of {len(positive)} films")
    owners, films = _ownership(patients, len(positive))
    has_positive = np.bincount(films[positive], minlength=owners.shape[1]) > 0
    buckets = [_buckets(row, positive, films, owners.shape[1]) for row in scores]
    generator, found = np.random.default_rng(seed), []
    share = max(1, min(replicates, _CHUNK // max(owners.shape[1], 4 * int(positive.sum()))))
    for start in range(0, replicates, share):
        counts = _resampled(has_positive, min(share, replicates - start), generator)
        found.append(np.stack([_weighted(measure, *each, counts) for each in buckets], axis=1))
    return np.concatenate(found)


def over_draws(replicates: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means over draws that are resampled with every replicate: (R, D) -> (R,)."""
    draws = replicates.shape[1]
    chosen = np.random.default_rng([seed, draws]).multinomial(draws, np.full(draws, 1 / draws), size=len(replicates))
    return (replicates * chosen).sum(axis=1) / draws


def variance_parts(values: np.ndarray, replicates: np.ndarray) -> tuple[float, float]:
    """The variance of the draws' mean, what patients and draws do together counted once: as in `auroc_interval`.

    Args:
        values: (D,) of the draws.
        replicates: (R, D) of `bootstrap`.

    Returns:
        What comes from the patients, whom all draws share: the mean covariance of two draws over replicates, or the
        variance of the only one. And what comes from the draws: 0 with one.
    """
    draws, each = len(values), replicates.var(axis=0, ddof=1)
    if draws == 1:
        return float(each[0]), 0.0
    common = (replicates.sum(axis=1).var(ddof=1) - each.sum()) / (draws * (draws - 1))
    return max(float(common), 0.0), float(values.var(ddof=1) / draws)


def bootstrap_interval(
    scores: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    measure: Measure = "auroc",
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The percentiles of a bootstrap over patients, and over draws where there are several.

    Too narrow with few positives, like every bootstrap of percentiles: `auroc_interval` and `auprc_interval` are the
    ones to print.
    """
    means = over_draws(bootstrap(scores, labels, patients, measure, replicates, seed), seed)
    low, high = np.quantile(means, [1 - _LEVEL, _LEVEL])
    return Interval(float(low), float(high), "bootstrap")


def auprc_interval(
    scores: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The interval to print beside the mean average precision of the draws, at the share of positives of the test.

    "shrunken logit-bootstrap": logit of the average precision +- t standard errors (Boyd, Eng and Page, "Area under
    the Precision-Recall Curve", ECML 2013, find the logit to be needed), t by the patients with positives. The
    standard error is that of `bootstrap`, draws are counted in as in `auroc_interval`. One patient is added as
    uncertain as an average precision can be, and two thirds of one to the middle, at the share of positives: with few
    positives average precision comes out too high.

    Args:
        scores: (D, n) or (n,).
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is; None: every film is a patient's only one.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The interval, in which the mean average precision always lies.
    """
    values = auprc(scores, labels)
    resampled = bootstrap(scores, labels, patients, "auprc", replicates, seed)
    positive = np.asarray(labels) == 1
    owners, films = _ownership(patients, len(positive))
    positives = np.bincount(films[positive], minlength=owners.shape[1])
    draws, with_positives, M = len(values), np.count_nonzero(positives), _effective(positives)
    middle = (M * values.mean() + 2 * _ADDED_HALVES * positive.mean()) / (M + 2 * _ADDED_HALVES)
    common, apart = variance_parts(values, resampled)
    common = (with_positives * common + middle * (1 - middle) / M) / (with_positives + 1)
    freedom = (common + apart) ** 2 / (common**2 / with_positives + apart**2 / max(draws - 1, 1))
    half = t.ppf(_LEVEL, freedom) * np.sqrt(common + apart) / (middle * (1 - middle))
    low, high = expit(logit(middle) - half), expit(logit(middle) + half)
    low, high = min(low, values.mean()), max(high, values.mean())
    return Interval(float(low), float(high), "shrunken logit-bootstrap")


def _chosen(placements: Placements) -> tuple:
    patients = min(np.count_nonzero(placements.positives), np.count_nonzero(placements.negatives))
    # The logit of 0 or 1 has no interval, however many the patients.
    inside = ((placements.auroc > 0) & (placements.auroc < 1)).all()
    method = "logit-DeLong" if patients >= MANY_PATIENTS and inside else "shrunken logit-DeLong"
    return method, _METHODS[method]


def _each(placements: Placements) -> _Parts:
    """The variance of each row's AUROC, its model being fixed."""
    of_positives, of_negatives, shared = placements.factors
    return _Parts(
        of_positives * np.square(placements.positive).sum(axis=1),
        of_negatives * np.square(placements.negative).sum(axis=1),
        2 * shared * (placements.positive * placements.negative).sum(axis=1),
        np.zeros(len(placements.auroc)),
        np.ones(len(placements.auroc)),
    )


def _together(placements: Placements) -> _Parts:
    """The variance (1,) of the draws' mean AUROC.

    What the patients give is the mean covariance of two different draws: what a draw and a patient do together is then
    left to the variance among draws, which has it already.
    """
    draws = len(placements.auroc)
    if draws == 1:
        return _each(placements)
    each = _each(placements)
    summed = _each(
        placements._replace(
            auroc=placements.auroc.sum(keepdims=True),
            positive=placements.positive.sum(axis=0, keepdims=True),
            negative=placements.negative.sum(axis=0, keepdims=True),
        )
    )
    pairs = draws * (draws - 1)
    positives, negatives, shared = (
        (whole - own.sum()) / pairs for whole, own in zip(summed[:3], each[:3], strict=True)
    )
    positives, negatives = positives.clip(0), negatives.clip(0)
    alone = (each.positives + each.negatives).mean()
    likeness = ((positives + negatives) / alone).clip(_LEAST_LIKENESS, 1) if alone > 0 else np.ones(1)
    return _Parts(positives, negatives, shared, placements.auroc.var(ddof=1, keepdims=True) / draws, likeness)


def _symmetric(auroc: np.ndarray, parts: _Parts) -> tuple[np.ndarray, np.ndarray]:
    half = norm.ppf(_LEVEL) * np.sqrt(parts.whole)
    return (auroc - half).clip(0, 1), (auroc + half).clip(0, 1)


def _by_logit(placements: Placements, auroc: np.ndarray, parts: _Parts, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the AUROC is 0 or 1 or nothing varies, both ends are the AUROC: a sign that it is the wrong method."""
    variance = parts.whole
    inside = (variance > 0) & (auroc > 0) & (auroc < 1)
    middle = np.where(inside, auroc, 0.5)
    half = _quantile(placements, parts, draws, 0) * np.sqrt(variance) / (middle * (1 - middle))
    ends = expit(logit(middle) - half), expit(logit(middle) + half)
    return tuple(np.where(inside, end, auroc) for end in ends)


def _by_shrunken_logit(
    placements: Placements, auroc: np.ndarray, parts: _Parts, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    with_positives, with_negatives = np.count_nonzero(placements.positives), np.count_nonzero(placements.negatives)
    M, N = (_effective(films) for films in (placements.positives, placements.negatives))
    rarer, fewer = min(with_positives, with_negatives), min(M, N)
    middle = (fewer * auroc + _ADDED_HALVES) / (fewer + 2 * _ADDED_HALVES)
    spread = parts.likeness * _exponential_spread(middle)
    shrunken = _Parts(
        _pooled(parts.positives, with_positives, spread / M),
        _pooled(parts.negatives, with_negatives, spread / N),
        parts.shared * rarer / (rarer + _ADDED_PATIENTS),
        parts.draws,
        parts.likeness,
    )
    # What films of both classes of a patient take off is itself a guess with few of them.
    apart = shrunken.positives + shrunken.negatives
    variance = np.maximum(apart + shrunken.shared, apart / 4) + shrunken.draws
    half = _quantile(placements, shrunken, draws, _ADDED_PATIENTS) * np.sqrt(variance) / (middle * (1 - middle))
    low, high = expit(logit(middle) - half), expit(logit(middle) + half)
    return np.minimum(low, auroc), np.maximum(high, auroc)


_METHODS = {
    "DeLong": lambda placements, auroc, parts, draws: _symmetric(auroc, parts),
    "logit-DeLong": _by_logit,
    "shrunken logit-DeLong": _by_shrunken_logit,
}


def _pooled(variance: np.ndarray, patients: int, added: np.ndarray) -> np.ndarray:
    return (patients * variance + _ADDED_PATIENTS * added) / (patients + _ADDED_PATIENTS)


def _exponential_spread(auroc: np.ndarray) -> np.ndarray:
    """Variance of the placements in Hanley and McNeil's model, of the class in which it is larger."""
    both = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    return np.maximum(*both) - auroc**2


def _quantile(placements: Placements, parts: _Parts, draws: int, added: float) -> np.ndarray:
    """Student's t at Satterthwaite's degrees of freedom: (S,)."""
    sources = (
        (parts.positives, np.count_nonzero(placements.positives) - 1 + added),
        (parts.negatives, np.count_nonzero(placements.negatives) - 1 + added),
        (parts.draws, draws - 1),
    )
    whole = sum(variance for variance, _ in sources)
    doubt = sum(variance**2 / max(freedom, 1) for variance, freedom in sources)
    # Where nothing varies any quantile does.
    freedom = np.divide(whole**2, doubt, out=np.ones_like(whole), where=doubt > 0)
    return t.ppf(_LEVEL, np.maximum(freedom, 1))


def _effective(films: np.ndarray) -> float:
    """Films of a class (P,) less what the patients' likeness takes off."""
    whole = films.sum()
    return whole / (1 + _ADDED_LIKENESS * (np.square(films).sum() / whole - 1))


def _correction(patients: int) -> float:
    """Squares of a single patient say nothing of how patients differ, and are 0 by themselves."""
    return patients / (patients - 1) if patients > 1 else 1.0


def _one_row(scores: np.ndarray) -> np.ndarray:
    scores = np.atleast_2d(scores)
    if len(scores) != 1:
        raise ValueError(f"DeLong's interval is for one model, got {len(scores)} rows of scores")
    return scores


def _ownership(patients: np.ndarray | None, films: int) -> tuple[csr_array, np.ndarray]:
    """Whose film it is: a matrix (n, P) of 0 and 1, and the same as places (n,)."""
    owner = np.arange(films) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    if len(owner) != films:
        raise ValueError(f"patients must be (n,) for n = {films} films, got {len(owner)}")
    return csr_array((np.ones(films), owner, np.arange(films + 1)), shape=(films, owner.max() + 1)), owner


def _resampled(has_positive: np.ndarray, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """How often each patient is in a replicate: (P, R)."""
    counts = np.empty((len(has_positive), replicates))
    for stratum in (has_positive, ~has_positive):
        size = int(stratum.sum())
        chosen = generator.integers(size, size=(size, replicates)) if size else np.empty((0, replicates), dtype=int)
        flat = (chosen * replicates + np.arange(replicates)).ravel()
        counts[stratum] = np.bincount(flat, minlength=size * replicates).reshape(size, replicates)
    return counts


def _buckets(scores: np.ndarray, positive: np.ndarray, films: np.ndarray, patients: int) -> tuple:
    """Between which of the U scores of positives each film is: films of either class by bucket and patient.

    Returns:
        Positives (U, P) at each score, and negatives (2U + 1, P): below all, at the first, between it and the next, ...
    """
    levels = np.unique(scores[positive])
    levels_of_positives = np.searchsorted(levels, scores[positive])
    others = scores[~positive]
    places = np.searchsorted(levels, others, "left") + np.searchsorted(levels, others, "right")
    ones = np.ones(len(scores))
    return (
        csr_array((ones[positive], (levels_of_positives, films[positive])), shape=(len(levels), patients)),
        csr_array((ones[~positive], (places, films[~positive])), shape=(2 * len(levels) + 1, patients)),
    )


def _weighted(measure: Measure, positives: csr_array, negatives: csr_array, counts: np.ndarray) -> np.ndarray:
    """The measure of one draw with every patient counted so often: (P, R) -> (R,)."""
    weights, others = positives @ counts, negatives @ counts
    at, between = others[1::2], others[0::2]
    below = np.cumsum(at + between[:-1], axis=0) - at
    if measure == "auroc":
        return (weights * (below + at / 2)).sum(axis=0) / (weights.sum(axis=0) * others.sum(axis=0))
    right = np.cumsum(weights[::-1], axis=0)[::-1]
    # A replicate can have negatives alone at a score and above; the score then has no weight either.
    precision = right / np.maximum(right + others.sum(axis=0) - below, 1)
    return (weights * precision).sum(axis=0) / weights.sum(axis=0)
