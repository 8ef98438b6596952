"""The batched solver finds what scikit-learn finds, whichever matrix it works with."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from scarce_cxr.evaluation import logistic
from scarce_cxr.evaluation.logistic import log_losses, principal_axes, solve_logistic

STRENGTHS = [0.01, 0.1, 1.0, 10.0, 100.0]


def _films(count: int, features: int, separation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Films (n, d), correlated as features are, and labels (n,) that one direction explains as far as asked."""
    random = np.random.default_rng(seed)
    films = (random.normal(size=(count, features)) / np.sqrt(np.arange(1, features + 1))) @ np.linalg.qr(
        random.normal(size=(features, features))
    )[0]
    films = (films - films.mean(axis=0)) / films.std(axis=0)
    along = films @ random.normal(size=features)
    noise = random.logistic(size=count)
    labels = along / along.std() * separation + noise > 0
    labels[:2] = [True, False]
    return films, labels.astype(float)


def _solve(films: np.ndarray, labels: np.ndarray, strengths: list[float] = STRENGTHS, form: str = "smaller"):
    tensor = torch.as_tensor(films)[None]
    costs = torch.tensor(strengths, dtype=torch.float64)[None, :, None].expand(1, -1, len(films))
    solved = solve_logistic(principal_axes(tensor, form), torch.as_tensor(labels), costs)
    return (solved.combination @ tensor)[0].numpy(), solved.bias[0].numpy(), solved


@pytest.mark.parametrize(
    ("count", "features", "separation"),
    [(10, 64, 1.0), (40, 96, 2.0), (60, 30, 1.0), (80, 20, 1000.0), (30, 200, 1000.0), (200, 12, 0.5)],
)
def test_coefficients_and_decision_values_are_scikit_learns(count, features, separation):
    films, labels = _films(count, features, separation)
    weights, bias, solved = _solve(films, labels)
    assert solved.converged.all()
    for index, strength in enumerate(STRENGTHS):
        # Newton's method in scikit-learn: its default solver stops short of 1e-4 where C is 100.
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000, solver="newton-cholesky")
        theirs.fit(films, labels)
        np.testing.assert_allclose(weights[index], theirs.coef_[0], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(bias[index], theirs.intercept_[0], atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(
            solved.values[0, index], theirs.decision_function(films), atol=1e-4, rtol=1e-4, err_msg=f"C = {strength}"
        )


@pytest.mark.parametrize(("count", "features"), [(30, 80), (80, 30), (50, 50)])
def test_dual_and_primal_are_the_same(count, features):
    films, labels = _films(count, features, 2.0)
    dual, dual_bias, _ = _solve(films, labels, form="dual")
    primal, primal_bias, _ = _solve(films, labels, form="primal")
    np.testing.assert_allclose(dual, primal, atol=1e-6)
    np.testing.assert_allclose(dual_bias, primal_bias, atol=1e-6)


@pytest.mark.parametrize(("count", "features"), [(40, 64), (120, 16)])
def test_the_gradient_is_zero_at_the_solution(count, features):
    films, labels = (torch.as_tensor(part) for part in _films(count, features, 3.0))
    weights, bias, solved = _solve(films.numpy(), labels.numpy())

    def gradient(strength: float, w: np.ndarray, b: float) -> torch.Tensor:
        parameters = torch.tensor([*w, b], requires_grad=True)
        values = films @ parameters[:-1] + parameters[-1]
        cost = strength * log_losses(values, labels).sum() + parameters[:-1].square().sum() / 2
        return torch.autograd.grad(cost, parameters)[0]

    for index, strength in enumerate(STRENGTHS):
        at_start = gradient(strength, np.zeros(features), 0.0).norm()
        assert gradient(strength, weights[index], bias[index]).norm() < 1e-6 * at_start
        values = films.numpy() @ weights[index] + bias[index]
        np.testing.assert_allclose(values, solved.values[0, index], atol=1e-5)


def test_separable_classes_converge_at_strengths_that_hardly_penalise():
    films, labels = _films(20, 100, 1000.0)
    weights, _, solved = _solve(films, labels, [1e2, 1e4, 1e6])
    assert solved.converged.all()
    assert ((solved.values[0].numpy() > 0) == (labels > 0)).all()
    assert np.diff(np.linalg.norm(weights, axis=1)).min() > 0


def test_films_that_cost_nothing_are_left_out_and_still_get_values():
    films, labels = _films(30, 50, 1.0)
    kept = np.arange(30) % 3 != 2
    tensor, target = torch.as_tensor(films)[None], torch.as_tensor(labels)[None]
    solved = solve_logistic(principal_axes(tensor), target, torch.as_tensor(kept.astype(float))[None, None])
    weights, bias, _ = _solve(films[kept], labels[kept], [1.0])
    assert (solved.combination[0, 0][~torch.as_tensor(kept)] == 0).all()
    np.testing.assert_allclose(solved.values[0, 0], films @ weights[0] + bias[0], atol=1e-6)


def test_draws_solved_together_are_the_draws_solved_alone():
    sets = [_films(24, 40, 2.0, seed) for seed in range(5)]
    films, labels = (torch.as_tensor(np.stack(parts)) for parts in zip(*sets, strict=True))
    costs = torch.tensor(STRENGTHS, dtype=torch.float64)[None, :, None].expand(5, -1, 24)
    together = solve_logistic(principal_axes(films), labels[:, None], costs)
    for draw in range(5):
        _, bias, alone = _solve(*sets[draw])
        np.testing.assert_allclose(together.values[draw], alone.values[0], atol=1e-6)
        np.testing.assert_allclose(together.bias[draw], bias, atol=1e-6)


def test_equal_films_leave_only_the_prevalence():
    weights, bias, solved = _solve(np.ones((4, 3)) * 0.0, np.array([1.0, 0, 0, 0]))
    assert solved.converged.all()
    assert np.abs(weights).max() == 0
    np.testing.assert_allclose(bias, np.log(1 / 3), atol=1e-6)


def test_what_did_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(logistic, "_NEWTON_STEPS", 3)
    films, labels = _films(40, 64, 2.0)
    solved = _solve(films, labels)[2]
    assert not solved.converged[0, -1]
    assert solved.values.isfinite().all()


def test_a_start_changes_the_way_but_not_the_solution():
    films, labels = (torch.as_tensor(part)[None] for part in _films(40, 64, 2.0))
    axes = principal_axes(films)
    costs = torch.tensor(STRENGTHS, dtype=torch.float64)[None, :, None].expand(1, -1, 40)
    cold = solve_logistic(axes, labels, costs)
    warm = solve_logistic(axes, labels, costs, start=(torch.randn_like(cold.weights), torch.randn_like(cold.bias)))
    assert warm.converged.all()
    np.testing.assert_allclose(warm.values, cold.values, atol=1e-5)


def test_single_precision_reaches_a_coarse_tolerance():
    films, labels = (torch.as_tensor(part)[None] for part in _films(60, 64, 2.0))
    axes = principal_axes(films)
    costs = torch.tensor(STRENGTHS, dtype=torch.float64)[None, :, None].expand(1, -1, 60)
    coarse = solve_logistic(type(axes)(*(part.float() for part in axes)), labels, costs, tolerance=1e-3)
    exact = solve_logistic(axes, labels, costs)
    assert coarse.converged.all()
    assert ((coarse.weights - exact.weights).norm(dim=-1) <= 1e-3 * (1 + exact.weights.norm(dim=-1)) * 1.01).all()
