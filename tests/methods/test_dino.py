"""DINO's loss and centre against the official implementation; the method by its properties."""

import math

import pytest
import torch
import torch.nn.functional as F

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods import dino
from scarce_cxr.methods.dino import DINO

SMALL = {"outputs": 12, "hidden": 16, "bottleneck": 8}


def make_method(name: str = "test_resnet", **settings) -> DINO:
    torch.manual_seed(0)
    return DINO(Backbone(BackboneSettings(name)), **{**SMALL, **settings})


def test_four_steps_agree_with_the_official_implementation(golden):
    values = golden("dino_loss.npz")
    method = make_method(outputs=64, center_momentum=values["center_momentum"].item())
    for step in range(4):
        logits = values[f"student{step}"].requires_grad_()
        teacher = values[f"teacher{step}"].unflatten(0, (2, 8))
        targets = dino.centered_targets(teacher, method.center, values[f"teacher_temperature{step}"].item())
        loss = dino.distillation_loss(targets, logits.unflatten(0, (4, 8)), values["student_temperature"].item())
        loss.backward()
        method.move_center(teacher)
        assert loss.item() == pytest.approx(values[f"loss{step}"].item(), rel=1e-4)
        torch.testing.assert_close(logits.grad, values[f"grad_student{step}"], rtol=1e-3, atol=1e-7)
        torch.testing.assert_close(method.center, values[f"center{step}"][0], rtol=1e-4, atol=1e-7)


def test_loss_agrees_with_lightly_on_random_inputs():
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    theirs = lightly.DINOLoss(output_dim=10, teacher_temp=0.05, warmup_teacher_temp_epochs=1)
    teacher, student = torch.randn(2, 6, 10), torch.randn(5, 6, 10)
    ours = dino.distillation_loss(dino.centered_targets(teacher, torch.zeros(10), 0.05), student)
    torch.testing.assert_close(ours, theirs(list(teacher), list(student)))


def test_koleo_agrees_with_the_golden_value_and_with_lightly(golden):
    vectors = golden("pair_losses.npz")["z1"]
    assert dino.koleo(vectors).item() == pytest.approx(golden("pair_losses.npz")["koleo_z1"].item(), rel=1e-4)
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    ours, theirs = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    dino.koleo(ours).backward()
    lightly.KoLeoLoss()(theirs).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-7)


def test_balancing_agrees_with_lightly_and_uses_all_prototypes_alike():
    logits = 0.1 * torch.randn(32, 8)
    balanced = dino.balanced_targets(logits, 0.05)
    assert torch.allclose(balanced.sum(dim=1), torch.ones(32), atol=1e-5)
    assert torch.allclose(dino.balanced_targets(logits, 0.05, 200).sum(dim=0), torch.full((8,), 4.0), atol=1e-3)
    assert dino.balanced_targets(torch.tensor([[1.0, -1], [-1, 1]]), 0.01).isfinite().all()
    swav = pytest.importorskip("lightly.loss.swav_loss", reason="lightly is not installed")
    torch.testing.assert_close(balanced, swav.sinkhorn(logits, 3, 0.05), rtol=1e-4, atol=1e-6)


def test_numbers_at_the_plateau_and_where_every_film_is_known():
    plateau = torch.full((2, 8, 16), 1 / 16)
    numbers = dino.collapse_numbers(plateau, dino.distillation_loss(plateau, torch.zeros(4, 8, 16)))
    assert numbers["cross_entropy"].item() == pytest.approx(math.log(16), rel=1e-5)
    assert numbers["matched_information"].item() == pytest.approx(0, abs=1e-5)
    assert numbers["kl"].item() == pytest.approx(0, abs=1e-5)
    known = torch.eye(8, 16).expand(2, 8, 16)
    numbers = dino.collapse_numbers(known, dino.distillation_loss(known, 10 * known))
    assert numbers["teacher_entropy"].item() == 0
    assert numbers["matched_information"].item() == pytest.approx(math.log(8), rel=1e-3)


