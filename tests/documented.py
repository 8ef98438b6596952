"""Commands and files that pages show, for tests that run them."""

import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# What commands begin with, behind settings of the environment.
_LAUNCHERS = {"sbatch", "srun", "torchrun"}
_FIRST = {"git", "mkdocs", "pip", "python", "scarce", "source", "uv"} | _LAUNCHERS
# Blocks of these kinds show what is written or printed, not what is typed.
_NOT_TYPED = {"python", "text", "yaml"}
_FENCE = re.compile(r"```+(\w*)(?: title=\"(.+)\")?")
_IN_TABLE = re.compile(r"\| `(scarce [^`]+)` \|")
_SETTING = re.compile(r"[A-Z_]+=\S*")


class Command(NamedTuple):
    """A command as a page shows it.

    Attributes:
        page: the page's path below the repository.
        line: where it begins, counted from 1.
        words: as a shell would hand them over, settings of the environment among them.
    """

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def typed(self) -> tuple[str, ...]:
        """The words without settings of the environment, `uv run`, or what starts several processes."""
        words = tuple(dropwhile(_SETTING.fullmatch, self.words))
        if words[0] in _LAUNCHERS:
            return tuple(dropwhile(lambda word: word != "scarce", words))
        return words[2:] if words[:2] == ("uv", "run") else words


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[Command]:
    """Every command of every page."""
    return [command for path in pages() for command in read_commands(path.read_text(), str(path.relative_to(ROOT)))]


def read_commands(markdown: str, page: str = "") -> Iterator[Command]:
    """The commands in blocks of code and in the first column of tables; `&&` separates two of one line."""
    lines = iter(enumerate(markdown.splitlines(), 1))
    fence = None
    for number, line in lines:
        if opened := _FENCE.fullmatch(line.strip()):
            fence = opened[1] if fence is None else None
            continue
        if row := _IN_TABLE.match(line):
            text = row[1]
        elif fence in _NOT_TYPED or (fence is None and not line.startswith("    ")):
            continue
        else:
            text = line.strip().removeprefix("$ ")
        words = _SETTING.sub("", text).split()
        if not words or words[0] not in _FIRST:
            continue
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].strip()
        yield from _separated(shlex.split(text, comments=True), page, number)


def _separated(words: list[str], page: str, line: int) -> Iterator[Command]:
    while "&&" in words:
        end = words.index("&&")
        yield Command(page, line, tuple(words[:end]))
        words = words[end + 1 :]
    yield Command(page, line, tuple(words))


def shown_files(markdown: str) -> dict[str, str]:
    """The files that a page shows whole, as blocks with a title: {name: content}."""
    files: dict[str, str] = {}
    name = None
    for line in markdown.splitlines():
        if fence := _FENCE.fullmatch(line):
            name = fence[2] if name is None else None
        elif name is not None:
            files[name] = files.get(name, "") + line + "\n"
    return files
