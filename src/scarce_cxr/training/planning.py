"""What a run will need before it runs: memory of a step, largest batch, arithmetic, disk, money, energy."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.lists import read_yaml
from scarce_cxr.methods.method import Method
from scarce_cxr.training.devices import multiplies_bf16
from scarce_cxr.training.loop import early_looks
from scarce_cxr.training.memory import BYTES, Memory, saved_storages
from scarce_cxr.training.pretrain import build_method
from scarce_cxr.training.recipe import Recipe, TrainingSettings
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, Views

GIB = 2**30

DEVICES = Path(__file__).with_name("devices.yaml")

# CUDA's context, the libraries' workspaces and what the allocator cannot use: assumed.
RESERVE = GIB

# Films of which views are made to measure a step, where a method does not ask for more.
_FEWEST = 2
_MOST = 256


@dataclass(frozen=True)
class Device:
    """A device of the table. Its numbers are estimates, as `devices.yaml` says.

    Attributes:
        bf16: peak in TFLOPS; None if it is not made for bf16.
        fp32: peak in TFLOPS.
        utilisation: share of the peak that is reached, in (0, 1].
        memory: GiB that a process can use.
        watts: the most that the card draws.
        price: of an hour, in your money.
    """

    bf16: float | None
    fp32: float
    utilisation: float
    memory: float
    watts: float
    price: float

    def films_per_second(self, flops: float, *, bf16: bool) -> float:
        """How many films a second it trains on, at so many floating-point operations a film."""
        peak = self.bf16 if bf16 and self.bf16 else self.fp32
        return peak * 1e12 * self.utilisation / flops


@dataclass(frozen=True)
class Growth:
    """Bytes that grow with the batch.

    Attributes:
        fixed: of any batch, however small.
        each: of every film.
    """

    fixed: float
    each: float

    def of(self, films: int) -> float:
        """Bytes of a batch of so many films."""
        return self.fixed + films * self.each


@dataclass(frozen=True)
class Kept:
    """What a step keeps from its forward pass until its backward pass, measured at two batches.

    Attributes:
        batches: films in the two; a larger batch that the method takes is a multiple of their difference.
        saved: what autograd keeps.
        stage: what of it one call of a backbone's stage keeps at most; None if no stage is called as a module.
        views: the views themselves.
    """

    batches: tuple[int, int]
    saved: Growth
    stage: Growth | None
    views: Growth


@dataclass(frozen=True)
class Footprint:
    """Memory of a step on one device.

    Attributes:
        standing: bytes that are there whatever the batch, by name.
        growing: bytes that grow with it, by name.
        multiple: batches are a multiple of this.
    """

    standing: dict[str, int]
    growing: dict[str, Growth]
    multiple: int = 1

    def of(self, films: int) -> float:
        """Bytes of a step of so many films."""
        return sum(self.standing.values()) + sum(growth.of(films) for growth in self.growing.values())

    def largest_batch(self, limit: float) -> int:
        """The most films whose step takes no more than `limit` bytes; 0 if not even the fewest fit."""
        left = limit - self.of(0)
        films = int(left // sum(growth.each for growth in self.growing.values())) if left > 0 else 0
        return films // self.multiple * self.multiple


@dataclass(frozen=True)
class Events:
    """What happens how often in a run.

    Attributes:
        steps: optimizer steps.
        looks: of the watchers, the one before the first step among them.
        saves: of the last checkpoint.
        kept: checkpoints that are kept.
    """

    steps: int
    looks: int
    saves: int
    kept: int


@dataclass(frozen=True)
class Cost:
    """What a time on devices costs.

    Attributes:
        hours: how long.
        devices: how many at once.
        price: of a device and hour, in your money; None: not known.
        watts: of a device; None: not known.
    """

    hours: float
    devices: int = 1
    price: float | None = None
    watts: float | None = None

    @property
    def money(self) -> float | None:
        return None if self.price is None else self.hours * self.devices * self.price

    @property
    def kilowatt_hours(self) -> float | None:
        return None if self.watts is None else self.hours * self.devices * self.watts / 1000


def read_devices(path: Path = DEVICES) -> dict[str, Device]:
    """The table of devices, by name.

    Raises:
        ScarceError: a device says something else than `Device` has, or the file is none.
    """
    known = {field.name for field in fields(Device)}
    devices = {}
    for name, numbers in read_yaml(path).items():
        if not isinstance(numbers, dict) or numbers.keys() != known:
            raise ScarceError(f"{', '.join(sorted(known))} of every device in {path}", f"{name}: {numbers}", "mend it")
        devices[name] = Device(**numbers)
    return devices


def find_device(name: str, path: Path = DEVICES) -> Device:
    """The device of that name in the table, in small letters or capitals.

    Raises:
        ScarceError: there is none.
    """
    devices = read_devices(path)
    if name.lower() not in devices:
        raise ScarceError("a device of the table", f"--gpu {name}", f"one of {', '.join(devices)}, or add it to {path}")
    return devices[name.lower()]


def takes_bf16(training: TrainingSettings, device: Device | None = None) -> bool:
    """Whether the run is in bf16: as the recipe says, or else where the device, or this machine, is made for it."""
    if training.precision != "auto":
        return training.precision == "bf16"
    if device is not None:
        return device.bf16 is not None
    return multiplies_bf16(cuda=training.accelerator != "cpu" and torch.cuda.is_available())


def with_checkpointing(recipe: Recipe, on: bool) -> Recipe:
    """The recipe with gradient checkpointing on or off."""
    return replace(recipe, backbone=replace(recipe.backbone, gradient_checkpointing=on))


def build_to_measure(recipe: Recipe) -> Method:
    """The recipe's method on the processor, in training mode, with random weights: none are loaded.

    Raises:
        ScarceError: the backbone does not suit the method, or the views' size neither.
    """
    return build_method(recipe, restored=True).train().to(memory_format=torch.channels_last)


def make_random_views(recipe: Recipe, films: int) -> Views:
    """What the recipe's plan makes of so many films of noise."""
    size = max(256, recipe.views.size)
    pixels = torch.randint(0, 256, (films, size, size), dtype=torch.uint8)
    return recipe.views(pixels, Draws(recipe.seed, 0, np.arange(films)), Normalization(0.5, 0.25))


