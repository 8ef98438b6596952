"""Progress bars on standard error, and the console that words and bars share so that neither tears the other."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True)
logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def bar(description: str, total: int, unit: str = "films") -> Iterator[Callable[..., None]]:
    """Shows how far a loop has come; `advance(n, note="")` moves it on by n and may show a note behind it.

    On a terminal it is a bar with rate and remaining time. Elsewhere (a log file, CI) it logs a line at most every
    half minute, so that long jobs can be followed in their logs without filling them.
    """
    if console.is_terminal:
        with _terminal_bar(unit) as progress:
            task = progress.add_task(description, total=total, note="")

            def advance(n: int = 1, note: str = "") -> None:
                progress.update(task, advance=n, note=note)

            yield advance
    else:
        started = last = time.monotonic()
        done = 0

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal done, last
            done += n
            now = time.monotonic()
            if now - last >= _SECONDS_BETWEEN_LINES:
                last = now
                rate = done / (now - started)
                logger.info("%s: %d of %d %s, %.1f %s/s %s", description, done, total, unit, rate, unit, note)

        yield advance


def _terminal_bar(unit: str):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
