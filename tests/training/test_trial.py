"""A trial takes real steps, measures them, and leaves nothing behind."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.planning import Events
from scarce_cxr.training.recipe import Recipe, TrainingSettings
from scarce_cxr.training.trial import Seconds, Trial, run_trial
from scarce_cxr.views.plans import OneView

SLEEP = 0.02


class Sleeping(Method):
    """Waits in every step."""

    batches: list[int] = []  # noqa: RUF012 (of all instances: the trial builds its own)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, views) -> Step:
        time.sleep(SLEEP)
        self.batches.append(len(views.crops[0]))
        return Step(self.weight * views.crops[0].mean(), {})


class Looking(Watcher):
    """Notes at which steps it looks, and waits longer than a step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.finished = 0

    def look(self, method, step: int) -> dict[str, float]:
        self.steps.append(step)
        method.eval()
        time.sleep(3 * SLEEP)
        return {}

    def finish(self) -> None:
        self.finished += 1


RECIPE = Recipe(
    Sleeping,
    views=OneView(32),
    backbone=BackboneSettings("test_resnet"),
    training=TrainingSettings(
        batch_size=8, duration=Duration(50, "epochs"), warmup=Duration(1, "epochs"), accelerator="cpu", precision="fp32"
    ),
)


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Sleeping.batches.clear()
    return tmp_path


def trial(store: Path, watcher: Watcher, recipe: Recipe = RECIPE, **settings) -> Trial:
    return run_trial(recipe, "", Store.open(store), make_watchers=lambda *_: [watcher], **settings)


def test_a_run_is_its_steps_looks_and_savings():
    step, first, look, save, finish = (Seconds(wall, wall / 2) for wall in (0.5, 7.0, 4.0, 2.0, 3.0))
    made = Trial(64, 15, step, first, look, save, finish)
    # 100 x 0.5 + 7 + 3 x 4 + 2 x 2 + 3
    assert made.predict(Events(steps=100, looks=4, saves=2, kept=0)) == (76, 38)
    assert made.films_per_second == 128


def test_it_takes_steps_and_looks_at_their_ends(small_store, temporary):
    watcher = Looking()
    made = trial(small_store, watcher, steps=8)
    assert watcher.steps == [0, 8]
    assert watcher.finished == 1
    assert Sleeping.batches == 8 * [8]
    assert made.steps == 6
    assert made.films == 8
    assert made.step.wall >= SLEEP
    assert made.step.cpu < made.step.wall
    assert min(made.first_look.wall, made.look.wall) >= 3 * SLEEP
    assert made.save.wall > 0
    assert list(temporary.iterdir()) == []


def test_a_slow_one_takes_three_steps(small_store, temporary):
    watcher = Looking()
    made = trial(small_store, watcher, steps=50, limit=0)
    assert watcher.steps == [0, 3]
    assert made.steps == 2
    assert list(temporary.iterdir()) == []


def test_of_several_processes_one_is_tried(small_store, temporary):
    training = replace(RECIPE.training, devices=2, nodes=2)
    made = trial(small_store, Looking(), replace(RECIPE, training=training), steps=3)
    assert made.films == 2
    assert Sleeping.batches == [2, 2, 2]
