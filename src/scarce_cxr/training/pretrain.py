"""Recipe + store -> run: puts the pieces together and hands them to the loop."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.images.splits import held_out
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.training.checkpoint import load_checkpoint, save_backbone, save_checkpoint
from scarce_cxr.training.devices import make_fabric
from scarce_cxr.training.loop import Collapsed, Counters, Course, Diverged, Interrupted, Watcher, early_looks, fit
from scarce_cxr.training.optimizer import make_optimizer
from scarce_cxr.training.recipe import Recipe
from scarce_cxr.training.run_folder import Metrics, RunFolder, write_text
from scarce_cxr.views.loader import Loader

logger = logging.getLogger(__name__)

# The number by which the best backbone is chosen, higher being better: it needs no label and no training film.
BEST_BY = "retrieval"

Watchers = Callable[[Method, Store, np.ndarray, Recipe, RunFolder], Sequence[Watcher]]


def pretrain(
    recipe: Recipe,
    text: str,
    store: Store,
    run: RunFolder,
    *,
    checkpoint: Path | None = None,
    make_watchers: Watchers | None = None,
) -> Counters:
    """Trains a recipe on a store.

    Args:
        recipe: the recipe.
        text: its settled YAML, kept in the run's folder.
        store: the films.
        run: where everything is written.
        checkpoint: go on from there; None begins anew.
        make_watchers: builds the watchers from (method, store, indices of held-out films, recipe, run).

    Returns:
        How far it came.

    Raises:
        ScarceError: recipe and store do not fit each other.
        Diverged: loss, gradient or weights are no longer finite; what is saved is from before.
        Interrupted: it was told to stop; its state is saved.
        Collapsed: a watcher had it stopped; its state is saved.
    """
    training = recipe.training
    fabric = make_fabric(training)
    fabric.launch()
    watched = held_out_films(store, recipe)
    films = np.flatnonzero(~watched)
    total, warmup = training.check(len(films))
    loader = Loader(
        store,
        recipe.views,
        films=films,
        batch_size=training.batch_size,
        accumulate=training.accumulate,
        seed=recipe.seed,
        device=fabric.device,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        weights=training.weights_of(store.table["source"].fillna("").to_numpy()[films]),
    )
    method = build_method(recipe, restored=checkpoint is not None)
    # Convolutions run nearly twice as fast this way, on processors as on CUDA.
    method = method.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(method, recipe.optimizer)
    forward, wrapped_optimizer = fabric.setup(method, optimizer)

    def every(duration) -> int:
        return duration.steps(loader.steps_per_epoch, total)

    watch_every = every(recipe.watch.every)
    course = Course(
        total=total,
        warmup=warmup,
        log_every=every(training.log_every),
        watch_every=watch_every,
        save_every=every(training.save_every),
        keep_every=every(training.keep_every),
        early_looks=early_looks(watch_every, warmup),
    )
    counters = Counters()
    if checkpoint is not None:
        counters = Counters(**load_checkpoint(checkpoint, module=method, optimizer=optimizer))
    watchers: Sequence[Watcher] = ()
    first = fabric.is_global_zero
    if first:
        write_text(run.recipe, text)
        metrics = Metrics(run.metrics, counters.step)
        board = SummaryWriter(str(run.path / "tensorboard"), purge_step=counters.step + 1)
        run.write_state(
            state="running",
            step=counters.step,
            total=total,
            store=os.path.relpath(store.path, run.path),
            fingerprint=store.fingerprint,
            method=type(method).__name__,
            films=len(films),
            held_out=int(watched.sum()),
            seconds=counters.seconds,
        )
        if make_watchers is not None:
            watchers = make_watchers(method, store, np.flatnonzero(watched), recipe, run)
    facts = {
        "image_size": recipe.views.size,
        "mean": store.mean,
        "std": store.std,
        "store": store.fingerprint,
        "method": type(method).__name__,
        "films": len(films),
        "recipe": text,
    }

    def write(kind: str, step: int, numbers: dict[str, float]) -> None:
        if not first or not numbers:
            return
        metrics.write(kind, step, step // loader.steps_per_epoch, numbers)
        for name, value in numbers.items():
            board.add_scalar(name, value, step)
        # Among features that are no numbers, chance finds one.
        if BEST_BY not in numbers or step == 0 or not math.isfinite(numbers.get("feature_norm", 0.0)):
            return
        best = run.read_state().get("best")
        if best is None or numbers[BEST_BY] > best["value"]:
            save_backbone(run.backbone("best"), method.backbone, {**facts, "step": step, BEST_BY: numbers[BEST_BY]})
            run.write_state(best={"step": step, "value": numbers[BEST_BY]})

    def save(counters: Counters, keep: bool) -> None:
        if first:
            content = {"module": method, "optimizer": optimizer, "counters": asdict(counters)}
            save_checkpoint(run.checkpoints / "last.ckpt", **content)
            if keep:
                save_checkpoint(run.checkpoints / f"step-{counters.step:07d}.ckpt", **content)
            save_backbone(run.backbone("last"), method.backbone, {**facts, "step": counters.step})
            run.write_state(step=counters.step, seconds=counters.seconds)
        fabric.barrier()

    ending = "failed"
    try:
        fit(
            fabric,
            method,
            forward,
            wrapped_optimizer,
            loader,
            course,
            counters=counters,
            clip=training.clip,
            watchers=watchers,
            write=write,
            save=save,
        )
        ending = "finished"
    except Interrupted:
        ending = "stopped"
        raise
    except (Collapsed, Diverged):
        ending = "collapsed"
        raise
    finally:
        if first:
            board.close()
            run.write_state(state=ending, seconds=counters.seconds)
    return counters


def held_out_films(store: Store, recipe: Recipe) -> np.ndarray:
    """(n,) bool: the store's films that the recipe keeps away from training, whole patients at a time."""
    return held_out(store.table, recipe.watch.held_out)


def build_method(recipe: Recipe, *, restored: bool = False) -> Method:
    """The recipe's method around its backbone, its weights drawn from the recipe's seed.

    Args:
        recipe: the recipe.
        restored: its weights will come from a checkpoint; what the backbone once started from is not read again, and
            may be gone.

    Raises:
        ScarceError: the backbone does not suit the method, or the views' size neither.
    """
    torch.manual_seed(recipe.seed)
    start = replace(recipe.backbone, pretrained=False, weights=None) if restored else recipe.backbone
    method = recipe.method(Backbone(start))
    for size in recipe.views.sizes:
        method.check(size)
    return method
