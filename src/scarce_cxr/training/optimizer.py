"""Optimizers and what their weight decay touches."""

from dataclasses import dataclass
from typing import Literal

import timm.optim
import torch
from torch import nn

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import AUTO, Chosen, Facts, Rule, refuse_unresolved

_BASE_BATCH = 256
# The rate at that batch in the official implementation of a method that uses the optimizer, and the method.
_BASE_RATES = {
    "sgd": (0.03, "MoCo v2"),
    "lars": (0.2, "Barlow Twins"),
    "adamw": (5e-4, "DINO"),
    "lamb": (2e-4, "SparK"),
}


@dataclass(frozen=True)
class OptimizerSettings:
    """How weights move.

    Attributes:
        name: adamw, sgd, lars or lamb.
        lr: learning rate after warm-up; a number is taken as it is, nothing rescales it by the batch size. auto:
            `scaled_rate`.
        base_lr: the rate at a batch of 256 that `lr: auto` starts from; none: the optimizer's usual one.
        weight_decay: strength of weight decay.
        betas: decay rates of AdamW's and LAMB's averages.
        momentum: momentum of SGD and LARS.
        decay_everything: decay biases and norms too, as many original recipes did; by default they are left out.
    """

    name: Literal["adamw", "sgd", "lars", "lamb"] = "adamw"
    lr: float | Literal["auto"] = 1e-3
    base_lr: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    decay_everything: bool = False

    def __post_init__(self) -> None:
        if self.base_lr is not None and self.lr != AUTO:
            raise ScarceError(
                f"optimizer.base_lr only where optimizer.lr is {AUTO}",
                f"optimizer.lr = {self.lr} and optimizer.base_lr = {self.base_lr}",
                "set optimizer.base_lr to null to take the rate as it is",
            )


def scaled_rate(name: str, base_lr: float | None = None) -> Rule:
    """The rule for the learning rate: the rate at a batch of 256, scaled to the batch.

    SGD and LARS scale it linearly: as many films move the weights as far (Goyal et al., "Accurate, Large Minibatch
    SGD", 2017, section 2.1). AdamW and LAMB scale it with the square root: they divide by the gradients' size, mostly
    noise, which falls with the root of the batch itself, and that brings the other root (Malladi et al., "On the SDEs
    and Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022; You et al., "Large Batch Optimization for Deep
    Learning", ICLR 2020). DINO and SparK themselves scale linearly: above a batch of 256 this gives less than they
    took, below it more.

    Args:
        name: of the optimizer.
        base_lr: the rate at a batch of 256; none: MoCo v2's 0.03 for SGD, Barlow Twins' 0.2 for LARS (its rate of
            weights), DINO's 0.0005 for AdamW and SparK's 0.0002 for LAMB, of their official implementations.
    """

    def rule(facts: Facts) -> Chosen:
        base, source = _BASE_RATES[name] if base_lr is None else (base_lr, "optimizer.base_lr")
        ratio = facts.batch_size / _BASE_BATCH
        linear = name in ("sgd", "lars")
        words = f"{base:g} at a batch of {_BASE_BATCH} ({source}), times "
        quotient = f"{facts.batch_size:,} / {_BASE_BATCH}"
        if linear:
            return Chosen(base * ratio, f"{words}{quotient}")
        return Chosen(base * ratio**0.5, f"{words}the root of {quotient}: {name} divides by the gradients' size")

    return rule


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
    """The optimizer that the settings name, over the module's trainable parameters.

    Raises:
        ScarceError: the learning rate is still `auto`.
    """
    refuse_unresolved("optimizer.lr", settings.lr)
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
