"""Fine-tuning: the later stages of a backbone and a linear head, on one draw of labelled films.

It runs the loop of pretraining. Most of the network stays as it was: with twenty films every freedom less is a way
less to learn the films by heart.
"""

import copy
import hashlib
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from timm.optim import param_groups_layer_decay
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.probe import LabelledFilms
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.training.loop import Counters, Course, Watcher, fit
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.loader import Loader
from scarce_cxr.views.plans import Normalization, OneView, Views, plain_view

# Films that go through the network at once when they are only scored.
_BATCH = 64

# The first trained stage: masked reconstruction leaves one more stage that is worth keeping.
_FIRST_STAGE, _FIRST_STAGE_OF = 1, {"SparK": 2}


@dataclass(frozen=True)
class FinetuneSettings:
    """How a trial is trained.

    A flip is off: it puts the heart on the right, which no film to be tested shows, and findings and devices know
    sides. Films are never turned upside down.

    Attributes:
        epochs: passes over the draw's films.
        batch_size: the most films in a step; a draw of more is cut into steps of equal size.
        head_lr: learning rate of the head, the first step's; half a cosine leads to 0.
        backbone_lr: the same of the backbone's last stage.
        layer_decay: factor on the learning rate from each layer (block) of the backbone to the one before it, in
            (0, 1]; 1 gives all the same.
        weight_decay: strength of AdamW's weight decay; biases and gains of norms are spared.
        first_stage: the first stage that is trained, counted from 0 (layer1 of a ResNet, stages.0 of a ConvNeXt);
            everything before it stays as it was. None: 2 after SparK, otherwise 1. The number of stages trains the
            head alone.
        augmentation: what happens to a film, before it is normalised.
        looks: how often, evenly spread, the films to tune on are scored.
    """

    epochs: int = 100
    batch_size: int = 32
    head_lr: float = 1e-3
    backbone_lr: float = 1e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    first_stage: int | None = None
    augmentation: Augmentation = Augmentation(crop=(0.8, 1.0), ratio=(0.9, 1 / 0.9), rotation=5.0)
    looks: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "looks"):
            if getattr(self, name) < 1:
                raise ScarceError(f"finetune.{name} of at least 1", f"{getattr(self, name)}", "raise it")
        for name in ("head_lr", "backbone_lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ScarceError(f"finetune.{name} of at least 0", f"{getattr(self, name)}", "e.g. 1.0e-4")
        if not 0 < self.layer_decay <= 1:
            raise ScarceError("finetune.layer_decay in (0, 1]", f"{self.layer_decay}", "1 switches it off")


class Films(NamedTuple):
    """Films whose answer is known: rows (m,) of the store's table, and labels (m,) of 1 and 0."""

    rows: np.ndarray
    labels: np.ndarray


class Finetuned(NamedTuple):
    """A trained classifier.

    Attributes:
        classifier: with the weights of the chosen look, in evaluation mode.
        epoch: after how many epochs it was chosen.
        tune_scores: (m,) its log-odds of the films to tune on.
        tune_auroc: its area under the curve there; nan where they lack one of both answers, and the last look is taken.
        loss: of the last step.
        seconds: of training and looking.
    """

    classifier: "Classifier"
    epoch: int
    tune_scores: np.ndarray
    tune_auroc: float
    loss: float
    seconds: float


class Trial(NamedTuple):
    """What one fit leaves for the table of trials.

    Attributes:
        tune: (m,) log-odds of the films to tune on, in the order given.
        test: (k,) log-odds of the test films, in the order given.
        epoch, tune_auroc, loss: as in `Finetuned`.
        seconds: of everything.
    """

    tune: np.ndarray
    test: np.ndarray
    epoch: int
    tune_auroc: float
    loss: float
    seconds: float


class Classifier(Method):
    """A backbone and a linear head that gives a finding's log-odds.

    The backbone stays in evaluation mode: batch norms keep the statistics that they came with (those of a few films
    would be noise), and also their gains and shifts. Nothing before the first trained stage takes a gradient, so no
    activation is kept there, and it costs a forward pass alone.

    Args:
        backbone: taken as it is, not copied; which of its weights take gradients is changed in place.
        head: (B, features) -> (B, 1).
        labels: (n,) 1, 0 or nan of each film of the store.
        first_stage: see `FinetuneSettings`.
    """

    def __init__(self, backbone: Backbone, head: nn.Linear, labels: np.ndarray, first_stage: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("labels", torch.as_tensor(labels, dtype=torch.float32), persistent=False)
        # Of both answers all films together weigh the same, however many there are.
        share = self.labels[self.labels.isfinite()].mean().item()
        self.positive_weight, self.negative_weight = 0.5 / share, 0.5 / (1 - share)
        _freeze(backbone, first_stage)

    def forward(self, views: Views) -> Step:
        """The first view of B labelled films -> cross-entropy in nats, both answers weighing the same in the draw."""
        labels = self.labels[torch.from_numpy(views.films).to(self.labels.device)]
        weights = torch.where(labels == 1, self.positive_weight, self.negative_weight)
        return Step(F.binary_cross_entropy_with_logits(self.logits(views.crops[0]), labels, weights), {})

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Log-odds: (B, 1, S, S) -> (B,)."""
        return self.head(self.backbone(images))[:, 0]

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.backbone.eval()
        return self


def finetune(
    store: Store,
    backbone: Backbone,
    draw: LabelledFilms,
    tune: LabelledFilms,
    *,
    size: int,
    seed: int,
    normalization: Normalization | None = None,
    settings: FinetuneSettings = FinetuneSettings(),
    method: str | None = None,
    device: torch.device | str = "cpu",
) -> Finetuned:
    """Trains a classifier on a draw and takes the look that is best on the films to tune on.

    Of looks that are equally good the later one is taken. The head before the first step is no candidate: it is the
    nearest prototype, which is a score of its own.

    Args:
        store: the films.
        backbone: what it begins from; a copy is trained.
        draw: the films to train on, of both answers.
        tune: the films to choose the look by; their views are kept in memory (4 size^2 bytes each). It may be empty.
        size: side of the views in pixels.
        seed: decides everything random, see `trial_seed`.
        normalization: the backbone's own; None takes the store's statistics.
        settings: how.
        method: name of the method class that pretrained the backbone, which decides where training begins.
        device: where.

    Returns:
        The classifier and what is known of it. Equal arguments give equal numbers on a CPU; on a GPU cuDNN is asked
        for algorithms of which the same is true.

    Raises:
        ScarceError: the draw has no film of one answer, a label is neither 1 nor 0, the backbone has no such stage, or
            the loss is no longer finite.
        Interrupted: it was told to stop; nothing of a trial is kept.
    """
    started = time.perf_counter()
    device = torch.device(device)
    normalization = normalization or Normalization(store.mean, store.std)
    first_stage = settings.first_stage
    if first_stage is None:
        first_stage = _FIRST_STAGE_OF.get(method, _FIRST_STAGE)
    copied = copy.deepcopy(backbone).to(device, memory_format=torch.channels_last)
    classifier = _prototype_classifier(store, copied, draw, size, normalization, first_stage)
    optimizer = torch.optim.AdamW(parameter_groups(classifier, settings), fused=True)
    fabric = Fabric(accelerator="cuda" if device.type == "cuda" else "cpu", devices=_devices(device))
    forward, wrapped = fabric.setup(classifier, optimizer)
    loader = Loader(
        store,
        OneView(size, settings.augmentation),
        films=np.asarray(draw.rows),
        batch_size=equal_batches(len(draw.rows), settings.batch_size),
        seed=seed,
        device=device,
        normalization=normalization,
    )
    tune_rows, tune_labels = _checked(tune, "the films to tune on")
    chooser = _BestLook(_plain_views(store, tune_rows, size, normalization, device), tune_labels)
    total = settings.epochs * loader.steps_per_epoch
    watch_every = math.ceil(settings.epochs / settings.looks) * loader.steps_per_epoch
    losses: list[float] = []

    def write(kind: str, step: int, numbers: dict[str, float]) -> None:
        if kind == "step":
            losses.append(numbers["loss"])

    with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        fit(
            fabric,
            classifier,
            forward,
            wrapped,
            loader,
            Course(total=total, warmup=0, log_every=0, watch_every=watch_every, save_every=0, keep_every=0),
            counters=Counters(),
            watchers=[chooser],
            write=write,
            save=lambda counters, keep: None,
        )
    chooser.restore(classifier)
    return Finetuned(
        classifier=classifier.eval(),
        epoch=chooser.step // loader.steps_per_epoch,
        tune_scores=chooser.scores,
        tune_auroc=chooser.auroc,
        loss=losses[-1],
        seconds=time.perf_counter() - started,
    )


def finetune_trial(
    store: Store,
    backbone: Backbone,
    draw: LabelledFilms,
    tune: LabelledFilms,
    test_rows: np.ndarray,
    *,
    size: int,
    seed: int,
    normalization: Normalization | None = None,
    settings: FinetuneSettings = FinetuneSettings(),
    method: str | None = None,
    device: torch.device | str = "cpu",
) -> Trial:
    """`finetune`, then one look at the test films (k,), given as rows of the store's table. Arguments as there."""
    started = time.perf_counter()
    normalization = normalization or Normalization(store.mean, store.std)
    fitted = finetune(
        store,
        backbone,
        draw,
        tune,
        size=size,
        seed=seed,
        normalization=normalization,
        settings=settings,
        method=method,
        device=device,
    )
    test = score_films(fitted.classifier, store, test_rows, size=size, normalization=normalization)
    seconds = time.perf_counter() - started
    return Trial(fitted.tune_scores, test, fitted.epoch, fitted.tune_auroc, fitted.loss, seconds)


def score_films(
    classifier: Classifier, store: Store, rows: np.ndarray, *, size: int, normalization: Normalization
) -> np.ndarray:
    """(m,) float64 log-odds of these films of the store, whole and with nothing random."""
    device = classifier.labels.device
    batches = np.array_split(np.asarray(rows), range(_BATCH, len(rows), _BATCH))
    return np.concatenate(
        [_scores(classifier, _plain_views(store, batch, size, normalization, device)) for batch in batches]
    )


def trial_seed(finding: str, shot: str, draw: int, seed: int = 0) -> int:
    """The seed of a trial, in [0, 2^63): the same for every start, so that starts see the same films the same way."""
    said = "\n".join([finding, str(shot), str(draw), str(seed)])
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big") >> 1


def prototype_head(features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, float]:
    """A linear head from the means of both answers.

    The weights are the difference of the means at unit length, so the sign of the log-odds says whose mean is nearer
    in direction, once the films' common length is left out; the bias puts 0 half-way between both means. Then both are
    scaled so that the draw's own log-odds have a root mean square of 1: neither sure of anything nor flat.

    Args:
        features: (n, d).
        labels: (n,) 1 and 0, some of each.

    Returns:
        Weights (d,) and the bias; all 0 if both means have the same direction.
    """
    rows = features.double()
    positive, negative = (rows[labels == answer].mean(dim=0) for answer in (1, 0))
    weight = F.normalize(positive, dim=0) - F.normalize(negative, dim=0)
    bias = -weight @ (positive + negative) / 2
    spread = (rows @ weight + bias).square().mean().sqrt()
    # Rounding alone keeps equal directions from giving exactly nothing.
    scale = 1 / spread if spread > 1e-9 * rows.norm(dim=1).mean() else torch.zeros_like(spread)
    return (scale * weight).float(), (scale * bias).item()


def equal_batches(films: int, most: int) -> int:
    """Films in each step of an epoch: as few steps as `most` allows, all of the same size.

    At most one film less than there are steps is left for another epoch.
    """
    return films // math.ceil(films / most)


def parameter_groups(classifier: Classifier, settings: FinetuneSettings) -> list[dict]:
    """What AdamW trains, with a learning rate and a weight decay each; the head comes first."""
    decays = {"weight_decay": settings.weight_decay, "layer_decay": settings.layer_decay}
    groups = param_groups_layer_decay(classifier.backbone.model, **decays)
    head = [
        {"params": [classifier.head.weight], "lr": settings.head_lr, "weight_decay": settings.weight_decay},
        {"params": [classifier.head.bias], "lr": settings.head_lr, "weight_decay": 0.0},
    ]
    return head + [{**group, "lr": settings.backbone_lr * group["lr_scale"]} for group in groups]


def stages_of(backbone: Backbone) -> dict[str, int]:
    """The stage of each entry of the timm model's state: -1 for the stem; what follows the last stage counts to it."""
    stage, stages = -1, {}
    for name in backbone.model.state_dict():
        own = (number for number, module in enumerate(backbone.stage_names) if name.startswith(f"{module}."))
        stage = next(own, stage)
        stages[name] = stage
    return stages


def _prototype_classifier(
    store: Store, backbone: Backbone, draw: LabelledFilms, size: int, normalization: Normalization, first_stage: int
) -> Classifier:
    """A classifier around the backbone, as it is before the first step."""
    rows, labels = _checked(draw, "the draw")
    if len(np.unique(labels)) < 2:
        got = f"{int(labels.sum())} positives among {len(labels)}"
        raise ScarceError("a draw with films that have the finding and films that lack it", got, "draw more films")
    device = next(backbone.parameters()).device
    head = nn.Linear(backbone.features, 1).to(device)
    with torch.no_grad():
        backbone.eval()
        features = [backbone(batch) for batch in _plain_views(store, rows, size, normalization, device)]
        weight, bias = prototype_head(torch.cat(features), torch.from_numpy(labels).to(device))
        head.weight.copy_(weight)
        head.bias.fill_(bias)
    known = np.full(len(store), np.nan)
    known[rows] = labels
    return Classifier(backbone, head, known, first_stage)


def _freeze(backbone: Backbone, first_stage: int) -> None:
    """Leaves gradients to what comes from that stage on, batch norms excepted."""
    count = len(backbone.stage_names)
    if not 0 <= first_stage <= count:
        names = ", ".join(f"{number} ({name})" for number, name in enumerate(backbone.stage_names))
        raise ScarceError(f"finetune.first_stage from 0 to {count}", f"{first_stage}", f"the stages are {names}")
    stages = stages_of(backbone)
    for name, parameter in backbone.model.named_parameters():
        parameter.requires_grad_(stages[name] >= first_stage)
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)


class _BestLook(Watcher):
    """Scores the films to tune on at every look, and keeps the trained weights of the best one."""

    def __init__(self, views: list[torch.Tensor], labels: np.ndarray) -> None:
        self.views, self.labels = views, labels
        self.auroc, self.step, self.scores = math.nan, 0, np.empty(0)
        self.weights: dict[str, torch.Tensor] = {}

    def look(self, method: Classifier, step: int) -> dict[str, float]:
        if step == 0:
            return {}
        method.eval()
        scores = _scores(method, self.views)
        # The loop refuses a loss that is no number; it need not be this look that fails.
        area = float(auroc(scores, self.labels)[0]) if np.isfinite(scores).all() else math.nan
        # Where there is nothing to choose by, every look replaces the one before.
        if not area < self.auroc:
            self.auroc, self.step, self.scores = area, step, scores
            self.weights = {name: tensor.detach().clone() for name, tensor in _trained(method).items()}
        return {"tune_auroc": area}

    @torch.no_grad()
    def restore(self, method: Classifier) -> None:
        """Gives the classifier the weights of the best look."""
        for name, tensor in _trained(method).items():
            tensor.copy_(self.weights[name])


def _trained(method: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in method.named_parameters() if tensor.requires_grad}


@torch.no_grad()
def _scores(classifier: Classifier, views: list[torch.Tensor]) -> np.ndarray:
    scores = [classifier.logits(batch).double().cpu().numpy() for batch in views]
    return np.concatenate(scores) if scores else np.empty(0)


def _plain_views(
    store: Store, rows: np.ndarray, size: int, normalization: Normalization, device: torch.device
) -> list[torch.Tensor]:
    """The films whole and with nothing random: batches of (b, 1, size, size)."""
    starts = range(0, len(rows), _BATCH)
    pixels = (torch.from_numpy(store.pixels(rows[start : start + _BATCH])).to(device) for start in starts)
    return [plain_view(films, size, normalization) for films in pixels]


def _checked(films: LabelledFilms, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows (m,) int64 and labels (m,) float64 of 1 and 0."""
    rows, labels = np.asarray(films.rows, dtype=np.int64), np.asarray(films.labels, dtype=np.float64)
    if rows.shape != labels.shape or rows.ndim != 1:
        raise ScarceError(f"one label for each film of {what}", f"{labels.shape} for {rows.shape}", "give both alike")
    if wrong := sorted(set(labels.tolist()) - {0.0, 1.0}, key=str):
        raise ScarceError(f"labels of 1 or 0 for {what}", f"also {wrong[0]}", "leave films without an answer out")
    return rows, labels


def _devices(device: torch.device) -> int | list[int]:
    return [device.index] if device.index is not None else 1
