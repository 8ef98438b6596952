"""MoCo v2: contrast with a queue of keys from a slowly moving encoder.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020 (arXiv:1911.05722), with the
head and the views of Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv:2003.04297). The file
follows the paper: the loss (equation 1), then dictionary as a queue, momentum update (equation 2) and shuffled batch
norm (section 3.3). The variance and covariance terms are options; they come from Bardes et al., "VICReg", ICLR 2022
(arXiv:2105.04906), equations 1 to 4.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import (
    Chosen,
    Facts,
    Method,
    Step,
    power_of_two,
    refuse_outside,
    scaled_momentum,
    two_views,
)
from scarce_cxr.methods.parts.gathering import gather
from scarce_cxr.methods.parts.heads import projector
from scarce_cxr.methods.parts.precision import in_full_precision
from scarce_cxr.methods.parts.queue import Queue
from scarce_cxr.methods.parts.teacher import Teacher
from scarce_cxr.views.plans import Views


@in_full_precision
def info_nce(
    queries: torch.Tensor, keys: torch.Tensor, negatives: torch.Tensor, temperature: float = 0.2
) -> torch.Tensor:
    """InfoNCE (equation 1): how well each query finds its own key among the negatives.

    Args:
        queries: (B, D) of unit length.
        keys: (B, D) of unit length; key i belongs to query i.
        negatives: (n, D) of unit length; with n = 0 there is nothing to lose.
        temperature: of the softmax over similarities.

    Returns:
        Scalar, mean over the queries, at least 0; ln(n + 1) if nothing is told apart.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@in_full_precision
def variance_term(vectors: torch.Tensor) -> torch.Tensor:
    """VICReg's hinge on each dimension's standard deviation (equations 1, 2; gamma 1): (B, D) -> scalar in [0, 1]."""
    return F.relu(1 - (vectors.var(dim=0) + 1e-4).sqrt()).mean()


@in_full_precision
def covariance_term(vectors: torch.Tensor) -> torch.Tensor:
    """VICReg's squared covariances of different dimensions (equations 3, 4): (B, D) -> scalar of at least 0."""
    covariance = torch.cov(vectors.T)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / vectors.shape[1]


@in_full_precision
def spread(vectors: torch.Tensor) -> torch.Tensor:
    """Standard deviation of (n, D) unit vectors: 1 = evenly spread over the sphere, 0 = all the same, nan = none."""
    deviations = (vectors - vectors.mean(dim=0)).square().mean(dim=0).sqrt()
    return deviations.mean() * vectors.shape[1] ** 0.5


def encode_in_splits(encode: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, splits: int) -> torch.Tensor:
    """Encodes (B, 1, S, S) images in equal parts, each of which batch norm takes for a batch of its own.

    Raises:
        ScarceError: the parts would not be equal, or hold a single image.
    """
    if splits > 1 and (len(images) % splits or len(images) == splits):
        raise ScarceError(
            "a micro-batch that divides into parts of at least two films",
            f"{len(images)} films with method.bn_splits = {splits}",
            f"choose batches of a multiple of {2 * splits}, or fewer splits",
        )
    return torch.cat([encode(part) for part in images.chunk(splits)])


