"""Retrieval: perfect and chance encoders score what they must."""

import numpy as np
import pytest
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import find_again, measure_retrieval


def test_equal_views_are_found_and_unrelated_ones_by_chance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 32, generator=generator)
    assert find_again(features, features + 0.01).all()
    chance = find_again(features, torch.randn(400, 32, generator=generator)).float().mean().item()
    assert chance < 0.02


def test_a_common_offset_hides_nothing():
    features = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    noise = 0.3 * torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    assert find_again(features + 1000, features + noise + 1000).float().mean() > 0.9


def test_by_hand():
    # Centred on (0, 0): the third film's second view lies nearest to the first film.
    first = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    second = torch.tensor([[2.0, 0.1], [-2.0, 0.1], [1.0, 0.9], [-1.0, -1.1]])
    assert find_again(first, second).tolist() == [True, True, True, True]
    assert find_again(first, second[[1, 0, 2, 3]]).tolist() == [False, False, True, True]


def test_an_encoder_without_information_scores_chance_with_its_interval(small_store):
    store = Store.open(small_store)
    calls = []

    def encode(views: torch.Tensor) -> torch.Tensor:
        calls.append(len(views))
        return torch.randn(len(views), 8, generator=torch.Generator().manual_seed(len(calls)))

    measured = measure_retrieval(store, np.arange(48), encode, 32, draws=20, films_per_draw=40)
    assert measured.low <= measured.top1 <= measured.high
    assert abs(measured.top1 - 1 / 40) < 0.03
    assert (measured.films, measured.patients, measured.draws) == (48, 24, 20)


def test_the_same_encoder_scores_the_same_twice(small_store):
    store = Store.open(small_store)
    scores = [measure_retrieval(store, np.arange(48), lambda v: v.flatten(1), 32, films_per_draw=40) for _ in "ab"]
    assert scores[0] == scores[1]


def test_too_few_films_are_refused(small_store):
    with pytest.raises(ScarceError, match="held-out films"):
        measure_retrieval(Store.open(small_store), np.arange(48), lambda v: v.flatten(1), 32)
