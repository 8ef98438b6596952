"""BYOL: bootstrap your own latent, without a single negative.

Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020
(arXiv:2006.07733). The file follows the paper: the loss (equation 2), then online network, predictor and target
network (section 3.1, figure 2).
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.methods.method import Method, Step, refuse_outside, scaled_momentum, two_views
from scarce_cxr.methods.parts.heads import projector
from scarce_cxr.methods.parts.precision import in_full_precision
from scarce_cxr.methods.parts.teacher import Teacher, momentum_at
from scarce_cxr.views.plans import Views


@in_full_precision
def prediction_error(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Squared distance of unit vectors (equation 2): (B, D), (B, D) -> scalar in [0, 4], mean over the batch."""
    return (2 - 2 * F.cosine_similarity(predictions, targets, dim=1)).mean()


class BYOL(Method):
    """From one view the online network predicts what the target network, its moving average, makes of the other.

    Args:
        backbone: the encoder.
        hidden: length of the hidden layer of projector and predictor.
        width: length of the projection.
        momentum: of the target network at the start; half a cosine leads it to 1 (section 3.3). auto: 0.99 at a batch
            of 256, by `scaled_momentum`. The paper's 0.99 (of its shorter runs) and 0.996 are for batches of 4,096:
            carried to 256 by the rule, they average over 400,000 films and more, which are a third of ImageNet's
            epoch but four epochs of 100,000 films, so the value is taken over as it stands.
        predictor: let the online network alone predict; without it the projection is compared as it is, and nothing
            speaks against making all films alike.
        stop_gradient: take targets from the average, which no gradient reaches; without it they come from the online
            network itself, and the gradient flows through them too.
        projection_norm: batch norm without gains behind the projector (as Chen and He, "Exploring Simple Siamese
            Representation Learning", CVPR 2021, section 3). Radiographs have most of a projection in common: without
            it, predicting the average film already gives a cosine near 1.
    """

    automatic: ClassVar = {"momentum": scaled_momentum(0.99, batch_size=256, parts=20)}

    def __init__(
        self,
        backbone: Backbone,
        hidden: int = 4096,
        width: int = 256,
        momentum: float | Literal["auto"] = 0.996,
        predictor: bool = True,
        stop_gradient: bool = True,
        projection_norm: bool = False,
    ) -> None:
        super().__init__()
        refuse_outside(1, hidden=hidden, width=width)
        refuse_outside(0, 1, momentum=momentum)
        self.momentum = momentum
        self.backbone = backbone
        self.projector = projector([backbone.features, hidden, width], norm=True)
        if projection_norm:
            self.projector.append(nn.BatchNorm1d(width, affine=False))
        self.predictor = projector([width, hidden, width], norm=True) if predictor else nn.Identity()
        self.teacher = Teacher(self._online()) if stop_gradient else None

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.projector(features)

    def forward(self, views: Views) -> Step:
        images = two_views(views)
        online = self._online()
        projections = [online(view) for view in images]
        targets = projections if self.teacher is None else [self.teacher(view) for view in images]
        first, second = (self.predictor(projection) for projection in projections)
        loss = prediction_error(first, targets[1]) + prediction_error(second, targets[0])
        # The loss is the sum of both directions, each 2 - 2 cosine.
        return Step(loss, {"similarity": 1 - loss.detach() / 4})

    def after_step(self, progress: float) -> None:
        if self.teacher is not None:
            self.teacher.update(self._online(), momentum_at(progress, self.momentum))

    def _online(self) -> nn.Module:
        return nn.Sequential(self.backbone, self.projector)
