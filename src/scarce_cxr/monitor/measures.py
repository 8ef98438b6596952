"""How an embedding is spread, and what two views of a film share: pure functions, each with its paper.

Features are (n, d) floating-point tensors, one row a film; everything is computed in float64, on their device. Each
measure depends on n (a rank cannot exceed it): it is stated beside every value, and only equal n are compared.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.dino import distillation_loss, entropy
from scarce_cxr.methods.moco import spread

_RESAMPLES = 2000


def embedding_measures(features: torch.Tensor) -> dict[str, float]:
    """The measures of one embedding that need no second view.

    Args:
        features: (n, d), n >= 2.

    Returns:
        `norm`, the mean length of a row, and the measures below: `std`, `std_ratio`, `cosine`, `rank`, `rankme` and
        `alpha`. All are nan if not all features are finite.

    Raises:
        ScarceError: there are fewer than two rows.
    """
    rows = _rows(features)
    if not rows.isfinite().all():
        return dict.fromkeys(("norm", "std", "std_ratio", "cosine", "rank", "rankme", "alpha"), math.nan)
    # Two decompositions, which are all the time that this takes: rank and alpha share the first.
    centered = _singular_values(rows - rows.mean(dim=0), rows)
    return {
        "norm": rows.norm(dim=1).mean().item(),
        "std": mean_std(rows),
        "std_ratio": std_ratio(rows),
        "cosine": mean_cosine(rows),
        "rank": _rank(centered),
        "rankme": rankme(rows),
        "alpha": _decay(centered),
    }


def mean_std(features: torch.Tensor) -> float:
    """Standard deviation over the films (divided by n) of each dimension, averaged over dimensions: (n, d) -> >= 0."""
    return _rows(features).std(dim=0, correction=0).mean().item()


def std_ratio(features: torch.Tensor) -> float:
    """`mean_std` of the rows at unit length as a ratio to 1/sqrt(d): (n, d) -> [0, 1].

    1 where they are spread evenly over the sphere, 0 where all point the same way (Chen and He, "Exploring Simple
    Siamese Representation Learning", CVPR 2021, section 4.1).
    """
    return spread(F.normalize(_rows(features), dim=1)).item()


def mean_cosine(features: torch.Tensor) -> float:
    """Cosine of two different rows, mean over all pairs: (n, d) -> [-1/(n-1), 1]. A row of zeros has cosine 0."""
    units = F.normalize(_rows(features), dim=1)
    # The squared length of the sum is the sum over all pairs, those of a row with itself included.
    pairs = units.sum(dim=0).square().sum() - units.square().sum()
    return (pairs / (len(units) * (len(units) - 1))).item()


def effective_rank(features: torch.Tensor) -> float:
    """Exponential of the entropy of the centred matrix's normalised singular values: (n, d) -> [1, min(n - 1, d)].

    Roy and Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007, definition 1. 0 if
    all rows are equal.
    """
    rows = _rows(features)
    return _rank(_singular_values(rows - rows.mean(dim=0), rows))


def rankme(features: torch.Tensor) -> float:
    """`effective_rank` without centring: (n, d) -> [1, min(n, d)]; a common offset is a direction like any other.

    Garrido et al., "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by
    Their Rank", ICML 2023, equation 1.
    """
    rows = _rows(features)
    return _rank(_singular_values(rows, rows))


def alpha_req(features: torch.Tensor, first: int = 4, last: int = 100) -> float:
    """Exponent alpha of the decay of the covariance's eigenvalues, as rank^-alpha: (n, d) -> alpha.

    Agrawal et al., "alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by measuring eigenspectrum
    decay", NeurIPS 2022, section 3: the slope of a line through logarithms of eigenvalue and rank, every rank weighted
    with its inverse, as neighbours crowd there. With n near `last` the tail of the sample's spectrum falls faster than
    that of the population: alpha is then too large.

    Args:
        features: (n, d).
        first, last: the ranks that are fitted, of those that exist; the largest eigenvalues follow no law.

    Returns:
        Alpha; nan if fewer than two of the ranks have an eigenvalue above 0.
    """
    rows = _rows(features)
    return _decay(_singular_values(rows - rows.mean(dim=0), rows), first, last)


def alignment(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared distance at unit length of two views of a film, mean over films: (n, d), (n, d) -> [0, 4].

    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere", ICML 2020, section 4.1, with alpha = 2.
    """
    first, second = (F.normalize(_rows(view), dim=1) for view in (first, second))
    return (first - second).square().sum(dim=1).mean().item()


def uniformity(features: torch.Tensor, sharpness: float = 2.0) -> float:
    """Logarithm of the mean over pairs of different films of exp(-t x squared distance at unit length): (n, d) -> <= 0.

    Wang and Isola, as `alignment`; t is the sharpness. Lower is more uniform, at t = 2 nearly -4; 0 where all films
    are one point. Of two views the paper takes the mean of both.
    """
    units = F.normalize(_rows(features), dim=1)
    return torch.pdist(units).square().mul(-sharpness).exp().mean().log().item()


@torch.no_grad()
def matched_information(
    targets: torch.Tensor, logits: torch.Tensor, temperature: float = 0.1, patients: np.ndarray | None = None
) -> dict[str, float]:
    """`dino.collapse_numbers` of held-out films on one process, with an interval of matched information.

    The entropy of the mean distribution is the films' mean cross-entropy with it. So matched information is a mean
    over films too: of what the student's surprise saves against that of the mean distribution. Its 95 % interval
    resamples patients and leaves the mean distribution as it is. To draw that anew as well would change nothing in
    first order, but where prototypes are many it would lower the entropy by what films drawn twice have in common.

    The mean distribution of n patients varies, and that lowers its entropy: to second order by c / 2, where nc is the
    sum over prototypes of Var(t) / mean(t) (Miller 1955). As c comes near 1, which it is where every film has its own
    prototypes, that is far too little. c / (2 - 2c) agrees with made-up films: 0.65 nats where 64 of them hide 0.60 of
    256 prototypes' (standard error 0.04), 0.84 where 256 hide 0.83 of 4,096 prototypes' (0.17).

    Args:
        targets: (T, B, K) the teacher's distributions.
        logits: (V, B, K) the student's similarities to the prototypes; its first T views are the teacher's.
        temperature: of the student's softmax.
        patients: (B,) whose film it is; None: every film is a patient's only one.

    Returns:
        `matched_information` with `matched_information_low` and `_high`, and with `_bias`, by how much all three are
        too low since the mean is one of few patients; `mean_teacher_entropy`, `teacher_entropy` and `cross_entropy`, in
        nats. The mean teacher entropy is at most ln K, and ln B + teacher entropy where the views of a film agree.
    """
    films = targets.shape[1]
    surprises = torch.stack(
        [distillation_loss(targets[:, [film]], logits[:, [film]], temperature) for film in range(films)]
    )
    distributions = targets.mean(dim=0, dtype=torch.float64)
    mean = distributions.mean(dim=0)
    matched = (-torch.xlogy(distributions, mean).sum(dim=1) - surprises).cpu().numpy()
    owners = np.arange(films) if patients is None else patients
    low, high = patient_interval(matched, np.ones(films), owners)
    mean_entropy = entropy(mean).item()
    return {
        "matched_information": float(matched.mean()),
        "matched_information_low": low,
        "matched_information_high": high,
        "matched_information_bias": min(_unseen(distributions, mean, owners), math.log(len(mean)) - mean_entropy),
        "mean_teacher_entropy": mean_entropy,
        "teacher_entropy": entropy(targets).mean().item(),
        "cross_entropy": surprises.mean().item(),
    }


def _unseen(distributions: torch.Tensor, mean: torch.Tensor, owners: np.ndarray) -> float:
    """By how much the entropy of the mean of distributions (B, K) is too low, in nats; see `matched_information`."""
    variances = (distributions - mean).square().mean(dim=0)
    share = (variances[mean > 0] / mean[mean > 0]).sum().item() / len(np.unique(owners))
    return share / (2 - 2 * share) if share < 1 else math.inf


def patient_interval(sums: np.ndarray, counts: np.ndarray, patients: np.ndarray) -> tuple[float, float]:
    """95 % interval of sums.sum() / counts.sum(), by resampling whole patients: the bootstrap's percentiles.

    Args:
        sums, counts: (n,) of each film.
        patients: (n,) whose film it is.

    Returns:
        Lower and upper end; the same at every call.
    """
    known, owner = np.unique(patients, return_inverse=True)
    sums, counts = np.bincount(owner, sums), np.bincount(owner, counts)
    chosen = np.random.default_rng(0).integers(len(known), size=(_RESAMPLES, len(known)))
    low, high = np.quantile(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _rows(features: torch.Tensor) -> torch.Tensor:
    """(n, d) in float64."""
    if len(features) < 2:
        raise ScarceError("at least 2 held-out films", f"{len(features)}", "hold out more with watch.held_out")
    return features.detach().double()


def _singular_values(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Singular values (min(n, d),) of rows (n, d) after centring or as they are, in falling order."""
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    values = torch.linalg.eigvalsh(gram).flip(0)
    # Below it there is only the rounding of the product, and that of fp32 features that are all the same.
    floor = max(rows.shape) * torch.finfo(rows.dtype).eps * rows.square().sum()
    return values.where(values > floor, 0.0).sqrt()


def _rank(singular_values: torch.Tensor) -> float:
    total = singular_values.sum()
    return entropy(singular_values / total).exp().item() if total > 0 else 0.0


def _decay(singular_values: torch.Tensor, first: int = 4, last: int = 100) -> float:
    values = singular_values[singular_values > 0].square().log()[first - 1 : last]
    if len(values) < 2:
        return math.nan
    ranks = torch.arange(first, first + len(values), dtype=values.dtype, device=values.device)
    weights, positions = 1 / ranks, ranks.log()
    positions = positions - (weights * positions).sum() / weights.sum()
    return -((weights * positions * values).sum() / (weights * positions.square()).sum()).item()
