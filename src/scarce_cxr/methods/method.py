"""The contract between a method and everything around it."""

import math
from typing import NamedTuple

import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.views.plans import Views


class Step(NamedTuple):
    """What a method returns for one batch.

    Attributes:
        loss: scalar to go downhill on.
        numbers: named scalars worth logging, detached.
    """

    loss: torch.Tensor
    numbers: dict[str, torch.Tensor]


class Method(nn.Module):
    """A self-supervised method: a module built from a backbone, whose forward pass is one training step.

    It knows no loop, logger or optimizer. What survives pretraining is its attribute `backbone`. A method that can
    draw what it imagines also offers `reconstruct(images, draws)`; watchers look for the ability, not for a name.

    What a step changes beside the weights (queues, centres, averages) changes in training mode only, so that whoever
    looks in evaluation mode leaves no trace.
    """

    backbone: Backbone

    def forward(self, views: Views) -> Step:
        """Views of B films -> loss and named numbers."""
        raise TypeError(f"{type(self).__name__} does not say how it steps: write its forward(views)")

    def before_update(self) -> None:
        """Called when a step's gradients are complete, before they are clipped and used, to withhold some."""

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, to move averages and temperatures. Progress runs from 0 to 1."""

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


def refuse_outside(low: float, high: float = math.inf, **settings: float) -> None:
    """Raises ScarceError for the first of a method's settings that does not lie in [low, high]."""
    for name, value in settings.items():
        if not low <= value <= high:
            wanted = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ScarceError(f"method.{name} {wanted}", f"{value}", f"choose a value {wanted}")
