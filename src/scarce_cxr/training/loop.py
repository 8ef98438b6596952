"""The one loop."""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, takewhile

import torch
from lightning.fabric import Fabric

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.training.checkpoint import all_finite
from scarce_cxr.training.schedule import warmup_cosine
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.loader import Loader
from scarce_cxr.views.plans import Views

_FIRST_LOOK = 50


class Watcher(ABC):
    """Something that looks at a method now and then. It must leave weights, buffers and modes as they were."""

    @abstractmethod
    def look(self, method: Method, step: int) -> dict[str, float]:
        """Looks after `step` steps; returns named numbers for the metrics."""

    def reason_to_stop(self) -> str:
        """Why, after the last look, the run should end here; empty if it should go on."""
        return ""

    def finish(self) -> None:  # noqa: B027 (most have nothing left to do)
        """Called once the loop ends, at the course's end or before: what was put off is done now."""


@dataclass
class Counters:
    """How far a run has come; saved with every checkpoint.

    Attributes:
        step: optimizer steps taken.
        seconds: time spent in the loop, over all its resumptions.
        epoch_loss, epoch_count: sum and number of the losses of the unfinished epoch.
    """

    step: int = 0
    seconds: float = 0.0
    epoch_loss: float = 0.0
    epoch_count: int = 0


@dataclass(frozen=True)
class Course:
    """A run's course in optimizer steps: its length, its warm-up, and how often what happens (0 = never).

    Attributes:
        total, warmup, log_every, watch_every, save_every, keep_every: steps.
        early_looks: after which steps watchers look beside those that `watch_every` and the end name.
    """

    total: int
    warmup: int
    log_every: int
    watch_every: int
    save_every: int
    keep_every: int
    early_looks: frozenset[int] = frozenset()

    def looks_after(self, step: int) -> bool:
        """Whether watchers look after that many steps, at least one."""
        return _due(step, self.watch_every) or step in self.early_looks or step == self.total


def early_looks(every: int, warmup: int) -> frozenset[int]:
    """After which steps to look beside every so many: a collapse comes early, and is told by several looks in a row.

    Args:
        every: steps from one regular look to the next; 0: there are none.
        warmup: steps of the learning rate's warm-up.

    Returns:
        50, 100, 200, 400, ... steps after the beginning and after the warm-up, as far as that is less than an eighth of
        `every`; some may lie beyond the run's end.
    """
    offsets = list(takewhile(lambda offset: 8 * offset < every, (_FIRST_LOOK * 2**power for power in count())))
    return frozenset(chain(offsets, (warmup + offset for offset in offsets)))


class Collapsed(Exception):  # noqa: N818 (no error either: a watcher was asked to do it)
    """A watcher had the run stopped; its state is saved.

    Attributes:
        step: the step after which it stopped.
        reason: what the watcher said.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(f"stopped after step {step}: {reason}")
        self.step, self.reason = step, reason


class Diverged(ScarceError):  # noqa: N818 (named like the others that end a run)
    """Loss, gradient or weights are no longer finite: nothing can be learned from here on, and nothing was saved.

    Attributes:
        step: the step after which it showed.
        numbers: `loss` and `grad_norm` of that step.
        reason: what is not finite.
    """

    def __init__(self, step: int, numbers: dict[str, float]) -> None:
        self.step, self.numbers = step, numbers
        self.reason = f"the loss is {numbers['loss']:.4g} and the gradient's norm {numbers['grad_norm']:.4g}"
        if all(math.isfinite(value) for value in numbers.values()):
            self.reason = f"weights are no longer finite numbers, though {self.reason}"
        mend = "lower optimizer.lr, lengthen training.warmup or set training.clip; nothing of it was saved"
        super().__init__("a finite loss, gradient and weights", f"at step {step}: {self.reason}", mend)

    def __reduce__(self) -> tuple:
        return type(self), (self.step, self.numbers)


class Interrupted(Exception):  # noqa: N818 (it is no error: the user asked for it)
    """The run was told to stop, saved itself and left."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}, which is saved")
        self.step = step


