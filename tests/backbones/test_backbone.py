"""The backbone is timm's, unchanged."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError

IMAGES = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_features_and_names_are_those_of_timm(name):
    images = torch.nn.functional.interpolate(IMAGES, size=224)
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name)).eval()
    torch.manual_seed(0)
    plain = timm.create_model(name, in_chans=1, num_classes=0).eval()
    assert list(backbone.model.state_dict()) == list(plain.state_dict())
    assert torch.equal(backbone(images), plain(images))
    assert backbone(images).shape == (2, backbone.features)


def test_maps_are_timms_feature_maps():
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings("resnet18")).eval()
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", in_chans=1, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    plain.load_state_dict(backbone.model.state_dict(), strict=False)
    for ours, theirs in zip(backbone.maps(IMAGES), plain(IMAGES), strict=True):
        assert torch.equal(ours, theirs)
    assert backbone.channels == [64, 128, 256, 512]
    assert backbone.strides == [4, 8, 16, 32]


def test_a_backbone_starts_from_a_file(tmp_path):
    first = Backbone(BackboneSettings("resnet18")).eval()
    save_file(first.model.state_dict(), tmp_path / "weights.safetensors")
    second = Backbone(BackboneSettings("resnet18", weights=tmp_path / "weights.safetensors")).eval()
    assert torch.equal(first(IMAGES), second(IMAGES))
    with pytest.raises(ScarceError, match=r"weights\.safetensors"):
        Backbone(BackboneSettings("resnet34", weights=tmp_path / "weights.safetensors"))


def test_an_unknown_name_is_answered_with_known_ones():
    with pytest.raises(ScarceError, match="resnet50"):
        Backbone(BackboneSettings("resnet5O"))
