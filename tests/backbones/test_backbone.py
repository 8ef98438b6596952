"""The backbone is timm's, unchanged."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError

IMAGES = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", {"zero_init_last": False}),
        ("convnext_atto", {}),
        ("mobilenetv3_small_050", {}),
        ("vit_tiny_patch16_224", {}),
    ],
)
def test_features_and_names_are_those_of_timm(name, words):
    images = torch.nn.functional.interpolate(IMAGES, size=224)
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name)).eval()
    torch.manual_seed(0)
    plain = timm.create_model(name, in_chans=1, num_classes=0, **words).eval()
    assert list(backbone.model.state_dict()) == list(plain.state_dict())
    assert torch.equal(backbone(images), plain(images))
    assert backbone(images).shape == (2, backbone.features)


def test_residual_branches_count_from_the_first_step_on():
    model = Backbone(BackboneSettings("resnet18")).model
    assert all((norm.weight == 1).all() for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d))


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


def test_a_backbone_starts_from_a_file_or_from_the_folder_of_a_run(tmp_path):
    first = Backbone(BackboneSettings("resnet18")).eval()
    file = tmp_path / "backbone-last.safetensors"
    save_file(first.model.state_dict(), file)
    for weights in (file, tmp_path):
        second = Backbone(BackboneSettings("resnet18", weights=weights)).eval()
        assert torch.equal(first(IMAGES), second(IMAGES))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_weights_for_three_channels_see_a_grey_image_as_three_copies_of_it(name, tmp_path):
    file = tmp_path / "weights.safetensors"
    colored = timm.create_model(name, num_classes=10).eval()
    save_file(colored.state_dict(), file)
    # timm reads the file as it would read its own download.
    published = timm.create_model(
        name, pretrained=True, in_chans=1, num_classes=0, pretrained_cfg_overlay={"file": str(file), "num_classes": 10}
    ).eval()
    ours = Backbone(BackboneSettings(name, weights=file)).eval()
    for key, tensor in published.state_dict().items():
        assert torch.equal(ours.model.state_dict()[key], tensor), key
    colored.reset_classifier(0)
    images = torch.nn.functional.interpolate(IMAGES, size=224)
    wanted = colored(images.expand(-1, 3, -1, -1))
    assert torch.allclose(ours(images), wanted, rtol=1e-4, atol=1e-4 * wanted.std().item())


def test_weights_that_do_not_fit_are_named(tmp_path):
    file = tmp_path / "weights.safetensors"
    tensors = Backbone(BackboneSettings("resnet18")).model.state_dict()
    save_file(tensors, file)
    with pytest.raises(ScarceError, match=r"weights\.safetensors.*missing \(layer1\.2\.conv1\.weight.*, \.\.\.\)"):
        Backbone(BackboneSettings("resnet34", weights=file))
    for changed, words in [
        ({"neck.weight": torch.zeros(2)}, r"1 unknown \(neck\.weight\)"),
        ({"bn1.weight": torch.zeros(2)}, r"1 of another shape \(bn1\.weight\)"),
        ({"conv1.weight": torch.zeros(64, 2, 7, 7)}, r"1 of another shape \(conv1\.weight\)"),
    ]:
        save_file({**tensors, **changed}, file)
        with pytest.raises(ScarceError, match=words):
            Backbone(BackboneSettings("resnet18", weights=file))


def test_starts_that_are_none(tmp_path):
    with pytest.raises(ScarceError, match=r"backbone-last\.safetensors"):
        Backbone(BackboneSettings("resnet18", weights=tmp_path))
    (tmp_path / "weights.pth").write_bytes(b"no such file")
    with pytest.raises(ScarceError, match="a safetensors file"):
        Backbone(BackboneSettings("resnet18", weights=tmp_path / "weights.pth"))
    with pytest.raises(ScarceError, match="one start"):
        Backbone(BackboneSettings("resnet18", pretrained=True, weights=tmp_path / "weights.pth"))


def test_an_unknown_name_is_answered_with_known_ones():
    with pytest.raises(ScarceError, match="resnet50"):
        Backbone(BackboneSettings("resnet5O"))


def test_transformers_take_other_sizes_than_their_own_and_refuse_what_patches_do_not_divide():
    backbone = Backbone(BackboneSettings("vit_tiny_patch16_224"))
    assert backbone(IMAGES).shape == (2, backbone.features)
    backbone.check(96)
    assert backbone.training
    with pytest.raises(ScarceError, match="100 pixels"):
        backbone.check(100)
