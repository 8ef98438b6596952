"""The maps of an encoder and a decoder have the shapes that their strides and widths make."""

import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.shapes import Map, trace_maps
from scarce_cxr.methods.spark import SparK

# A ResNet-18 at 64 pixels: stages of 64 to 512 channels, at strides of 4 to 32.
ENCODER = [("layer1", 64, 16), ("layer2", 128, 8), ("layer3", 256, 4), ("layer4", 512, 2)]


def trace(part: str, method: SparK) -> list[tuple[str, int, int]]:
    return [(m.module, m.channels, m.side) for m in trace_maps(method, 64) if m.part == part]


def make(**settings) -> SparK:
    torch.manual_seed(0)
    return SparK(Backbone(BackboneSettings("resnet18")), decoder_width=32, **settings)


def test_the_dense_decoder_keeps_its_width_up_to_the_finest_map_and_halves_it_beyond():
    method = make()
    assert trace("encoder", method) == ENCODER
    finer = [("laterals.0", 32, 4), ("laterals.1", 32, 8), ("laterals.2", 32, 16)]
    assert trace("bridge", method) == [("deepest", 32, 2), *finer]
    up = [("joins.0", 32, 4), ("joins.1", 32, 8), ("joins.2", 32, 16), ("beyond.0", 16, 32), ("beyond.1", 8, 64)]
    assert trace("decoder", method) == [*up, ("image", 1, 64)]


@pytest.mark.parametrize("execution", ["masked", "blocks"])
def test_the_papers_decoder_halves_its_width_with_every_step(execution):
    method = make(execution=execution)
    assert trace("encoder", method) == ENCODER
    widths = [32, 16, 8, 8]  # never below 8
    assert trace("bridge", method) == [(f"densifiers.{n}", width, 2 << n) for n, width in enumerate(widths)]
    up = [(f"steps.{n}", width, 4 << n) for n, width in enumerate([16, 8, 8, 8, 8])]
    assert trace("decoder", method) == [*up, ("image", 1, 64)]


def test_without_skips_one_bridge_is_left_and_the_stem_has_one_of_its_own():
    assert trace("bridge", make(skips=False)) == [("deepest", 32, 2)]
    method = make(stem_skip=True)
    assert trace("encoder", method) == [("stem", 64, 32), *ENCODER]
    assert ("stem_lateral", 16, 32) in trace("bridge", method)


def test_tracing_leaves_nothing_behind():
    method = make().train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    first = trace_maps(method, 64)
    assert first == trace_maps(method, 64)
    assert isinstance(first[0], Map)
    assert method.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in method.modules())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
