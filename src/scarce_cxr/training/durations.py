"""Durations with their unit: `10 epochs`, `300 steps`, `10 %`."""

import math
import re

from scarce_cxr.errors import ScarceError

_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(epochs?|steps?|%)\s*")


class Duration:
    """A length of training.

    Attributes:
        value: how many, at least 0.
        unit: "epochs", "steps", or "%" of the whole run.
    """

    # Not a dataclass: the settings' parser would take one apart into two settings of its own.
    __slots__ = ("unit", "value")

    def __init__(self, value: float, unit: str) -> None:
        self.value, self.unit = value, unit

    @classmethod
    def parse(cls, text: "str | Duration") -> "Duration":
        """Reads `10 epochs`, `300 steps` or `10 %`.

        Raises:
            ScarceError: the text is no such duration.
        """
        if isinstance(text, Duration):
            return text
        match = _PATTERN.fullmatch(str(text))
        if match is None:
            raise ScarceError(
                "a duration with its unit", repr(text), "write for instance '10 epochs', '300 steps' or '10 %'"
            )
        value, unit = match.groups()
        return cls(float(value), unit if unit == "%" else unit.rstrip("s") + "s")

    def steps(self, steps_per_epoch: int, total: int | None = None) -> int:
        """The duration in optimizer steps, rounded up so that what is not nothing never becomes nothing.

        Args:
            steps_per_epoch: optimizer steps of one epoch.
            total: steps of the whole run, which percentages refer to.

        Raises:
            ScarceError: a percentage where there is no whole to take it of.
        """
        if self.unit == "steps":
            return math.ceil(self.value)
        if self.unit == "epochs":
            return math.ceil(self.value * steps_per_epoch)
        if total is None:
            raise ScarceError("a duration in epochs or steps", str(self), "a run cannot last a share of itself")
        return math.ceil(self.value / 100 * total)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and (self.value, self.unit) == (other.value, other.unit)

    def __hash__(self) -> int:
        return hash((self.value, self.unit))

    def __repr__(self) -> str:
        return f"Duration({self.value!r}, {self.unit!r})"

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"
