"""`scarce embed`: features of all films, computed once."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def embed(starts: list[str], store: Path, size: int | None = None, seed: int = 0, device: str = "cpu") -> Result:
    """Computes the features of every film of a store and keeps them beside it, for scarce probe and whoever else.

    What is kept already is not computed again: features are known by the fingerprints of weights and store.

    Args:
        starts: What backbones begin from: runs' folders (or RUN:best), files as NAME:FILE, pretrained:NAME, or random.
        store: The films.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Of random weights.
        device: Where to compute.
    """
    from scarce_cxr.backbones.embed import embed
    from scarce_cxr.backbones.starts import parse_starts
    from scarce_cxr.images.store import Store

    opened = Store.open(store)
    rows, files = [], []
    for start in parse_starts(starts, size=size, seed=seed):
        made = embed(opened, start, device=device)
        films, width = made.array.shape
        rows.append([start.name, start.kind, start.size, films, width, round(made.seconds, 1)])
        files.append((start.name, made.path))
    note = "0 seconds: they were there"
    return Result([Table("Features", ["start", "kind", "size", "films", "features", "seconds"], rows, note)], files)
