"""`scarce embed`: features of all films, computed once."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def embed(store: Path, starts: list[str], size: int | None = None, seed: int = 0, device: str = "cpu") -> Result:
    """Computes the features of every film of a store and keeps them beside it, for scarce probe and whoever else.

    What is kept already is not computed again: features are known by the fingerprints of weights and store.

    Args:
        store: The films.
        starts: What backbones begin from: runs' folders (or RUN:best), files as NAME:FILE, pretrained:NAME, or random;
            a label may stand before it, as in moco=runs/moco.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Of random weights.
        device: Where to compute.
    """
    from scarce_cxr.backbones.embed import embed as embed_films
    from scarce_cxr.backbones.starts import parse_starts
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.images.store import Store

    if not starts:
        raise ScarceError("at least one start", "none", "scarce embed STORE RUN random")
    opened = Store.open(store)
    made = [embed_films(opened, start, device=device) for start in parse_starts(starts, size=size, seed=seed)]
    rows = [[of.start.name, of.films, of.array.shape[1], of.size, round(of.seconds, 1), of.path.name] for of in made]
    columns = ["start", "films", "features", "size", "seconds", "file"]
    note = f"In {made[0].path.parent}. Seconds of 0: the features were there."
    return Result([Table("Features", columns, rows, note)])
