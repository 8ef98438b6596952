"""Recipes: everything that decides how a run goes, from a YAML file and the command line."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import register_type

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import Method
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.optimizer import OptimizerSettings
from scarce_cxr.views.plans import OneView, Plan

register_type(Duration, serializer=str, deserializer=Duration.parse)


@dataclass(frozen=True)
class TrainingSettings:
    """How long, how large, how often.

    Attributes:
        batch_size: films in a step, over all processes and micro-batches.
        accumulate: micro-batches that one process adds up to a step: the same step with less memory.
        duration: length of the run.
        warmup: length of the learning rate's linear warm-up; half a cosine leads from there to 0.
        clip: largest norm of the gradient; 0 does not clip.
        precision: bf16, fp32, or auto: bf16 where the device is made for it.
        accelerator: auto, cpu or cuda.
        devices: number of devices on each machine.
        nodes: number of machines.
        log_every: how often a row of metrics is written.
        save_every: how often the last checkpoint is written anew: what a kill can cost at most.
        keep_every: how often a checkpoint of its own is kept; 0 steps keeps none.
        source_weights: of a store with several sources, how often a film of each is shown beside the others, e.g.
            {nih: 1.0, padchest: 0.5}; sources that are not named have 1. An epoch is as long as ever. None shows each
            film once an epoch.
    """

    batch_size: int = 256
    accumulate: int = 1
    duration: Duration = Duration(100, "epochs")
    warmup: Duration = Duration(10, "epochs")
    clip: float = 0.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1
    log_every: Duration = Duration(10, "steps")
    save_every: Duration = Duration(200, "steps")
    keep_every: Duration = Duration(25, "%")
    source_weights: dict[str, float] | None = None

    def weights_of(self, sources: np.ndarray) -> np.ndarray | None:
        """The weight of each film to train on.

        Args:
            sources: (n,) names of the films' sources.

        Returns:
            (n,), or None where every film is shown once an epoch.

        Raises:
            ScarceError: a source has no such films, a weight is below 0 or not finite, or all are 0.
        """
        if not self.source_weights:
            return None
        known = sorted(set(sources))
        for name, weight in self.source_weights.items():
            if name not in known:
                raise ScarceError(
                    f"weights of the store's sources ({', '.join(known)})",
                    f"training.source_weights with {name}",
                    "correct the name, or leave it out",
                )
            if not 0 <= weight < math.inf:
                raise ScarceError(
                    "weights of at least 0", f"training.source_weights with {name}: {weight}", "write e.g. 0.5"
                )
        weights = np.array([self.source_weights.get(source, 1.0) for source in sources], np.float64)
        if not weights.any():
            raise ScarceError(
                "a source with a weight above 0", f"training.source_weights = {self.source_weights}", "raise one"
            )
        return weights

    def check(self, films: int) -> tuple[int, int]:
        """Checks what no single setting can know.

        Args:
            films: number of films to train on.

        Returns:
            Steps of the run, and steps of its warm-up.

        Raises:
            ScarceError: the batch is empty or larger than the data, the run is empty, or the warm-up longer than it.
        """
        if not 1 <= self.batch_size <= films:
            raise ScarceError(
                "a batch no larger than the data, of at least one film",
                f"training.batch_size = {self.batch_size} with {films} films to train on",
                f"choose at most {films}, or prepare more films",
            )
        steps_per_epoch = films // self.batch_size
        total = self.duration.steps(steps_per_epoch)
        warmup = self.warmup.steps(steps_per_epoch, total)
        if total < 1:
            raise ScarceError("a run of at least one step", f"training.duration = {self.duration}", "lengthen it")
        if warmup > total:
            raise ScarceError(
                "a warm-up no longer than the run",
                f"training.warmup = {self.warmup} ({warmup} steps) in a run of {total} steps",
                "shorten the warm-up, e.g. to '10 %'",
            )
        return total, warmup


@dataclass(frozen=True)
class WatchSettings:
    """What is looked at while the run goes on, on films of patients that it does not train on.

    Attributes:
        held_out: share of patients kept away from training, in [0, 1), chosen by a keyed hash.
        every: how often the watchers look. They also look before the first step and after the last, and, so that a
            long run learns early of a collapse, 50, 100, 200, 400, ... steps after the beginning and after the
            warm-up, as far as that is less than an eighth of this.
        films: the most held-out films that a look takes in.
        panel: held-out films that are drawn.
        on_collapse: what to do when the monitor's verdict is a collapse: warn and go on, or save and stop. What is
            no longer a finite number stops in any case.
        price_per_hour: of a device and hour, in your money, to say what stopping saves; 0 says nothing.
    """

    held_out: float = 0.02
    every: Duration = Duration(10, "%")
    films: int = 256
    panel: int = 6
    on_collapse: Literal["warn", "stop"] = "warn"
    price_per_hour: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Attributes:
        method: how it learns: a class, built from the backbone.
        views: what it sees: a plan.
        backbone: what it trains.
        optimizer: how weights move.
        training: how long, how large, how often.
        watch: what is looked at meanwhile.
        seed: seed of weights, order, views and masks.
    """

    method: Callable[[Backbone], Method]
    views: Plan = OneView()
    backbone: BackboneSettings = BackboneSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    watch: WatchSettings = WatchSettings()
    seed: int = 0


def recipe_parser(**options) -> ArgumentParser:
    """A parser for `--config recipe.yaml` and `--any.setting value`; commands add their own arguments to it."""
    parser = ArgumentParser(exit_on_error=False, **options)
    parser.add_argument("--config", action="config", help="The recipe, a YAML file.")
    parser.add_class_arguments(Recipe, as_group=False)
    return parser


def settle(parser: ArgumentParser, config: Namespace) -> tuple[Recipe, str]:
    """Builds the recipe out of parsed arguments.

    Returns:
        The recipe, and the YAML text that says every setting of it and can be read again.
    """
    names = Recipe.__dataclass_fields__
    only = Namespace({name: config[name] for name in names})
    text = recipe_parser().dump(only, skip_validation=True)
    built = parser.instantiate(config)
    return Recipe(**{name: built[name] for name in names}), text


def read_recipe(path: Path) -> tuple[Recipe, str]:
    """The recipe in a YAML file, and its settled text."""
    parser = recipe_parser()
    return settle(parser, parser.parse_args(["--config", str(path)]))
