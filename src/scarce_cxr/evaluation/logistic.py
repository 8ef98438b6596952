"""Many L2-regularised logistic regressions at once, solved exactly: batched linear algebra on the CPU or the GPU.

Each minimises what scikit-learn's `LogisticRegression(C=C)` does, the intercept b free of penalty:

    C * sum_i log(1 + exp(-y_i (x_i . w + b))) + |w|^2 / 2,    y_i in {-1, 1}.

At the solution w = X^T a: the weights are combinations of the films, with a_i = C (y_i - p_i) for y in {0, 1}. So n
films of d features have at most min(n, d) directions that matter, the axes of the n x n matrix of inner products (the
dual) or of the d x d one of features (the primal), whichever is smaller. In these coordinates problems of the same
films share one matrix, and Newton's method takes all of them a step on by products with it.

The solver stops by the Newton decrement, the gradient's norm in the metric of the inverse Hessian. Near the solution it
is the distance that is left, measured by the Hessian, and so at least the distance of w: the penalty alone gives the
Hessian eigenvalues of 1, for separable classes too.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

TOLERANCE = 1e-6
"""Of the Newton decrement, as a share of 1 + |w|."""
_NEWTON_STEPS = 100
_CONJUGATE_STEPS = 500
_HALVINGS = 40
# By how much the squared residual of Newton's system shrinks, at most and at least.
_FORCING = (1e-8, 1e-2)
# Solved problems are cut out of a block once no more than this share of it remains: cutting costs about as much as a
# step of conjugate gradients.
_SPARED = 0.75


class Axes(NamedTuple):
    """Films of D draws in the principal axes of each draw.

    Args:
        films: (D, n, r) coordinates, r = n or d.
        spread: (D, r) their mean squares over the films.
    """

    films: torch.Tensor
    spread: torch.Tensor


class Solution(NamedTuple):
    """Solutions of P problems for each of D draws of n films.

    Args:
        weights: (D, P, r) w in the principal axes.
        bias: (D, P) b.
        combination: (D, P, n) a, with w = X^T a; 0 for films that cost nothing.
        values: (D, P, n) x . w + b of every film, also of those that cost nothing.
        converged: (D, P) bool, whether the Newton decrement fell to tolerance * (1 + |w|); the last step comes after.
    """

    weights: torch.Tensor
    bias: torch.Tensor
    combination: torch.Tensor
    values: torch.Tensor
    converged: torch.Tensor


def principal_axes(films: torch.Tensor, form: Literal["dual", "primal", "smaller"] = "smaller") -> Axes:
    """Turns the films of each draw so that the matrix of the features' products is diagonal: the same inner products.

    Args:
        films: (D, n, d) float64, finite.
        form: which matrix gives the axes: of the films' inner products (dual, r = n), of the features' (primal, r = d),
            or the smaller.
    """
    count, features = films.shape[1:]
    if form == "dual" or (form == "smaller" and count <= features):
        squares, axes = torch.linalg.eigh(films @ films.mT)
        # Where films are alike, rounding puts eigenvalues below 0.
        squares = squares.clamp_min(0)
        return Axes(axes * squares.sqrt()[:, None], squares / count)
    squares, axes = torch.linalg.eigh(films.mT @ films)
    return Axes(films @ axes, squares.clamp_min(0) / count)


def solve_logistic(
    axes: Axes,
    labels: torch.Tensor,
    costs: torch.Tensor,
    *,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Solves D x P problems by damped Newton steps, all in step. What does not converge is returned as far as it came.

    Args:
        axes: the films; in float64, or in float32 where a tolerance of 1e-2 is enough.
        labels: (D, P, n), or broadcast to it, 1 for positive films, 0 for negative ones.
        costs: (D, P, n) C of each film in each problem, >= 0; 0 leaves the film out. Films of both classes cost
            something.
        start: weights (D, P, r) and bias (D, P) of problems that are alike; None: 0.
        tolerance: of the Newton decrement, as a share of 1 + |w|.
    """
    costs = costs.to(axes.films.dtype).contiguous()
    sides = _sides(labels).to(costs.dtype).expand_as(costs)
    if start is None:
        start = costs.new_zeros(*costs.shape[:2], axes.films.shape[2]), costs.new_zeros(costs.shape[:2])
    weights, bias = (part.to(costs.dtype) for part in start)
    values = weights @ axes.films.mT + bias[..., None]
    active = torch.ones_like(bias, dtype=torch.bool)
    block = _Block(weights, bias, values, _objective(weights, values, costs, sides), costs, sides, active)
    solved = [part.clone() for part in (weights, bias, values, active)]
    # Steps need few digits: in single precision they cost half.
    rough = Axes(*(part.float() for part in axes))
    draws, problems = (torch.arange(size, device=costs.device) for size in bias.shape)
    for _ in range(_NEWTON_STEPS):
        block = _step(axes, rough, block, tolerance)
        for whole, part in zip(solved, (block.weights, block.bias, block.values, block.active), strict=True):
            whole[draws[:, None], problems] = part
        rows, columns = block.active.any(1).nonzero()[:, 0], block.active.any(0).nonzero()[:, 0]
        if not len(rows):
            break
        if len(rows) < len(draws) or len(columns) < len(problems):
            # Problems of small C are solved first: only the block of what remains goes on.
            block = _Block(*(part[rows[:, None], columns] for part in block))
            axes, rough = (Axes(*(part[rows] for part in both)) for both in (axes, rough))
            draws, problems = draws[rows], problems[columns]
    weights, bias, values, active = solved
    return Solution(weights, bias, costs * sides * torch.sigmoid(-sides * values), values, ~active)


