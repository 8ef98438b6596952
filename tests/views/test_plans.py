"""Plans: what a method is given."""

import numpy as np
import pytest
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, OneView, plain_view

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
