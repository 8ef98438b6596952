"""Lanczos resampling with anti-aliasing, as Pillow does it, as two products with sparse matrices."""

from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

_LOBES = 3


def resample(film: np.ndarray, down: csr_array, across: csr_array) -> np.ndarray:
    """Resamples a film in float32.

    Args:
        film: (H, W) float32.
        down, across: weights (h, H) and (w, W) of each axis, see `lanczos_weights`.

    Returns:
        (h, w) float32, which may overshoot the film's range at sharp edges.
    """
    return np.ascontiguousarray((across @ (down @ film).T).T)


@lru_cache(maxsize=64)
def lanczos_weights(length: int, size: int) -> csr_array:
    """What each of `size` pixels takes of the `length` pixels along an axis, (size, length) float32; rows sum to 1.

    The filter sin(pi x) / (pi x) * sin(pi x / 3) / (pi x / 3) is as wide as the larger of both grids' pixels demands.
    """
    step = length / size
    width = max(step, 1.0)
    centres = (np.arange(size) + 0.5) * step
    first = np.maximum((centres - _LOBES * width + 0.5).astype(int), 0)
    last = np.minimum((centres + _LOBES * width + 0.5).astype(int), length)
    places = first[:, None] + np.arange((last - first).max())
    distances = (places + 0.5 - centres[:, None]) / width
    inside = (places < last[:, None]) & (np.abs(distances) < _LOBES)
    weights = np.sinc(distances) * np.sinc(distances / _LOBES) * inside
    # Between equal grids all weights but one would vanish, were they not rounded.
    weights[np.abs(weights) < 1e-12] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(weights)
    # Products take narrow indices without converting them.
    entries = (rows.astype(np.int32), places[rows, columns].astype(np.int32))
    return csr_array((weights[rows, columns].astype(np.float32), entries), shape=(size, length))
