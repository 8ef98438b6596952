"""DINO: self-distillation with no labels.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021 (arXiv:2104.14294). The file
follows the paper: cross-entropy over pairs of views (equations 1 to 3), how the teacher is kept from collapse
(centring, equation 4), head (section 3.1, appendix C), then the method. Options from elsewhere: Sinkhorn-Knopp (Caron
et al., "SwAV", NeurIPS 2020, section 3.1) and KoLeo (Sablayrolles et al., "Spreading vectors for similarity search",
ICLR 2019), both as DINOv2 (arXiv:2304.07193, section 4) uses them.
"""

from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import Chosen, Facts, Method, Step, power_of_two, refuse_outside, scaled_momentum
from scarce_cxr.methods.parts.gathering import gather, own_part
from scarce_cxr.methods.parts.heads import Prototypes, projector
from scarce_cxr.methods.parts.precision import in_full_precision
from scarce_cxr.methods.parts.teacher import Teacher, momentum_at
from scarce_cxr.views.plans import Views

# Films that go through the networks at once when they are only looked at.
_ASSIGNED = 64


@in_full_precision
def distillation_loss(targets: torch.Tensor, logits: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Cross-entropy over all pairs of a teacher's and a student's view but the same one (equation 3).

    Args:
        targets: (T, B, K) the teacher's distributions over K prototypes, for T global views.
        logits: (V, B, K) the student's similarities to the prototypes; its first T views are the teacher's.
        temperature: of the student's softmax.

    Returns:
        Scalar in nats, mean over pairs and films.
    """
    surprises = -F.log_softmax(logits / temperature, dim=-1)
    pairs = torch.einsum("tbk,vbk->tv", targets, surprises) / targets.shape[1]
    different = 1 - torch.eye(*pairs.shape, device=pairs.device)
    return (pairs * different).sum() / different.sum()


@in_full_precision
def centered_targets(logits: torch.Tensor, center: torch.Tensor, temperature: float) -> torch.Tensor:
    """Softmax of the teacher's similarities (..., K) after the prototypes' averages (K,) are taken off."""
    return F.softmax((logits - center) / temperature, dim=-1)


@in_full_precision
def balanced_targets(logits: torch.Tensor, temperature: float, iterations: int = 3) -> torch.Tensor:
    """Distributions close to the softmax of (n, K) logits that together use all prototypes alike (Sinkhorn-Knopp).

    In logarithms: at a temperature of 0.01 the exponentials would leave fp32.
    """
    scores = logits / temperature
    for _ in range(iterations):
        scores = scores - scores.logsumexp(dim=0, keepdim=True)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
    return scores.exp()


@in_full_precision
def koleo(features: torch.Tensor) -> torch.Tensor:
    """Mean negative logarithm of each (B, D) feature's distance on the unit sphere to its nearest neighbour."""
    features = F.normalize(features, dim=1)
    nearest = (features @ features.detach().T).fill_diagonal_(-2).argmax(dim=1)
    distances = F.pairwise_distance(features, features[nearest], eps=1e-8)
    return -(distances + 1e-8).log().mean()


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy in nats along the last axis: (..., K) -> (...), between 0 and ln K."""
    return torch.special.entr(probabilities).sum(dim=-1)


@torch.no_grad()
def collapse_numbers(targets: torch.Tensor, cross_entropy: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the loss is made of, in nats, from the teacher's distributions (T, B, K) and the loss.

    Matched information is the entropy of the mean distribution less the cross-entropy: what the student knows of a
    film beyond the average film; 0 on DINO's plateau, however low the loss. The mean is over the T x B views of all
    processes; its entropy cannot exceed the teacher's own by more than the logarithm of their number.
    """
    teacher_entropy = entropy(targets).mean()
    mean_entropy = entropy(gather(targets.mean(dim=(0, 1))[None]).mean(dim=0))
    return {
        "cross_entropy": cross_entropy.detach(),
        "teacher_entropy": teacher_entropy,
        "mean_teacher_entropy": mean_entropy,
        "kl": cross_entropy.detach() - teacher_entropy,
        "matched_information": mean_entropy - cross_entropy.detach(),
    }


class Assigned(NamedTuple):
    """What is said of V views of B films over K prototypes.

    Attributes:
        targets: the teacher's distributions (V, B, K), centred or balanced.
        logits: the student's logits (V, B, K).
        plain: the teacher's distributions (V, B, K), neither centred nor balanced: few prototypes show here, whatever
            balances.
    """

    targets: torch.Tensor
    logits: torch.Tensor
    plain: torch.Tensor


class Network(nn.Module):
    """What student and teacher each have one of: backbone and head."""

    def __init__(self, backbone: Backbone, hidden: int, bottleneck: int, outputs: int, head_norm: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector([backbone.features, hidden, hidden, bottleneck], norm=head_norm, activation=nn.GELU)
        for name, parameter in self.projector.named_parameters():
            if parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        self.prototypes = Prototypes(bottleneck, outputs)

    def forward(self, crops: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """V views of B films, same sizes side by side -> logits (V, B, K) and features (V, B, features)."""
        sizes = [crop.shape[-1] for crop in crops]
        # Same-size crops in one pass: quicker, and batch norm sees them together.
        passes = [torch.cat([c for c in crops if c.shape[-1] == size]) for size in dict.fromkeys(sizes)]
        features = torch.cat([self.backbone(images) for images in passes])
        logits = self.prototypes(self.projector(features))
        return logits.unflatten(0, (len(crops), -1)), features.unflatten(0, (len(crops), -1))


def prototype_number(facts: Facts) -> Chosen:
    """The largest power of two in a sixteenth of the films to train on, between 256 and the paper's 65,536.

    The paper has 20 images for each of its prototypes (1.28 million for 65,536); fewer films, and more alike ones than
    photographs, cannot fill as many.
    """
    sixteenth = facts.films // 16
    if sixteenth < 256:
        return Chosen(256, f"256 at least: a sixteenth of the {facts.films:,} films would be fewer")
    number = power_of_two(min(sixteenth, 65_536))
    words = f"the largest power of two in a sixteenth of the {facts.films:,} films, at most 65,536"
    return Chosen(number, f"{words}: fewer films cannot fill more")


def sharp_temperature(facts: Facts) -> Chosen:
    """0.01, whatever the facts: it follows from how alike films are, not from how many there are.

    A film's share of its own target falls with the temperature's square. At the paper's 0.04 and above, the views'
    noise drowns it: matched information stays at 0 nats. At 0.02 it rises, at 0.01 faster (`studies/dino_factors.py`:
    800 films of 64 pixels, ResNet-18).
    """
    return Chosen(0.01, "films are alike: what tells one from others in its target falls with 1/T^2; 0.04 is too warm")


class DINO(Method):
    """The student learns to say of any crop what the teacher, its average, says of another crop of the same film.

    The crops of the largest size are the global ones, which alone the teacher sees. It survives as `backbone`: the
    paper finds its features ahead of the student's (section 5.2).

    Args:
        backbone: the encoder. A transformer must take all the sizes that the plan makes.
        outputs: number of prototypes, K. auto: `prototype_number`.
        hidden: length of the head's hidden layers.
        bottleneck: length of the vectors that are compared with the prototypes.
        head_norm: batch norm in the head.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's softmax, after its warm-up. auto: `sharp_temperature`.
        first_teacher_temperature: where the warm-up begins, below or above; none: no warm-up.
        temperature_warmup: share of the run in which the teacher's temperature moves, in a line.
        centering: what keeps a few prototypes from taking all: "mean" takes off their running averages, "sinkhorn"
            balances every batch.
        center_momentum: of the running averages.
        momentum: of the teacher, at the start. auto: the paper's 0.996 at a batch of 512, by `scaled_momentum`.
        last_momentum: of the teacher, at the end.
        momentum_shape: how the one becomes the other.
        frozen: share of the run in which the prototypes do not move.
        koleo_weight: weight of the KoLeo term on the student's features of each global view.
    """

    automatic: ClassVar = {
        "outputs": prototype_number,
        "teacher_temperature": sharp_temperature,
        # With targets so cold a lagging teacher teaches its own random start: it may reach back ten of 600 steps.
        "momentum": scaled_momentum(0.996, batch_size=512, parts=60),
    }

    def __init__(
        self,
        backbone: Backbone,
        outputs: int | Literal["auto"] = 65536,
        hidden: int = 2048,
        bottleneck: int = 256,
        head_norm: bool = False,
        student_temperature: float = 0.1,
        teacher_temperature: float | Literal["auto"] = 0.04,
        first_teacher_temperature: float | None = None,
        temperature_warmup: float = 0.0,
        centering: Literal["mean", "sinkhorn"] = "mean",
        center_momentum: float = 0.9,
        momentum: float | Literal["auto"] = 0.996,
        last_momentum: float = 1.0,
        momentum_shape: Literal["cosine", "linear"] = "cosine",
        frozen: float = 0.01,
        koleo_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if first_teacher_temperature is None:
            first_teacher_temperature = teacher_temperature
        refuse_outside(2, outputs=outputs, hidden=hidden, bottleneck=bottleneck)
        refuse_outside(1e-3, student_temperature=student_temperature, teacher_temperature=teacher_temperature)
        refuse_outside(1e-3, first_teacher_temperature=first_teacher_temperature)
        refuse_outside(0, 1, center_momentum=center_momentum, momentum=momentum, last_momentum=last_momentum)
        refuse_outside(0, 1, temperature_warmup=temperature_warmup, frozen=frozen)
        refuse_outside(0, koleo_weight=koleo_weight)
        self.student_temperature, self.frozen, self.koleo_weight = student_temperature, frozen, koleo_weight
        self.temperatures = first_teacher_temperature, teacher_temperature
        self.temperature_warmup = temperature_warmup
        self.momenta, self.momentum_shape = (momentum, last_momentum), momentum_shape
        self.center_momentum = center_momentum
        self.student = Network(backbone, hidden, bottleneck, outputs, head_norm)
        self.teacher = Teacher(self.student)
        self.register_buffer("center", torch.zeros(outputs) if centering == "mean" else None)
        self.progress = 0.0

    @property
    def backbone(self) -> Backbone:
        return self.teacher.module.backbone

    @property
    def teacher_temperature(self) -> float:
        """The teacher's temperature at the present progress."""
        first, last = self.temperatures
        share = self.progress / self.temperature_warmup if self.progress < self.temperature_warmup else 1.0
        return first + (last - first) * share

    def forward(self, views: Views) -> Step:
        crops = views.crops
        if len(crops) < 2:
            raise ScarceError(
                "several views of each film",
                "one from the plan",
                "set views.class_path to scarce_cxr.views.plans.MultiCrop",
            )
        global_crops = [crop for crop in crops if crop.shape[-1] == crops[0].shape[-1]]
        teacher_logits, _ = self.teacher(global_crops)
        logits, features = self.student(crops)
        targets = self.make_targets(teacher_logits)
        cross_entropy = distillation_loss(targets, logits, self.student_temperature)
        numbers = collapse_numbers(targets, cross_entropy)
        loss = cross_entropy
        if self.koleo_weight > 0:
            spread = torch.stack([koleo(features[view]) for view in range(len(global_crops))]).sum()
            loss = loss + self.koleo_weight * spread
            numbers["koleo"] = spread.detach()
        if self.training and self.center is not None:
            # After the loss has used it, as in the official implementation.
            self.move_center(teacher_logits)
        return Step(loss, numbers)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.teacher.module.projector(features)

    @torch.no_grad()
    def assign(self, crops: list[torch.Tensor], features: list[torch.Tensor]) -> Assigned:
        """What student and teacher say of global views of B films.

        Args:
            crops: V views, (B, 1, S, S) each.
            features: what `backbone`, the teacher's, makes of them: (B, features) each.
        """
        # A batch at a time through the network, but all films together where the teacher balances its prototypes.
        batches = list(zip(*(crop.split(_ASSIGNED) for crop in crops), strict=True))
        logits = torch.cat([self.student(list(batch))[0] for batch in batches], dim=1)
        head = self.teacher.module
        teacher_logits = torch.stack([head.prototypes(head.projector(view)) for view in features])
        # One process alone may look: nothing is gathered.
        plain = (teacher_logits.float() / self.teacher_temperature).softmax(dim=-1)
        return Assigned(self._distribute(teacher_logits), logits, plain)

    def before_update(self) -> None:
        if self.progress < self.frozen:
            self.student.prototypes.weight.grad = None

    def after_step(self, progress: float) -> None:
        self.progress = progress
        self.teacher.update(self.student, momentum_at(progress, *self.momenta, self.momentum_shape))

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.progress, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.progress = float(state)

    @torch.no_grad()
    def make_targets(self, logits: torch.Tensor) -> torch.Tensor:
        """The teacher's logits (T, B, K) -> its distributions (T, B, K) at the present temperature."""
        if self.center is not None:
            return self._distribute(logits)
        # (T, B, K) -> (B, T, K): processes lie side by side along the films.
        return own_part(self._distribute(gather(logits.transpose(0, 1)))).transpose(0, 1)

    def _distribute(self, logits: torch.Tensor) -> torch.Tensor:
        """The same of the logits (..., K) of this process alone."""
        if self.center is not None:
            return centered_targets(logits, self.center, self.teacher_temperature)
        return balanced_targets(logits.flatten(0, -2), self.teacher_temperature).view_as(logits)

    @torch.no_grad()
    def move_center(self, logits: torch.Tensor) -> None:
        """Takes the teacher's logits (T, B, K), of all processes, into the running averages (equation 4)."""
        mean = gather(logits.mean(dim=(0, 1))[None]).mean(dim=0)
        self.center.lerp_(mean, 1 - self.center_momentum)
