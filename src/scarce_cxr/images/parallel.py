"""Parallel work that outlives the death of a worker, e.g. in a decoder that crashes on one file."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import TypeVar

from joblib import Parallel, delayed

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def map_chunks(
    function: Callable[[Sequence[Item]], list[Outcome]], chunks: Sequence[Sequence[Item]], jobs: int
) -> Iterator[list[Outcome | None]]:
    """Calls `function` on every chunk in parallel, through whichever joblib backend is in force.

    A dead worker takes down the pool and whatever was in it. The chunks that were under way are then tried again one
    by one, and the one that kills its worker again is halved until a single item remains. joblib's backends of local
    processes report a death; its Dask backend does not (it waits for ever), so a crash under Dask is not survived.

    Args:
        function: turns a chunk of items into as many outcomes; it and they travel between processes.
        chunks: the items.
        jobs: as joblib counts them: -1 is one a core. 1 stays in this process, where a crash cannot be survived.

    Yields:
        For every chunk, in order, its outcomes; None stands for an item whose worker died.
    """
    done = 0
    while done < len(chunks):
        begun = done

        def tasks(first: int = done):
            nonlocal begun
            for chunk in chunks[first:]:
                begun += 1
                yield delayed(function)(chunk)

        try:
            for outcomes in Parallel(n_jobs=jobs, return_as="generator", batch_size=1)(tasks()):
                done += 1
                yield outcomes
        except BrokenExecutor:
            if begun == done:
                raise
            for chunk in chunks[done:begun]:
                yield _call_alone(function, chunk, jobs)
            done = begun


def _call_alone(
    function: Callable[[Sequence[Item]], list[Outcome]], chunk: Sequence[Item], jobs: int
) -> list[Outcome | None]:
    try:
        return Parallel(n_jobs=jobs, batch_size=1)([delayed(function)(chunk)])[0]
    except BrokenExecutor:
        if len(chunk) == 1:
            return [None]
        half = len(chunk) // 2
        return _call_alone(function, chunk[:half], jobs) + _call_alone(function, chunk[half:], jobs)
