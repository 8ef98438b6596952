"""What commands return: tables, files and words. `cli.py` alone prints them."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """A table for people (printed) and for machines (`--json`).

    Attributes:
        title: one line above it.
        columns: names of the columns.
        rows: one list of plain values (str, int, float, None) a row.
        note: one line below it: how many images, patients and draws stand behind the numbers.
    """

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, for `--json`, which knows no number that is not finite: None stands for one."""
        return [dict(zip(self.columns, map(_none_if_not_finite, row), strict=True)) for row in self.rows]


@dataclass
class Result:
    """Everything that a command has to say, in the order in which it is printed.

    Attributes:
        tables: printed first.
        files: what was written and may be opened, as (what it is, path).
        notes: closing lines, e.g. what to type next.
        exit_code: 0 unless the command did not do what it was asked for.
    """

    tables: list[Table] = field(default_factory=list)
    files: list[tuple[str, Path]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0


def _none_if_not_finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
