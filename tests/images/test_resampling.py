"""Resampling equals Pillow's, and its weights are those of the formula."""

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images.resampling import lanczos_weights, resample

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((64, 64), (20, 20)), ((61, 97), (32, 32)), ((20, 30), (64, 64)), ((1, 50), (7, 7)), ((500, 3), (16, 1))],
)
def test_it_equals_pillows_lanczos(shape: tuple[int, int], target: tuple[int, int]):
    film = RANDOM.random(shape, np.float32)
    ours = resample(film, *(lanczos_weights(length, size) for length, size in zip(shape, target, strict=True)))
    theirs = np.asarray(Image.fromarray(film).resize(target[::-1], Image.Resampling.LANCZOS))
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.allclose(ours, theirs, rtol=0, atol=2e-6)


def test_between_equal_grids_nothing_changes():
    film = RANDOM.random((40, 40), np.float32)
    weights = lanczos_weights(40, 40)
    assert weights.nnz == 40
    assert np.array_equal(resample(film, weights, weights), film)


def test_half_the_size_takes_what_the_formula_says():
    weights = lanczos_weights(100, 50).toarray()
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    # The middle of pixel 25 lies at 51: half a pixel from 50 and 51, whose pixels' middles are 50.5 and 51.5.
    at = np.arange(12) / 2 - 2.75
    expected = np.sinc(at) * np.sinc(at / 3)
    assert np.allclose(weights[25, 45:57], expected / expected.sum(), atol=1e-6)
    assert np.count_nonzero(weights[25]) == 12
