"""What Python programs call: the package's own functions under fewer names, see `scarce_cxr`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.backbones.embed import embed as embed_films
from scarce_cxr.backbones.starts import Start, load_start, parse_start
from scarce_cxr.images.store import Store


def open_store(path: Path | str) -> Store:
    """Opens a store that `scarce prepare` wrote; its `table` is a pandas table, its `pixels(rows)` are films.

    Raises:
        ScarceError: there is none.
    """
    return Store.open(path)


def load_backbone(start: Start | str, *, size: int | None = None, seed: int = 0) -> Backbone:
    """A backbone in evaluation mode: normalised images (B, 1, S, S) -> features (B, d). Its `model` is timm's own.

    Args:
        start: a run's folder, NAME:FILE, pretrained:NAME, random:NAME, or a timm name for random weights.
        size: side of its films in pixels, for starts that name none.
        seed: of random weights.

    Raises:
        ScarceError: nothing of that name, or weights that do not fit.
    """
    return load_start(_parsed(start, size, seed))


def embed(
    store: Store | Path | str, start: Start | str, *, size: int | None = None, seed: int = 0, device: str = "cpu"
) -> np.ndarray:
    """Features of all films of a store, computed once and kept beside it.

    Args:
        store: the films.
        start: the backbone, see `load_backbone`.
        size, seed: see `load_backbone`.
        device: where to compute.

    Returns:
        (n, d) float32, mapped from the file, in the order of the store's table.

    Raises:
        ScarceError: there is no such store or start, or its features are not finite.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    return embed_films(opened, _parsed(start, size, seed), device=device).array


def write_report(
    runs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    trials: Sequence[Path | str] = (),
    redact: bool = False,
    films: int = 800,
) -> Path:
    """Writes one HTML page of a run, or of several side by side, as `scarce report` does.

    Args:
        runs: folders of runs.
        out: the page; None takes report.html in the run's folder, or here for several.
        trials: folders that `scarce probe` or `scarce finetune` wrote.
        redact: leave out every film.
        films: how many films to map, at most; 0 maps none.

    Returns:
        The page's path.

    Raises:
        ScarceError: a folder is no run, or none is named.
    """
    from scarce_cxr.commands.report import report

    named = [runs] if isinstance(runs, Path | str) else list(runs)
    made = report(
        [str(run) for run in named],
        trials=[Path(folder) for folder in trials] or None,
        out=None if out is None else Path(out),
        redact=redact,
        films=films,
    )
    return made.files[0][1]


def _parsed(start: Start | str, size: int | None, seed: int) -> Start:
    return start if isinstance(start, Start) else parse_start(str(start), size=size, seed=seed)
