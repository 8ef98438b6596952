"""`scarce schedules`: how the learning rates of several recipes go."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.commands.recipes import NIH_FILMS, find_recipe, recipe_name
from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from scarce_cxr.figures.schedules import Schedule
    from scarce_cxr.training.recipe import Recipe

# Enough for a smooth curve; a run has up to hundreds of thousands of steps.
_POINTS = 600


def parser() -> "ArgumentParser":
    """The command's parser: it takes several recipes without an option's name."""
    from jsonargparse import ArgumentParser

    description = schedules.__doc__.partition("\n")[0]
    made = ArgumentParser(prog="scarce schedules", description=description, exit_on_error=False)
    made.add_argument("recipes", nargs="+", type=str, help="Recipes: files, or names of those of the package.")
    made.add_argument("--films", type=int, default=NIH_FILMS, help="Films to train on; they decide an epoch's steps.")
    made.add_argument("--out", type=Path, default=Path("schedules.png"), help="The picture to write.")
    return made


def parse(arguments: list[str]) -> "Namespace":
    """Reads the command line."""
    return parser().parse_args(arguments)


def run(parsed: "Namespace") -> Result:
    """Runs what `parse` read."""
    return schedules(parsed.recipes, parsed.films, parsed.out)


def schedules(recipes: list[str], films: int = NIH_FILMS, out: Path = Path("schedules.png")) -> Result:
    """Draws the learning rates of several recipes and lists what decides them.

    Args:
        recipes: files, or names of those that come with the package.
        films: films to train on; they decide how many steps an epoch has, and what a rate of `auto` becomes.
        out: the picture to write.

    Raises:
        ScarceError: there is no such recipe, or its batch or warm-up does not fit the films.
    """
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.schedules import schedules_figure
    from scarce_cxr.training.automatic import read_resolved

    curves, rows = [], []
    for path in map(find_recipe, recipes):
        recipe = read_resolved(path, films)
        total, warmup = recipe.training.check(films)
        curve = _sample(recipe_name(path), recipe, films, total, warmup)
        optimizer, batch = recipe.optimizer, recipe.training.batch_size
        decay = optimizer.weight_decay
        epochs = float(curve.epochs[-1])
        rows.append([curve.name, optimizer.name, optimizer.lr, decay, batch, epochs, total, warmup])
        curves.append(curve)
    columns = ["recipe", "optimizer", "peak rate", "weight decay", "batch", "epochs", "steps", "warm-up steps"]
    note = f"{films:,} films to train on; rates are per step: linear warm-up, then half a cosine to 0"
    path = theme.save(schedules_figure(curves), out)
    return Result([Table("Schedules", columns, rows, note)], [("figure", path)])


def _sample(name: str, recipe: "Recipe", films: int, total: int, warmup: int) -> "Schedule":
    """The rate of some of the steps, each at the epoch in which it ends, among them the warm-up's last one."""
    import numpy as np

    from scarce_cxr.figures.schedules import Schedule
    from scarce_cxr.training.schedule import warmup_cosine

    # Of a logarithm of the epoch the early steps fill most.
    counts = np.concatenate([np.linspace(1, total, _POINTS), np.geomspace(1, total, _POINTS), [max(warmup, 1)]])
    counts = np.unique(counts.round().astype(int))
    rates = np.array([recipe.optimizer.lr * warmup_cosine(int(count) - 1, warmup, total) for count in counts])
    return Schedule(name, counts / (films // recipe.training.batch_size), rates)
