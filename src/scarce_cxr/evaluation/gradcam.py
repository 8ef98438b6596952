"""Grad-CAM: where on a film a finding's score comes from, and whether the answer depends on what was learned.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2; the check is that of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from scipy.stats import spearmanr
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.finetune import stages_of
from scarce_cxr.evaluation.probe import standardise

# Films that go through the network at once.
_BATCH = 32
# Below so many positions two unrelated maps have much in common by chance: a rank correlation says nothing.
_FEWEST_POSITIONS = 16
# From here up a map counts as unchanged: half of its ranks' variance is then that of random weights.
_UNCHANGED = 0.7


class Cam(NamedTuple):
    """What Grad-CAM says of n films at every stage.

    Attributes:
        stages: names of the backbone's stages, finest first.
        maps: one (n, h, w) float32 a stage, signed. They are scaled by the number of positions, to log-odds: where a
            head follows the mean over a stage's positions directly, as in a ResNet's last stage, the map's mean is the
            score less the head's bias.
        scores: (n,) log-odds.
    """

    stages: tuple[str, ...]
    maps: list[np.ndarray]
    scores: np.ndarray


class Randomised(NamedTuple):
    """How like a stage's maps are those of a network whose weights are partly random.

    Attributes:
        stage: whose map it is.
        random: which weights were drawn anew: "head", then "from NAME on" backwards through the stages, "all".
        correlation: size of Spearman's correlation with the map of the true weights, mean over films and repeats, in
            [0, 1]; its sign is left out, as random weights turn a map inside out half of the time. nan if the maps are
            all flat.
        chance: what unrelated maps of as many positions have on average.
        positions: of the map.
        films, repeats: what stands behind it.
    """

    stage: str
    random: str
    correlation: float
    chance: float
    positions: int
    films: int
    repeats: int

    @property
    def verdict(self) -> str:
        """changed, unchanged, or too coarse to tell."""
        if self.positions < _FEWEST_POSITIONS or math.isnan(self.correlation):
            return "too coarse to tell"
        return "unchanged" if self.correlation >= _UNCHANGED else "changed"


def linear_head(weights: np.ndarray, bias: float, features: np.ndarray, rows: np.ndarray) -> nn.Linear:
    """A probe as a layer on the backbone's features as they are, its standardiser folded in.

    Args:
        weights: (d,) on standardised features.
        bias: to them.
        features: (n, d) as the backbone gave them, before they were standardised.
        rows: (m,) rows of the train split, by which they were standardised.

    Returns:
        (B, d) -> (B, 1) log-odds.
    """
    train = np.asarray(features[rows], dtype=np.float64)
    # Standardising is affine in each dimension: what it makes of 0 and 1 is all of it.
    shown = np.concatenate([train, np.zeros_like(train[:1]), np.ones_like(train[:1])])
    zero, one = standardise(shown, np.arange(len(train)))[-2:].astype(np.float64)
    head = nn.Linear(len(weights), 1)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights * (one - zero)))
        head.bias.fill_(float(bias + weights @ zero))
    return head


def grad_cam(backbone: Backbone, head: nn.Linear, images: torch.Tensor) -> Cam:
    """Grad-CAM of every stage, in evaluation mode.

    Args:
        backbone: a convolutional encoder; of a fine-tuned classifier `classifier.backbone`.
        head: (B, features) -> (B, 1): of a probe `linear_head`, of a classifier `classifier.head`.
        images: (n, 1, S, S) views, normalised as the backbone wants them.

    Raises:
        ScarceError: the backbone's stages are no maps.
    """
    model = nn.Sequential(backbone, head)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        shapes = _map_shapes(backbone, images[:1])
        methods = [LayerGradCam(model, backbone.model.get_submodule(name)) for name in backbone.stage_names]
        batches = [_cam_of_batch(model, methods, shapes, batch) for batch in images.split(_BATCH)]
    finally:
        for module, training in modes:
            module.training = training
    maps = [np.concatenate(parts) for parts in zip(*(maps for maps, _ in batches), strict=True)]
    return Cam(tuple(backbone.stage_names), maps, np.concatenate([scores for _, scores in batches]))


def upsampled(maps: np.ndarray, side: int) -> np.ndarray:
    """What speaks for the finding, as large as the film: (n, h, w) signed -> (n, side, side), at least 0."""
    grown = LayerAttribution.interpolate(torch.from_numpy(maps)[:, None], (side, side), "bilinear")
    return grown[:, 0].clamp(min=0).numpy()


def randomisation_check(
    backbone: Backbone,
    head: nn.Linear,
    images: torch.Tensor,
    *,
    cascade: bool = True,
    repeats: int = 3,
    seed: int = 0,
) -> list[Randomised]:
    """Compares the maps with those of weights that were drawn anew, from the head backwards.

    A map that stays the same when all that was learned is gone shows the film's own edges and shades, or the network's
    shape, but not what the network learned.

    Args:
        backbone, head, images: as for `grad_cam`.
        cascade: random are first the head, then also the last stage, and so on; otherwise all weights at once alone.
        repeats: how many random networks.
        seed: of their weights.

    Returns:
        One entry a stage and step of the cascade, steps in order.

    Raises:
        ScarceError: as for `grad_cam`.
    """
    true = grad_cam(backbone, head, images)
    count = len(backbone.stage_names)
    # First stage that is random; `count` is none but the head, -1 all with the stem.
    steps = range(count, -2, -1) if cascade else [-1]
    found = {step: [] for step in steps}
    for repeat in range(repeats):
        fresh_backbone, fresh_head = _fresh(backbone, head, seed * repeats + repeat)
        for step in steps:
            mixed = _mixed(backbone, fresh_backbone, step)
            found[step].append(_correlations(true.maps, grad_cam(mixed, fresh_head, images).maps))
    results = []
    for step in steps:
        correlations = np.stack(found[step])
        for stage, maps in enumerate(true.maps):
            positions = maps[0].size
            values = correlations[:, stage][np.isfinite(correlations[:, stage])]
            results.append(
                Randomised(
                    stage=backbone.stage_names[stage],
                    random=_step_words(backbone, step),
                    correlation=float(values.mean()) if len(values) else math.nan,
                    # Under independence the correlation is nearly normal with variance 1 / (positions - 1).
                    chance=math.sqrt(2 / (math.pi * (positions - 1))) if positions > 1 else 1.0,
                    positions=positions,
                    films=len(images),
                    repeats=repeats,
                )
            )
    return results


def randomisation_words(results: Sequence[Randomised]) -> list[str]:
    """One sentence a stage: what its map does when all weights are random, and what that means."""
    sentences = []
    for result in results:
        if result.random != "all":
            continue
        numbers = f"rank correlation {result.correlation:.2f}, by chance {result.chance:.2f}"
        numbers += f"; {result.films} films, {result.repeats} random networks"
        meaning = {
            "changed": "the map depends on what was learned",
            "unchanged": "THE MAP HARDLY CHANGES with random weights: it shows the film, not what was learned",
            "too coarse to tell": f"a map of {result.positions} positions is too coarse for the check",
        }[result.verdict]
        sentences.append(f"{result.stage}: {meaning} ({numbers})")
    return sentences


def _map_shapes(backbone: Backbone, image: torch.Tensor) -> list[tuple[int, ...]]:
    """Height and width of every stage's map."""
    with torch.no_grad():
        return [tuple(maps.shape[2:]) for maps in backbone.maps(image)]


