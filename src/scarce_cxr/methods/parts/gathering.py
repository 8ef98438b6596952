"""One batch out of the batches of all processes."""

import torch
import torch.distributed as dist


def gather(batch: torch.Tensor) -> torch.Tensor:
    """Joins the processes' batches in the order of their ranks: (b, ...) here -> (b x processes, ...) everywhere.

    Gradients flow back. A loss of the joined batch, computed by every process, has the gradient that one process
    would have found for the whole batch once the processes' gradients are averaged, as distributed training does.
    """
    return _Gather.apply(batch) if _several() else batch


def own_part(joined: torch.Tensor) -> torch.Tensor:
    """What of a joined batch belongs to this process: (b x processes, ...) -> (b, ...)."""
    return joined.chunk(dist.get_world_size())[dist.get_rank()] if _several() else joined


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, batch: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(batch) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, batch.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        # Every process's loss depends on every process's batch.
        dist.all_reduce(total)
        return own_part(total)
