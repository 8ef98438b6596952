"""Plans: what a method is given."""

import numpy as np
import pytest
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import MultiCrop, Normalization, OneView, TwoViews, plain_view

FILMS = torch.randint(0, 256, (4, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
EVERYTHING = Augmentation(crop=(0.3, 1), flip=0.5, rotation=10, brightness=0.5, contrast=0.5, blur=5, noise=0.1)


def test_clean_views_lack_the_noise_and_nothing_else():
    noisy = OneView(32, EVERYTHING)(FILMS, Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25))
    silent = OneView(32, Augmentation(**{**vars(EVERYTHING), "noise": 0.0}))(
        FILMS, Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25)
    )
    assert torch.equal(noisy.clean[0], silent.crops[0])
    # Noise of 0.1 in pixels is 0.4 after division by a deviation of 0.25.
    assert (noisy.crops[0] - noisy.clean[0]).std().item() == pytest.approx(0.4, rel=0.05)


def test_a_sample_looks_the_same_in_any_batch():
    plan = OneView(32, Augmentation(**{**vars(EVERYTHING), "noise": 0.0}))
    whole = plan(FILMS, Draws(0, 5, np.arange(4)), Normalization(0.5, 0.25)).crops[0]
    half = plan(FILMS[2:], Draws(0, 5, np.arange(2, 4)), Normalization(0.5, 0.25)).crops[0]
    assert torch.equal(whole[2:], half)


def test_normalized_films_have_zero_mean_and_unit_deviation():
    pixels = FILMS.float() / 255
    normalization = Normalization(pixels.mean().item(), pixels.std().item())
    view = plain_view(FILMS, 48, normalization)
    assert view.mean().item() == pytest.approx(0, abs=1e-4)
    assert view.std().item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(normalization.invert(view)[:, 0], pixels, atol=1e-5)


def test_flat_stores_are_refused():
    with pytest.raises(ScarceError, match="standard deviation"):
        Normalization(0.5, 0.0)


def test_two_views_of_a_film_are_drawn_apart_and_may_have_settings_of_their_own():
    same = TwoViews(32, EVERYTHING)(FILMS, Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25))
    assert not torch.equal(same.clean[0], same.clean[1])
    plain = TwoViews(48, EVERYTHING, Augmentation())(FILMS, Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25))
    assert torch.equal(plain.crops[1], plain_view(FILMS, 48, Normalization(0.5, 0.25)))
    assert not torch.equal(plain.crops[0], plain.clean[0])


def test_the_first_of_two_views_is_the_one_view():
    draws, normalization = Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25)
    one, two = (plan(FILMS, draws, normalization) for plan in (OneView(32, EVERYTHING), TwoViews(32, EVERYTHING)))
    assert torch.equal(one.crops[0], two.crops[0])


def test_multi_crop_makes_two_global_views_then_the_local_ones():
    plan = MultiCrop(40, 16, 3, EVERYTHING, Augmentation(), local_augmentation=Augmentation(crop=(0.1, 0.2)))
    views = plan(FILMS, Draws(0, 0, np.arange(4)), Normalization(0.5, 0.25))
    assert [crop.shape[-1] for crop in views.crops] == [40, 40, 16, 16, 16]
    assert [clean.shape for clean in views.clean] == [crop.shape for crop in views.crops]
    assert torch.equal(views.crops[1], plain_view(FILMS, 40, Normalization(0.5, 0.25)))
    assert not torch.equal(views.crops[2], views.crops[3])
    assert plan.sizes == (40, 16)
    assert MultiCrop(40, local_crops=0).sizes == (40,)


def test_a_local_view_shows_the_share_of_the_film_that_it_should():
    # A film whose brightness rises from left to right: a view's range of brightness is its width.
    ramp = torch.arange(0, 256, dtype=torch.uint8).expand(1, 256, 256)
    augmentation = Augmentation(crop=(0.25, 0.25), ratio=(1.0, 1.0))
    views = MultiCrop(64, 32, 1, local_augmentation=augmentation)(ramp, Draws(0, 0, [0]), Normalization(0.0, 1.0))
    local = views.crops[2][0, 0]
    assert (local[:, -1] - local[:, 0]).mean().item() == pytest.approx(0.5 * 31 / 32, abs=0.01)


@pytest.mark.parametrize("plan", [TwoViews, MultiCrop])
def test_a_sample_of_many_views_looks_the_same_in_any_batch(plan):
    silent = Augmentation(**{**vars(EVERYTHING), "noise": 0.0, "solarize_probability": 0.5})
    made = plan(32, first=silent) if plan is TwoViews else plan(32, 16, 2, silent, local_augmentation=silent)
    whole = made(FILMS, Draws(0, 5, np.arange(4)), Normalization(0.5, 0.25)).crops
    half = made(FILMS[2:], Draws(0, 5, np.arange(2, 4)), Normalization(0.5, 0.25)).crops
    assert all(torch.equal(one[2:], other) for one, other in zip(whole, half, strict=True))


@pytest.mark.parametrize("make", [lambda: TwoViews(0), lambda: MultiCrop(64, 64), lambda: MultiCrop(64, 32, -1)])
def test_impossible_plans_are_refused(make):
    with pytest.raises(ScarceError, match=r"views\."):
        make()
