"""A queue of the last vectors that came by."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.errors import ScarceError


class Queue(nn.Module):
    """A ring buffer of vectors of unit length; neither batch nor queue has to divide the other.

    Args:
        size: how many vectors it holds.
        width: length of a vector.
        start: "random" begins full of random directions, "empty" with nothing and grows.

    Raises:
        ScarceError: the queue would hold nothing.
    """

    def __init__(self, size: int, width: int, start: Literal["random", "empty"] = "random") -> None:
        super().__init__()
        if size < 1:
            raise ScarceError("a queue of at least one vector", f"size {size}", "a few thousand are usual")
        self.size = size
        filled = F.normalize(torch.randn(size, width), dim=1) if start == "random" else torch.zeros(size, width)
        self.register_buffer("ring", filled)
        # Ever pushed. A number of Python's: reading it from the device would make every step wait.
        self.count = size if start == "random" else 0

    def vectors(self) -> torch.Tensor:
        """(n, width) what is in the queue, in no particular order: a copy, which survives the next push."""
        return self.ring[: self.count].clone()

    @torch.no_grad()
    def push(self, vectors: torch.Tensor) -> None:
        """Appends (B, width) vectors; the oldest ones leave."""
        places = torch.arange(self.count, self.count + len(vectors), device=self.ring.device) % self.size
        # Of a batch longer than the queue only the end stays.
        self.ring[places[-self.size :]] = vectors[-self.size :].to(self.ring.dtype)
        self.count += len(vectors)

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.count)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.count = int(state)