def fit(
    fabric: Fabric,
    method: Method,
    forward: Callable[[Views], Step],
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    course: Course,
    *,
    counters: Counters,
    clip: float = 0.0,
    watchers: Sequence[Watcher] = (),
    write: Callable[[str, int, dict[str, float]], None],
    save: Callable[[Counters, bool], None],
) -> None:
    """Trains from where the counters stand to the end of the course.

    Args:
        fabric: where it runs and in which precision.
        method: the method itself, for its own hooks and for watchers.
        forward: the method as `fabric.setup` wrapped it: one call is one step.
        optimizer: its optimizer, likewise wrapped.
        loader: batches of views.
        course: the run's length and rhythms, in steps.
        counters: where to begin; moved on in place.
        clip: largest norm of the gradient; 0 does not clip.
        watchers: called before the first step, every `watch_every` steps, at `early_looks` and after the last.
        write: takes (kind, step, numbers) for the metrics.
        save: takes (counters, keep): writes the last checkpoint, and one of its own if `keep`.

    Raises:
        Interrupted: SIGTERM or SIGINT came; the state was saved.
        Collapsed: a watcher had a reason to stop; the state was saved.
        Diverged: loss, gradient or weights are no longer finite numbers; what was saved is from before. It shows at
            the next row of metrics, look or saving.
    """
    # Kept in the groups, so that a resumed optimizer still knows the full rate.
    rates = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    with _finishing(watchers):
        if counters.step == 0:
            _watch(watchers, method, 0, write)
        meter = _Meter(counters, loader)
        method.train()
        with _stop_requested() as stopped, progress.bar("training", course.total, "steps") as advance:
            advance(counters.step)
            for step, micro, views in loader.batches(counters.step, course.total):
                if micro == 0:
                    # Whatever a method draws by itself (drop path) is a function of seed and step too.
                    torch.manual_seed(_step_seed(loader, step))
                    loss_of_step = torch.zeros((), device=fabric.device)
                    factor = warmup_cosine(step, course.warmup, course.total)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor

                last_micro = micro == loader.accumulate - 1
                with fabric.no_backward_sync(forward, enabled=not last_micro):
                    loss, numbers = forward(views)
                    fabric.backward(loss / loader.accumulate)
                loss_of_step += loss.detach() / loader.accumulate
                if not last_micro:
                    continue

                method.before_update()
                norm = fabric.clip_gradients(forward, optimizer, max_norm=clip or math.inf, error_if_nonfinite=False)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                counters.step = done = step + 1
                method.after_step(done / course.total)
                meter.add(loss_of_step)

                # Processes leave after the same step, or they would wait for each other for ever.
                stopping = fabric.strategy.reduce_boolean_decision(stopped(), all=False)
                saving = _due(done, course.save_every) or _due(done, course.keep_every)
                saving = saving or stopping or done == course.total
                logging, looking = _due(done, course.log_every) or saving, course.looks_after(done)
                if logging or looking:
                    seen = {"loss": loss_of_step.item(), "grad_norm": norm.item()}
                    lost = not all(math.isfinite(value) for value in seen.values())
                    # The weights are a step further than the loss.
                    lost = lost or ((saving or looking) and not all_finite(method))
                    if fabric.strategy.reduce_boolean_decision(lost, all=False):
                        meter.settle()
                        raise Diverged(done, seen)
                if logging:
                    row = {"loss": seen["loss"], "lr": optimizer.param_groups[0]["lr"], "grad_norm": seen["grad_norm"]}
                    row |= {name: float(value) for name, value in numbers.items()} | meter.rates(loader.batch_size)
                    write("step", done, row)
                    advance(0, _note(row))
                if done % loader.steps_per_epoch == 0:
                    write("epoch", done, meter.close_epoch())
                reason = ""
                if looking:
                    reason = fabric.broadcast(_watch(watchers, method, done, write))
                    meter.begin_interval()
                if saving or reason:
                    meter.settle()
                    save(counters, _due(done, course.keep_every))
                    meter.begin_interval()
                advance(1)
                if done < course.total:
                    if reason:
                        raise Collapsed(done, reason)
                    if stopping:
                        raise Interrupted(done)


@contextmanager
def _finishing(watchers: Sequence[Watcher]) -> Iterator[None]:
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.finish()


def _note(row: dict[str, float]) -> str:
    return f"loss {row['loss']:.4f}  {row['images_per_second']:.0f} images/s  {row['waiting']:.0%} waiting"


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _watch(watchers: Sequence[Watcher], method: Method, step: int, write) -> str:
    """Lets all watchers look; returns why one of them would stop the run, or nothing."""
    if not watchers:
        return ""
    was_training = method.training
    numbers: dict[str, float] = {}
    for watcher in watchers:
        numbers |= watcher.look(method, step)
    method.train(was_training)
    write("watch", step, numbers)
    return next((reason for watcher in watchers if (reason := watcher.reason_to_stop())), "")


def _step_seed(loader: Loader, step: int) -> int:
    return int(Draws(loader.seed, step, [loader.rank]).uniform("torch")[0, 0] * 2**53)


class _Meter:
    """Rates of an interval, the epoch's mean loss, and the run's time, without making the device wait at every step."""

    def __init__(self, counters: Counters, loader: Loader) -> None:
        self.counters, self.loader = counters, loader
        self.losses: list[torch.Tensor] = []
        self.clock = time.perf_counter()
        self.begin_interval()

    def begin_interval(self) -> None:
        """Begins to measure rates anew: looks and saving in between are not training."""
        self.started, self.waited, self.steps = time.perf_counter(), self.loader.seconds_waited, 0

    def add(self, loss: torch.Tensor) -> None:
        self.steps += 1
        self.losses.append(loss)

    def settle(self) -> None:
        """Brings the counters up to date."""
        self.counters.epoch_loss += sum(loss.item() for loss in self.losses)
        self.counters.epoch_count += len(self.losses)
        self.losses = []
        now = time.perf_counter()
        self.counters.seconds += now - self.clock
        self.clock = now

    def rates(self, batch_size: int) -> dict[str, float]:
        """Images per second and the share of time spent waiting for pixels, since the interval began."""
        self.settle()
        seconds = max(time.perf_counter() - self.started, 1e-9)
        waited = self.loader.seconds_waited - self.waited
        row = {"images_per_second": self.steps * batch_size / seconds, "waiting": waited / seconds}
        if self.loader.device.type == "cuda":
            row["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.begin_interval()
        return row

    def close_epoch(self) -> dict[str, float]:
        self.settle()
        mean = self.counters.epoch_loss / self.counters.epoch_count
        self.counters.epoch_loss, self.counters.epoch_count = 0.0, 0
        return {"epoch_loss": mean}


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and the first Ctrl-C into a wish that the loop grants after its step."""
    received = []

    def remember(number, frame) -> None:
        received.append(number)
        if len(received) > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt

    previous = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            previous[number] = signal.signal(number, remember)
        except ValueError:
            # Not in the main thread (a notebook's executor): signals stay as they are.
            break
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
