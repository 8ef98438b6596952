"""`scarce pretrain`: a recipe on a store."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from jsonargparse import ArgumentParser, Namespace

from scarce_cxr.commands.recipes import find_recipe
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.splits import held_out
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.reconstruction import MASKED_ERROR
from scarce_cxr.monitor.verdict import DIVERGING, SIGNS, Verdict
from scarce_cxr.monitor.watchers import draw_curves, draw_views, make_watchers
from scarce_cxr.report.page import write_page
from scarce_cxr.results import Result, Table
from scarce_cxr.training.automatic import Choice, resolve
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.devices import is_first_process
from scarce_cxr.training.loop import Collapsed, Diverged, Interrupted
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import Recipe, TrainingSettings, recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series

logger = logging.getLogger(__name__)


def parser() -> ArgumentParser:
    """The command's parser: the recipe's settings, and three of its own."""
    made = recipe_parser(prog="scarce pretrain", description="Pretrains a backbone on a store by a recipe.")
    made.add_argument("--store", type=Path, required=True, help="The store to train on.")
    made.add_argument("--run", type=Path, required=True, help="A new folder for everything that the run writes.")
    made.add_argument("--dry_run", action="store_true", help="Draw the views and print the recipe; train nothing.")
    return made


class Parsed(NamedTuple):
    """A command line, read.

    Attributes:
        recipe: the recipe, without any `auto`.
        text: its settled YAML.
        choices: what its `auto` settings became.
        store: the films.
        run: the run's folder.
        dry_run: train nothing.
    """

    recipe: Recipe
    text: str
    choices: list[Choice]
    store: Store
    run: Path
    dry_run: bool


def parse(arguments: list[str]) -> Parsed:
    """Reads the command line; `--config` also takes the name of a recipe that comes with the package."""
    arguments = list(arguments)
    for index, argument in enumerate(arguments[:-1]):
        if argument == "--config":
            arguments[index + 1] = str(find_recipe(arguments[index + 1]))
    if not any(argument.startswith(("--config", "--method", "--help", "-h")) for argument in arguments):
        raise ScarceError("a recipe", "no --config", "for instance --config recipes/small/spark.yaml")
    made = parser()
    config: Namespace = made.parse_args(arguments)
    store = Store.open(config.store)
    choices = resolve(config, int((~held_out(store.table, config.watch.held_out)).sum()))
    recipe, text = settle(made, config)
    return Parsed(recipe, text, choices, store, config.run, config.dry_run)


def run(parsed: Parsed) -> Result:
    """Runs what `parse` read."""
    recipe, text, choices, store, run_path, dry = parsed
    folder = RunFolder(run_path)
    if folder.read_state() and not dry:
        raise ScarceError(
            "a new folder for the run", f"{run_path}, which holds one", f"scarce resume {run_path}, or another --run"
        )
    watched = held_out_films(store, recipe)
    films = int((~watched).sum())
    total, warmup = recipe.training.check(films)
    # Built here only to refuse what does not fit before anything is written.
    build_method(recipe)
    chosen = [_choices_table(choices, recipe.training, films, total)] if choices else []
    if dry:
        table = Table(
            "What would run",
            ["films", "held-out films", "steps", "warm-up steps"],
            [[films, int(watched.sum()), total, warmup]],
        )
        files = [("views", draw_views(recipe, store, folder.figures / "views.png"))]
        return Result([*chosen, table], files, ["", text])
    if not is_first_process():
        return train(recipe, text, store, folder)
    for table in chosen:
        logger.info(table)
    with folder.locked():
        draw_views(recipe, store, folder.figures / "views.png")
        return train(recipe, text, store, folder)


def _choices_table(choices: list[Choice], training: TrainingSettings, films: int, steps: int) -> Table:
    processes = training.devices * training.nodes
    note = (
        f"{films:,} films to train on, batch of {training.batch_size:,} over {processes} "
        f"{'process' if processes == 1 else 'processes'}, {steps:,} steps; --SETTING VALUE overrides"
    )
    # Values as they are typed and as recipe.yaml holds them: a momentum of 0.99975 is not 0.9998.
    rows = [[choice.setting, str(choice.value), choice.reason] for choice in choices]
    return Table("Chosen for this store", ["setting", "value", "because"], rows, note)


def train(recipe: Recipe, text: str, store: Store, folder: RunFolder, checkpoint: Path | None = None) -> Result:
    """Trains, and says what came of it.

    A run that was told to stop says how it goes on, with exit code 143; one that the monitor stopped, or whose loss is
    no number, says why and what to change, with exit code 3. Of several processes only the first says anything, and
    only its exit code counts.
    """
    try:
        pretrain(recipe, text, store, folder, checkpoint=checkpoint, make_watchers=make_watchers)
    except (Interrupted, Collapsed, Diverged) as ended:
        if not is_first_process():
            return Result()
        return _say_why(recipe, store, folder, ended)
    return _sum_up(folder, store) if is_first_process() else Result()


def _say_why(recipe: Recipe, store: Store, folder: RunFolder, ended: Interrupted | Collapsed | Diverged) -> Result:
    if isinstance(ended, Interrupted):
        words = f"Stopped after step {ended.step}; everything is saved. Go on with: scarce resume {folder.path}"
        return Result(notes=[words], exit_code=143)
    if isinstance(ended, Diverged):
        # No look can tell: what is no number is not looked at.
        advice = next(sign.advice for sign in SIGNS if sign.verdict == DIVERGING)
        verdict = Verdict(DIVERGING, ended.step, 1, ended.numbers, ended.reason, advice)
        folder.write_state(verdict=asdict(verdict))
    result = _sum_up(folder, store)
    return Result(result.tables, result.files, _say_stopped(recipe, folder, ended), exit_code=3)


def _sum_up(folder: RunFolder, store: Store) -> Result:
    """A table of what a run came to, and where to look."""
    rows, state = read_metrics(folder.metrics), folder.read_state()
    verdict = state.get("verdict", {})
    facts: dict[str, float | str] = {"steps": state["step"], "minutes": state["seconds"] / 60}
    for name, column, kind in (
        ("loss", "loss", "step"),
        ("masked error", MASKED_ERROR, "watch"),
        ("found", "retrieval", "watch"),
        ("matched", "held_out_matched_information", "watch"),
    ):
        _, values = series(rows, column, kind)
        if values:
            facts[name] = values[-1]
    if verdict:
        facts["verdict"] = verdict["name"]
    note = f"{state['films']:,} films trained on; {state['held_out']:,} held out, by patient"
    for words, column in (
        (", {:,.0f} of them measured", "held_out_films"),
        ("; found among {:.0f}", "retrieval_among"),
    ):
        _, values = series(rows, column, "watch")
        note += words.format(values[-1]) if values else ""
    table = Table(f"Run {folder.path.name}", list(facts), [list(facts.values())], note)
    draw_curves(folder)
    page = write_page(folder, store.path)
    backbone = folder.backbone("last")
    files = [("page", page), *([("backbone", backbone)] if backbone.is_file() else []), ("figures", folder.figures)]
    notes = [f"\nVerdict: {verdict['reason']}"] if verdict else []
    notes.append(f"What a few labels buy: scarce probe {folder.path} random --store {store.path} --out trials")
    if any(folder.figures.glob("reconstruction-*.png")):
        notes.append(f"What it imagines behind a mask: scarce reconstruct {folder.path}")
    return Result([table], files, notes)


def _say_stopped(recipe: Recipe, folder: RunFolder, ended: Collapsed | Diverged) -> list[str]:
    state = folder.read_state()
    spared = _what_stopping_spares(recipe, state, ended.step)
    advice = [f"  {number}. {what}" for number, what in enumerate(state["verdict"]["advice"], 1)]
    if isinstance(ended, Collapsed):
        who, reason, saved, last = "The monitor", ended.reason, "Everything is saved", []
    else:
        who, reason, saved, last = "Divergence", f"{DIVERGING}: {ended.reason}", *_say_what_is_left(folder)
    return [
        f"\n{who} stopped it after step {ended.step} of {state['total']}: {reason}.",
        f"{saved}; what was left to run would have taken {spared}.",
        "What to change, the likeliest first:",
        *advice,
        *last,
    ]


def _say_what_is_left(folder: RunFolder) -> tuple[str, list[str]]:
    """Of a run that diverged: which weights are saved, and how to go on from them."""
    again = f"Begin a new run so, or change {folder.recipe} and"
    if not folder.last_checkpoint.is_file():
        return "No finite weights had been saved yet", [f"{again} begin again: scarce resume {folder.path}"]
    step = read_checkpoint(folder.last_checkpoint)["counters"]["step"]
    return (
        f"Saved are the finite weights of step {step}, nothing later",
        [f"{again} go on from step {step}, or with --checkpoint from before: scarce resume {folder.path}"],
    )


def _what_stopping_spares(recipe: Recipe, state: dict, step: int) -> str:
    """Device hours of the steps after `step`, at the pace of those before, and their price if there is one."""
    import torch

    training, price = recipe.training, recipe.watch.price_per_hour
    devices = training.devices * training.nodes
    hours = state["seconds"] / max(step, 1) * (state["total"] - step) / 3600
    on_gpu = training.accelerator != "cpu" and torch.cuda.is_available()
    value, unit = (hours, "hours") if hours * devices >= 1 else (60 * hours, "minutes")
    spared = f"{value * devices:,.1f} {'GPU-' if on_gpu else 'device '}{unit}"
    if devices > 1:
        spared += f" ({value:,.1f} on {devices} devices)"
    return spared + (f", or {hours * devices * price:,.2f} at {price:g} an hour of a device" if price > 0 else "")
