"""SparK's masking, target and loss against the official implementation; the model by its properties."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.parts.sparse import SparseEncoder
from scarce_cxr.methods.spark import SparK, draw_visible, masked_error, normalize_patches, to_patches
from scarce_cxr.training.checkpoint import save_backbone
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Views

GOLDEN = Path(__file__).parents[2] / "../shared/golden/spark_loss.npz"


def make_views(count: int = 2, size: int = 64) -> Views:
    images = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))
    return Views([images], [images], Draws(0, 0, np.arange(count)))


def make_method(**settings) -> SparK:
    torch.manual_seed(0)
    return SparK(Backbone(BackboneSettings("resnet18")), **{"decoder_width": 16, **settings})


def make_exact(execution: str = "blocks", **settings) -> SparK:
    """A tiny one, whose gains and biases hide nothing that a branch does."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings("test_resnet", **settings))
    method = SparK(backbone, decoder_width=16, mask_ratio=0.5, execution=execution)
    for parameter in backbone.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return method


@pytest.mark.skipif(not GOLDEN.is_file(), reason="golden values are not here")
def test_loss_and_gradient_agree_with_the_official_implementation():
    golden = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN).items()}
    reconstruction = golden["reconstruction"].requires_grad_()
    loss = masked_error(reconstruction, golden["images"], golden["visible"])
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden["loss"].float().reshape(()), rtol=1e-4, atol=0)
    torch.testing.assert_close(reconstruction.grad, golden["grad_reconstruction"], rtol=1e-3, atol=1e-9)


