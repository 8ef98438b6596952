"""The loop's arithmetic, on a method small enough to be followed by hand."""

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.training.loop import Counters, Course, fit
from scarce_cxr.training.schedule import warmup_cosine
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.loader import Loader
from scarce_cxr.views.plans import OneView


class Scale(Method):
    """Learns one factor: its loss is the mean of (factor * pixel - 1) squared, without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self.progress: list[float] = []

    def forward(self, views) -> Step:
        return Step(((self.factor * views.crops[0] - 1) ** 2).mean(), {"factor": self.factor.detach()})

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


def run(store, *, accumulate: int = 1, clip: float = 0.0, steps: int = 6, every: int = 2):
    """Trains `Scale` by plain gradient descent; returns it, what was written, and what was saved."""
    loader = Loader(
        Store.open(store),
        OneView(32, Augmentation(crop=(0.5, 1))),
        films=np.arange(40),
        batch_size=8,
        accumulate=accumulate,
    )
    fabric, method, written, saved = Fabric(accelerator="cpu", devices=1), Scale(), [], []
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    forward, wrapped = fabric.setup(method, optimizer)
    fit(
        fabric,
        method,
        forward,
        wrapped,
        loader,
        Course(total=steps, warmup=2, log_every=1, watch_every=0, save_every=every, keep_every=0),
        counters=Counters(),
        clip=clip,
        write=lambda kind, step, numbers: written.append((kind, step, numbers)),
        save=lambda counters, keep: saved.append((counters.step, keep)),
    )
    return method, written, saved, loader


def test_steps_are_gradient_descent_with_the_scheduled_rate(small_store):
    method, written, _, loader = run(small_store)
    factor, losses = 0.5, []
    for step in range(6):
        pixels = loader.views(step).crops[0].double()
        losses.append(((factor * pixels - 1) ** 2).mean().item())
        gradient = (2 * pixels * (factor * pixels - 1)).mean().item()
        factor -= 0.1 * warmup_cosine(step, 2, 6) * gradient
    assert method.factor.item() == pytest.approx(factor, rel=1e-5)
    rows = [numbers for kind, _, numbers in written if kind == "step"]
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-5)
    # 40 films in batches of 8 are five steps an epoch.
    assert [(step, numbers["epoch_loss"]) for kind, step, numbers in written if kind == "epoch"] == [
        (5, pytest.approx(np.mean(losses[:5]), rel=1e-5))
    ]


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_micro_batches_take_the_same_steps(small_store, accumulate):
    whole, parts = run(small_store)[0], run(small_store, accumulate=accumulate)[0]
    assert parts.factor.item() == pytest.approx(whole.factor.item(), rel=1e-5)
    assert parts.progress == whole.progress == [pytest.approx((step + 1) / 6) for step in range(6)]


def test_clipping_bounds_the_step_and_the_norm_logged_is_from_before(small_store):
    method, written, _, _ = run(small_store, clip=1e-3, steps=2)
    # The warm-up's rates are 0.05 and 0.1.
    assert abs(method.factor.item() - 0.5) == pytest.approx(1e-3 * (0.05 + 0.1), rel=1e-2)
    assert written[0][2]["grad_norm"] > 1e-3


def test_it_saves_on_time_and_at_the_end(small_store):
    assert [step for step, _ in run(small_store, steps=5, every=2)[2]] == [2, 4, 5]
