"""Measures against closed forms, all pairs one by one, lightly, numpy and scipy."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.dino import collapse_numbers, distillation_loss
from scarce_cxr.monitor.measures import (
    alignment,
    alpha_req,
    effective_rank,
    embedding_measures,
    matched_information,
    mean_cosine,
    mean_std,
    patient_interval,
    rankme,
    std_ratio,
    uniformity,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_rotation(size: int) -> torch.Tensor:
    return torch.linalg.qr(draw(size, size, seed=1).double()).Q


def with_spectrum(eigenvalues: torch.Tensor, films: int, width: int) -> torch.Tensor:
    """Rows (films, width) with mean 0 whose products with each other have exactly these eigenvalues."""
    columns = draw(films, len(eigenvalues), seed=2).double()
    left = torch.linalg.qr(columns - columns.mean(dim=0)).Q
    return (left * eigenvalues.sqrt()) @ draw_rotation(width)[: len(eigenvalues)]


def draw_prototypes(films: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Distributions (2, films, 8) of a teacher and similarities (3, films, 8) of a student that knows a little."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.randn(films, 8, generator=generator)
    teacher, student = (0.7 * torch.randn(views, films, 8, generator=generator) + known for views in (2, 3))
    return teacher.softmax(dim=-1), 0.1 * student


@pytest.mark.parametrize(("films", "width"), [(24, 40), (40, 24)])
def test_equal_directions_count_as_themselves(films, width):
    directions = 6
    rows = torch.zeros(films, width, dtype=torch.float64)
    for film in range(2 * directions):
        rows[film, film // 2] = (-1) ** film
    for measure in (effective_rank, rankme):
        assert measure(rows) == pytest.approx(directions)
        assert measure(7 * rows @ draw_rotation(width)) == pytest.approx(directions)


@pytest.mark.parametrize(("films", "width"), [(24, 40), (40, 24)])
def test_ranks_are_those_of_the_singular_values(films, width):
    rows = draw(films, width) * torch.linspace(0.1, 3, width) + 2
    for measure, matrix in ((rankme, rows), (effective_rank, rows - rows.mean(dim=0))):
        values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
        shares = values[values > 1e-4] / values.sum()
        assert measure(rows) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def test_orthonormal_rows_have_cosine_zero_and_nothing_in_common_but_their_mean():
    rows = draw_rotation(16)
    assert mean_cosine(rows) == pytest.approx(0, abs=1e-12)
    assert rankme(rows) == pytest.approx(16)
    assert effective_rank(rows) == pytest.approx(15)
    # All pairs are as far apart as orthogonal unit vectors are.
    assert uniformity(rows) == pytest.approx(-4)


def test_identical_rows_have_no_spread_and_no_rank():
    rows = (100 * draw(512) + 3).expand(64, 512)
    measures = embedding_measures(rows)
    assert measures["norm"] == pytest.approx(rows[0].norm().item())
    assert measures["std"] == pytest.approx(0, abs=1e-10)
    assert measures["std_ratio"] == pytest.approx(0, abs=1e-10)
    assert measures["cosine"] == pytest.approx(1)
    assert measures["rank"] == 0
    assert measures["rankme"] == pytest.approx(1)
    assert math.isnan(measures["alpha"])
    assert uniformity(rows) == pytest.approx(0, abs=1e-10)


def test_rounding_of_rows_that_are_the_same_is_no_direction():
    rows = (draw(512) + 3).expand(64, 512)
    assert effective_rank(rows * (1 + 1e-7 * draw(64, 512, seed=1))) == 0


def test_spread_agrees_with_lightly():
    debug = pytest.importorskip("lightly.utils.debug", reason="lightly is not installed")
    for rows in (draw(50, 32), draw(50, 32) * torch.linspace(0.1, 5, 32) + 1):
        # Theirs divides by n - 1.
        theirs = debug.std_of_l2_normalized(rows).item() * math.sqrt(32 * 49 / 50)
        assert std_ratio(rows) == pytest.approx(theirs, rel=1e-5)


def test_spread_by_hand():
    rows = torch.tensor([[0.0, 3.0], [0.0, 1.0], [2.0, 2.0], [2.0, 2.0]])
    assert mean_std(rows) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert std_ratio(torch.tensor([[5.0, 0.0], [-1.0, 0.0]])) == pytest.approx(1 / math.sqrt(2))
    assert std_ratio(draw(20_000, 16)) == pytest.approx(1, abs=0.01)


def test_cosine_and_uniformity_are_means_over_all_pairs():
    rows = draw(12, 5).double() + 0.5
    cosines, potentials = [], []
    for first, second in combinations(rows.numpy(), 2):
        first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
        cosines.append(first @ second)
        potentials.append(math.exp(-2 * np.sum((first - second) ** 2)))
    assert mean_cosine(rows) == pytest.approx(np.mean(cosines), rel=1e-10)
    assert uniformity(rows) == pytest.approx(math.log(np.mean(potentials)), rel=1e-10)


def test_cosine_tells_nearly_equal_rows_from_equal_ones():
    # (1, e) and (1, -e): the cosine is (1 - e^2) / (1 + e^2); in fp32 it would be 1.
    rows = torch.tensor([[1.0, 1e-5], [1.0, -1e-5]])
    assert 1 - mean_cosine(rows) == pytest.approx(2e-10, rel=1e-4)


def test_alignment_and_uniformity_of_opposite_points():
    rows = draw(10, 6)
    assert alignment(rows, 3 * rows) == pytest.approx(0, abs=1e-12)
    assert alignment(rows, -rows) == pytest.approx(4)
    turned = torch.stack([-rows[:, 1], rows[:, 0]], dim=1)
    assert alignment(rows[:, :2], turned) == pytest.approx(2)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), sharpness=3) == pytest.approx(-12)
    assert uniformity(draw(1000, 256)) == pytest.approx(-4, abs=0.05)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.3])
def test_alpha_is_the_exponent_of_a_power_law_whatever_its_head(alpha):
    eigenvalues = torch.arange(1, 121, dtype=torch.float64) ** -alpha
    assert alpha_req(with_spectrum(eigenvalues, 200, 128)) == pytest.approx(alpha, rel=1e-6)
    eigenvalues[:3] *= 50
    eigenvalues[100:] *= 0.1
    assert alpha_req(with_spectrum(eigenvalues, 200, 128)) == pytest.approx(alpha, rel=1e-6)
    assert alpha_req(with_spectrum(eigenvalues[:20], 60, 20)) == pytest.approx(alpha, rel=1e-6)


def test_alpha_is_the_weighted_fit_of_a_spectrum_without_a_law():
    rows = draw(150, 80) @ draw(80, 80, seed=1)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(rows.double().numpy().T)))[::-1]
    ranks = np.arange(5, 61)
    # numpy weights residuals, not their squares.
    slope, _ = np.polyfit(np.log(ranks), np.log(eigenvalues[4:60]), 1, w=ranks**-0.5)
    assert alpha_req(rows, first=5, last=60) == pytest.approx(-slope, rel=1e-8)


def test_nothing_is_fitted_to_fewer_than_two_eigenvalues():
    assert math.isnan(alpha_req(with_spectrum(torch.ones(4).double(), 30, 8)))
    assert alpha_req(with_spectrum(torch.ones(5).double(), 30, 8)) == pytest.approx(0, abs=1e-9)


def test_rotation_changes_nothing_scale_only_lengths_and_an_offset_not_what_is_centred():
    rows = draw(40, 24).double() * torch.linspace(0.2, 2, 24) + 0.3
    measures = embedding_measures(rows)
    turned = embedding_measures(rows @ draw_rotation(24))
    # Standard deviations are taken along the axes: turning moves them a little.
    assert {n: turned[n] for n in turned if "std" not in n} == pytest.approx(
        {n: measures[n] for n in measures if "std" not in n}
    )
    scaled = {name: 9 * value if name in ("norm", "std") else value for name, value in measures.items()}
    assert embedding_measures(9 * rows) == pytest.approx(scaled)
    moved = embedding_measures(rows + 100)
    assert {n: moved[n] for n in ("std", "rank", "alpha")} == pytest.approx(
        {n: measures[n] for n in ("std", "rank", "alpha")}
    )
    assert moved["cosine"] > 0.99
    assert moved["rankme"] < measures["rankme"]


def test_the_embedding_measures_are_the_single_ones():
    rows = draw(40, 24) + 0.5
    assert embedding_measures(rows) == pytest.approx(
        {
            "norm": np.linalg.norm(rows.numpy(), axis=1).mean(),
            "std": mean_std(rows),
            "std_ratio": std_ratio(rows),
            "cosine": mean_cosine(rows),
            "rank": effective_rank(rows),
            "rankme": rankme(rows),
            "alpha": alpha_req(rows),
        }
    )


def test_features_that_are_no_numbers_have_no_measures_and_a_single_film_is_refused():
    rows = draw(8, 4)
    rows[3, 2] = math.inf
    assert all(math.isnan(value) for value in embedding_measures(rows).values())
    with pytest.raises(ScarceError, match="at least 2 held-out films"):
        embedding_measures(draw(1, 4))


def test_numbers_of_prototypes_are_those_of_the_loss():
    targets, logits = draw_prototypes(40)
    measured = matched_information(targets, logits, 0.2)
    expected = collapse_numbers(targets, distillation_loss(targets, logits, 0.2))
    for name in ("matched_information", "mean_teacher_entropy", "teacher_entropy", "cross_entropy"):
        assert measured[name] == pytest.approx(expected[name].item(), abs=1e-5)
    assert measured["matched_information_low"] < measured["matched_information"] < measured["matched_information_high"]


def test_information_at_the_plateau_and_where_every_film_is_known():
    plateau = matched_information(torch.full((2, 64, 16), 1 / 16), 1e-3 * draw(2, 64, 16))
    for name in ("matched_information_low", "matched_information", "matched_information_high"):
        assert plateau[name] == pytest.approx(0, abs=1e-3)
    known = torch.eye(8, 16).expand(2, 8, 16)
    measured = matched_information(known, 10 * known)
    assert measured["matched_information_low"] == pytest.approx(math.log(8), rel=1e-3)
    assert measured["matched_information_high"] == pytest.approx(math.log(8), rel=1e-3)


def test_the_interval_of_information_is_as_wide_as_the_spread_over_new_films():
    measured = [matched_information(*draw_prototypes(60, seed)) for seed in range(150)]
    spread = np.std([numbers["matched_information"] for numbers in measured])
    widths = [numbers["matched_information_high"] - numbers["matched_information_low"] for numbers in measured]
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(spread, rel=0.2)


def test_what_few_films_hide_of_information_is_told():
    """Targets of films that lie on a sphere, and a student that knows something of each."""

    def measured(films: int, seed: int) -> dict[str, float]:
        random = torch.Generator().manual_seed(seed)
        prototypes = torch.nn.functional.normalize(torch.randn(256, 24, generator=torch.Generator().manual_seed(0)))
        views = torch.randn(films, 24, generator=random) + 0.25 * torch.randn(2, films, 24, generator=random)
        logits = torch.nn.functional.normalize(views, dim=2) @ prototypes.T
        return matched_information((logits / 0.04).softmax(dim=-1), 0.08 * logits)

    many = measured(4096, 99)
    few = [measured(64, seed) for seed in range(8)]
    hidden = many["matched_information"] - np.mean([numbers["matched_information"] for numbers in few])
    assert hidden > 0.5
    assert np.mean([numbers["matched_information_bias"] for numbers in few]) == pytest.approx(hidden, rel=0.2)
    assert many["matched_information_bias"] < 0.02


def test_nothing_is_hidden_where_films_share_a_distribution_and_at_most_all_prototypes_are():
    plateau = matched_information(torch.full((2, 64, 16), 1 / 16), 1e-3 * draw(2, 64, 16))
    assert plateau["matched_information_bias"] == pytest.approx(0, abs=1e-6)
    own = matched_information(torch.eye(8, 100).expand(2, 8, 100), draw(2, 8, 100))
    assert own["matched_information_bias"] == pytest.approx(math.log(100 / 8))


def test_films_of_one_patient_count_as_one():
    targets, logits = draw_prototypes(30)
    once = matched_information(targets, logits)
    twice = torch.arange(30).repeat(2)
    ends = ("matched_information_low", "matched_information_high")
    grouped = matched_information(targets[:, twice], logits[:, twice], patients=np.array([f"p{i:02}" for i in twice]))
    assert [grouped[name] for name in ends] == pytest.approx([once[name] for name in ends])
    apart = matched_information(targets[:, twice], logits[:, twice])
    assert apart["matched_information_high"] < once["matched_information_high"]


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = patient_interval(values, np.ones(400), np.arange(400))
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert patient_interval(np.full(5, 6.0), np.full(5, 2.0), np.arange(5)) == (3, 3)


def test_spread_of_unit_vectors_ignores_lengths():
    rows = draw(30, 8)
    lengths = torch.linspace(0.1, 50, 30)[:, None]
    assert std_ratio(rows * lengths) == pytest.approx(std_ratio(rows))
    assert mean_cosine(rows * lengths) == pytest.approx(mean_cosine(F.normalize(rows, dim=1)))
