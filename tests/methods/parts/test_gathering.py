"""Two processes with half a batch each find what one finds with the whole."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from scarce_cxr.methods.barlow_twins import cross_correlation, diagonal_terms
from scarce_cxr.methods.parts.gathering import gather, own_part

PROCESSES = 2


def barlow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    on_diagonal, off_diagonal = diagonal_terms(cross_correlation(gather(first), gather(second)))
    return on_diagonal + 0.005 * off_diagonal


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    return first, second


def run_process(rank: int, folder: Path) -> None:
    # The time-out frees one process if the other one dies.
    dist.init_process_group("gloo", f"file://{folder}/meeting", timedelta(seconds=60), world_size=PROCESSES, rank=rank)
    first, second = (own_part(vectors).requires_grad_() for vectors in pairs())
    joined = gather(second.detach())
    loss = barlow(first, second)
    loss.backward()
    torch.save((loss.detach(), first.grad, joined), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_alone_nothing_is_gathered_and_everything_is_ones_own():
    batch = torch.randn(3, 2)
    assert gather(batch) is batch
    assert own_part(batch) is batch


def test_loss_and_gradient_of_two_processes_are_those_of_one(tmp_path):
    first, second = (vectors.requires_grad_() for vectors in pairs())
    expected = barlow(first, second)
    expected.backward()
    other = multiprocessing.get_context("spawn").Process(target=run_process, args=(1, tmp_path))
    other.start()
    run_process(0, tmp_path)
    other.join()
    assert other.exitcode == 0
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for loss, _, joined in parts:
        assert torch.allclose(loss, expected)
        assert torch.equal(joined, second)
    # Distributed training averages the processes' gradients; each film's own is on one of them alone.
    gradient = torch.cat([gradient for _, gradient, _ in parts]) / PROCESSES
    assert torch.allclose(gradient, first.grad, rtol=1e-4, atol=1e-6)