def _cam_of_batch(
    model: nn.Module, methods: Sequence[LayerGradCam], shapes: Sequence[tuple[int, ...]], images: torch.Tensor
) -> tuple[list[np.ndarray], np.ndarray]:
    # Of a network whose weights are frozen nothing would have a gradient otherwise.
    images = images.detach().clone().requires_grad_()
    maps = []
    with torch.enable_grad():
        for method, shape in zip(methods, shapes, strict=True):
            found = method.attribute(images)
            if found.shape[2:] != shape:
                raise ScarceError(
                    "a backbone whose stages are maps (batch, channels, height, width)",
                    f"one whose stage gives {tuple(found.shape)}",
                    "choose a convolutional backbone, e.g. resnet50",
                )
            maps.append(found.detach()[:, 0].float().cpu().numpy() * math.prod(shape))
    with torch.no_grad():
        scores = model(images)[:, 0].double().cpu().numpy()
    return maps, scores


def _fresh(backbone: Backbone, head: nn.Linear, seed: int) -> tuple[Backbone, nn.Linear]:
    """A random network of the same shape, on the same device."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = Backbone(replace(backbone.settings, pretrained=False, weights=None))
        layer = nn.Linear(head.in_features, head.out_features)
    return fresh.to(head.weight.device), layer.to(head.weight.device)


def _mixed(backbone: Backbone, fresh: Backbone, first_random: int) -> Backbone:
    """The backbone with everything from that stage on taken from the fresh one; -1 takes the stem too."""
    mixed, other = copy.deepcopy(backbone), fresh.model.state_dict()
    taken = {name: other[name] for name, stage in stages_of(backbone).items() if stage >= first_random}
    mixed.model.load_state_dict(taken, strict=False)
    return mixed


def _step_words(backbone: Backbone, first_random: int) -> str:
    if first_random < 0:
        return "all"
    if first_random == len(backbone.stage_names):
        return "head"
    return f"from {backbone.stage_names[first_random]} on"


def _correlations(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """(stages, n) size of Spearman's correlation of every film's two maps; nan where one is flat."""
    return np.array(
        [[_correlation(*pair) for pair in zip(*maps, strict=True)] for maps in zip(first, second, strict=True)]
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return math.nan
    return abs(float(spearmanr(first.ravel(), second.ravel()).statistic))
