"""Which watchers a run gets, and the pictures that every run draws."""

import logging
from pathlib import Path

import numpy as np
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.curves import run_curves
from scarce_cxr.figures.views import Group, views_panel
from scarce_cxr.images.splits import evenly, patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.correlation import CorrelationWatch
from scarce_cxr.monitor.reconstruction import MASKED_ERROR, ReconstructionWatch
from scarce_cxr.monitor.representation import FEWEST_FILMS, RepresentationWatch
from scarce_cxr.monitor.sparing import SparingFigure
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.recipe import Recipe
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series
from scarce_cxr.views.augment import draw_geometry
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import MultiCrop, Normalization, OneView, Plan, TwoViews

logger = logging.getLogger(__name__)

# What the loop writes into a step's row; the other columns are what the method names.
_NOT_OF_THE_METHOD = {
    *("kind", "step", "epoch", "loss", "lr", "grad_norm"),
    *("images_per_second", "waiting", "memory_gib"),
}

# Panels of a run: as many as its page has steps on the slider.
_PANELS = 24
_FILMS_DRAWN = 4
_ORDINALS = ("first", "second", "third")
_SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def make_watchers(method: Method, store: Store, films: np.ndarray, recipe: Recipe, run: RunFolder) -> list[Watcher]:
    """The watchers that suit a method: what it paints, if it can paint; its representation and curves in any case.

    Args:
        method: the method.
        store: the store.
        films: (n,) indices of all held-out films.
        recipe: the recipe.
        run: where pictures go.
    """
    watchers: list[Watcher] = []
    trained_on = len(store) - len(films)
    total, warmup = recipe.training.check(trained_on)
    taken = films[evenly(len(films), recipe.watch.films)]
    if len(taken) < FEWEST_FILMS:
        _warn_of_few(store, films, taken)
    if len(taken) and hasattr(method, "reconstruct"):
        drawn = steps_drawn(total, recipe.watch.every.steps(trained_on // recipe.training.batch_size, total))
        watchers.append(ReconstructionWatch(store, taken, recipe.views.size, recipe.watch.panel, run, drawn))
    if len(taken) > 1:
        watchers.append(RepresentationWatch(store, taken, recipe.views.size, recipe.watch, run, warmup))
    if len(taken) > 1 and hasattr(method, "correlate"):
        watchers.append(CorrelationWatch(store, taken, recipe.views.size, run))
    watchers.append(CurvesWatch(run))
    return watchers


def steps_drawn(total: int, every: int, most: int = _PANELS) -> set[int]:
    """The looks of a run of which a picture of its own is drawn: all, or so many evenly apart, first and last included.

    Args:
        total: steps of the run.
        every: steps from one look to the next; 0 looks only before the first step and after the last.
        most: how many.
    """
    looks = [*range(0, total, every or total), total]
    return {looks[place] for place in np.linspace(0, len(looks) - 1, min(most, len(looks))).round().astype(int)}


def _warn_of_few(store: Store, films: np.ndarray, taken: np.ndarray) -> None:
    logger.warning(
        "the monitor looks at %d of %d held-out films (patients: %d): below %d it measures neither rank nor spread, "
        "and may miss a collapse; raise %s",
        *(len(taken), len(films), len(np.unique(patients_of(store.table.iloc[films]).astype(str))), FEWEST_FILMS),
        "watch.held_out" if len(films) < FEWEST_FILMS else "watch.films",
    )


class CurvesWatch(Watcher):
    """Draws the run's curves."""

    def __init__(self, run: RunFolder) -> None:
        self.figure = SparingFigure(lambda: draw_curves(run))

    def look(self, method: Method, step: int) -> dict[str, float]:
        """Draws `figures/curves.png`; measures nothing."""
        self.figure.due()
        return {}

    def finish(self) -> None:
        self.figure.finish()


def draw_curves(run: RunFolder) -> Path | None:
    """Draws a run's curves, with what its method names, out of its metrics; None if nothing is logged yet."""
    rows = read_metrics(run.metrics)
    loss = series(rows, "loss", "step")
    if not loss[0]:
        return None
    named = dict.fromkeys(name for row in rows if row["kind"] == "step" for name, value in row.items() if value)
    numbers = {"gradient_norm": series(rows, "grad_norm", "step")}
    numbers |= {name: series(rows, name, "step") for name in named if name not in _NOT_OF_THE_METHOD}
    rate, held_out = series(rows, "lr", "step"), series(rows, MASKED_ERROR, "watch")
    figure = run_curves(loss, rate, held_out, numbers, run.path.resolve().name)
    return theme.save(figure, run.figures / "curves.png")


def draw_views(recipe: Recipe, store: Store, path: Path) -> Path:
    """Draws what the recipe's plan makes of a few of the store's films, and where on them.

    A plan of views of several sizes is drawn once, its views grouped by size; another one several times.
    """
    plan = recipe.views
    several = len(plan.sizes) > 1
    films = evenly(len(store), _FILMS_DRAWN)
    pixels = torch.from_numpy(store.pixels(films))
    normalization = Normalization(store.mean, store.std)
    groups = []
    for step in range(1 if several else len(_ORDINALS)):
        draws = Draws(recipe.seed, step, np.arange(len(films)))
        views = [normalization.invert(crop)[:, 0].numpy() for crop in plan(pixels, draws, normalization).crops]
        corners = find_corners(plan, draws)
        if not several:
            groups.append(Group(f"drawn the {_ORDINALS[step]} time", views, corners))
            continue
        for size in plan.sizes:
            chosen = [index for index, view in enumerate(views) if view.shape[-1] == size]
            heading = f"{'global' if size == plan.size else 'local'} crops of {size} pixels"
            groups.append(Group(heading, [views[i] for i in chosen], [corners[i] for i in chosen if corners]))
    shown = pixels.numpy() / np.iinfo(store.dtype).max
    title = f"Views of {' and '.join(map(str, plan.sizes))} pixels, as the recipe makes them"
    return theme.save(views_panel(shown, groups, title), path)


def find_corners(plan: Plan, draws: Draws) -> list[np.ndarray]:
    """Where a plan's views of B films lie: one (B, 4, 2) array a view, in its order; empty for a plan of one's own.

    Of each view the upper left corner comes first, then round; x and y on the film, whose outer edges are -1 and 1.
    """
    match plan:
        case MultiCrop():
            augmentations = [plan.global_augmentation, plan.second_global]
            augmentations += plan.local_crops * [plan.local_augmentation]
        case TwoViews():
            augmentations = [plan.first, plan.second]
        case OneView():
            augmentations = [plan.augmentation]
        case _:
            return []
    geometries = [draw_geometry(what, draws, f"view{number}") for number, what in enumerate(augmentations)]
    return [_SQUARE @ g.matrices()[:, :, :2].mT + g.matrices()[:, None, :, 2] for g in geometries]
