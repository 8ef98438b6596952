"""What frozen features tell with a few labels: logistic regression, class prototypes and nearest neighbours.

A draw is the few labelled films that one trial may see. The draws of a cell (start, finding, shot) are fitted together,
and as many cells as one likes.
"""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.logistic import TOLERANCE, Axes, Solution, log_losses, principal_axes, solve_logistic
from scarce_cxr.views.draws import Draws

logger = logging.getLogger(__name__)

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
# Of a vote: a neighbour at cosine 1 counts e times as much as one at 0.93 (Wu et al., CVPR 2018, section 3.4).
_TEMPERATURE = 0.07
# Similarities that are held at once, 128 MB in float64.
_TOGETHER = 2**24
# Numbers (draws x problems x films) that are solved together: of draws of other films few enough for a processor's
# cache, of draws of the same films as many as memory allows.
_SOLVED_TOGETHER = {"cpu": 2**16, "cuda": 2**24}
_SHARED = 2**24
# Of solutions that others start from.
_START_TOLERANCE = 0.3
# Of solutions that only choose a strength: it leaves their held-out losses right to about one in a thousand.
_COARSE_TOLERANCE = 1e-2
# Sums over more films than this lose in single precision the digits that the coarse tolerance asks for.
_FEW = 2048


class LabelledFilms(Protocol):
    """A draw: `rows` (m,) int64 rows of the feature table, `labels` (m,) 1 or 0 in the same order."""

    rows: np.ndarray
    labels: np.ndarray


class _Sorted(NamedTuple):
    rows: np.ndarray
    labels: np.ndarray


class Probes(NamedTuple):
    """Linear probes of D draws on d features.

    Args:
        weights: (D, d) float64.
        bias: (D,) float64.
        strength: (D,) the C that was chosen inside the draw; larger is less regularised.
        converged: (D,) bool, whether every fit that the draw needed came to its solution.
    """

    weights: np.ndarray
    bias: np.ndarray
    strength: np.ndarray
    converged: np.ndarray


