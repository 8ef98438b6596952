"""`scarce pretrain`: a recipe on a store."""

import logging
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from scarce_cxr.commands.recipes import find_recipe
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.watchers import draw_curves, draw_views, make_watchers
from scarce_cxr.report.page import write_page
from scarce_cxr.results import Result, Table
from scarce_cxr.training.loop import Interrupted
from scarce_cxr.training.pretrain import BEST_BY, build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import Recipe, recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series

logger = logging.getLogger(__name__)


def parser() -> ArgumentParser:
    """The command's parser: the recipe's settings, and three of its own."""
    made = recipe_parser(prog="scarce pretrain", description="Pretrains a backbone on a store by a recipe.")
    made.add_argument("--store", type=Path, required=True, help="The store to train on.")
    made.add_argument("--run", type=Path, required=True, help="A new folder for everything that the run writes.")
    made.add_argument("--dry_run", action="store_true", help="Draw the views and print the recipe; train nothing.")
    return made


def parse(arguments: list[str]) -> tuple[Recipe, str, Path, Path, bool]:
    """Reads the command line; `--config` also takes the name of a recipe that comes with the package."""
    arguments = list(arguments)
    for index, argument in enumerate(arguments[:-1]):
        if argument == "--config":
            arguments[index + 1] = str(find_recipe(arguments[index + 1]))
    if not any(argument.startswith(("--config", "--method", "--help", "-h")) for argument in arguments):
        raise ScarceError("a recipe", "no --config", "for instance --config recipes/small/spark.yaml")
    made = parser()
    config: Namespace = made.parse_args(arguments)
    recipe, text = settle(made, config)
    return recipe, text, config.store, config.run, config.dry_run


def run(parsed: tuple[Recipe, str, Path, Path, bool]) -> Result:
    """Runs what `parse` read."""
    recipe, text, store_path, run_path, dry = parsed
    store = Store.open(store_path)
    folder = RunFolder(run_path)
    if folder.read_state() and not dry:
        raise ScarceError(
            "a new folder for the run", f"{run_path}, which holds one", f"scarce resume {run_path}, or another --run"
        )
    held_out = held_out_films(store, recipe)
    total, warmup = recipe.check(int((~held_out).sum()))
    # Built here only to refuse what does not fit before anything is written.
    build_method(recipe)
    if dry:
        table = Table(
            "What would run",
            ["films", "held-out films", "steps", "warm-up steps"],
            [[int((~held_out).sum()), int(held_out.sum()), total, warmup]],
        )
        return Result([table], [("views", draw_views(recipe, store, folder.figures / "views.png"))], ["", text])
    with folder.locked():
        draw_views(recipe, store, folder.figures / "views.png")
        return train(recipe, text, store, folder)


def train(recipe: Recipe, text: str, store: Store, folder: RunFolder, checkpoint: Path | None = None) -> Result:
    """Trains, and says what came of it; a run that was told to stop says how it goes on, with exit code 143."""
    try:
        counters = pretrain(recipe, text, store, folder, checkpoint=checkpoint, make_watchers=make_watchers)
    except Interrupted as interrupted:
        words = f"Stopped after step {interrupted.step}; everything is saved. Go on with: scarce resume {folder.path}"
        return Result(notes=[words], exit_code=143)
    rows = read_metrics(folder.metrics)
    state = folder.read_state()
    _, losses = series(rows, "loss", "step")
    _, errors = series(rows, BEST_BY, "watch")
    table = Table(
        f"Run {folder.path.name}",
        ["steps", "minutes", "last loss", "held-out masked error"],
        [[counters.step, counters.seconds / 60, losses[-1], errors[-1] if errors else None]],
        f"{state['films']:,} films trained on; {state['held_out']:,} held out, by patient",
    )
    draw_curves(folder)
    page = write_page(folder, store.path)
    files = [("page", page), ("backbone", folder.backbone("last")), ("figures", folder.figures)]
    return Result([table], files, [f"\nNext: scarce reconstruct {folder.path}"])
