"""Resampling equals Pillow's, and its weights are those of the formula."""

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images.resampling import lanczos_weights, resample, strips

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((64, 64), (20, 20)), ((61, 97), (32, 32)), ((20, 30), (64, 64)), ((1, 50), (7, 7)), ((500, 3), (16, 1))],
)
def test_it_equals_pillows_lanczos(shape: tuple[int, int], target: tuple[int, int]):
    film = RANDOM.random(shape, np.float32)
    down = strips(shape[0], target[0], 0, shape[0], rows=5)
    across = strips(shape[1], target[1], 0, shape[1], rows=target[1])
    ours = resample(film, down, across, lambda rows: rows)
    theirs = np.asarray(Image.fromarray(film).resize(target[::-1], Image.Resampling.LANCZOS))
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.allclose(ours, theirs, rtol=0, atol=2e-6)


def test_between_equal_grids_nothing_changes():
    assert np.array_equal(lanczos_weights(40, 40).toarray(), np.eye(40))


def test_strips_together_take_what_the_whole_axis_does_and_black_adds_nothing():
    film = RANDOM.random((37, 1), np.float32)
    padded = np.zeros((50, 1), np.float32)
    padded[6:43] = film
    cut = strips(50, 20, 6, 37, rows=7)
    assert [strip.to for strip in cut] == [slice(0, 7), slice(7, 14), slice(14, 20)]
    assert max(strip.of.stop for strip in cut) == 37
    pieces = [strip.weights @ film[strip.of] for strip in cut]
    assert np.allclose(np.concatenate(pieces), lanczos_weights(50, 20) @ padded, atol=1e-6)


def test_a_strip_that_shows_only_black_is_black():
    cut = strips(1000, 100, 0, 10, rows=10)
    assert [bool(strip.weights.nnz) for strip in cut] == [True, *[False] * 9]
    black = resample(np.ones((10, 4), np.float32), cut, strips(4, 4, 0, 4), lambda rows: rows)
    assert black[10:].max() == 0


def test_half_the_size_takes_what_the_formula_says():
    weights = lanczos_weights(100, 50).toarray()
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    # The middle of pixel 25 lies at 51: half a pixel from 50 and 51, whose pixels' middles are 50.5 and 51.5.
    at = np.arange(12) / 2 - 2.75
    expected = np.sinc(at) * np.sinc(at / 3)
    assert np.allclose(weights[25, 45:57], expected / expected.sum(), atol=1e-6)
    assert np.count_nonzero(weights[25]) == 12
