"""Decorated functions know no bf16."""

import torch

from scarce_cxr.methods.parts.precision import in_full_precision


@in_full_precision
def multiply(first: torch.Tensor, second: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """A product that autocast would take to bf16."""
    return scale * first @ second.T


def test_autocast_is_off_inside_and_half_inputs_come_in_full():
    vectors = torch.randn(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (vectors @ vectors.T).dtype == torch.bfloat16
        assert torch.equal(multiply(vectors, vectors, scale=2.0), multiply(vectors, 2 * vectors))
        assert multiply(vectors.bfloat16(), vectors).dtype == torch.float32
    assert multiply(vectors.double(), vectors.double()).dtype == torch.float64
