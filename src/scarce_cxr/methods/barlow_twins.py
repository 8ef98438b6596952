"""Barlow Twins: two views' features, correlated with themselves and with nothing else.

Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021 (arXiv:2103.03230). The
file follows the paper: cross-correlation (equation 2), loss (equation 1), projector (section 2.2).
"""

import torch
import torch.nn.functional as F

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.methods.method import Method, Step, refuse_outside, two_views
from scarce_cxr.methods.parts.gathering import gather
from scarce_cxr.methods.parts.heads import projector
from scarce_cxr.methods.parts.precision import in_full_precision
from scarce_cxr.views.plans import Views


@in_full_precision
def cross_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Correlation of every dimension of one view with every one of the other, over the batch (equation 2), in fp32.

    Args:
        first: (B, D) projections of the first views.
        second: (B, D) projections of the same films' second views.

    Returns:
        (D, D) in [-1, 1]. No shift of a dimension changes it, and no positive scale.
    """
    # Batch norm without gains: it divides by the biased deviation and is safe where a dimension is constant.
    first, second = (F.batch_norm(vectors, None, None, training=True) for vectors in (first, second))
    return first.T @ second / len(first)


@in_full_precision
def diagonal_terms(correlation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss's two sums (equation 1): invariance on the diagonal, redundancy off it. (D, D) -> two scalars.

    The first is D while views have nothing in common and 0 when they agree; the second is 0 when no dimension says
    what another one says.
    """
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()


class BarlowTwins(Method):
    """Both views go through the same network; the loss looks at the correlation over the batch of all processes.

    Args:
        backbone: the encoder.
        projector_widths: lengths of the projector's layers; the paper gains from long ones.
        off_diagonal_weight: lambda, what redundancy costs in terms of invariance.
    """

    def __init__(
        self,
        backbone: Backbone,
        projector_widths: tuple[int, int, int] = (8192, 8192, 8192),
        off_diagonal_weight: float = 0.005,
    ) -> None:
        super().__init__()
        for width in projector_widths:
            refuse_outside(2, projector_widths=width)
        refuse_outside(0, off_diagonal_weight=off_diagonal_weight)
        self.off_diagonal_weight = off_diagonal_weight
        self.backbone = backbone
        # The correlation ignores any shift: a last bias would never get a gradient.
        self.projector = projector([backbone.features, *projector_widths], norm=True, last_bias=False)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.projector(features)

    def correlate(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """`cross_correlation` (D, D) of the projections of two views' features, (B, features) each."""
        return cross_correlation(self.projector(first), self.projector(second))

    def forward(self, views: Views) -> Step:
        # One pass a view: batch norm sees the views apart, as in the paper.
        first, second = (gather(self.projector(self.backbone(images))) for images in two_views(views))
        on_diagonal, off_diagonal = diagonal_terms(cross_correlation(first, second))
        loss = on_diagonal + self.off_diagonal_weight * off_diagonal
        return Step(loss, {"on_diagonal": on_diagonal.detach(), "off_diagonal": off_diagonal.detach()})
