"""Predictions are rescaled with what is visible alone, and joined without a seam."""

import numpy as np
import pytest

from scarce_cxr.figures.reconstructions import (
    composite,
    reconstruction_panel,
    rescale_locally,
    rescale_prediction,
    seam_contrast,
)

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.uniform(0.2, 0.8, (96, 96))
PREDICTION = GENERATOR.normal(3, 7, (96, 96))
VISIBLE = np.kron(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=bool), np.ones((32, 32), dtype=bool))


def test_masked_pixels_take_the_visible_ones_mean_and_deviation():
    painted = rescale_prediction(PREDICTION, IMAGE, VISIBLE)[~VISIBLE]
    assert painted.mean() == pytest.approx(IMAGE[VISIBLE].mean())
    assert painted.std() == pytest.approx(IMAGE[VISIBLE].std())


@pytest.mark.parametrize("rescale", [rescale_prediction, rescale_locally])
def test_what_is_hidden_is_not_used(rescale):
    other = np.where(VISIBLE, IMAGE, 0.0)
    assert np.allclose(rescale(PREDICTION, IMAGE, VISIBLE), rescale(PREDICTION, other, VISIBLE))


def test_a_patch_between_dark_ones_becomes_dark():
    film = np.where(np.arange(96) < 48, 0.1, 0.9) * np.ones((96, 1))
    visible = np.ones((96, 96), dtype=bool)
    visible[32:64, 8:24] = visible[32:64, 72:88] = False
    painted = rescale_locally(PREDICTION, film, visible)
    assert painted[32:64, 8:24].mean() < 0.3
    assert painted[32:64, 72:88].mean() > 0.7


def test_the_composite_is_the_film_where_it_was_seen_and_the_prediction_where_not():
    joined = composite(np.full((96, 96), 2.0), np.ones((96, 96)), VISIBLE)
    # In the middle of the masked row, 16 pixels from any visible one (more than five widths of the feather).
    assert joined[48, 48] == pytest.approx(2, abs=1e-3)
    assert joined[4, 4] == pytest.approx(1, abs=1e-3)
    # A straight border is half of each.
    assert joined[10, 31:33].mean() == pytest.approx(1.5, abs=0.05)


def test_a_step_at_every_patch_border_shows_as_a_seam():
    # Inside patches neighbours differ by 1, across borders by 1 + 9.
    ramp = np.arange(96) + 9.0 * (np.arange(96) // 32)
    picture = (ramp[:, None] + ramp[None, :])[None]
    nothing = np.zeros((1, 96, 96), dtype=bool)
    assert seam_contrast(picture, nothing, 32) == pytest.approx(10)
    assert seam_contrast(np.add.outer(np.arange(96.0), np.arange(96.0))[None], nothing, 32) == pytest.approx(1)


def test_a_seam_counts_only_between_masked_patches():
    picture = np.add.outer(np.arange(96.0), np.arange(96.0))[None].copy()
    visible = np.zeros((1, 96, 96), dtype=bool)
    visible[:, :32] = True
    picture[:, :32] += 100
    assert seam_contrast(picture, visible, 32) == pytest.approx(1)


def test_the_panel_has_four_pictures_a_film():
    figure = reconstruction_panel(*(np.stack([a, a]) for a in (IMAGE, PREDICTION, VISIBLE)), "two films")
    assert len(figure.axes) == 8