def measure_kept(method: Method, recipe: Recipe, *, bf16: bool, batches: tuple[int, int] | None = None) -> Kept:
    """Measures on the processor what a step keeps for its backward pass, at two small batches.

    Args:
        method: the recipe's method, as `build_to_measure` builds it.
        recipe: makes the views.
        bf16: under autocast to bf16.
        batches: films in the two, the smaller first; by default the two smallest that the method takes.

    Raises:
        ScarceError: the method takes fewer than two batches up to 256 films, or not those asked for.
    """
    passes: dict[int, _Pass] = {}
    refused = None
    for films in batches or range(_FEWEST, _MOST + 1):
        try:
            passes[films] = _measure_pass(method, make_random_views(recipe, films), bf16)
        except ScarceError as error:
            # For instance a batch that does not divide into the parts of batch norm.
            refused = error
        if len(passes) == 2:
            break
    else:
        raise refused
    (small, first), (large, second) = passes.items()
    grow = partial(_grow, small, large)
    stages = [grow(first.stages[name], size) for name, size in second.stages.items()]
    # Of which stage is largest at the batch in question, weights cast to bf16 (fixed) should not decide.
    stage = Growth(max(s.fixed for s in stages), max(s.each for s in stages)) if stages else None
    return Kept((small, large), grow(first.saved, second.saved), stage, grow(first.views, second.views))


def recomputed(plain: Kept, checkpointed: Kept) -> Growth:
    """What comes on top of a checkpointed step's own while one stage is recomputed.

    Args:
        plain: the step without gradient checkpointing.
        checkpointed: with it.

    Returns:
        What the largest stage keeps; where stages are not told apart, all that checkpointing let go.
    """
    if plain.stage is not None:
        return plain.stage
    return Growth(plain.saved.fixed - checkpointed.saved.fixed, plain.saved.each - checkpointed.saved.each)


def footprint(memory: Memory, kept: Kept, recomputed: Growth = Growth(0, 0)) -> Footprint:
    """Memory of a step: what stands, what grows with the batch, and a reserve.

    Args:
        memory: counts of the method.
        kept: of its step.
        recomputed: with gradient checkpointing, what comes on top while a stage is recomputed.
    """
    trained = BYTES * (memory.backbone + memory.heads)
    standing = {
        "weights": trained,
        "gradients": trained,
        "optimizer": BYTES * memory.optimizer,
        "teacher": BYTES * memory.teacher,
        **{name: BYTES * numbers for name, numbers in memory.buffers.items()},
        "norm statistics": BYTES * memory.statistics,
        "reserve": RESERVE,
    }
    growing = {"kept for backward": kept.saved, "recomputed stage": recomputed, "views": kept.views}
    small, large = kept.batches
    return Footprint({name: size for name, size in standing.items() if size}, growing, large - small)


