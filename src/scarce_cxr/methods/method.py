"""The contract between a method and everything around it."""

from typing import NamedTuple

import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
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
    """

    backbone: Backbone

    def forward(self, views: Views) -> Step:
        """Views of B films -> loss and named numbers."""
        raise TypeError(f"{type(self).__name__} does not say how it steps: write its forward(views)")

    def after_step(self, progress: float) -> None:
        """Called after every optimizer step, to move averages and temperatures. Progress runs from 0 to 1."""

    def check(self, size: int) -> None:
        """Raises ScarceError if views of this side do not suit the method."""
