"""What a page needs to know of a run, read from its folder: whatever is missing is noted, never fatal."""

from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.training.recipe import Recipe, read_recipe
from scarce_cxr.training.run_folder import RunFolder, names_apart, read_looks, read_metrics, series


@dataclass(frozen=True)
class ShownRun:
    """A run as a page shows it.

    Attributes:
        name: the folder's, with as much of its path as sets it apart from the others of the page.
        folder: its folder.
        state: what it last said of itself.
        rows: of its metrics.
        text: its recipe as written.
        recipe: the same, built; None if it could not be.
        store: the films that it was trained on; None if they are not there.
        notes: what could not be read, and why.
    """

    name: str
    folder: RunFolder
    state: dict[str, Any]
    rows: list[dict[str, str]]
    text: str
    recipe: Recipe | None
    store: Store | None
    notes: tuple[str, ...] = ()

    def series(self, column: str, kind: str) -> tuple[list[int], list[float]]:
        """Steps and values of a column of its metrics, see `run_folder.series`."""
        return series(self.rows, column, kind)

    @property
    def last_look(self) -> dict[str, float]:
        """What the watchers measured last; empty if they did not."""
        looks = read_looks(self.folder.metrics)
        return looks[-1][1] if looks else {}

    @property
    def verdict(self) -> dict[str, Any]:
        """The monitor's, as it stands in the run's state; empty if there is none."""
        return self.state.get("verdict") or {}


def read_runs(paths: Sequence[Path], store: Path | None = None) -> list[ShownRun]:
    """Reads runs, each under a name of its own.

    Args:
        paths: their folders.
        store: where the films are now; by default where they were when the run was made.

    Raises:
        ScarceError: a folder is no run, or the same is given twice, or none of them was trained on the store given.
    """
    for path in paths:
        if not RunFolder(path).read_state():
            raise ScarceError("a run's folder", f"no run.json in {path}", "begin one with scarce pretrain")
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ScarceError("different runs", ", ".join(map(str, paths)), "name each once")
    given = None if store is None else Store.open(store)
    runs = [_read(path, name, given) for path, name in zip(paths, names_apart(resolved), strict=True)]
    if given is not None and not any(run.store is given for run in runs):
        made_on = ", ".join(sorted({str(run.state.get("fingerprint"))[:12] for run in runs}))
        raise ScarceError(
            f"the store that a run began on ({made_on})",
            f"{given.path} ({given.fingerprint[:12]})",
            "give the right one with --store",
        )
    return runs


def _read(path: Path, name: str, given: Store | None) -> ShownRun:
    folder, notes = RunFolder(path), []
    state = folder.read_state()
    store = _find_store(folder, state, given, notes)
    text, recipe = "", None
    try:
        text = folder.recipe.read_text()
        recipe, _ = read_recipe(folder.recipe)
    # What a recipe of an older version, or of a method of one's own that is not here, can raise.
    except (OSError, ArgumentError, ScarceError, ImportError, AttributeError, TypeError, ValueError) as error:
        said = (str(error).splitlines() or [""])[0][:200]
        notes.append(f"its recipe cannot be built here, so that memory and model are not told ({said})")
    rows = read_metrics(folder.metrics) if folder.metrics.is_file() else []
    return ShownRun(name, folder, state, rows, text, recipe, store, tuple(notes))


def _find_store(folder: RunFolder, state: dict[str, Any], given: Store | None, notes: list[str]) -> Store | None:
    made_on = state.get("fingerprint")
    if given is not None and made_on in (None, given.fingerprint):
        return given
    try:
        found = Store.open(folder.path / state["store"])
    except (ScarceError, KeyError):
        notes.append("its store is not where it was: what is in it is not told (--store STORE)")
        return None
    if made_on not in (None, found.fingerprint):
        notes.append("its store has changed since: what is in it is not told")
        return None
    return found
