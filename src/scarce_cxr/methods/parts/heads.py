"""Heads: the small networks between features and a loss."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.methods.parts.precision import in_full_precision


def projector(
    widths: Sequence[int], *, norm: bool, activation: type[nn.Module] = nn.ReLU, last_bias: bool = True
) -> nn.Sequential:
    """Linear layers with an activation between them: (B, widths[0]) -> (B, widths[-1]).

    Args:
        widths: lengths of the input, of each hidden layer, and of the output.
        norm: batch norm before every activation (the layer before it then needs no bias).
        activation: what stands between the layers.
        last_bias: the last layer adds a bias.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [
            nn.Linear(inputs, outputs, bias=not norm),
            *([nn.BatchNorm1d(outputs)] if norm else []),
            activation(),
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=last_bias))


class Prototypes(nn.Module):
    """Cosine similarity to K learned directions, in fp32: (B, D) -> (B, K) in [-1, 1].

    A linear layer under weight norm whose gain stays 1, behind an L2-norm; the weight is normalised where it is used.

    Args:
        width: D, length of a vector.
        count: K, how many directions.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, width))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return _cosines(vectors, self.weight)


@in_full_precision
def _cosines(vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors, dim=1) @ F.normalize(directions, dim=1).T
