"""Everything that exact resuming needs, in one file; and the backbone alone, for everybody else."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole


def save_checkpoint(path: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, counters: dict) -> None:
    """Writes weights, buffers, the optimizer's state and the loop's counters, whole or not at all.

    No random state is in it: every random number of a run is a function of seed and step.
    """
    content = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "counters": counters}
    with written_whole(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Reads a checkpoint back into module and optimizer, in place.

    The optimizer's settings (rate, weight decay, ...) stay as they are: those of the recipe, which may have changed.

    Returns:
        The loop's counters.

    Raises:
        ScarceError: the file is missing, damaged, or of another recipe, or its weights are not finite.
    """
    content = read_checkpoint(path)
    settings = [{name: group[name] for name in group if name != "params"} for group in optimizer.param_groups]
    try:
        module.load_state_dict(content["module"])
        optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ScarceError(
            "a checkpoint of this recipe", f"{path} ({str(error).splitlines()[0]})", "resume with the run's own recipe"
        ) from error
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update({"initial_lr": setting["lr"], **setting})
    if not all_finite(module):
        raise ScarceError("finite weights", f"{path}, whose are not", "resume from an older one with --checkpoint")
    return content["counters"]


def all_finite(module: nn.Module) -> bool:
    """Whether all weights and buffers are finite numbers."""
    kept = [value for value in module.state_dict().values() if torch.is_tensor(value) and value.is_floating_point()]
    return bool(nn.utils.get_total_norm(kept, math.inf).isfinite())


def read_checkpoint(path: Path) -> dict:
    """The content of a checkpoint on the CPU: `module`, `optimizer`, `counters`."""
    if not path.is_file():
        raise ScarceError("a checkpoint", f"no file at {path}", "look into the run's folder checkpoints/")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ScarceError(
            "a readable checkpoint",
            f"{path} ({type(error).__name__})",
            "the file is damaged: resume from an older one with --checkpoint",
        ) from error


def save_backbone(path: Path, backbone: Backbone, facts: dict[str, Any]) -> None:
    """Writes the encoder under timm's own parameter names, and beside it a JSON that says how to use it.

    Args:
        path: `....safetensors`; the JSON has the same name with the other suffix.
        backbone: the encoder.
        facts: image size, mean, std, store fingerprint, method, recipe, ...
    """
    # safetensors refuses tensors that are not laid out in order (channels-last).
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.model.state_dict().items()}
    with written_whole(path) as temporary:
        save_file(tensors, temporary)
    described = {"architecture": backbone.settings.name, "in_chans": 1, "features": backbone.features, **facts}
    with written_whole(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n")
