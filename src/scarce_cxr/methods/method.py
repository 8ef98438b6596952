"""The contract between a method and everything around it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.views.plans import Views

# What a recipe says instead of a number, to leave it to the setting's rule.
AUTO = "auto"

# The least momentum that is worth the name.
_LEAST_MOMENTUM = 0.9


class Step(NamedTuple):
    """What a method returns for one batch.

    Attributes:
        loss: scalar to go downhill on.
        numbers: named scalars worth logging, detached.
    """

    loss: torch.Tensor
    numbers: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it starts, and rules may use.

    Attributes:
        films: films to train on, the held-out ones left out.
        batch_size: films in a step, over all processes and micro-batches. Queues and centres take in the vectors of
            all processes, so that no rule has to know how many there are.
        steps: optimizer steps of the whole run.
    """

    films: int
    batch_size: int
    steps: int


class Chosen(NamedTuple):
    """A rule's answer.

    Attributes:
        value: of the setting.
        reason: why, in one clause, with the numbers that it came from.
    """

    value: float
    reason: str


Rule = Callable[[Facts], Chosen]


class Method(nn.Module):
    """A self-supervised method: a module built from a backbone, whose forward pass is one training step.

    It knows no loop, logger or optimizer. What survives pretraining is its attribute `backbone`. A method that can
    draw what it imagines also offers `reconstruct(images, draws)`; one that gives films to prototypes offers
    `assign(crops, features)` -> `dino.Assigned`; one that decorrelates, `correlate(first, second)`. Watchers look for
    the ability, not for a name.

    What a step changes beside the weights (queues, centres, averages) changes in training mode only, so that whoever
    looks in evaluation mode leaves no trace.

    Attributes:
        automatic: rules for the settings that a recipe may give as `auto`; a setting's type then says so too. Whoever
            reads the recipe resolves them before the method is built.
    """

    automatic: ClassVar[Mapping[str, Rule]] = {}
    backbone: Backbone

    def forward(self, views: Views) -> Step:
        """Views of B films -> loss and named numbers."""
        raise TypeError(f"{type(self).__name__} does not say how it steps: write its forward(views)")

    def before_update(self) -> None:
        """Called when a step's gradients are complete, before they are clipped and used, to withhold some."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, to move averages and temperatures. Progress runs from 0 to 1."""

    def project(self, features: torch.Tensor) -> torch.Tensor | None:
        """What the loss compares: the backbone's features (B, features) -> (B, D); None if it compares no vectors."""
        return None

    def check(self, size: int) -> None:
        """Raises ScarceError if views of this side (in pixels) do not suit the method."""
        self.backbone.check(size)


def two_views(views: Views) -> tuple[torch.Tensor, torch.Tensor]:
    """The two views of each film, (B, 1, S, S) each.

    Raises:
        ScarceError: the plan makes more of them, or fewer.
    """
    if len(views.crops) != 2:
        raise ScarceError(
            "two views of each film",
            f"{len(views.crops)} from the plan",
            "set views.class_path to scarce_cxr.views.plans.TwoViews",
        )
    return views.crops[0], views.crops[1]


def refuse_outside(low: float, high: float = math.inf, **settings: float | str) -> None:
    """Raises ScarceError for the first of a method's settings that does not lie in [low, high], or is still `auto`."""
    for name, value in settings.items():
        refuse_unresolved(f"method.{name}", value)
        if not low <= value <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ScarceError(f"method.{name} {wanted}", f"{value}", f"choose a value {wanted}")


def refuse_unresolved(setting: str, value: float | str) -> None:
    """Raises ScarceError if a setting's value is still `auto`."""
    if value == AUTO:
        raise ScarceError(
            f"a number for {setting}", f"{AUTO}, which is not resolved", "`scarce pretrain` does so; elsewhere give one"
        )


def power_of_two(limit: int) -> int:
    """The largest power of two that is at most the limit, which is at least 1."""
    return 1 << (limit.bit_length() - 1)


def scaled_momentum(momentum: float, batch_size: int, parts: int = 4) -> Rule:
    """The rule for the momentum of a teacher's average, from the value that suits a batch size.

    A batch of k times as many films takes momentum ** k, so that the average reaches back over as many films as
    before (the EMA scaling rule: Busbridge et al., "How to Scale Your EMA", NeurIPS 2023, definition 1.2). It reaches
    back over 1 / (1 - momentum) steps, and may over one of the run's `parts` at most: of the random start there is then
    exp(-parts) left in the end, or exp(-parts / 2) if half a cosine leads the momentum to 1; with four parts 2 % and
    14 %. It is never below 0.9.
    """

    def rule(facts: Facts) -> Chosen:
        scaled = momentum ** (facts.batch_size / batch_size)
        window = facts.steps / parts
        bound = 1 - 1 / window
        if min(scaled, bound) < _LEAST_MOMENTUM:
            cause = "so large a batch" if scaled < bound else "so short a run"
            return Chosen(_LEAST_MOMENTUM, f"{_LEAST_MOMENTUM} at least: {cause} would ask for less")
        if bound < scaled:
            words = f"an average over {window:,.0f} steps, 1/{parts} of the run, to leave the random start behind"
            return Chosen(bound, f"{words}; the batch alone asks for {scaled:.6g}, {1 / (1 - scaled):,.0f} steps")
        words = f"{momentum:g} at a batch of {batch_size}, to the power of {facts.batch_size:,} / {batch_size}"
        return Chosen(scaled, f"{words}: as many films in the average")

    return rule