def standardise(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Shifts and scales each dimension to mean 0 and standard deviation 1 over the train split; no label is used.

    A dimension that does not vary over the train split becomes 0 for every film. So does, as the mean, each number that
    is not finite; films with such numbers are counted in a warning.

    Args:
        features: (n, d) floating-point.
        rows: (m,) rows of the train split, or (n,) bool.

    Returns:
        (n, d) float32.

    Raises:
        ScarceError: the train split is empty.
    """
    finite = np.isfinite(features)
    features = np.where(finite, features, 0)
    train, known = features[rows], finite[rows]
    if not len(train):
        raise ScarceError("films in the train split", "none", "leave more patients in it")
    counts = np.maximum(known.sum(axis=0), 1)
    mean = train.sum(axis=0, dtype=np.float64) / counts
    std = np.sqrt((np.square(train - mean) * known).sum(axis=0) / counts)
    # float32 features that are all the same differ by their rounding.
    varies = std > 10 * np.finfo(np.float32).eps * np.abs(mean)
    spoilt = int((~finite).any(axis=1).sum())
    if spoilt:
        logger.warning("%d of %d films have features that are not finite: they count as the mean", spoilt, len(finite))
    return ((features - mean) * finite * np.where(varies, 1 / np.where(varies, std, 1), 0)).astype(np.float32)


def fit_probes(
    features: np.ndarray | torch.Tensor,
    draws: Sequence[LabelledFilms],
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    patients: np.ndarray | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Probes:
    """Fits an L2-regularised logistic regression to each draw, its strength chosen inside the draw.

    The strength is the one with the smallest mean log loss of held-out films in stratified cross-validation
    (`assign_folds`); of equal ones the smallest, which regularises most. Where a draw allows no cross-validation, it is
    the one nearest to 1, scikit-learn's default. At one film of each class it does not matter for the ranking of films:
    the weights lie along the difference of the two films at every strength, whose length alone changes.

    Args:
        features: (n, d) standardised features.
        draws: D draws of rows of the table; each has films of both classes.
        strengths: the C to choose from, each > 0.
        folds: of cross-validation, at most.
        patients: (n,) whose film a row is: a patient's films stay in one fold. None: all are of different patients.
        seed: another seed makes other folds.
        device: where to solve, in float64.

    Returns:
        The probes. Those that did not converge are marked, and counted in a warning.

    Raises:
        ScarceError: there are no draws, a draw has films of one class only, features are not finite, or a strength is
            not above 0.
    """
    strengths = np.sort(np.asarray(strengths, dtype=np.float64))
    if not len(strengths) or not (strengths > 0).all():
        raise ScarceError("strengths above 0", f"{strengths.tolist()}", "choose among e.g. 0.01, 1 and 100")
    _check(draws)
    probes = Probes(
        np.empty((len(draws), features.shape[1])),
        np.empty(len(draws)),
        np.empty(len(draws)),
        np.empty(len(draws), dtype=bool),
    )
    for which in _sharing_films(draws, len(strengths) * folds, _SOLVED_TOGETHER[torch.device(device).type]):
        chosen = [[_sorted(draws[draw]) for draw in group] for group in which]
        films = torch.stack([_films(features, group[0].rows, device) for group in chosen])
        labels = np.array([[draw.labels for draw in group] for group in chosen], dtype=np.float64)
        held_out = np.array(
            [[assign_folds(draw.rows, draw.labels, folds, patients, seed) for draw in group] for group in chosen]
        )
        fitted = _fit(films, torch.as_tensor(labels, device=device), held_out, strengths)
        for whole, part in zip(probes, fitted, strict=True):
            whole[which] = part
    failed = int((~probes.converged).sum())
    if failed:
        logger.warning("%d of %d probes did not converge: take their scores with care", failed, len(draws))
    return probes


def score_probes(features: np.ndarray, probes: Probes) -> np.ndarray:
    """Log-odds of the positive class: features (n, d), standardised as those of the fit -> (D, n) float64."""
    return probes.weights @ np.asarray(features, dtype=np.float64).T + probes.bias[:, None]


def assign_folds(
    rows: np.ndarray, labels: np.ndarray, folds: int = 5, patients: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Divides a draw for stratified cross-validation.

    Positive patients (of any positive film) and the others are dealt out separately, so that folds differ by at most
    one patient of each kind, and by at most one in all. There are as many folds as asked for, but no more than patients
    of either kind. A patient's place depends on its first row and the seed, so the order of films changes nothing.

    Args:
        rows: (m,) rows of the table.
        labels: (m,) 1 or 0.
        folds: how many, at most.
        patients: (n,) whose film a row is. None: all are of different patients.
        seed: another seed makes other folds.

    Returns:
        (m,) int64 fold of each film, from 0; -1 for all where there would be fewer than two folds.
    """
    rows = np.asarray(rows, dtype=np.int64)
    names, owner = np.unique(rows if patients is None else patients[rows].astype(str), return_inverse=True)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, owner, rows)
    positive = np.bincount(owner, labels) > 0
    count = min(folds, int(positive.sum()), int((~positive).sum()))
    if count < 2:
        return np.full(len(rows), -1)
    order = np.lexsort((first, Draws(seed, 0, first).uniform("folds")[:, 0], ~positive))
    dealt = np.empty(len(names), dtype=np.int64)
    dealt[order] = np.arange(len(names)) % count
    return dealt[owner]


