"""Store and plan -> batches of views, reproducible from any step."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.views.draws import Draws, epoch_order, weighted_order
from scarce_cxr.views.plans import Normalization, Plan, Views

# Micro-batches read ahead. Reading is a copy out of a memory map, which releases the interpreter lock.
_AHEAD = 4


class Loader:
    """Batches for one process of a run.

    The global effective batch of step s takes the films that epoch s // steps_per_epoch visits at its place; an
    incomplete batch at an epoch's end is dropped. The process reads `accumulate` micro-batches of it.

    Args:
        store: where the pixels are.
        plan: what becomes of them.
        films: (n,) indices into the store of the films to train on.
        batch_size: films in the global effective batch, over all processes and micro-batches.
        accumulate: micro-batches of one process that make up one step.
        seed: seed of order and views.
        device: where views are made.
        rank, world_size: this process among all.
        normalization: of the views, for a network that learnt on other films; None takes the store's statistics.
        weights: (n,) how often each film is shown, beside the others; an epoch is as long as ever. None shows each once
            an epoch.

    Raises:
        ScarceError: the batch is larger than the data, or does not divide evenly.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        *,
        films: np.ndarray,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        normalization: Normalization | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        if batch_size < 1 or accumulate < 1:
            raise ScarceError(
                "a batch size and accumulation of at least 1", f"{batch_size} and {accumulate}", "raise them"
            )
        if batch_size > len(films):
            raise ScarceError(
                "a batch no larger than the data",
                f"training.batch_size = {batch_size} with {len(films)} films to train on",
                f"choose at most {len(films)}, or prepare more films",
            )
        if batch_size % (accumulate * world_size):
            raise ScarceError(
                "a batch that divides evenly over processes and accumulated micro-batches",
                f"training.batch_size = {batch_size} over {world_size} x {accumulate}",
                f"choose a multiple of {world_size * accumulate}",
            )
        self.store, self.plan, self.films, self.seed = store, plan, np.asarray(films), seed
        self.batch_size, self.accumulate = batch_size, accumulate
        self.rank, self.world_size, self.device = rank, world_size, torch.device(device)
        self.normalization = normalization or Normalization(store.mean, store.std)
        self.steps_per_epoch = len(self.films) // batch_size
        self.seconds_waited = 0.0
        self.weights = weights
        # An order is a sort of the whole collection, and every step asks for it.
        self._weighted_order = lru_cache(maxsize=2)(lambda epoch: weighted_order(seed, epoch, weights))

    def positions(self, micro: int) -> np.ndarray:
        """(b,) positions in the global effective batch that this process sees in its micro-batch number `micro`."""
        length = self.batch_size // (self.accumulate * self.world_size)
        start = (micro * self.world_size + self.rank) * length
        return np.arange(start, start + length)

    def films_at(self, step: int, positions: np.ndarray) -> np.ndarray:
        """(b,) indices into the store of the films at these positions of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        weighted = self.weights is not None
        order = self._weighted_order(epoch) if weighted else epoch_order(self.seed, epoch, len(self.films))
        return self.films[order[place * self.batch_size + positions]]

    def views(self, step: int, micro: int = 0) -> Views:
        """The views of one micro-batch of one step: the same whenever and however often one asks."""
        return self._make(step, micro, self._read(step, micro))

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, int, Views]]:
        """Yields (step, micro-batch, views) from step `start` up to, not including, `stop`, reading ahead.

        `seconds_waited` adds up the time in which the device stood still because pixels were not there yet.
        """
        wanted = ((step, micro) for step in range(start, stop) for micro in range(self.accumulate))
        pending: deque = deque()
        with ThreadPoolExecutor(max_workers=2) as readers:
            try:
                for step, micro in wanted:
                    pending.append((step, micro, readers.submit(self._read, step, micro)))
                    if len(pending) > _AHEAD:
                        yield self._take(*pending.popleft())
                while pending:
                    yield self._take(*pending.popleft())
            finally:
                for _, _, future in pending:
                    future.cancel()

    def _take(self, step: int, micro: int, future) -> tuple[int, int, Views]:
        started = time.perf_counter()
        pixels = future.result()
        self.seconds_waited += time.perf_counter() - started
        return step, micro, self._make(step, micro, pixels)

    def _read(self, step: int, micro: int) -> torch.Tensor:
        pixels = torch.from_numpy(self.store.pixels(self.films_at(step, self.positions(micro))))
        return pixels.pin_memory() if self.device.type == "cuda" else pixels

    def _make(self, step: int, micro: int, pixels: torch.Tensor) -> Views:
        positions = self.positions(micro)
        draws = Draws(self.seed, step, positions)
        views = self.plan(pixels.to(self.device, non_blocking=True), draws, self.normalization)
        views.films = self.films_at(step, positions)
        return views
