"""The loop's arithmetic, on a method small enough to be followed by hand."""

import pickle

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.training.loop import Counters, Course, Diverged, Watcher, early_looks, fit
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


class Breaks(Scale):
    """Like it, but with step `at` the loss, its gradient alone, the weight alone or a buffer is no number any more."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__()
        self.at, self.what = at, what
        self.register_buffer("average", torch.zeros(2))

    def forward(self, views) -> Step:
        loss, numbers = super().forward(views)
        if len(self.progress) + 1 < self.at:
            return Step(loss, numbers)
        if self.what == "gradient":
            # The derivative of the root at 0 is infinite.
            return Step(loss + (self.factor - self.factor.detach()).square().sqrt(), numbers)
        return Step(loss * (torch.nan if self.what == "loss" else 1), numbers)

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if len(self.progress) >= self.at and self.what in ("weight", "buffer"):
            (self.factor if self.what == "weight" else self.average).data.fill_(torch.inf)


class Remembers(Watcher):
    """Remembers when it looked."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def look(self, method, step) -> dict[str, float]:
        self.steps.append(step)
        return {}


def run(
    store,
    *,
    accumulate: int = 1,
    clip: float = 0.0,
    steps: int = 6,
    every: int = 2,
    method: Method | None = None,
    saved: list | None = None,
    watcher: Watcher | None = None,
    **course,
):
    """Trains `Scale` by plain gradient descent; returns it, what was written, and what was saved."""
    loader = Loader(
        Store.open(store),
        OneView(32, Augmentation(crop=(0.5, 1))),
        films=np.arange(40),
        batch_size=8,
        accumulate=accumulate,
    )
    fabric, method, written = Fabric(accelerator="cpu", devices=1), method or Scale(), []
    saved = [] if saved is None else saved
    rhythms = {"warmup": 2, "log_every": 1, "watch_every": 0, "save_every": every, "keep_every": 0, **course}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    forward, wrapped = fabric.setup(method, optimizer)
    fit(
        fabric,
        method,
        forward,
        wrapped,
        loader,
        Course(total=steps, **rhythms),
        counters=Counters(),
        clip=clip,
        watchers=[watcher] if watcher else [],
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


@pytest.mark.parametrize(
    ("what", "rhythms", "found"),
    [
        ("loss", {}, 4),
        ("gradient", {}, 4),
        ("loss", {"log_every": 0, "watch_every": 3}, 6),
        ("gradient", {"log_every": 0, "early_looks": {1, 4}}, 4),
        ("weight", {"early_looks": {4}}, 4),
        ("buffer", {"watch_every": 3}, 6),
        ("buffer", {"save_every": 5}, 5),
    ],
)
def test_what_is_no_number_from_step_4_on_is_told_at_the_next_row_look_or_saving_and_not_saved(
    small_store, what, rhythms, found
):
    saved, watcher = [], Remembers()
    with pytest.raises(Diverged) as raised:
        run(small_store, steps=9, every=3, method=Breaks(4, what), saved=saved, watcher=watcher, **rhythms)
    assert raised.value.step == found
    assert all(step < 4 for step in [*watcher.steps, *(step for step, _ in saved)])
    numbers = raised.value.numbers
    assert [name for name in ("loss", "grad_norm") if not np.isfinite(numbers[name])] == {
        "loss": ["loss", "grad_norm"],
        "gradient": ["grad_norm"],
    }.get(what, [])
    assert pickle.loads(pickle.dumps(raised.value)).step == found


def test_early_looks_by_hand(small_store):
    course = {"warmup": 300, "log_every": 10, "watch_every": 1000, "save_every": 0, "keep_every": 0}
    course = Course(total=2100, **course, early_looks=early_looks(1000, 300))
    looks = [step for step in range(1, 2101) if course.looks_after(step)]
    # 50 and 100 after the beginning and after 300.
    assert looks == [50, 100, 350, 400, 1000, 2000, 2100]
    # 50 is no less than an eighth of 400: short runs look as they would without.
    assert not early_looks(400, 300)
    assert early_looks(401, 300) == {50, 350}
    assert not early_looks(0, 300)
    watcher = Remembers()
    run(small_store, watcher=watcher, watch_every=4, early_looks={1, 3})
    assert watcher.steps == [0, 1, 3, 4, 6]
