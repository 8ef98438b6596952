"""Random numbers that are a function of what they are for, not of when they were asked for.

Every number of a sample depends on (seed, step, position in the global effective batch, purpose) and on nothing else:
a counter-based generator (Philox4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns
that tuple into bits. Any step can therefore be replayed alone, and two processes with half a batch each draw what one
process would draw for the whole.
"""

import zlib
from functools import lru_cache

import numpy as np
import torch

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: np.ndarray, key: tuple[int, int], rounds: int = 10) -> np.ndarray:
    """The Philox4x32 bijection.

    Args:
        counter: (..., 4) unsigned integers below 2 ** 32.
        key: two integers below 2 ** 32.
        rounds: 10 in the paper's standard variant.

    Returns:
        (..., 4) uint32, uniformly distributed over counters and keys.
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


class Draws:
    """The random numbers of one batch.

    Args:
        seed: the run's seed, 0 <= seed < 2 ** 64.
        step: the optimizer step that the batch belongs to, counted from 0.
        positions: (B,) positions of the samples in the global effective batch of that step.
    """

    def __init__(self, seed: int, step: int, positions: np.ndarray) -> None:
        self.seed, self.step = int(seed), int(step)
        self.positions = np.asarray(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    def uniform(self, purpose: str, count: int = 1) -> np.ndarray:
        """(B, count) float64, uniform in the open interval (0, 1). Another purpose gives independent numbers."""
        blocks = -(-count // 4)
        counter = np.empty((len(self), blocks, 4), dtype=np.uint64)
        counter[..., 0] = np.arange(blocks, dtype=np.uint64)
        counter[..., 1] = self.positions[:, None]
        counter[..., 2] = self.step
        counter[..., 3] = zlib.crc32(purpose.encode())
        bits = philox4x32(counter, (self.seed & 0xFFFFFFFF, self.seed >> 32))
        return (bits.reshape(len(self), -1)[:, :count] + 0.5) / 2.0**32

    def generator(self, purpose: str, device: torch.device) -> torch.Generator:
        """A generator on the device for numbers too many to draw one by one (pixel noise).

        It is a function of (seed, step, first position, purpose), so the same micro-batch gets the same noise again,
        but a batch divided otherwise gets other noise.
        """
        first = Draws(self.seed, self.step, self.positions[:1])
        return torch.Generator(device).manual_seed(int(first.uniform(f"generator/{purpose}")[0, 0] * 2**53))


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """(count,) the order in which an epoch visits `count` images: a function of (seed, epoch) alone. Read-only."""
    scores = Draws(seed, epoch, np.arange(count)).uniform("order", 2)
    order = np.lexsort((scores[:, 1], scores[:, 0]))
    # Shared between callers through the cache, which spares a sort of the whole collection at every step.
    order.setflags(write=False)
    return order


def weighted_order(seed: int, epoch: int, weights: np.ndarray) -> np.ndarray:
    """The order in which an epoch of n places visits n images, some more often than others.

    Image i has n * weights[i] / sum(weights) places in the mean over epochs, and in each one this number rounded down
    or up: systematic sampling (Madow, "On the theory of systematic sampling, II", 1949) along an order that is drawn
    anew for every epoch.

    Args:
        seed: the run's seed.
        epoch: number of the epoch.
        weights: (n,) of the images, at least 0, not all of them 0.

    Returns:
        (n,) a function of the arguments alone; with equal weights the same as `epoch_order`.
    """
    count = len(weights)
    scores = Draws(seed, epoch, np.arange(count)).uniform("share", 2)
    line = np.lexsort((scores[:, 1], scores[:, 0]))
    ends = np.cumsum(np.asarray(weights, np.float64)[line])
    # The last end is 1 exactly, so that the places add up to n whatever was rounded on the way.
    start = Draws(seed, epoch, [count]).uniform("share start")[0, 0]
    reached = np.floor(ends / ends[-1] * count + start).astype(np.int64)
    places = np.empty(count, np.int64)
    places[line] = np.diff(reached, prepend=0)
    return np.repeat(np.arange(count), places)[epoch_order(seed, epoch, count)]
