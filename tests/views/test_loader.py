"""The loader shows every process its share of one and the same sequence of batches."""

import numpy as np
import pytest
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.loader import Loader
from scarce_cxr.views.plans import Normalization, OneView

PLAN = OneView(32, Augmentation(crop=(0.3, 1), flip=0.5, rotation=10, brightness=0.4, contrast=0.4, blur=5))


def make_loader(store, **settings) -> Loader:
    return Loader(Store.open(store), PLAN, **{"films": np.arange(40), "batch_size": 16, "seed": 3, **settings})


def test_an_epoch_shows_each_film_at_most_once_and_only_the_chosen(small_store):
    loader = make_loader(small_store, films=np.arange(5, 45), batch_size=8)
    seen = np.concatenate([loader.films_at(step, loader.positions(0)) for step in range(loader.steps_per_epoch)])
    assert np.array_equal(np.sort(seen), np.arange(5, 45))


def test_any_step_can_be_replayed_alone(small_store):
    loader = make_loader(small_store)
    streamed = {step: views.crops[0] for step, _, views in loader.batches(0, 6)}
    assert list(streamed) == list(range(6))
    for step in (5, 0, 3):
        assert torch.equal(streamed[step], loader.views(step).crops[0])
    assert not torch.equal(streamed[0], streamed[2])


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_micro_batches_together_see_what_one_would(small_store, world_size, accumulate):
    whole = make_loader(small_store).views(4)
    crops = torch.empty_like(whole.crops[0])
    for rank in range(world_size):
        loader = make_loader(small_store, rank=rank, world_size=world_size, accumulate=accumulate)
        for micro in range(accumulate):
            views = loader.views(4, micro)
            crops[loader.positions(micro)] = views.crops[0]
            mask = views.draws.uniform("mask", 9)
            assert np.array_equal(mask, whole.draws.uniform("mask", 9)[loader.positions(micro)])
    assert torch.equal(crops, whole.crops[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_views_say_which_films_they_show(small_store, accumulate):
    loader = make_loader(small_store, films=np.arange(5, 45), batch_size=8, accumulate=accumulate)
    whole = Loader(Store.open(small_store), OneView(64), films=np.arange(5, 45), batch_size=8, seed=3)
    for step, micro, views in loader.batches(0, 7):
        assert np.array_equal(views.films, loader.films_at(step, loader.positions(micro)))
    # Views that change nothing are the named films' own pixels.
    views = whole.views(2)
    shown = whole.normalization.invert(views.crops[0])[:, 0] * 255
    assert np.allclose(shown.numpy(), Store.open(small_store).pixels(views.films), atol=1e-2)


def test_views_are_normalized_as_asked(small_store):
    own, other = make_loader(small_store), make_loader(small_store, normalization=Normalization(0.0, 1.0))
    raw = own.normalization.invert(own.views(1).crops[0])
    assert torch.allclose(other.views(1).crops[0], raw, atol=1e-5)


def test_weights_choose_the_films_and_any_step_can_still_be_replayed(small_store):
    weights = np.repeat([1.0, 3.0], 20)
    loader = make_loader(small_store, films=np.arange(5, 45), batch_size=8, weights=weights)
    assert loader.steps_per_epoch == 5
    shown = [loader.films_at(step, loader.positions(0)) for step in range(100)]
    often = np.mean([films >= 25 for films in shown])
    assert often == pytest.approx(0.75, abs=0.01)
    late = {
        step: views
        for step, _, views in make_loader(small_store, films=np.arange(5, 45), batch_size=8, weights=weights).batches(
            7, 12
        )
    }
    for step in (7, 11):
        assert np.array_equal(late[step].films, shown[step])
        assert torch.equal(late[step].crops[0], loader.views(step).crops[0])


def test_equal_weights_show_what_none_show(small_store):
    plain, weighted = make_loader(small_store), make_loader(small_store, weights=np.ones(40))
    for step in range(6):
        assert np.array_equal(*(one.films_at(step, one.positions(0)) for one in (plain, weighted)))


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 41}, {"batch_size": 16, "accumulate": 3}, {"batch_size": 0}, {"accumulate": 0}]
)
def test_batches_that_do_not_fit_are_refused(small_store, wrong):
    with pytest.raises(ScarceError, match="batch"):
        make_loader(small_store, **wrong)
