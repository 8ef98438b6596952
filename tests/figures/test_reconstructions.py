"""Predictions are rescaled with what is visible alone, and joined without a seam."""

import numpy as np
import pytest

from scarce_cxr.figures.reconstructions import (
    composite,
    join_patches,
    masked_panel,
    reconstruction_panel,
    rescale_prediction,
    seam_contrast,
    tone_curve,
)

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.uniform(0.2, 0.8, (96, 96))
PREDICTION = GENERATOR.normal(3, 7, (96, 96))
VISIBLE = np.kron(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=bool), np.ones((32, 32), dtype=bool))


def test_masked_pixels_take_the_visible_ones_mean_and_deviation():
    painted = rescale_prediction(PREDICTION, IMAGE, VISIBLE)[~VISIBLE]
    assert painted.mean() == pytest.approx(IMAGE[VISIBLE].mean())
    assert painted.std() == pytest.approx(IMAGE[VISIBLE].std())


def test_what_is_hidden_is_not_used():
    other = np.where(VISIBLE, IMAGE, 0.0)
    painted = rescale_prediction(PREDICTION, IMAGE, VISIBLE)
    assert np.allclose(painted, rescale_prediction(PREDICTION, other, VISIBLE))
    joined = join_patches(PREDICTION, IMAGE, VISIBLE, 32)
    assert np.allclose(joined, join_patches(PREDICTION, other, VISIBLE, 32))
    assert np.allclose(composite(painted, IMAGE, VISIBLE, 32), composite(painted, other, VISIBLE, 32))


def test_patches_that_were_normalized_are_put_back_where_they_belong():
    # A smooth film whose patches lost their own mean and deviation, as a perfect network would paint them.
    down, right = np.mgrid[:96, :96] / 96
    film = 0.5 + 0.2 * np.sin(3 * right + 1) + 0.15 * np.cos(5 * down) * right
    patches = film.reshape(3, 32, 3, 32)
    normalized = (patches - patches.mean(axis=(1, 3), keepdims=True)) / patches.std(axis=(1, 3), keepdims=True)
    painted = normalized.reshape(96, 96)
    joined = join_patches(painted, film, VISIBLE, 32)
    rescaled = np.where(VISIBLE, film, rescale_prediction(painted, film, VISIBLE))
    assert np.array_equal(joined[VISIBLE], film[VISIBLE])
    assert np.abs(joined - film)[~VISIBLE].mean() < 0.4 * np.abs(rescaled - film)[~VISIBLE].mean()


def test_the_composite_is_the_film_where_it_was_seen_and_the_prediction_where_not():
    joined = composite(np.full((96, 96), 2.0), np.ones((96, 96)), VISIBLE, 32)
    # In the middle of the masked row, 16 pixels from any visible one (more than five widths of the feather).
    assert joined[48, 48] == pytest.approx(2, abs=1e-3)
    assert joined[4, 4] == pytest.approx(1, abs=1e-3)
    # Visible pixels at a straight border are half of each; hidden ones are the prediction's.
    assert joined[10, 31] == pytest.approx(1.4, abs=0.15)
    assert joined[10, 32] == pytest.approx(2, abs=1e-3)


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
    figure = reconstruction_panel(*(np.stack([a, a]) for a in (IMAGE, PREDICTION, VISIBLE)), 32, "two films")
    assert len(figure.axes) == 8


def test_the_target_is_shown_behind_the_mask_alone_with_a_patchs_mean_in_mid_grey():
    patches = IMAGE.reshape(3, 32, 3, 32)
    normalized = (patches - patches.mean(axis=(1, 3), keepdims=True)) / patches.std(axis=(1, 3), keepdims=True)
    figure = masked_panel(IMAGE[None], normalized.reshape(1, 96, 96), VISIBLE[None], "a film")
    film, masked, target = (np.ma.filled(axes.images[0].get_array(), np.nan) for axes in figure.axes)
    assert np.array_equal(np.isnan(masked), ~VISIBLE)
    assert np.array_equal(masked[VISIBLE], film[VISIBLE])
    assert np.array_equal(np.isnan(target), VISIBLE)
    assert target[:32, 32:64].mean() == pytest.approx(0.5)
    # 2.5 standard deviations reach from mid grey to white.
    assert target[:32, 32:64].std() == pytest.approx(0.5 / 2.5)
    raw = np.ma.filled(masked_panel(IMAGE[None], None, VISIBLE[None], "a film").axes[2].images[0].get_array(), np.nan)
    assert np.array_equal(raw[~VISIBLE], film[~VISIBLE])


def test_shades_rise_with_the_pixels_and_give_crowded_levels_more_room():
    dark_lung = np.concatenate([np.linspace(0.2, 0.3, 900), np.linspace(0.3, 1.0, 100)]).reshape(25, 40)
    shade = tone_curve(dark_lung)
    shades = shade(np.linspace(0, 1, 50))
    assert (np.diff(shades) >= 0).all()
    assert shades.min() >= 0
    assert shades.max() <= 1
    # Nine tenths of the pixels lie in a tenth of the range: 0.6 of it by rank, 0.4 as they are.
    assert np.diff(shade(np.array([0.2, 0.3])))[0] == pytest.approx(0.6 * 0.9 + 0.4 * 0.1, abs=0.01)
    assert np.isnan(shade(np.array([np.nan])))[0]