def queue_length(facts: Facts) -> Chosen:
    """The largest power of two in half of the films to train on, at most the paper's 65,536, at least a batch.

    An epoch visits a film once, so of a queue of q keys among n films a query meets its own film's key of the epoch
    before with probability (q / n)^2 / 2: in one of eight cases at half of the films, in every case from twice the
    films on.
    """
    length = power_of_two(max(1, min(facts.films // 2, 65_536)))
    if length < facts.batch_size:
        return Chosen(facts.batch_size, f"a batch at least: half of the {facts.films:,} films would be less")
    words = f"the largest power of two in half of the {facts.films:,} films, at most 65,536"
    return Chosen(length, f"{words}: in a longer one more of them meet their own old keys")


class MoCo(Method):
    """Queries from the encoder look for their keys, which come from its moving average.

    Args:
        backbone: the encoder.
        width: length of the projection.
        queue: keys of earlier batches to tell the own key from. In a queue nearly as long as the data set every film
            is a negative of itself. auto: `queue_length`.
        queue_start: "random" begins with a queue of random directions, as the paper; "empty" lets it grow.
        temperature: of the softmax over similarities.
        momentum: of the keys' encoder, constant. auto: 0.999 at the paper's batch of 256, by `scaled_momentum`.
        bn_splits: parts into which a batch is divided for batch norm. A query and its key whose batches share their
            statistics know each other by them, and nothing is learned; so queries are normalised in parts of their
            order and keys in parts of a shuffled one, as on the paper's many devices. 1 does not divide. 0 keeps the
            keys' encoder in evaluation mode, with averaged running statistics: nothing of the batch is then in a key.
        variance_weight: weight of VICReg's variance term on the queries.
        covariance_weight: weight of its covariance term.
        regularize: what the two terms look at. "raw": the projections as they come. The contrast sees directions
            only, so the hinge can be cheated by growing the norm: nearly parallel vectors, long enough, have any
            deviation one asks for. "normalized": the unit vectors times sqrt(width), whose deviation is 1 when they
            are spread evenly over the sphere, and which no norm can help.
    """

    automatic: ClassVar = {"queue": queue_length, "momentum": scaled_momentum(0.999, batch_size=256)}

    def __init__(
        self,
        backbone: Backbone,
        width: int = 128,
        queue: int | Literal["auto"] = 65536,
        queue_start: Literal["random", "empty"] = "random",
        temperature: float = 0.2,
        momentum: float | Literal["auto"] = 0.999,
        bn_splits: int = 8,
        variance_weight: float = 0.0,
        covariance_weight: float = 0.0,
        regularize: Literal["raw", "normalized"] = "normalized",
    ) -> None:
        super().__init__()
        refuse_outside(1, width=width, queue=queue)
        refuse_outside(1e-3, temperature=temperature)
        refuse_outside(0, 1, momentum=momentum)
        refuse_outside(0, bn_splits=bn_splits, variance_weight=variance_weight, covariance_weight=covariance_weight)
        self.temperature, self.momentum, self.bn_splits = temperature, momentum, bn_splits
        self.variance_weight, self.covariance_weight, self.regularize = variance_weight, covariance_weight, regularize
        self.backbone = backbone
        self.projector = projector([backbone.features, backbone.features, width], norm=False)
        self.teacher = Teacher(self._student(), resting=bn_splits == 0)
        self.queue = Queue(queue, width, queue_start)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.projector(features)

    def forward(self, views: Views) -> Step:
        images, others = two_views(views)
        projections = encode_in_splits(self._student(), images, max(1, self.bn_splits)).float()
        queries = F.normalize(projections, dim=1)
        keys = self.make_keys(others)
        negatives = self.queue.vectors()
        contrast = info_nce(queries, keys, negatives, self.temperature)
        looked_at = gather(projections if self.regularize == "raw" else queries * queries.shape[1] ** 0.5)
        variance, covariance = variance_term(looked_at), covariance_term(looked_at)
        loss = contrast + self.variance_weight * variance + self.covariance_weight * covariance
        if self.training:
            self.queue.push(gather(keys))
        numbers = {
            "contrast": contrast,
            "variance": variance,
            "covariance": covariance,
            "positive_similarity": (queries * keys).sum(dim=1).mean(),
            "negative_similarity": queries.mean(dim=0) @ negatives.mean(dim=0),
            "queue_std": spread(negatives),
        }
        return Step(loss, {name: number.detach() for name, number in numbers.items()})

    def after_step(self, progress: float) -> None:
        # The paper moves the average before it makes keys: that is here, one call earlier.
        self.teacher.update(self._student(), self.momentum)

    def _student(self) -> nn.Module:
        return nn.Sequential(self.backbone, self.projector)

    def make_keys(self, images: torch.Tensor) -> torch.Tensor:
        """Keys of unit length in the films' order: (B, 1, S, S) -> (B, width)."""
        if self.bn_splits <= 1:
            return F.normalize(self.teacher(images).float(), dim=1)
        order = torch.randperm(len(images)).to(images.device)
        shuffled = encode_in_splits(self.teacher, images[order], self.bn_splits)
        return F.normalize(shuffled[order.argsort()].float(), dim=1)
