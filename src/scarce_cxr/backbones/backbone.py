"""An image encoder from timm with one input channel: what survives pretraining."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn
from torch.utils.checkpoint import checkpoint

from scarce_cxr.errors import ScarceError


@dataclass(frozen=True)
class BackboneSettings:
    """Which encoder, and what it starts from.

    Attributes:
        name: a timm model's name, e.g. resnet50, or hf-hub: and a repository's name.
        pretrained: load the published weights (three channels summed to one).
        weights: start from these instead: a safetensors file with timm's parameter names, for images of one channel
            or of three; or the folder of an earlier run, whose last backbone is taken.
        gradient_checkpointing: recompute each stage in the backward pass: less memory, about a third more time.
    """

    name: str = "resnet50"
    pretrained: bool = False
    weights: Path | None = None
    gradient_checkpointing: bool = False


class Backbone(nn.Module):
    """A timm encoder without its classifier. `model` is the plain timm module, its parameters under timm's own names.

    ResNets begin with all their norms' gains at 1, as in torchvision; timm by itself would set the last gain of every
    residual block to 0, and a "random" backbone would be little more than its stem.

    Args:
        settings: see `BackboneSettings`.

    Raises:
        ScarceError: timm has no such model, or the weights are missing, unreadable, or do not fit.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        if not timm.is_model(settings.name.removeprefix("hf-hub:")) and not settings.name.startswith("hf-hub:"):
            close = ", ".join(timm.list_models(f"*{settings.name[:6]}*")[:5]) or "resnet18, resnet50, convnext_tiny"
            raise ScarceError("a model that timm knows", f"backbone.name = {settings.name}", f"for instance {close}")
        if settings.pretrained and settings.weights is not None:
            got = f"backbone.pretrained = true and backbone.weights = {settings.weights}"
            raise ScarceError("one start", got, "leave one of the two out")
        self.settings = settings
        self.model = _create_model(settings)
        if settings.weights is not None:
            self._load(settings.weights)
        coarse = [info for info in self.model.feature_info if info["reduction"] >= 4]
        self.stage_names = [info["module"] for info in coarse]
        self.channels = [info["num_chs"] for info in coarse]
        self.strides = [info["reduction"] for info in coarse]
        finer = [info for info in self.model.feature_info if info["reduction"] == 2]
        self.stem_channels = finer[-1]["num_chs"] if finer else None
        self._first_stage = len(self.model.feature_info) - len(coarse)
        if settings.gradient_checkpointing:
            for name in self.stage_names:
                stage = self.model.get_submodule(name)
                # Wrapping the call, not the module, leaves timm's parameter names as they are.
                stage.forward = partial(_checkpointed, stage.forward, stage)

    @property
    def features(self) -> int:
        """Length of the pooled feature vector."""
        # MobileNets have a layer between pooling and classifier, after which features are longer than the last map.
        return getattr(self.model, "head_hidden_size", self.model.num_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features: (B, 1, S, S) -> (B, features)."""
        return self.model(images)

    def check(self, size: int) -> None:
        """Raises ScarceError unless the encoder takes images of this side: it is shown a black one."""
        was_training = self.training
        device = next(self.parameters()).device
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 1, size, size, device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ScarceError(
                f"views that a {self.settings.name} takes",
                f"{size} pixels ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                "choose sizes that its patches divide, or another backbone",
            ) from error
        finally:
            self.train(was_training)

    def maps(self, images: torch.Tensor, stem: bool = False) -> list[torch.Tensor]:
        """Feature maps of every stage from stride 4 on: (B, 1, S, S) -> [(B, channels[i], S / strides[i], ...)].

        With `stem` the map at stride 2 (B, stem_channels, S / 2, S / 2) comes before them; not all encoders have one:
        `stem_channels` is then None.
        """
        first = self._first_stage - int(stem)
        indices = list(range(first, self._first_stage + len(self.channels)))
        return self.model.forward_intermediates(images, indices=indices, intermediates_only=True)

    def _load(self, path: Path) -> None:
        file = path / "backbone-last.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise ScarceError("a file of weights, or a run's folder", f"nothing at {file}", "check backbone.weights")
        try:
            tensors = load_file(file)
        except SafetensorError as error:
            raise ScarceError("a safetensors file", f"{file} ({error})", "check backbone.weights") from error
        tensors = _without_classifier(_with_one_channel(tensors, self.model), self.model)
        own = self.model.state_dict()
        problems = {
            "missing": [name for name in own if name not in tensors],
            "unknown": [name for name in tensors if name not in own],
            "of another shape": [n for n, tensor in tensors.items() if n in own and tensor.shape != own[n].shape],
        }
        if said := [f"{len(names)} {what} ({_first(names)})" for what, names in problems.items() if names]:
            raise ScarceError(
                f"weights of a {self.settings.name}",
                f"{file} with parameters {', '.join(said)}",
                "check that backbone.name is the architecture that the file was saved from",
            )
        self.model.load_state_dict(tensors)


def _with_one_channel(tensors: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Sums first layers of three channels to one: what a grey image copied to three channels would have met."""
    own, summed = model.state_dict(), dict(tensors)
    for name in (f"{layer}.weight" for layer in _names(model, "first_conv")):
        shapes = [tuple(weights[name].shape) if name in weights else () for weights in (tensors, own)]
        if all(len(shape) == 4 for shape in shapes) and shapes[0][1] == 3 * shapes[1][1]:
            summed[name] = adapt_input_conv(1, tensors[name])
    return summed


def _without_classifier(tensors: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    own = model.state_dict()
    # A name that the encoder shares is kept: ConvNeXt's last norm, for one, is called head.norm.
    heads = tuple(f"{name}." for name in ("fc", "head", *_names(model, "classifier")))
    return {name: tensor for name, tensor in tensors.items() if name in own or not name.startswith(heads)}


def _names(model: nn.Module, role: str) -> tuple[str, ...]:
    """Names of the layers that timm says play a role in a model: none, one or several."""
    names = model.pretrained_cfg.get(role) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _create_model(settings: BackboneSettings) -> nn.Module:
    create = partial(timm.create_model, settings.name, pretrained=settings.pretrained, in_chans=1, num_classes=0)
    for words in (
        # Transformers are made for one size of image; most of them can interpolate their positions for others.
        {"dynamic_img_size": True},
        # timm's ResNets begin with residual branches that add nothing. Adam moves a gain by the learning rate at most,
        # so a run of some hundred steps would end before the branches count.
        {"zero_init_last": False},
    ):
        try:
            return create(**words)
        except TypeError:
            # Another kind of model, which does not know the word.
            continue
    return create()


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