def test_patches_stand_in_row_major_order():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert to_patches(image, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_a_patch_is_normalized_by_its_sample_variance():
    # Mean 2, sample variance 5/3 for 0.5, 1.5, 2.5, 3.5.
    patch = torch.tensor([[[0.5, 1.5, 2.5, 3.5]]])
    expected = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / (5 / 3) ** 0.5
    assert torch.allclose(normalize_patches(patch)[0, 0], expected, atol=1e-5)


def test_predicting_each_patchs_mean_costs_one_minus_one_over_n():
    images = torch.randn(3, 1, 64, 64)
    visible = torch.tensor([True, False, False, True]).view(1, 1, 2, 2).expand(3, -1, -1, -1)
    error = masked_error(torch.zeros_like(images), images, visible)
    assert error.item() == pytest.approx(1 - 1 / 1024, rel=1e-5)


def test_raw_targets_compare_pixels_and_visible_patches_do_not_count():
    images, painted = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    painted[..., :2, :2] = 100
    painted[..., 2:, 2:] = 3
    visible = torch.tensor([True, True, True, False]).view(1, 1, 2, 2)
    assert masked_error(painted, images, visible, "raw").item() == 9


@pytest.mark.parametrize(("size", "ratio", "masked"), [(224, 0.6, 29), (96, 0.6, 5), (224, 0.75, 37)])
def test_every_image_loses_the_same_number_of_patches_at_places_of_its_own(size, ratio, masked):
    visible = draw_visible(Draws(0, 0, np.arange(500)), size // 32, ratio, torch.device("cpu")).flatten(1)
    assert ((~visible).sum(dim=1) == masked).all()
    assert len(visible.unique(dim=0)) > 100
    rate = masked / visible.shape[1]
    # Every place is masked equally often: 4.5 standard errors allow for the number of places.
    assert ((~visible).float().mean(dim=0) - rate).abs().max() < 4.5 * (rate * (1 - rate) / 500) ** 0.5


@pytest.mark.parametrize("execution", ["dense", "masked", "blocks"])
@pytest.mark.parametrize("training", [False, True])
def test_masked_pixels_are_not_seen(execution, training):
    method, views = make_exact(execution).train(training), make_views()
    first = method.reconstruct(views.crops[0], views.draws)
    changed = torch.where(first.visible, views.crops[0], torch.randn_like(views.crops[0]))
    second = method.reconstruct(changed, views.draws)
    assert torch.equal(first.prediction, second.prediction)
    assert not torch.equal(first.prediction, method.reconstruct(2 * views.crops[0], views.draws).prediction)


def test_the_target_is_the_clean_view():
    method, views = make_method().eval(), make_views()
    noisy = Views([views.crops[0] + 0.5], views.clean, views.draws)
    made = method.reconstruct(noisy.crops[0], views.draws)
    expected = masked_error(made.prediction, views.clean[0], made.visible[..., ::32, ::32])
    assert method(noisy).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_skips_the_finer_maps_get_no_gradient_but_through_the_deepest():
    views = make_views()
    skipping, plain = make_method(skips=True), make_method(skips=False)
    assert sum(p.numel() for p in skipping.decoder.parameters()) > sum(p.numel() for p in plain.decoder.parameters())
    maps = [map_.detach().requires_grad_() for map_ in plain.backbone.maps(views.crops[0])]
    plain.decoder(maps).sum().backward()
    assert [map_.grad is None for map_ in maps] == [True, True, True, False]


def test_the_reference_decoder_has_the_widths_of_the_experiments():
    method = SparK(Backbone(BackboneSettings("resnet50")), decoder_width=256)
    assert [join[0].out_channels for join in method.decoder.joins] == [256, 256, 256]
    assert [mix[0].out_channels for mix in method.decoder.beyond] == [128, 64]
    maps = method.backbone.maps(torch.randn(1, 1, 224, 224))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]
    assert method.decoder(maps).shape == (1, 1, 224, 224)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients_nor_norms():
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        method = SparK(Backbone(BackboneSettings("resnet18", gradient_checkpointing=checkpointing)), decoder_width=16)
        loss = method(make_views()).loss
        loss.backward()
        gradients = {name: p.grad for name, p in method.named_parameters()}
        results.append((loss.detach(), gradients, dict(method.named_buffers())))
    (loss, gradients, buffers), (other_loss, other_gradients, other_buffers) = results
    assert torch.equal(loss, other_loss)
    assert buffers["backbone.model.bn1.num_batches_tracked"] == 1
    for name, buffer in buffers.items():
        assert torch.equal(buffer, other_buffers[name]), name
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name


@pytest.mark.parametrize("make", [make_method, make_exact])
def test_ten_steps_lower_the_loss(make):
    method, views = make(), make_views(4)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = method(views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


def test_transformers_are_refused_by_name():
    with pytest.raises(ScarceError, match="vit_tiny"):
        SparK(Backbone(BackboneSettings("vit_tiny_patch16_224")))


@pytest.mark.parametrize("size", [100, 32])
def test_sizes_that_cannot_be_cut_into_patches_are_refused(size):
    with pytest.raises(ScarceError, match=f"views.size = {size}"):
        make_method().check(size)


def test_the_stems_map_reaches_the_image_only_where_it_is_asked_for():
    # With the image's gradient stopped in every coarser map, only the stem's skip can still bring it through.
    def gradient(stem_skip: bool) -> torch.Tensor:
        method = make_method(stem_skip=stem_skip).eval()
        images = torch.randn(1, 1, 64, 64, requires_grad=True)
        maps = method.backbone.maps(images, stem=stem_skip)
        stem, coarse = maps[: int(stem_skip)], maps[int(stem_skip) :]
        painted = method.decoder([*stem, *(one.detach() for one in coarse)])
        return torch.autograd.grad(painted.sum(), images, allow_unused=True)[0] if painted.requires_grad else None

    assert gradient(False) is None
    assert gradient(True).abs().sum() > 0


def test_a_backbone_without_a_map_at_stride_two_is_refused_a_stem_skip():
    with pytest.raises(ScarceError, match="stride 2"):
        SparK(Backbone(BackboneSettings("convnext_atto")), decoder_width=8, stem_skip=True)


def test_a_patch_flatter_than_the_floor_is_divided_by_the_floors_root():
    # Sample variances 5/3 and 5/3 * 0.01: the floor of 0.25 leaves the first alone and divides the second by 0.5.
    steps = torch.tensor([-1.5, -0.5, 0.5, 1.5])
    made = normalize_patches(torch.stack([2 + steps, 2 + 0.1 * steps])[None], variance_floor=0.25)
    torch.testing.assert_close(made[0, 0], steps / (5 / 3) ** 0.5, atol=1e-5, rtol=0)
    torch.testing.assert_close(made[0, 1], 0.1 * steps / 0.5, atol=1e-5, rtol=0)


def test_the_floor_of_variance_reaches_the_loss_and_the_reconstruction():
    views = make_views()
    faint = Views([views.crops[0] / 1000], [views.crops[0] / 1000], views.draws)
    method = make_method(variance_floor=1.0).eval()
    nn.init.zeros_(method.decoder.image.weight)
    nn.init.zeros_(method.decoder.image.bias)
    # Painting nothing costs the target's mean square: a variance of about 1e-6 over the floor of 1.
    assert method(faint).loss.item() == pytest.approx(1e-6, rel=0.2)
    assert method.reconstruct(faint.crops[0], faint.draws).error.item() == method(faint).loss.item()
    with pytest.raises(ScarceError, match="variance_floor"):
        make_method(variance_floor=-0.1)


def test_both_exact_executions_give_the_same_loss_gradients_and_statistics():
    results = []
    for execution in ("masked", "blocks"):
        method = make_exact(execution).double()
        views = make_views(3, 96)
        views = Views([views.crops[0].double()], views.clean, views.draws)
        loss = method(views).loss
        loss.backward()
        results.append((loss.item(), {n: p.grad for n, p in method.named_parameters()}, dict(method.named_buffers())))
    (loss, gradients, buffers), (other_loss, other_gradients, other_buffers) = results
    assert loss == pytest.approx(other_loss, rel=1e-6)
    assert gradients.keys() == other_gradients.keys()
    # Everything learns, and nothing but the loss was computed in single precision.
    floor = 1e-6 * max(gradient.norm() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert gradient.any(), name
        assert (gradient - other_gradients[name]).norm() <= 1e-5 * max(gradient.norm(), floor), name
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, other_buffers[name], rtol=1e-9, atol=1e-9)


def test_exact_gradient_checkpointing_changes_neither_loss_nor_gradients_nor_norms(check_checkpointing):
    check_checkpointing(lambda backbone: SparK(backbone, decoder_width=16, execution="blocks"), make_views(3, 96))


def test_an_exact_backbone_is_timms_own_and_sees_a_whole_film_as_the_run_does(tmp_path):
    method, views = make_exact(), make_views(4)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for _ in range(2):
        method(views).loss.backward()
        optimizer.step()
    save_backbone(tmp_path / "backbone.safetensors", method.backbone, {})
    plain = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    untrained = plain(views.crops[0])
    plain.load_state_dict(load_file(tmp_path / "backbone.safetensors"), strict=True)
    features = plain(views.crops[0])
    assert not torch.allclose(features, untrained)
    assert torch.equal(features, method.eval().backbone(views.crops[0]))
    # Where nothing is masked, the sparse encoder is the plain one.
    everything = torch.ones(4, 1, 2, 2, dtype=torch.bool)
    deepest = SparseEncoder(method.backbone).maps(views.crops[0], everything)[-1].to_dense()
    torch.testing.assert_close(deepest, plain.forward_features(views.crops[0]), rtol=1e-4, atol=1e-4)


def test_a_copy_encodes_with_its_own_weights():
    method, views = make_exact(), make_views()
    copied = copy.deepcopy(method)
    before = method(views).loss
    nn.init.zeros_(copied.backbone.model.layer4[-1].bn2.weight)
    assert copied(views).loss != before
    assert method(views).loss == before


def test_exact_masks_are_made_of_whole_positions():
    for execution in ("masked", "blocks"):
        method = SparK(Backbone(BackboneSettings("resnet18")), patch=8, decoder_width=16, execution=execution)
        with pytest.raises(ScarceError, match=r"method\.patch = 8 .*choose 32 or a multiple"):
            method.check(96)
    make_exact().check(96)
    make_method(patch=8).check(96)


def test_the_papers_decoder_has_no_place_for_the_stems_map_and_refuses_layers_without_a_sparse_form():
    with pytest.raises(ScarceError, match="stem_skip"):
        make_method(stem_skip=True, execution="blocks")
    with pytest.raises(ScarceError, match="efficientnet"):
        SparK(Backbone(BackboneSettings("test_efficientnet")), execution="blocks")