def log_losses(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of labels 0 and 1 under log-odds, element by element, in nats: >= 0."""
    return -F.logsigmoid(_sides(labels) * values)


def _sides(labels: torch.Tensor) -> torch.Tensor:
    """-1 for 0 and 1 for 1. With them a small loss or probability is exact, not the rest of a difference."""
    return 2 * labels - 1


def _objective(weights: torch.Tensor, values: torch.Tensor, costs: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """(D, P) what is minimised."""
    return weights.square().sum(-1) / 2 - (costs * F.logsigmoid(sides * values)).sum(-1)


class _Block(NamedTuple):
    """Where D x P problems stand: of each the weights (r,), b, values (n,) and what is minimised, its films' C and
    sides (n,), and whether it is still to be solved."""

    weights: torch.Tensor
    bias: torch.Tensor
    values: torch.Tensor
    objective: torch.Tensor
    costs: torch.Tensor
    sides: torch.Tensor
    active: torch.Tensor


def _step(axes: Axes, rough: Axes, block: _Block, tolerance: float) -> _Block:
    """Takes a block one damped Newton step on; `rough` are its axes in single precision."""
    weights, bias, values, objective, costs, sides, active = block
    wrong = torch.sigmoid(-sides * values)
    pull = costs * sides * wrong
    gradient, bias_gradient = (weights - pull @ axes.films) * active[..., None], -pull.sum(-1) * active
    direction = _newton_direction(
        rough, *(part.float() for part in (costs * wrong * (1 - wrong), gradient, bias_gradient))
    )
    step, bias_step, decrement = (part.to(costs.dtype) for part in direction)
    moves = step @ axes.films.mT + bias_step[..., None]
    length = torch.ones_like(bias)
    # Near the solution the objective falls by less than the rounding of its sum.
    allowed = objective + 100 * torch.finfo(costs.dtype).eps * objective.abs()
    for _ in range(_HALVINGS):
        there = weights + length[..., None] * step, values + length[..., None] * moves
        now = _objective(*there, costs, sides)
        # Armijo's rule: a share of the fall that the slope promises.
        high = now > allowed - 1e-4 * length * decrement.square()
        if not high.any():
            break
        length = torch.where(high, length / 2, length)
    active = active & (decrement > tolerance * (1 + weights.norm(dim=-1)))
    return _Block(there[0], bias + length * bias_step, there[1], now, costs, sides, active)


def _newton_direction(
    axes: Axes, curvature: torch.Tensor, gradient: torch.Tensor, bias_gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Newton's steps in w (D, P, r) and b (D, P), and the decrements (D, P), by conjugate gradients.

    The intercept is eliminated, which centres the films by their curvatures (D, P, n). The axes' mean squares make the
    preconditioner, the Hessian as it would be if all curvatures were equal. The smaller the gradient, the more exactly
    the system is solved, so that convergence stays faster than linear (Dembo, Eisenstat and Steihaug, "Inexact Newton
    Methods", SIAM Journal on Numerical Analysis, 1982). Where that takes too long, the decrement is infinite.
    """
    tiny = torch.finfo(curvature.dtype).tiny
    total = curvature.sum(-1, keepdim=True).clamp_min(tiny)
    share = curvature / total
    inverse = 1 / (1 + total * axes.spread[:, None])
    rest = bias_gradient[..., None] * (share @ axes.films) - gradient
    direction = inverse * rest
    # Squares of the residual's norm, in the preconditioner's metric.
    square = (rest * direction).sum(-1)
    enough = square * square.clamp(*_FORCING)
    whole_step, whole_square, whole_share = torch.zeros_like(rest), square.clone(), share
    step, problems = whole_step.clone(), torch.arange(square.shape[1], device=square.device)
    for _ in range(_CONJUGATE_STEPS):
        unsolved = square > enough[:, problems]
        kept = unsolved.any(0).nonzero()[:, 0]
        if len(kept) <= _SPARED * len(problems):
            whole_step[:, problems], whole_square[:, problems] = step, square
            if not len(kept):
                break
            problems = problems[kept]
            step, rest, direction, square, unsolved, inverse, share, curvature = (
                part[:, kept] for part in (step, rest, direction, square, unsolved, inverse, share, curvature)
            )
        along = direction @ axes.films.mT
        along -= (share * along).sum(-1, keepdim=True)
        image = (along * curvature) @ axes.films + direction
        length = torch.where(unsolved, square / (direction * image).sum(-1).clamp_min(tiny), 0.0)[..., None]
        step.addcmul_(length, direction)
        rest.addcmul_(length, image, value=-1)
        scaled = inverse * rest
        before, square = square, (rest * scaled).sum(-1)
        direction = torch.addcmul(scaled, (square / before.clamp_min(tiny))[..., None], direction)
    else:
        whole_step[:, problems], whole_square[:, problems] = step, square
    step, square, share = whole_step, whole_square, whole_share
    bias_step = -bias_gradient / total[..., 0] - (share * (step @ axes.films.mT)).sum(-1)
    decrement = -((gradient * step).sum(-1) + bias_gradient * bias_step)
    return step, bias_step, decrement.clamp_min(0).sqrt().where(square <= enough, torch.inf)
