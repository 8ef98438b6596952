"""The maps between a film and its painting, as a masked method makes them, found by letting it paint one."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from scarce_cxr.methods.spark import SparK
from scarce_cxr.views.draws import Draws


class Map(NamedTuple):
    """A map of features on the way from the film to the painting.

    Attributes:
        part: encoder; bridge, which leads a map of the encoder into the decoder; or decoder.
        module: what makes it, by its name in timm's backbone or in the method's decoder.
        channels: how many.
        side: height and width in positions.
    """

    part: str
    module: str
    channels: int
    side: int


def trace_maps(method: SparK, size: int) -> list[Map]:
    """Lets the method paint a black film of `size` pixels and returns every map, in the order in which they are made.

    The exact encoder's maps are whole ones here: the positions behind the mask are counted, though they hold nothing.

    Args:
        method: of real weights; the exact encoder cannot be led over tensors without numbers.
        size: side of the view in pixels, see `SparK.check`.
    """
    encoded, decoded = [], []

    def enter(decoder: nn.Module, inputs: tuple) -> None:
        encoded.extend(inputs[0])

    def follow(name: str):
        def note(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            bridge = any(inputs[0] is features for features in encoded)
            decoded.append(Map("bridge" if bridge else "decoder", name, output.shape[1], output.shape[-1]))

        return note

    hooks = [method.decoder.register_forward_pre_hook(enter)]
    hooks += [module.register_forward_hook(follow(name)) for name, module in _layers(method.decoder)]
    was_training = method.training
    try:
        method.eval().reconstruct(torch.zeros(1, 1, size, size), Draws(0, 0, np.arange(1)))
    finally:
        method.train(was_training)
        for hook in hooks:
            hook.remove()
    names = ["stem"] * (len(encoded) - len(method.backbone.stage_names)) + method.backbone.stage_names
    shapes = [(whole if isinstance(whole, torch.Tensor) else whole.to_dense()).shape for whole in encoded]
    encoder = [Map("encoder", name, shape[1], shape[-1]) for name, shape in zip(names, shapes, strict=True)]
    return [*encoder, *decoded]


def _layers(decoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """A decoder's modules, lists of them opened: `deepest`, `joins.0`, `joins.1`, ..., `image`."""
    opened = []
    for name, child in decoder.named_children():
        inside = child.named_children() if isinstance(child, nn.ModuleList) else [("", child)]
        opened += [(f"{name}.{number}".rstrip("."), module) for number, module in inside]
    return opened
