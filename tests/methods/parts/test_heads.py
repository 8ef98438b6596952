"""Heads have the layers that papers give them."""

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.methods.parts.heads import Prototypes, projector


def test_a_projector_is_linear_norm_activation_and_ends_linear():
    layers = projector([8, 16, 16, 4], norm=True, activation=nn.GELU, last_bias=False)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.bias is None for layer in layers if isinstance(layer, nn.Linear)] == [True, True, True]
    assert layers(torch.randn(3, 8)).shape == (3, 4)


def test_without_norm_every_layer_has_its_bias():
    layers = projector([8, 8, 4], norm=False)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Linear))


def test_prototypes_are_a_weight_normed_layer_behind_an_l2_norm():
    prototypes, vectors = Prototypes(8, 5), torch.randn(3, 8)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 5, bias=False))
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(1)
        layer.parametrizations.weight.original1.copy_(prototypes.weight)
    assert torch.allclose(prototypes(vectors), layer(F.normalize(vectors, dim=1)), atol=1e-6)


def test_prototypes_answer_in_full_precision_under_autocast():
    prototypes, vectors = Prototypes(8, 5), torch.randn(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototypes(vectors), prototypes(vectors.clone()))
        assert prototypes(vectors.bfloat16()).dtype == torch.float32
        given = prototypes(vectors)
    assert torch.equal(given, prototypes(vectors))
