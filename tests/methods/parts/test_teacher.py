"""The teacher is the moving average it is said to be."""

import math

import pytest
import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.parts.teacher import Teacher, momentum_at


def make_student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def move(student: nn.Module) -> None:
    """Changes every parameter and, by a forward pass, the running statistics."""
    student(torch.randn(16, 4))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("resting", [False, True])
def test_the_average_is_the_hand_rolled_one(resting):
    student = make_student()
    teacher = Teacher(student, resting)
    expected = {name: value.clone() for name, value in student.state_dict().items()}
    for _ in range(5):
        move(student)
        teacher.update(student, 0.9)
        for name, value in student.state_dict().items():
            if name.endswith("num_batches_tracked"):
                expected[name] = value.clone() if resting else expected[name]
            elif "running" not in name or resting:
                expected[name] = 0.9 * expected[name] + 0.1 * value
    for name, value in teacher.module.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=1e-6), name


def test_no_gradient_reaches_it_and_the_student_shares_nothing_with_it():
    student = make_student()
    teacher = Teacher(student)
    (student(torch.randn(8, 4)) - teacher(torch.randn(8, 4))).square().sum().backward()
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    addresses = {parameter.data_ptr() for parameter in student.parameters()}
    assert addresses.isdisjoint(parameter.data_ptr() for parameter in teacher.parameters())


def test_a_resting_teacher_stays_in_evaluation_mode():
    for resting in (False, True):
        method = nn.ModuleDict({"teacher": Teacher(make_student(), resting)})
        assert method.train()["teacher"].module.training is not resting
        assert not method.eval()["teacher"].module.training


def test_a_checkpointed_backbones_teacher_runs_its_own_stages():
    # Checkpointing hangs wrapped calls onto stages: a copy that kept the student's would answer with its weights.
    student = Backbone(BackboneSettings("test_resnet", gradient_checkpointing=True)).eval()
    teacher, images = Teacher(student), torch.randn(2, 1, 64, 64)
    before = teacher(images)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert torch.equal(teacher(images), before)


def test_momentum_runs_from_start_to_end():
    for shape in ("cosine", "linear"):
        assert momentum_at(0.0, 0.99, shape=shape) == pytest.approx(0.99)
        assert momentum_at(1.0, 0.99, shape=shape) == pytest.approx(1.0)
        assert momentum_at(0.5, 0.99, shape=shape) == pytest.approx(0.995)
    # BYOL, section 3.3.
    assert momentum_at(0.3, 0.996) == pytest.approx(1 - 0.004 * (math.cos(math.pi * 0.3) + 1) / 2)
