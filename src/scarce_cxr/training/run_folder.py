"""The folder that a run writes: recipe, metrics, checkpoints, figures, state."""

import csv
import fcntl
import io
import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole

_LEADING = ["kind", "step", "epoch"]
# How often the lock is asked for while somebody looks at it, and seconds between.
_TRIES, _PAUSE = 100, 0.01


class RunFolder:
    """A run's folder.

    Attributes:
        path: the folder.
        checkpoints, figures: folders inside it, made when first asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        return self._made("checkpoints")

    @property
    def figures(self) -> Path:
        return self._made("figures")

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    def backbone(self, which: str) -> Path:
        """Path of the `last` or `best` backbone."""
        return self.path / f"backbone-{which}.safetensors"

    def read_state(self) -> dict[str, Any]:
        """What the run last said of itself (state, step, total, seconds, ...); empty if it is no run."""
        file = self.path / "run.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def write_state(self, **state: Any) -> None:
        """Updates what the run says of itself; what is not named stays."""
        write_text(self.path / "run.json", json.dumps({**self.read_state(), **state}, indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one process. The kernel lets go when the process ends, however it ends.

        Raises:
            ScarceError: another process is training in the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as handle:
            if not _take(handle):
                raise ScarceError(
                    "a run that nobody else is training", str(self.path), "wait for it, or choose another --run"
                )
            yield

    def is_locked(self) -> bool:
        """Whether a process is training in the folder right now (on this machine). Writes nothing."""
        try:
            handle = (self.path / ".lock").open()
        except FileNotFoundError:
            return False
        with handle:
            return _is_held(handle)

    def _made(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Metrics:
    """`metrics.csv`: one row a logged step, epoch or look of a watcher. Columns appear when they are first used.

    Args:
        path: the file; rows after step `resume_at` are cut off, so that a resumed run does not say things twice.
        resume_at: the step that the run goes on from.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        self.path = path
        rows = read_metrics(path) if path.is_file() else []
        kept = [row for row in rows if int(row["step"]) <= resume_at]
        self.columns = list(dict.fromkeys([*_LEADING, *(name for row in kept for name, value in row.items() if value)]))
        write_text(path, _as_csv(self.columns, kept))

    def write(self, kind: str, step: int, epoch: int, numbers: dict[str, float]) -> None:
        """Appends a row; a new name adds a column."""
        row = {"kind": kind, "step": step, "epoch": epoch, **{name: f"{value:.7g}" for name, value in numbers.items()}}
        if new := [name for name in row if name not in self.columns]:
            rows = read_metrics(self.path)
            self.columns += new
            write_text(self.path, _as_csv(self.columns, rows))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`; an empty cell is an empty text. A last line torn by a kill is left out."""
    with path.open(newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(whole))
    return [{name: value or "" for name, value in row.items() if name is not None} for row in rows]


def series(rows: list[dict[str, str]], name: str, kind: str | None = None) -> tuple[list[int], list[float]]:
    """Steps and values of one column, of rows of one kind or of all."""
    chosen = [row for row in rows if row.get(name) and kind in (None, row["kind"])]
    return [int(row["step"]) for row in chosen], [float(row[name]) for row in chosen]


def read_looks(path: Path) -> list[tuple[int, dict[str, float]]]:
    """What watchers measured: (step, named numbers) of every look in a `metrics.csv`; none if there is no file."""
    rows = read_metrics(path) if path.is_file() else []
    return [
        (int(row["step"]), {name: float(value) for name, value in row.items() if value and name not in _LEADING})
        for row in rows
        if row["kind"] == "watch"
    ]


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


def names_apart(paths: Sequence[Path], taken: Collection[str] = ()) -> list[str]:
    """The last part of each path, or as many of the last parts as set all of them apart, and from names taken.

    Args:
        paths: different ones, resolved.
        taken: names that none of them may have.
    """
    for parts in range(1, max(len(path.parts) for path in paths) if paths else 0):
        names = [str(Path(*path.parts[-parts:])) for path in paths]
        if len({*names, *taken}) == len(paths) + len(set(taken)):
            return names
    return [str(path) for path in paths]


def _take(handle: IO) -> bool:
    """Whether the lock is now ours. Who only looks at it holds it for an instant, and is waited for."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _is_held(handle):
                return False
            time.sleep(_PAUSE)
        else:
            return True
    return False


def _is_held(handle: IO) -> bool:
    """Whether another process holds the lock to train; looking shares it, so that lookers do not see each other."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _as_csv(columns: list[str], rows: list[dict[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
