"""A teacher: the moving average of a student, which no gradient ever reaches."""

import copy
import math
from typing import Any, Literal

import torch
from torch import nn


def momentum_at(
    progress: float, start: float, end: float = 1.0, shape: Literal["cosine", "linear"] = "cosine"
) -> float:
    """The average's momentum at a progress in [0, 1]: from `start` to `end` along half a cosine or a line.

    With end = 1 the cosine is BYOL's (section 3.3): 1 - (1 - start) (cos(pi progress) + 1) / 2.
    """
    left = (1 + math.cos(math.pi * progress)) / 2 if shape == "cosine" else 1 - progress
    return end - (end - start) * left


class Teacher(nn.Module):
    """An exponential moving average of a module's parameters.

    What becomes of batch norm's statistics depends on how the teacher is used:

    - as MoCo, DINO and BYOL use it, it follows the method into training mode: it normalises with its own batch, and
      its running statistics are those of its own forward passes. They are left alone.
    - `resting`, it stays in evaluation mode. Nothing would then update its running statistics, and the averaged
      weights would be normalised by those of the random start: so they are averaged as the parameters are.

    Args:
        student: the module to begin as a copy of.
        resting: keep the teacher in evaluation mode.
    """

    def __init__(self, student: nn.Module, resting: bool = False) -> None:
        super().__init__()
        self.module = copy.deepcopy(student).requires_grad_(False)
        self.resting = resting
        self.train(student.training)

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(mode and not self.resting)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Moves every average towards the student: average = momentum x average + (1 - momentum) x student."""
        averages, values = list(self.module.parameters()), list(student.parameters())
        if self.resting:
            for average, value in zip(self.module.buffers(), student.buffers(), strict=True):
                if average.is_floating_point():
                    averages.append(average)
                    values.append(value)
                else:
                    average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - momentum)
