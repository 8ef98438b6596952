"""An image encoder from timm with one input channel: what survives pretraining."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from scarce_cxr.errors import ScarceError


@dataclass(frozen=True)
class BackboneSettings:
    """Which encoder, and what it starts from.

    Attributes:
        name: a timm model's name, e.g. resnet50.
        pretrained: load timm's published weights (three channels summed to one).
        weights: a safetensors file with timm's parameter names to start from instead.
        gradient_checkpointing: recompute each stage in the backward pass: less memory, about a third more time.
    """

    name: str = "resnet50"
    pretrained: bool = False
    weights: Path | None = None
    gradient_checkpointing: bool = False


class Backbone(nn.Module):
    """A timm encoder without its classifier. `model` is the plain timm module, its parameters under timm's own names.

    Note that timm's ResNets set the last norm of every residual block to zero, which shapes what "random" means.

    Args:
        settings: see `BackboneSettings`.

    Raises:
        ScarceError: timm has no such model, or the weights' file is missing or does not fit.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        if not timm.is_model(settings.name.removeprefix("hf-hub:")) and not settings.name.startswith("hf-hub:"):
            close = ", ".join(timm.list_models(f"*{settings.name[:6]}*")[:5]) or "resnet18, resnet50, convnext_tiny"
            raise ScarceError("a model that timm knows", f"backbone.name = {settings.name}", f"for instance {close}")
        self.settings = settings
        self.model = timm.create_model(settings.name, pretrained=settings.pretrained, in_chans=1, num_classes=0)
        if settings.weights is not None:
            self._load(settings.weights)
        coarse = [info for info in self.model.feature_info if info["reduction"] >= 4]
        self.stage_names = [info["module"] for info in coarse]
        self.channels = [info["num_chs"] for info in coarse]
        self.strides = [info["reduction"] for info in coarse]
        self._first_stage = len(self.model.feature_info) - len(coarse)
        if settings.gradient_checkpointing:
            for name in self.stage_names:
                stage = self.model.get_submodule(name)
                # Wrapping the call, not the module, leaves timm's parameter names as they are.
                stage.forward = partial(_checkpointed, stage.forward, stage)

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""
        return self.model.num_features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features: (B, 1, S, S) -> (B, features)."""
        return self.model(images)

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of every stage from stride 4 on: (B, 1, S, S) -> [(B, channels[i], S / strides[i], ...)]."""
        indices = list(range(self._first_stage, self._first_stage + len(self.channels)))
        return self.model.forward_intermediates(images, indices=indices, intermediates_only=True)

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise ScarceError("a file of weights", str(path), "check backbone.weights")
        problems = self.model.load_state_dict(load_file(path), strict=False)
        if problems.missing_keys or problems.unexpected_keys:
            raise ScarceError(
                f"weights of a {self.settings.name}",
                f"{path} with {len(problems.missing_keys)} keys missing and {len(problems.unexpected_keys)} unknown "
                f"(e.g. {(problems.missing_keys + problems.unexpected_keys)[0]})",
                "check that backbone.name is the architecture that the file was saved from",
            )


def _checkpointed(forward, stage: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """Runs a stage without keeping its activations, if gradients are wanted at all."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _norms_at_rest(stage)))


@contextmanager
def _norms_at_rest(stage: nn.Module) -> Iterator[None]:
    """Normalises with the batch's statistics as in training, but leaves the running ones alone.

    Recomputation sees the same batch a second time: without this its statistics would count twice.
    """
    norms = [m for m in stage.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    # Copies rather than switching the statistics off: recomputation must save as many tensors as the first pass did.
    for norm in norms:
        norm._buffers.update({name: buffer.clone() for name, buffer in norm._buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
