"""Which watchers a run gets, and the pictures that every run draws."""

from pathlib import Path

import numpy as np
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.curves import run_curves
from scarce_cxr.figures.views import views_panel
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.reconstruction import ReconstructionWatch
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.pretrain import BEST_BY
from scarce_cxr.training.recipe import Recipe
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization

_FILMS_DRAWN = 5
_VIEWS_DRAWN = 4


def make_watchers(method: Method, store: Store, films: np.ndarray, recipe: Recipe, run: RunFolder) -> list[Watcher]:
    """The watchers that suit a method: what it paints, if it can paint; its curves in any case.

    Args:
        method: the method.
        store: the store.
        films: (n,) indices of all held-out films.
        recipe: the recipe.
        run: where pictures go.
    """
    watchers: list[Watcher] = []
    # Even steps through the held-out films rather than the first: a store is often sorted by patient.
    taken = films[np.unique(np.linspace(0, len(films) - 1, min(recipe.watch.films, len(films))).astype(int))]
    if len(taken) and hasattr(method, "reconstruct"):
        watchers.append(ReconstructionWatch(store, taken, recipe.views.size, recipe.watch.panel, run))
    watchers.append(CurvesWatch(run))
    return watchers


class CurvesWatch:
    """Draws the run's curves anew at every look."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def look(self, method: Method, step: int) -> dict[str, float]:
        """Draws `figures/curves.png`; measures nothing."""
        draw_curves(self.run)
        return {}


def draw_curves(run: RunFolder) -> Path | None:
    """Draws a run's curves out of its metrics; None if nothing is logged yet."""
    rows = read_metrics(run.metrics)
    loss = series(rows, "loss", "step")
    if not loss[0]:
        return None
    figure = run_curves(loss, series(rows, "lr", "step"), series(rows, BEST_BY, "watch"), run.path.resolve().name)
    return theme.save(figure, run.figures / "curves.png")


def draw_views(recipe: Recipe, store: Store, path: Path) -> Path:
    """Draws what the recipe's plan makes of a few of the store's films."""
    films = np.unique(np.linspace(0, len(store) - 1, _FILMS_DRAWN).astype(int))
    pixels = torch.from_numpy(store.pixels(films))
    normalization = Normalization(store.mean, store.std)
    columns = []
    for step in range(_VIEWS_DRAWN):
        views = recipe.views(pixels, Draws(recipe.seed, step, np.arange(len(films))), normalization)
        columns += [normalization.invert(crop)[:, 0].numpy() for crop in views.crops]
    shown = pixels.numpy() / np.iinfo(store.dtype).max
    title = f"Views of {recipe.views.size} pixels, as the recipe makes them"
    return theme.save(views_panel(shown, columns, title), path)
