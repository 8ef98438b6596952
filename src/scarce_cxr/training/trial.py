"""A few steps of a recipe through the real loop, to say how long all of them will take."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch

from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.loop import Collapsed, Interrupted, Watcher
from scarce_cxr.training.planning import Events
from scarce_cxr.training.pretrain import Watchers, pretrain
from scarce_cxr.training.recipe import Recipe
from scarce_cxr.training.run_folder import RunFolder

# A trial that takes too long still takes this many: one to warm up, two to measure.
_LEAST = 3


class Seconds(NamedTuple):
    """What something took.

    Attributes:
        wall: seconds that passed.
        cpu: seconds of this process's processors, all threads together; on a busy machine the steadier of the two.
    """

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())

    def since(self, begun: "Seconds") -> "Seconds":
        return Seconds(self.wall - begun.wall, self.cpu - begun.cpu)

    def times(self, factor: float) -> "Seconds":
        return Seconds(factor * self.wall, factor * self.cpu)

    @classmethod
    def sum(cls, parts: Sequence["Seconds"]) -> "Seconds":
        return cls(sum(part.wall for part in parts), sum(part.cpu for part in parts))


@dataclass(frozen=True)
class Trial:
    """What a few steps took.

    Attributes:
        films: in a step.
        steps: that were measured, those to warm up left out.
        step: mean of them.
        first_look, look: of the watchers, before the first step and after the last one.
        save: of a checkpoint and the backbones.
        finish: of what watchers put off till the end.
    """

    films: int
    steps: int
    step: Seconds
    first_look: Seconds
    look: Seconds
    save: Seconds
    finish: Seconds

    @property
    def films_per_second(self) -> float:
        return self.films / self.step.wall

    def predict(self, events: Events) -> Seconds:
        """What a run will take, building it left out."""
        return Seconds.sum(
            [
                self.step.times(events.steps),
                self.first_look,
                self.look.times(events.looks - 1),
                self.save.times(events.saves),
                self.finish,
            ]
        )


def run_trial(
    recipe: Recipe,
    text: str,
    store: Store,
    steps: int = 20,
    *,
    make_watchers: Watchers | None = None,
    limit: float = 120.0,
) -> Trial:
    """Takes the first steps of a recipe on one device, in a temporary folder: loop, loader, watchers, one checkpoint.

    Args:
        recipe: the recipe; of several processes one takes its share of the batch.
        text: its settled YAML.
        store: the films.
        steps: how many, at least 3; the first quarter warms up and is not measured.
        make_watchers: builds the watchers, as for `pretrain`.
        limit: seconds after which no further step begins, once three are taken.

    Raises:
        ScarceError: recipe and store do not fit each other.
        KeyboardInterrupt: it was told to stop.
    """
    steps = max(steps, _LEAST)
    watches: list[_Stopwatch] = []

    def make(*arguments) -> list[Watcher]:
        watches.append(_Stopwatch(make_watchers(*arguments) if make_watchers else (), steps, limit))
        return list(watches)

    with tempfile.TemporaryDirectory(prefix="scarce-trial-") as folder:
        try:
            pretrain(_shortened(recipe, steps), text, store, RunFolder(Path(folder)), make_watchers=make)
        except Collapsed:
            # The stopwatch had it stopped.
            pass
        except Interrupted:
            raise KeyboardInterrupt from None
    return watches[0].result(_share(recipe))


def _share(recipe: Recipe) -> int:
    """Films of a step that one process sees."""
    return recipe.training.batch_size // (recipe.training.devices * recipe.training.nodes)


def _shortened(recipe: Recipe, steps: int) -> Recipe:
    never = Duration(0, "steps")
    training = replace(
        recipe.training,
        batch_size=_share(recipe),
        devices=1,
        nodes=1,
        duration=Duration(steps, "steps"),
        warmup=never,
        save_every=never,
        keep_every=never,
    )
    return replace(recipe, training=training, watch=replace(recipe.watch, every=Duration(1, "steps")))


@dataclass
class _Stopwatch(Watcher):
    """Notes the time after every step; lets the real watchers look before the first one and after the last."""

    watchers: Sequence[Watcher]
    total: int
    limit: float
    steps: list[Seconds] = field(default_factory=list)
    looks: list[Seconds] = field(default_factory=list)
    late: bool = False

    def look(self, method: Method, step: int) -> dict[str, float]:
        now = Seconds.now()
        if step > 0:
            self.steps.append(now.since(self.resumed))
        self.late = len(self.steps) >= _LEAST and Seconds.sum(self.steps).wall > self.limit
        numbers: dict[str, float] = {}
        if step in (0, self.total) or self.late:
            for watcher in self.watchers:
                numbers |= watcher.look(method, step)
            self.looks.append(Seconds.now().since(now))
        method.train()
        self.resumed = Seconds.now()
        return numbers

    def reason_to_stop(self) -> str:
        return "the trial's time is up" if self.late else ""

    def finish(self) -> None:
        begun = Seconds.now()
        # Between the last look and this the loop has saved.
        self.save = begun.since(self.resumed)
        for watcher in self.watchers:
            watcher.finish()
        self.finished = Seconds.now().since(begun)

    def result(self, films: int) -> Trial:
        warm = self.steps[max(1, len(self.steps) // 4) :]
        mean = Seconds.sum(warm).times(1 / len(warm))
        first_look, look = self.looks[0], self.looks[-1]
        return Trial(films, len(warm), mean, first_look, look, self.save, self.finished)