def test_student_sees_all_crops_and_teacher_the_global_ones_each_size_in_one_pass(make_views):
    method, seen = make_method(), {"student": [], "teacher": []}
    for name, network in (("student", method.student), ("teacher", method.teacher.module)):
        network.backbone.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].shape))
    step = method(make_views(32, 32, 16, 16, 16, count=4))
    assert [tuple(shape) for shape in seen["student"]] == [(8, 1, 32, 32), (12, 1, 16, 16)]
    assert [tuple(shape) for shape in seen["teacher"]] == [(8, 1, 32, 32)]
    assert step.loss.item() == pytest.approx(step.numbers["cross_entropy"].item())


def test_logits_are_ordered_by_view_then_film(make_views):
    method, views = make_method().eval(), make_views(32, 32, 16, count=3)
    logits, features = method.student(views.crops)
    alone, _ = method.student([views.crops[2][1:2]])
    assert logits.shape == (3, 3, 12)
    assert features.shape == (3, 3, method.backbone.features)
    assert torch.allclose(logits[2, 1], alone[0, 0], atol=1e-5)


def test_the_center_moves_after_the_loss_and_only_in_training(make_views):
    method, views = make_method(), make_views(32, 32)
    assert not method.eval()(views).loss.isnan()
    assert not method.center.any()
    method.train()
    teacher_logits, _ = method.teacher(views.crops)
    method(views)
    assert torch.allclose(method.center, 0.1 * teacher_logits.mean(dim=(0, 1)), atol=1e-5)


def test_the_temperature_moves_in_either_direction():
    for first, last in ((0.04, 0.07), (0.07, 0.04)):
        method = make_method(first_teacher_temperature=first, teacher_temperature=last, temperature_warmup=0.3)
        for progress, expected in ((0, first), (0.15, 0.055), (0.3, last), (1, last)):
            method.progress = progress
            assert method.teacher_temperature == pytest.approx(expected)
    assert make_method(teacher_temperature=0.02).teacher_temperature == 0.02


def test_prototypes_stay_frozen_for_their_share_of_the_run(make_views):
    method, views = make_method(frozen=0.5), make_views(32, 32)
    for progress, moving in ((0.25, False), (0.5, True)):
        method.after_step(progress)
        method(views).loss.backward()
        method.before_update()
        assert (method.student.prototypes.weight.grad is not None) is moving
        method.zero_grad()


def test_progress_is_part_of_the_state():
    first, second = make_method(), make_method()
    first.after_step(1 / 3)
    second.load_state_dict(first.state_dict())
    assert second.progress == 1 / 3


def test_the_teacher_follows_survives_and_never_has_a_gradient(make_views):
    method = make_method(momentum=0.9, koleo_weight=0.1, centering="sinkhorn", head_norm=True)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    assert method.backbone is method.teacher.module.backbone
    before = method.teacher.module.prototypes.weight.clone()
    step = method(make_views(32, 32, 16))
    step.loss.backward()
    optimizer.step()
    method.after_step(0.0)
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(parameter.grad is not None for parameter in method.student.parameters())
    expected = 0.9 * before + 0.1 * method.student.prototypes.weight
    assert torch.allclose(method.teacher.module.prototypes.weight, expected, atol=1e-6)
    assert step.loss.item() == pytest.approx((step.numbers["cross_entropy"] + 0.1 * step.numbers["koleo"]).item())


def test_logits_and_targets_are_in_full_precision_under_autocast(make_views):
    method, views = make_method(), make_views(32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = method.student(views.crops)
        assert logits.dtype == method.make_targets(logits).dtype == torch.float32
        assert dino.distillation_loss(F.softmax(logits, dim=-1), logits).dtype == torch.float32


@pytest.mark.parametrize("settings", [{}, {"centering": "sinkhorn", "head_norm": True, "koleo_weight": 0.1}])
def test_gradient_checkpointing_changes_nothing(check_checkpointing, make_views, settings):
    check_checkpointing(lambda backbone: DINO(backbone, **SMALL, **settings), make_views(64, 64, 32))


def test_a_transformer_takes_both_sizes_or_is_refused(make_views):
    method = make_method("test_vit")
    method(make_views(64, 64, 32, count=4)).loss.backward()
    method.check(32)
    with pytest.raises(ScarceError, match="30 pixels"):
        method.check(30)


def test_a_single_view_is_refused(make_views):
    with pytest.raises(ScarceError, match="MultiCrop"):
        make_method()(make_views(32))
