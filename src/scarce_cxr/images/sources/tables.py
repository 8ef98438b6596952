"""The collections' CSV tables, whose columns are found in spite of their releases' quirks, and what cells mean."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import Member

_YEARS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25, "": 1.0}
# No patient of these collections was older; NIH's release of 2017 holds a few ages above 400.
_OLDEST = 120.0
_LABELS = {1.0: 1, 0.0: 0, -1.0: -1}


class Row:
    """One row of a table. `row["Patient ID"]` is the cell's text without spaces around it; "" where there is none.

    Attributes:
        number: its line in the file.
        cells: all of its texts as they stand, for tables whose header does not fit them.
    """

    __slots__ = ("_places", "cells", "number")

    def __init__(self, number: int, cells: list[str], places: Mapping[str, int]) -> None:
        self.number, self.cells, self._places = number, cells, places

    def __getitem__(self, column: str) -> str:
        place = self._places.get(_plain(column))
        return self.cells[place].strip() if place is not None and place < len(self.cells) else ""


class CsvTable:
    """A CSV file, perhaps gzipped or inside an archive, that is read row by row.

    Columns are found whatever their case, spaces and punctuation: " EncodedPixels", "rad_ID" and "rad id" are
    "EncodedPixels" and "rad_id". Of two columns with one name the first counts.

    Args:
        path: the file.
        name: how messages call it.
        required: columns without which it is of no use.

    Raises:
        ScarceError: it is no CSV in UTF-8, is damaged, or lacks a required column.
    """

    def __init__(self, path: Path | Member, name: str, required: Iterable[str] = ()) -> None:
        self.path, self.name = path, name
        header = next(self._lines(), (1, []))[1]
        self.header = [column.strip() for column in header if column.strip()]
        self._places: dict[str, int] = {}
        for place, column in enumerate(header):
            self._places.setdefault(_plain(column), place)
        missing = [column for column in required if column not in self]
        if missing:
            raise ScarceError(
                f"the columns {', '.join(missing)} in {name}",
                f"columns there: {', '.join(self.header)}",
                "check the file",
            )

    def __contains__(self, column: str) -> bool:
        return _plain(column) in self._places

    def __iter__(self) -> Iterator[Row]:
        lines = self._lines()
        next(lines, None)
        for number, cells in lines:
            yield Row(number, cells, self._places)

    def column_like(self, start: str) -> str:
        """The first column whose name starts so, or `start` itself where none does."""
        return next((column for column in self.header if column.startswith(start)), start)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        packed = self.path.name.lower().endswith(".gz")
        try:
            with self.path.open("rb") as file:
                unpacked = gzip.GzipFile(fileobj=file) if packed else file
                reader = csv.reader(io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline=""))
                for cells in reader:
                    if any(cells):
                        yield reader.line_num, cells
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            # Users save tables, but owners pack them: of a packed one even a strange letter tells of damage.
            packed = packed or isinstance(self.path, Member)
            mend = "download it again" if packed else "save it as CSV in UTF-8"
            raise ScarceError(f"a CSV table in {self.path}", str(error), mend) from None


@lru_cache(maxsize=4096)
def _plain(column: str) -> str:
    return re.sub(r"[^0-9a-z/]", "", column.casefold())


def find_tables(files: Mapping[str, Path | Member], pattern: str) -> list[str]:
    """Names of the files whose last part is `pattern` (a regular expression), in either case; nearest the top first."""
    found = [name for name in files if re.fullmatch(pattern, PurePosixPath(name).name, re.IGNORECASE)]
    return sorted(found, key=lambda name: (name.count("/"), name))


def require_table(files: Mapping[str, Path | Member], pattern: str, wanted: str, kind: str, folder: Path) -> str:
    """The name of the first such table.

    Raises:
        ScarceError: there is none; it tells which tables there are.
    """
    found = find_tables(files, pattern)
    if not found:
        tables = [name for name in files if re.search(r"\.(csv|csv\.gz|json)$", name, re.IGNORECASE)]
        raise ScarceError(
            f"{wanted} in {folder}",
            f"csv files there: {', '.join(tables[:10]) or 'none'}",
            f"give the folder of a download of kind {kind}, or use the kind `folder`",
        )
    return found[0]


def years(text: str) -> float | None:
    """Reads "58", "058Y", "018M", "012D"; null where unknown or impossible."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([YMWD]?)", text.upper())
    if match is None:
        return None
    age = float(match[1]) / _YEARS[match[2]]
    return age if age <= _OLDEST else None


def sex(text: str) -> str | None:
    """M or F, of "M", "female" and alike; null for whatever else."""
    return {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}.get(text.upper())


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def label(text: str) -> int | None:
    """1, 0 or -1, of "1", "1.0" and alike; null for nothing and for whatever else."""
    return _LABELS.get(number(text))
