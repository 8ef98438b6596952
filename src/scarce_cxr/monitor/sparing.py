"""Figures that every look would change, drawn only as often as they are worth."""

import time
from collections.abc import Callable

# Of the time that passes.
_SHARE = 0.0025


class SparingFigure:
    """Draws a figure anew when it is due, but spends no more than a quarter of a percent of the time on it.

    Args:
        draw: draws and saves the figure, as things then stand.
    """

    def __init__(self, draw: Callable[[], object]) -> None:
        self.draw = draw
        self.stale = False
        self.next = 0.0

    def due(self) -> None:
        """Draws, or remembers that it should be drawn before the end."""
        self.stale = True
        if time.perf_counter() >= self.next:
            self.finish()

    def finish(self) -> None:
        """Draws what is not drawn yet."""
        if not self.stale:
            return
        begun = time.perf_counter()
        self.draw()
        self.stale = False
        ended = time.perf_counter()
        self.next = ended + (ended - begun) / _SHARE
