"""SparK's masking, target and loss against the official implementation; the model by its properties."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.spark import SparK, draw_visible, masked_error, normalize_patches, to_patches
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Views

GOLDEN = Path(__file__).parents[2] / "../shared/golden/spark_loss.npz"


def make_views(count: int = 2, size: int = 64) -> Views:
    images = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))
    return Views([images], [images], Draws(0, 0, np.arange(count)))


def make_method(**settings) -> SparK:
    torch.manual_seed(0)
    return SparK(Backbone(BackboneSettings("resnet18")), **{"decoder_width": 16, **settings})


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


def test_masked_pixels_are_not_seen():
    method, views = make_method().eval(), make_views()
    first = method.reconstruct(views.crops[0], views.draws)
    changed = torch.where(first.visible, views.crops[0], torch.randn_like(views.crops[0]))
    second = method.reconstruct(changed, views.draws)
    assert torch.equal(first.prediction, second.prediction)


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


def test_ten_steps_lower_the_loss():
    method, views = make_method(), make_views(4)
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