def count_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of the products and convolutions of a step; a multiplication with its sum is two."""
    counter = FlopCounterMode(display=False)
    # It would hook every module's backward pass to tell modules apart, which a backward pass inside another one (that
    # of the sparse encoder's tiles) does not bear. Only the sum is asked for.
    counter.mod_tracker = _OneModule()
    with counter:
        step()
    return counter.get_total_flops()


class _OneModule(nullcontext):
    """Takes everything for one module's work."""

    parents = frozenset({"Global"})


def flops_of_a_film(method: Method, recipe: Recipe, *, bf16: bool, films: int) -> float:
    """Floating-point operations that a step spends on each film, forward and backward, counted at a batch of `films`.

    Args:
        method: the recipe's method; gradients are left behind in none of its parameters.
        recipe: makes the views.
        bf16: under autocast to bf16.
        films: in the batch.
    """
    views = make_random_views(recipe, films)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = method(views).loss
        loss.backward()

    counted = count_flops(step) / films
    method.zero_grad(set_to_none=True)
    return counted


def count_events(recipe: Recipe, films: int) -> Events:
    """How often what happens in a run on so many films.

    Raises:
        ScarceError: recipe and films do not fit each other.
    """
    training = recipe.training
    total, warmup = training.check(films)
    every = [d.steps(films // training.batch_size, total) for d in (training.save_every, training.keep_every)]
    watch_every = recipe.watch.every.steps(films // training.batch_size, total)
    early = {step for step in early_looks(watch_every, warmup) if step <= total}
    looks = 1 + len(_due(total, [watch_every]) | early | {total})
    return Events(total, looks, len(_due(total, every) | {total}), len(_due(total, every[1:])))


def checkpoint_bytes(method: nn.Module, memory: Memory) -> int:
    """Bytes of a checkpoint: the method's state and the optimizer's.

    Args:
        method: the built method, on any device (`meta` is enough).
        memory: its counts.
    """
    return _state_bytes(method) + BYTES * memory.optimizer


def backbone_bytes(method: Method) -> int:
    """Bytes of the file of a backbone."""
    return _state_bytes(method.backbone)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def affordable_steps(total: int, money: float, budget: float) -> int:
    """Steps of the same run, cut short or longer, that a budget pays; what a step costs stays."""
    return int(total * budget / money)


def fitting_accumulation(share: int, largest: int, multiple: int) -> int | None:
    """The fewest micro-batches into which a process's share of a batch can be cut so that each fits.

    Args:
        share: films of one process in a step.
        largest: the most films that fit.
        multiple: the method takes multiples of this.

    Returns:
        Their number; None if no equal parts fit.
    """
    parts = range(1, share // multiple + 1)
    return next((n for n in parts if share % (n * multiple) == 0 and share // n <= largest), None)


@dataclass(frozen=True)
class _Pass:
    """Bytes of one forward pass: what autograd saved, what each stage of a backbone saved in one call, the views."""

    saved: int
    stages: dict[str, int]
    views: int


def _measure_pass(method: Method, views: Views, bf16: bool) -> _Pass:
    with (
        saved_storages(method) as storages,
        _noting_stages(method, storages) as stages,
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        loss = method(views).loss
    del loss
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (*views.crops, *views.clean)}
    return _Pass(sum(storages.values()), stages, sum(tensors.values()))


@contextmanager
def _noting_stages(method: nn.Module, storages: dict[int, int]) -> Iterator[dict[str, int]]:
    """Yields the bytes that each stage of a backbone added to the storages in that of its calls that added most."""
    most: dict[str, int] = {}
    before: dict[str, int] = {}

    def begin(name: str, *_) -> None:
        before[name] = sum(storages.values())

    def end(name: str, *_) -> None:
        most[name] = max(most.get(name, 0), sum(storages.values()) - before[name])

    with ExitStack() as hooks:
        for path, module in method.named_modules():
            for stage in module.stage_names if isinstance(module, Backbone) else ():
                name, part = f"{path}.{stage}", module.model.get_submodule(stage)
                hooks.enter_context(part.register_forward_pre_hook(partial(begin, name)))
                hooks.enter_context(part.register_forward_hook(partial(end, name)))
        yield most


def _grow(small: int, large: int, first: float, second: float) -> Growth:
    """The line through two measurements."""
    each = (second - first) / (large - small)
    return Growth(first - small * each, each)


def _due(total: int, rhythms: Sequence[int]) -> set[int]:
    """The steps up to `total` at which one of the rhythms is due; 0 is never."""
    return {step for every in rhythms if every > 0 for step in range(every, total + 1, every)}


def _state_bytes(module: nn.Module) -> int:
    return sum(kept.nbytes for kept in module.state_dict().values() if isinstance(kept, torch.Tensor))
