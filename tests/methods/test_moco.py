"""MoCo's losses against lightly's; the method by its properties."""

import math

import pytest
import torch
import torch.nn.functional as F

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.moco import MoCo, covariance_term, encode_in_splits, info_nce, spread, variance_term

SMALL = {"width": 8, "queue": 20, "bn_splits": 2}


def make_method(name: str = "test_resnet", **settings) -> MoCo:
    torch.manual_seed(0)
    return MoCo(Backbone(BackboneSettings(name)), **{**SMALL, **settings})


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_info_nce_agrees_with_the_golden_values(golden, temperature):
    values = golden("pair_losses.npz")
    queries, keys = F.normalize(values["z1"], dim=1), F.normalize(values["z2"], dim=1)
    loss = info_nce(queries, keys, values["queue"], temperature)
    assert loss.item() == pytest.approx(values[f"infonce_T{temperature}"].item(), rel=1e-4)


def test_variance_and_covariance_agree_with_the_golden_vicreg(golden):
    values = golden("pair_losses.npz")
    both = values["z1"], values["z2"]
    variance, covariance = (sum(term(z) for z in both) for term in (variance_term, covariance_term))
    loss = 25 * F.mse_loss(*both) + 25 * variance / 2 + covariance
    assert loss.item() == pytest.approx(values["vicreg"].item(), rel=1e-4)


def test_losses_agree_with_lightly_on_random_inputs():
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    from lightly.loss.vicreg_loss import covariance_loss, variance_loss

    queries, keys = (F.normalize(torch.randn(16, 12), dim=1) for _ in range(2))
    theirs = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(64, 12))
    theirs(queries.clone().requires_grad_(), keys)
    bank = theirs.memory_bank.bank.clone()
    negatives = bank if bank.shape[1] == 12 else bank.T
    ours, reference = queries.clone().requires_grad_(), queries.clone().requires_grad_()
    loss, expected = info_nce(ours, keys, negatives, 0.2), theirs(reference, keys)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    # Theirs normalises once more inside: only the part along the sphere can agree.
    along = ours.grad - (ours.grad * queries).sum(dim=1, keepdim=True) * queries
    torch.testing.assert_close(along, reference.grad, rtol=1e-3, atol=1e-6)
    vectors = torch.randn(16, 12) * torch.linspace(0.1, 2, 12)
    torch.testing.assert_close(variance_term(vectors), variance_loss(vectors))
    torch.testing.assert_close(covariance_term(vectors), covariance_loss(vectors))


def test_a_collapsed_network_loses_the_logarithm_of_what_it_cannot_tell_apart():
    same = F.normalize(torch.ones(4, 8), dim=1)
    assert info_nce(same, same, same[:1].expand(99, 8)).item() == pytest.approx(math.log(100))
    assert info_nce(same, same, same[:0]).item() == 0


def test_spread_is_one_on_the_whole_sphere_and_zero_at_a_point():
    assert spread(F.normalize(torch.randn(20_000, 16), dim=1)).item() == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(10, 16)).item() == 0


def test_growing_norms_satisfy_the_variance_of_raw_projections_but_not_of_normalized_ones():
    nearly_parallel = torch.ones(64, 16) + 0.01 * torch.randn(64, 16)
    long = 500 * nearly_parallel
    assert variance_term(long) == 0
    assert variance_term(4 * F.normalize(long, dim=1)) > 0.9


def test_batch_norm_sees_the_parts_one_by_one():
    norm, images = torch.nn.BatchNorm2d(1), torch.randn(6, 1, 4, 4)
    expected = torch.cat([F.batch_norm(part, None, None, training=True) for part in images.chunk(3)])
    assert torch.allclose(encode_in_splits(norm, images, 3), expected, atol=1e-5)
    for count in (5, 3):
        with pytest.raises(ScarceError, match="bn_splits = 3"):
            encode_in_splits(norm, images[:count], 3)


def test_keys_come_back_in_the_films_order():
    method = make_method().eval()
    images = torch.randn(8, 1, 32, 32)
    assert torch.allclose(method.make_keys(images), F.normalize(method.teacher(images), dim=1), atol=1e-5)


def test_keys_enter_the_queue_after_the_loss_and_only_in_training(make_views):
    method, views = make_method(queue_start="empty"), make_views(32, 32)
    method.eval()
    method(views)
    assert len(method.queue.vectors()) == 0
    method.train()
    assert method(views).loss == 0
    assert len(method.queue.vectors()) == 8
    assert method(views).loss > 0


def test_with_no_splits_keys_use_the_averaged_statistics(make_views):
    method = make_method(bn_splits=0, momentum=0.5)
    before = method.teacher.module[0].model.bn1.running_mean.clone()
    method(make_views(32, 32))
    assert torch.equal(method.teacher.module[0].model.bn1.running_mean, before)
    method.after_step(0.1)
    expected = (before + method.backbone.model.bn1.running_mean) / 2
    assert torch.allclose(method.teacher.module[0].model.bn1.running_mean, expected)


def test_the_teacher_follows_and_never_has_a_gradient(make_views):
    method = make_method(momentum=0.9, variance_weight=1.0, covariance_weight=0.1)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    before = method.teacher.module[1][0].weight.clone()
    method(make_views(32, 32)).loss.backward()
    optimizer.step()
    method.after_step(0.1)
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    expected = 0.9 * before + 0.1 * method.projector[0].weight
    assert torch.allclose(method.teacher.module[1][0].weight, expected, atol=1e-6)
    assert all(parameter.grad is not None for parameter in method.backbone.parameters())


@pytest.mark.parametrize(
    "settings", [{}, {"bn_splits": 0}, {"bn_splits": 1, "regularize": "raw", "variance_weight": 1}]
)
def test_gradient_checkpointing_changes_nothing(check_checkpointing, make_views, settings):
    check_checkpointing(lambda backbone: MoCo(backbone, **{**SMALL, **settings}), make_views(64, 64))


def test_a_transformer_is_accepted(make_views):
    method = make_method("test_vit", bn_splits=1)
    method.check(32)
    method(make_views(32, 32, count=4)).loss.backward()
