"""Lanczos resampling with anti-aliasing, as Pillow does it, as products with sparse matrices, strip by strip."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

_LOBES = 3
# Rows of the result that are worked out at a time, so that what they are made of stays in the processor's cache.
_ROWS = 64


class Strip(NamedTuple):
    """Some pixels along an axis of the result.

    Attributes:
        to: which.
        of: the film's pixels that they are made of.
        weights: (len(to), len(of)) float32.
    """

    to: slice
    of: slice
    weights: csr_array


def resample(
    film: np.ndarray, down: tuple[Strip, ...], across: tuple[Strip, ...], through: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Resamples a film in float32.

    Args:
        film: (H, W), of any type.
        down: strips of the result's rows, see `strips`.
        across: one strip, of all its columns.
        through: makes float32 values of some of the film's rows.

    Returns:
        (h, w) float32, which may overshoot the film's range at sharp edges.
    """
    (columns,) = across
    resampled = np.empty((down[-1].to.stop, columns.to.stop), np.float32)
    for strip in down:
        rows = strip.weights @ through(film[strip.of, columns.of])
        resampled[strip.to] = (columns.weights @ _turned(rows)).T
    return resampled


def _turned(rows: np.ndarray) -> np.ndarray:
    """A copy of rows as columns.

    Where a row's length is a power of two, all of a column falls on the same few lines of the processor's cache, which
    drive each other out of it: a little space behind each row keeps them apart.
    """
    apart = np.empty((rows.shape[0], rows.shape[1] + 16), rows.dtype)
    apart[:, :-16] = rows
    return np.ascontiguousarray(apart.T[:-16])


@lru_cache(maxsize=256)
def strips(length: int, size: int, before: int, given: int, rows: int = _ROWS) -> tuple[Strip, ...]:
    """What `size` pixels take of `length` pixels along an axis, of which `given` are there, after `before` black ones.

    Args:
        length, size: of both grids.
        before, given: what lies around the pixels that are given is black, and black adds nothing.
        rows: the largest number of pixels in a strip.
    """
    weights = lanczos_weights(length, size)[:, before : before + given]
    cut = []
    for first in range(0, size, rows):
        part = weights[first : first + rows]
        begin, end = (int(part.indices.min()), int(part.indices.max()) + 1) if part.nnz else (0, 1)
        cut.append(Strip(slice(first, first + part.shape[0]), slice(begin, end), part[:, begin:end]))
    return tuple(cut)


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
