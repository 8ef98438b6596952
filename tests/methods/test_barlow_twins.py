"""Barlow Twins' loss against lightly's; the method by its properties."""

import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.barlow_twins import BarlowTwins, cross_correlation, diagonal_terms


def barlow(first: torch.Tensor, second: torch.Tensor, weight: float = 0.005) -> torch.Tensor:
    on_diagonal, off_diagonal = diagonal_terms(cross_correlation(first, second))
    return on_diagonal + weight * off_diagonal


def make_method(name: str = "test_resnet") -> BarlowTwins:
    torch.manual_seed(0)
    return BarlowTwins(Backbone(BackboneSettings(name)), (16, 16, 16))


def test_loss_and_gradient_agree_with_the_golden_values(golden):
    values = golden("pair_losses.npz")
    first = values["z1"].requires_grad_()
    loss = barlow(first, values["z2"])
    loss.backward()
    assert loss.item() == pytest.approx(values["barlow"].item(), rel=1e-4)
    torch.testing.assert_close(first.grad, values["barlow_grad_z1"], rtol=1e-3, atol=1e-6)


def test_loss_and_gradients_agree_with_lightly_on_random_inputs():
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    ours = [torch.randn(24, 10).mul(3).requires_grad_() for _ in range(2)]
    theirs = [vectors.detach().clone().requires_grad_() for vectors in ours]
    loss, expected = barlow(*ours, 0.01), lightly.BarlowTwinsLoss(0.01)(*theirs)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_affine_changes_of_a_dimension_change_nothing():
    first, second = torch.randn(2, 32, 6)
    scale, shift = torch.rand(6) + 0.5, torch.randn(6)
    assert torch.allclose(barlow(first * scale + shift, second), barlow(first, second), rtol=1e-3)


def test_equal_views_with_independent_dimensions_cost_nothing():
    # The columns of a Hadamard matrix are orthogonal and have mean 0.
    signs = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]])
    assert barlow(signs, signs).item() == pytest.approx(0, abs=1e-6)
    on_diagonal, off_diagonal = diagonal_terms(cross_correlation(signs, -signs))
    assert on_diagonal.item() == pytest.approx(12, rel=1e-4)
    assert off_diagonal.item() == pytest.approx(0, abs=1e-6)


def test_the_correlation_is_in_full_precision_under_autocast():
    first, second = torch.randn(2, 32, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cross_correlation(first, second), cross_correlation(first.clone(), second))
        given = cross_correlation(first, second)
    assert given.dtype == torch.float32
    assert torch.equal(given, cross_correlation(first, second))


def test_the_numbers_are_the_parts_of_the_loss(make_views):
    loss, numbers = make_method()(make_views(32, 32))
    assert loss.item() == pytest.approx((numbers["on_diagonal"] + 0.005 * numbers["off_diagonal"]).item(), rel=1e-5)
    assert not any(number.requires_grad for number in numbers.values())


def test_gradient_checkpointing_changes_nothing(check_checkpointing, make_views):
    check_checkpointing(lambda backbone: BarlowTwins(backbone, (16, 16, 16)), make_views(64, 64))


def test_a_transformer_is_accepted(make_views):
    method = make_method("test_vit")
    method.check(32)
    method(make_views(32, 32, count=4)).loss.backward()


def test_a_projector_without_width_is_refused():
    with pytest.raises(ScarceError, match="projector_widths"):
        BarlowTwins(Backbone(BackboneSettings("test_resnet")), (16, 16, 0))
