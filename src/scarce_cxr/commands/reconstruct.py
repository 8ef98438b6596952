"""`scarce reconstruct`: what a run imagines behind the mask."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import numpy as np

    from scarce_cxr.images.store import Store


def reconstruct(
    run: Path,
    images: list[Path] | None = None,
    films: int = 6,
    seed: int = 0,
    out: Path | None = None,
    checkpoint: Path | None = None,
    store: Path | None = None,
) -> Result:
    """Draws original, masked film, prediction and composite, of held-out films or of films of your own.

    Args:
        run: The run's folder.
        images: Picture files of your own; without them, films that the run held out are drawn.
        films: How many held-out films are drawn.
        seed: Another seed masks other patches.
        out: The PNG to write; by default a file among the run's figures.
        checkpoint: Another of the run's checkpoints than the last.
        store: Where the store is now, if it has moved.
    """
    import numpy as np
    import torch

    from scarce_cxr.commands.resume import open_run
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.reconstructions import reconstruction_panel
    from scarce_cxr.training.checkpoint import read_checkpoint
    from scarce_cxr.training.pretrain import build_method, held_out_films
    from scarce_cxr.views.draws import Draws
    from scarce_cxr.views.plans import Normalization, plain_view

    folder, recipe, _, opened = open_run(run, store)
    content = read_checkpoint(checkpoint or folder.last_checkpoint)
    method = build_method(recipe, restored=True)
    if not hasattr(method, "reconstruct"):
        raise ScarceError("a method that paints", type(method).__name__, "SparK runs can be reconstructed")
    method.load_state_dict(content["module"])
    method.eval()
    step = content["counters"]["step"]
    if images:
        pixels = np.stack([_read_film(path, opened) for path in images])
        captions, whose = [path.name for path in images], f"{len(images)} films"
    else:
        held_out = np.flatnonzero(held_out_films(opened, recipe))[:films]
        if not len(held_out):
            raise ScarceError("held-out films", "a run that held none out", "name films of your own with --images")
        pixels, captions = opened.pixels(held_out), opened.table["view"].iloc[held_out].tolist()
        whose = f"{len(held_out)} held-out films"
    normalization = Normalization(opened.mean, opened.std)
    shown = plain_view(torch.from_numpy(pixels), recipe.views.size, normalization)
    made = method.reconstruct(shown, Draws(seed, 0, np.arange(len(pixels))))
    arrays = (normalization.invert(shown), made.prediction, made.visible)
    films_, predictions, visible = (array[:, 0].numpy() for array in arrays)
    title = f"{folder.path.resolve().name}, step {step}: masked error {made.error:.3f} on {whose}"
    path = theme.save(
        reconstruction_panel(films_, predictions, visible, method.patch, title, captions),
        out or folder.figures / "reconstruct.png",
    )
    table = Table("Reconstruction", ["step", "films", "masked error"], [[step, len(pixels), made.error.item()]])
    return Result([table], [("panel", path)])


def _read_film(path: Path, store: "Store") -> "np.ndarray":
    """One picture file as the store would hold it: (H, W) integers."""
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.export import film_settings
    from scarce_cxr.evaluation.predict import read_film

    if not path.is_file():
        raise ScarceError("a picture file", str(path), "check --images")
    film = read_film(path, film_settings(store))
    if isinstance(film, str):
        raise ScarceError("a readable film", f"{path} ({film})", "leave it out")
    return film
