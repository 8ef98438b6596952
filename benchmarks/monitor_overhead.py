"""What the monitor's looks cost: the time of a look against that of the training between two looks, in turn in one run.

    uv run python benchmarks/monitor_overhead.py STORE [--recipes small/moco small/dino ...] [--steps 8] [--rounds 3]

For every recipe: median seconds of a step and of a look (all of the recipe's watchers; figures, which take a quarter of
a percent of the time each at most, are counted, not in it), the steps between two looks at the recipe's own interval,
and the look's share of the time. `--films` and `--batch` put other numbers in the recipe's place: with `--films 112120`
the interval is the one that a recipe has on so many films, however few the store holds.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from scarce_cxr.commands.recipes import find_recipe, recipes_folder
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.sparing import SparingFigure
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.training.automatic import resolve
from scarce_cxr.training.devices import make_fabric
from scarce_cxr.training.optimizer import make_optimizer
from scarce_cxr.training.pretrain import build_method, held_out_films
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import Metrics, RunFolder
from scarce_cxr.views.loader import Loader

RECIPES = [f"small/{path.stem}" for path in sorted((recipes_folder() / "small").glob("*.yaml"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--films", type=int, default=0, help="films to train on; 0: the store's own")
    parser.add_argument("--batch", type=int, default=0, help="films in a step; 0: the recipe's own")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    for name in arguments.recipes:
        step, look, between, films, figures = measure(store, name, arguments)
        share = look / (look + between * step)
        print(
            f"{name}: step {step:.3f} s, look {look:.3f} s at {films} films, {between} steps between looks: "
            f"{share:.2%} of the time, and up to {figures / 4:g} % for {figures} figures"
        )


def measure(store: Store, name: str, arguments: argparse.Namespace) -> tuple[float, float, int, int, int]:
    """Median seconds of a step and of a look, steps between two looks, films in a look, figures."""
    parser = recipe_parser()
    options = [f"--training.batch_size={arguments.batch}"] if arguments.batch else []
    config = parser.parse_args(["--config", str(find_recipe(name)), *options])
    films = arguments.films
    resolve(config, films or len(store))
    recipe, _ = settle(parser, config)
    watched = held_out_films(store, recipe)
    films = films or int((~watched).sum())
    total, _ = recipe.training.check(films)
    between = recipe.watch.every.steps(films // recipe.training.batch_size, total)
    fabric = make_fabric(recipe.training)
    loader = Loader(
        store,
        recipe.views,
        films=np.flatnonzero(~watched),
        batch_size=recipe.training.batch_size,
        seed=0,
        device=fabric.device,
    )
    method = build_method(recipe).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(method, recipe.optimizer)
    forward, wrapped = fabric.setup(method, optimizer)
    steps, looks = [], []
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        # Curves are drawn of what is logged.
        Metrics(run.metrics, 0).write("step", 0, 0, {"loss": 1.0, "lr": 0.0})
        watchers = make_watchers(method, store, np.flatnonzero(watched), recipe, run)
        for watcher in watchers:
            # Views are made and figures drawn for the first time: not again before long.
            watcher.look(method, 0)
        for round_ in range(arguments.rounds):
            method.train()
            first = round_ * arguments.steps
            for step, _, views in loader.batches(first, first + arguments.steps):
                begun = time.perf_counter()
                fabric.backward(forward(views).loss)
                wrapped.step()
                wrapped.zero_grad(set_to_none=True)
                method.after_step((step + 1) / total)
                steps.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for watcher in watchers:
                watcher.look(method, first + arguments.steps)
            looks.append(time.perf_counter() - begun)
    figures = sum(isinstance(getattr(watcher, "figure", None), SparingFigure) for watcher in watchers)
    seen = min(int(watched.sum()), recipe.watch.films)
    return statistics.median(steps), statistics.median(looks), between, seen, figures


if __name__ == "__main__":
    main()
