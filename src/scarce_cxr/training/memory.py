"""What a method keeps in memory beside the backbone, counted from the module that a recipe builds."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.methods.method import Method
from scarce_cxr.methods.parts.teacher import Teacher
from scarce_cxr.training.optimizer import OptimizerSettings, make_optimizer
from scarce_cxr.training.recipe import Recipe

BYTES = 4  # of a number in fp32, in which weights, buffers and the optimizer's state are kept


@dataclass(frozen=True)
class Memory:
    """Counts of numbers, each of which takes `BYTES`. Activations, gradients and the views themselves are not in it.

    Attributes:
        backbone: parameters of the backbone that is trained.
        heads: all other trained parameters: projector, predictor, prototypes, decoder.
        teacher: parameters of the moving average, its own backbone and head.
        buffers: what the method itself remembers from step to step, by name: a queue, a centre.
        statistics: running statistics of the norms in heads and teacher.
        optimizer: averages that the optimizer keeps, of the backbone and the heads.
    """

    backbone: int
    heads: int
    teacher: int
    buffers: dict[str, int]
    statistics: int
    optimizer: int

    @property
    def beside_backbone(self) -> int:
        """What the method adds to the backbone, the optimizer's state left out."""
        return self.heads + self.teacher + sum(self.buffers.values()) + self.statistics


def measure_memory(method: nn.Module, settings: OptimizerSettings) -> Memory:
    """Counts a method's parameters, buffers and optimizer state.

    Args:
        method: the built method, on any device (`meta` is enough).
        settings: of the optimizer that would train it.
    """
    teachers = [module for module in method.modules() if isinstance(module, Teacher)]
    averaged = {id(module) for teacher in teachers for module in teacher.modules()}
    backbones = [m for m in method.modules() if isinstance(m, Backbone) and id(m) not in averaged]
    inside = {id(module) for backbone in backbones for module in backbone.modules()}
    backbone = _count(backbones)
    teacher = _count(teachers)
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    buffers, statistics = {}, 0
    for path, module in method.named_modules():
        if id(module) in inside:
            continue
        remembers = id(module) not in averaged and not isinstance(module, nn.modules.batchnorm._NormBase)
        for name, buffer in module.named_buffers(recurse=False):
            if remembers:
                buffers[f"{path}.{name}".removeprefix(".")] = buffer.numel()
            elif buffer.is_floating_point():
                # Left out: a norm's counter of batches, a single integer.
                statistics += buffer.numel()
    return Memory(
        backbone=backbone,
        heads=sum(p.numel() for p in method.parameters()) - backbone - teacher,
        teacher=teacher,
        buffers=buffers,
        statistics=statistics,
        optimizer=trained * averages_per_parameter(settings),
    )


def bytes_saved(forward: Callable[[], object], module: nn.Module) -> int:
    """Bytes of the storages that autograd keeps from a forward pass for the backward pass, each counted once.

    Args:
        forward: runs the pass and returns what holds its graph.
        module: whose parameters and buffers are left out: they are there anyway.
    """
    with saved_storages(module) as storages:
        kept = forward()
    del kept
    return sum(storages.values())


@contextmanager
def saved_storages(module: nn.Module) -> Iterator[dict[int, int]]:
    """Notes the storages that autograd keeps while the block runs; whoever runs it holds its graph till the end.

    Args:
        module: whose parameters and buffers are left out: they are there anyway.

    Yields:
        Bytes by address, of what was kept so far.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages


def averages_per_parameter(settings: OptimizerSettings) -> int:
    """Numbers that the optimizer keeps for each trained one, found by letting it take a step."""
    probe = nn.Linear(3, 2, bias=False)
    optimizer = make_optimizer(probe, settings)
    probe.weight.grad = torch.ones_like(probe.weight)
    optimizer.step()
    state = optimizer.state[probe.weight].values()
    return sum(isinstance(kept, torch.Tensor) and kept.shape == probe.weight.shape for kept in state)


def build_shapes(recipe: Recipe) -> Method:
    """The recipe's method without its numbers: every tensor has its shape and no memory, no weights are loaded.

    Raises:
        ScarceError: the backbone does not suit the method.
    """
    settings = replace(recipe.backbone, pretrained=False, weights=None)
    with torch.device("meta"):
        return recipe.method(Backbone(settings))


def _count(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