def prototype_scores(
    features: np.ndarray | torch.Tensor,
    draws: Sequence[LabelledFilms],
    rows: np.ndarray,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """How much nearer films are to the mean of the positive films than to that of the negative ones.

    Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, on frozen features.

    Args:
        features: (n, d) standardised features.
        draws: D draws of rows of the table; each has films of both classes.
        rows: (m,) rows of the films to score, or (n,) bool.
        metric: "cosine": features are brought to unit length before the mean and the score is the difference of two
            cosines, in [-2, 2]. "euclidean": half the difference of two squared distances, unbounded.
        device: where to compute.

    Returns:
        (D, m) float64; 0 lies halfway.

    Raises:
        ScarceError: there are no draws, a draw has films of one class only, or features are not finite.
    """
    _check(draws)
    asked = _films(features, rows, device)
    asked = F.normalize(asked, dim=1) if metric == "cosine" else asked
    scores = np.empty((len(draws), len(asked)))
    for which in _of_equal_size(draws):
        films, labels = _stack(features, [draws[draw] for draw in which], device)
        films = F.normalize(films, dim=2) if metric == "cosine" else films
        positive, negative = (
            (share[:, None] @ films).squeeze(1) / share.sum(dim=1, keepdim=True) for share in (labels, 1 - labels)
        )
        if metric == "cosine":
            found = (F.normalize(positive, dim=1) - F.normalize(negative, dim=1)) @ asked.T
        else:
            offset = (positive.square() - negative.square()).sum(dim=1, keepdim=True) / 2
            found = (positive - negative) @ asked.T - offset
        scores[which] = found.cpu().numpy()
    return scores


def neighbour_scores(
    features: np.ndarray | torch.Tensor,
    draws: Sequence[LabelledFilms],
    rows: np.ndarray,
    neighbours: int = 5,
    *,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Votes of the films of a draw that are nearest by cosine.

    Positive neighbours vote for, negative ones against, each with exp((cosine - 1) / 0.07): so films whose neighbours
    all agree still differ in score.

    Args:
        features: (n, d) standardised features.
        draws: D draws of rows of the table; each has films of both classes.
        rows: (m,) rows of the films to score, or (n,) bool.
        neighbours: how many vote, at most: a smaller draw votes as a whole.
        device: where to compute.

    Returns:
        (D, m) float64 in [-neighbours, neighbours].

    Raises:
        ScarceError: there are no draws, a draw has films of one class only, or features are not finite.
    """
    _check(draws)
    asked = F.normalize(_films(features, rows, device), dim=1)
    scores = np.empty((len(draws), len(asked)))
    for which in _of_equal_size(draws):
        films, labels = _stack(features, [draws[draw] for draw in which], device)
        films = F.normalize(films, dim=2)
        together = max(1, _TOGETHER // labels.numel())
        votes = [_vote(some, films, labels, neighbours) for some in asked.split(together)]
        scores[which] = torch.cat(votes, dim=1).cpu().numpy()
    return scores


def _vote(asked: torch.Tensor, films: torch.Tensor, labels: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Scores (D, m) of films (m, d) by draws (D, n, d) with labels (D, n), all of unit length."""
    cosines, nearest = (asked @ films.mT).topk(min(neighbours, films.shape[1]), dim=2)
    sides = 2 * labels[:, None].expand(-1, len(asked), -1).gather(2, nearest) - 1
    return (sides * ((cosines - 1) / _TEMPERATURE).exp()).sum(dim=2)


def _sorted(draw: LabelledFilms) -> _Sorted:
    order = np.argsort(draw.rows)
    return _Sorted(np.asarray(draw.rows)[order], np.asarray(draw.labels)[order])


def _fit(films: torch.Tensor, labels: torch.Tensor, held_out: np.ndarray, strengths: np.ndarray) -> Probes:
    """Fits G x Q draws, Q of the same films: films (G, n, d), labels and the fold that holds a film out (G, Q, n).

    Returns:
        Probes whose arrays begin with (G, Q).
    """
    axes = principal_axes(films)
    choices = torch.as_tensor(strengths, device=films.device)
    precision = torch.float32 if films.shape[1] <= _FEW else torch.float64
    coarse = Axes(*(part.to(precision) for part in axes))
    whole = _solve(coarse, labels, choices[:, None].expand(*labels.shape[:2], -1, 1), tolerance=_START_TOLERANCE)
    best = torch.full(labels.shape[:2], int(np.abs(np.log(strengths)).argmin()), device=films.device)
    converged = torch.ones_like(best, dtype=torch.bool)
    if held_out.max() >= 0:
        losses, converged = _held_out_losses(coarse, labels, held_out, choices, whole)
        best = torch.where(torch.as_tensor(held_out[:, :, 0] >= 0, device=films.device), losses.argmin(dim=2), best)
    start = (
        whole.weights.take_along_dim(best[:, :, None, None], dim=2),
        whole.bias.take_along_dim(best[:, :, None], dim=2),
    )
    final = _solve(axes, labels, choices[best][:, :, None, None], start=start)
    return Probes(
        (final.combination[:, :, 0] @ films).cpu().numpy(),
        final.bias[:, :, 0].cpu().numpy(),
        strengths[best.cpu().numpy()],
        (final.converged[:, :, 0] & converged).cpu().numpy(),
    )


def _held_out_losses(
    axes: Axes, labels: torch.Tensor, held_out: np.ndarray, strengths: torch.Tensor, whole: Solution
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the log losses of held-out films (G, Q, S), and whether all that lies behind them converged (G, Q).

    The solutions of whole draws are where those of the folds start from.
    """
    held = torch.as_tensor(held_out, device=labels.device)[:, :, None]
    left_out = held == torch.arange(held_out.max() + 1, device=labels.device)[:, None]
    folds = left_out.shape[2]
    costs = (strengths[:, None] * ~left_out[:, :, :, None]).flatten(2, 3)
    start = whole.weights.repeat(1, 1, folds, 1), whole.bias.repeat(1, 1, folds)
    solved = _solve(axes, labels, costs, start=start, tolerance=_COARSE_TOLERANCE)
    losses = log_losses(solved.values.double(), labels[:, :, None]).unflatten(2, (folds, -1))
    return (losses * left_out[:, :, :, None]).sum(dim=(2, 4)), solved.converged.all(dim=2)


def _solve(
    axes: Axes,
    labels: torch.Tensor,
    costs: torch.Tensor,
    *,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    tolerance: float = TOLERANCE,
) -> Solution:
    """`solve_logistic` of problems (G, Q, P), with labels (G, Q, n) and costs (G, Q, P, n) or (G, Q, P, 1)."""
    shape = costs.shape[1:3]
    problems = labels[:, :, None].expand(-1, -1, shape[1], -1).flatten(1, 2)
    costs = costs.expand(-1, -1, -1, labels.shape[2]).flatten(1, 2)
    start = start and tuple(part.flatten(1, 2) for part in start)
    solved = solve_logistic(axes, problems, costs, start=start, tolerance=tolerance)
    return Solution(*(part.unflatten(1, shape) for part in solved))


def _sharing_films(draws: Sequence[LabelledFilms], problems: int, numbers: int) -> list[np.ndarray]:
    """Positions (G, Q) of draws that are solved together, Q of the same films: `all` has those for every finding.

    Args:
        draws: D draws.
        problems: how many are solved for each.
        numbers: draws x problems x films that are solved together.
    """
    owners: dict[bytes, list[int]] = {}
    for number, draw in enumerate(draws):
        owners.setdefault(np.sort(draw.rows).tobytes(), []).append(number)
    alike: dict[tuple[int, int], list[list[int]]] = {}
    for sharing in owners.values():
        size = len(draws[sharing[0]].rows)
        most = max(1, _SHARED // (size * problems))
        for some in (sharing[begin : begin + most] for begin in range(0, len(sharing), most)):
            alike.setdefault((size, len(some)), []).append(some)
    batches = []
    for (size, shared), groups in alike.items():
        together = max(1, numbers // (size * shared * problems))
        batches += [np.array(groups[begin : begin + together]) for begin in range(0, len(groups), together)]
    return batches


def _check(draws: Sequence[LabelledFilms]) -> None:
    if not len(draws):
        raise ScarceError("at least one draw", "none", "leave out the cell")
    for number, draw in enumerate(draws):
        positives = int(np.sum(draw.labels))
        if not 0 < positives < len(draw.labels):
            got = f"{positives} positive and {len(draw.labels) - positives} negative ones (draw {number})"
            raise ScarceError("films of both classes in every draw", got, "leave out the cell")


def _of_equal_size(draws: Sequence[LabelledFilms]) -> list[np.ndarray]:
    """Positions of the draws, together where they have equally many films."""
    sizes = np.array([len(draw.rows) for draw in draws])
    return [np.flatnonzero(sizes == size) for size in np.unique(sizes)]


def _stack(
    features: np.ndarray | torch.Tensor, draws: Sequence[LabelledFilms], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Films (D, n, d) and labels (D, n) of draws of n films each, in float64."""
    films = _films(features, np.concatenate([draw.rows for draw in draws]), device)
    labels = np.stack([draw.labels for draw in draws]).astype(np.float64)
    return films.view(len(draws), -1, films.shape[1]), torch.as_tensor(labels, device=device)


def _films(features: np.ndarray | torch.Tensor, rows: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """(m, d) float64 features of the rows."""
    rows = torch.as_tensor(rows, device=features.device) if isinstance(features, torch.Tensor) else rows
    films = torch.as_tensor(features[rows], dtype=torch.float64, device=device)
    if not films.isfinite().all():
        raise ScarceError("finite features", "nan or infinity", "pass them through standardise")
    return films
