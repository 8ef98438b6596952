"""Warm-up and cosine, against PyTorch's schedulers and by hand."""

import pytest
import torch

from scarce_cxr.training.schedule import warmup_cosine


def test_the_cosine_is_pytorchs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(50):
        assert warmup_cosine(step, 0, 50) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_by_equal_steps_to_the_full_rate():
    assert [warmup_cosine(step, 4, 10) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_run_that_is_all_warm_up_is_allowed():
    assert [warmup_cosine(step, 2, 2) for step in range(2)] == [0.5, 1.0]
