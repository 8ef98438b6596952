"""Optimizers and what their weight decay touches."""

from dataclasses import dataclass
from typing import Literal

import timm.optim
import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights move.

    Attributes:
        name: adamw, sgd, lars or lamb.
        lr: learning rate after warm-up; it is written out in full, nothing rescales it by the batch size.
        weight_decay: strength of weight decay.
        betas: decay rates of AdamW's and LAMB's averages.
        momentum: momentum of SGD and LARS.
        decay_everything: decay biases and norms too, as many original recipes did; by default they are left out.
    """

    name: Literal["adamw", "sgd", "lars", "lamb"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    decay_everything: bool = False


def parameter_groups(module: nn.Module, weight_decay: float, decay_everything: bool) -> list[dict]:
    """Two groups: what weight decay pulls towards zero, and (unless it decays everything) biases and norms.

    Biases and the gains of norms are exactly the trainable tensors with fewer than two axes.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    decayed = [p for p in trainable if decay_everything or p.ndim > 1]
    spared = [p for p in trainable if not (decay_everything or p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over the module's trainable parameters."""
    groups = parameter_groups(module, settings.weight_decay, settings.decay_everything)
    match settings.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)
        case "sgd":
            return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
        case "lars":
            return timm.optim.Lars(groups, lr=settings.lr, momentum=settings.momentum)
        case "lamb":
            return timm.optim.Lamb(groups, lr=settings.lr, betas=settings.betas)
