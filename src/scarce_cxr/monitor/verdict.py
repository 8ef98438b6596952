"""From what a run's looks measured to a verdict: is it learning, and if not, since when, and what to change?

`SIGNS` is the whole of it: which numbers, which threshold, how many looks in a row. A sign whose numbers a run does
not log stays silent. One bad look raises no alarm, and while the learning rate warms up only divergence does.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

HEALTHY = "healthy"
WARMING_UP = "warming up"
NOT_MEASURED = "not measured"
FEW_PROTOTYPES = "few prototypes"
NO_IMAGE_INFORMATION = "no image information"
ONE_PROTOTYPE = "one prototype"
DIMENSIONAL_COLLAPSE = "dimensional collapse"
DIVERGING = "diverging"
COLLAPSES = (NO_IMAGE_INFORMATION, ONE_PROTOTYPE, DIMENSIONAL_COLLAPSE, DIVERGING)

# Nats. On the plateau the estimate lies within 0.005 of 0; a recipe that learns passes 0.03 within 200 steps.
INFORMATION = 0.01
# Nats: the entropy of two prototypes in equal use. Nobody can know more of a film than that.
TWO_PROTOTYPES = math.log(2)
# Share of the highest entropy that the mean teacher can have. Runs that kept their prototypes stayed above 0.8 of it;
# one that bought its information with 15 of 256 prototypes came to 0.49.
PROTOTYPES_IN_USE = 0.6
# Of std_ratio. Where nothing stops a collapse, projections fall to 0.03 within 60 steps while the features in front of
# the head stay at 0.5; healthy projections were not seen below 0.1 after a warm-up. Features may stay alike, so that
# only their vanishing counts. 0.05 is a cosine of about 0.997, 0.01 one of about 0.9999.
PROJECTION_SPREAD, FEATURE_SPREAD = 0.05, 0.01
# What is one point from the first step on has no spread to lose: a cosine of at least 0.999999.
ONE_POINT = 0.001
# Share of the random start's spread. Radiographs are alike to a random network, the more so the deeper and the larger
# they are (features of 0.07 to 0.2): what only stays where it began has not collapsed.
SPREAD_LEFT = 0.5
# Directions, and share of the random start's. Healthy runs lose up to two thirds of what the start had, which was
# noise.
RANK, RANK_LEFT = 3.0, 0.05
# Times the length at the first look after the start. Before the first step batch norm's running statistics are 0 and 1,
# and what an untrained EfficientNet makes of a film is 50,000 times shorter than two steps later. Projections grow a
# hundredfold as these statistics settle: they are not asked.
NORM_GROWTH = 100.0
# Of a patch's variance: what is predicted behind the mask. Runs that learn fall below 0.9 within 20 steps.
NOTHING_PREDICTED = 0.97

Numbers = Mapping[str, float]


class Look(NamedTuple):
    """What was measured after `step` steps, by name."""

    step: int
    numbers: Numbers


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a run.

    Attributes:
        name: one of the names above.
        since: step of the first look of the unbroken series that led to it.
        looks: length of that series.
        measures: the numbers that led to it, as the last of these looks saw them; `start_NAME`: at the random start,
            and of the features' length at the first look after it.
        reason: a sentence.
        advice: what to change, the likeliest remedy first.
    """

    name: str
    since: int
    looks: int
    measures: dict[str, float]
    reason: str
    advice: tuple[str, ...] = ()

    @property
    def is_collapse(self) -> bool:
        """Whether the run learns nothing that is worth its time: a reason to stop it."""
        return self.name in COLLAPSES


@dataclass(frozen=True)
class Sign:
    """One row of the table.

    Attributes:
        verdict: what it is a sign of.
        needs: names of the numbers that a look must have.
        holds: (numbers of a look, numbers at the random start, empty if unknown) -> whether it shows. The start's
            `feature_norm` is that of the first look after it.
        looks: how many looks in a row must show it.
        reason: what the numbers say; names in braces stand for their values.
        advice: what to change, the likeliest remedy first.
    """

    verdict: str
    needs: tuple[str, ...]
    holds: Callable[[Numbers, Numbers], bool]
    looks: int
    reason: str
    advice: tuple[str, ...]


_CALMER = (
    "lower optimizer.lr by a factor of 3",
    "set training.clip to 3.0",
    "lengthen training.warmup",
    "set training.precision to fp32",
)
_BALANCED_PROTOTYPES = (
    "set method.centering to sinkhorn, which balances the prototypes in every batch",
    "lower method.center_momentum to 0.9 if you keep the centre: a lagging one lets a prototype run away",
    "raise method.teacher_temperature by half",
    "lower optimizer.lr by a factor of 3",
)
_SPREAD_PROJECTIONS = (
    "BYOL: leave method.predictor and method.stop_gradient on",
    "MoCo: set method.variance_weight to 1.0 with method.regularize normalized; method.bn_splits of at least 2",
    "lower optimizer.lr by a factor of 3, or lengthen training.warmup",
    "raise training.batch_size",
)
_MORE_DIRECTIONS = (
    "MoCo: set method.covariance_weight to 0.04 and method.variance_weight to 1.0",
    "Barlow Twins: raise method.off_diagonal_weight",
    "DINO: set method.koleo_weight to 0.1",
    "make the views differ more: a shortcut such as brightness or a border may tell films apart",
    "lower optimizer.lr by a factor of 3",
)


def _ceiling(now: Numbers) -> float:
    """The highest entropy of the mean teacher, in nats: that of all prototypes, or of films that share none."""
    return min(now["ln_outputs"], math.log(now["held_out_films"]) + now["held_out_teacher_entropy"])


def _spread_is_lost(name: str, most: float) -> Callable[[Numbers, Numbers], bool]:
    return lambda now, start: now[name] < max(ONE_POINT, min(most, SPREAD_LEFT * start.get(name, 1.0)))


def _rank_is_lost(name: str) -> Callable[[Numbers, Numbers], bool]:
    return lambda now, start: now[name] < max(RANK, RANK_LEFT * start.get(name, 0.0))


# The first that shows in enough looks is the verdict.
SIGNS = (
    # What is not a number never becomes one again: one look is enough.
    Sign(
        DIVERGING,
        ("loss",),
        lambda now, _: not math.isfinite(now["loss"]),
        1,
        "the loss is {loss}",
        _CALMER,
    ),
    Sign(
        DIVERGING,
        ("feature_norm",),
        lambda now, _: not math.isfinite(now["feature_norm"]),
        1,
        "features are no longer finite numbers",
        _CALMER,
    ),
    Sign(
        DIVERGING,
        ("feature_norm",),
        lambda now, start: now["feature_norm"] > NORM_GROWTH * start.get("feature_norm", math.inf),
        2,
        f"features have grown to a length of {{feature_norm:.3g}}, over {NORM_GROWTH:g} times the"
        " {start_feature_norm:.3g} of the first look",
        (*_CALMER, "raise optimizer.weight_decay"),
    ),
    Sign(
        ONE_PROTOTYPE,
        ("held_out_mean_teacher_entropy",),
        lambda now, _: now["held_out_mean_teacher_entropy"] < TWO_PROTOTYPES,
        3,
        "the teacher gives nearly all films to one prototype: entropy of the mean film"
        f" {{held_out_mean_teacher_entropy:.3f}} nats, below {TWO_PROTOTYPES:.2f}",
        _BALANCED_PROTOTYPES,
    ),
    # Before the projections, which it gathers in one place too: what is wrong are the targets.
    Sign(
        NO_IMAGE_INFORMATION,
        ("held_out_matched_information_high",),
        # What few films hide is no lack of information.
        lambda now, _: (
            now["held_out_matched_information_high"] + now.get("held_out_matched_information_bias", 0.0) < INFORMATION
        ),
        5,
        "the student knows no more of a film than of the average film: matched information is at most"
        f" {{held_out_matched_information_high:.3f}} nats, below {INFORMATION:g}",
        (
            # In the order of studies/dino_factors.py: what each adds to those before it.
            "set method.teacher_temperature and method.first_teacher_temperature to 0.01 together with method.centering"
            " sinkhorn: a cold teacher with a centre falls to one prototype, and balancing alone changes nothing",
            "make the views milder: brightness and contrast 0.4, noise 0.02, crops of at least 0.4",
            "let the teacher follow: method.momentum of 0.9 to 0.95 in a run of some hundred steps",
            "set method.head_norm to true",
        ),
    ),
    Sign(
        NO_IMAGE_INFORMATION,
        ("held_out_error",),
        lambda now, _: now["held_out_error"] > NOTHING_PREDICTED,
        5,
        "predictions behind the mask are no better than a patch's mean: error {held_out_error:.3f} of the variance",
        (
            "raise optimizer.lr by a factor of 3; lower it if the loss jumps",
            "leave blank and broken films out: scarce check STORE",
        ),
    ),
    Sign(
        ONE_PROTOTYPE,
        ("projection_std_ratio",),
        _spread_is_lost("projection_std_ratio", PROJECTION_SPREAD),
        3,
        "all films' projections point the same way: their spread is {projection_std_ratio:.3f} of a sphere's,"
        f" below {PROJECTION_SPREAD:g}",
        _SPREAD_PROJECTIONS,
    ),
    Sign(
        ONE_PROTOTYPE,
        ("feature_std_ratio",),
        _spread_is_lost("feature_std_ratio", FEATURE_SPREAD),
        3,
        "all films' features point the same way: their spread is {feature_std_ratio:.4f} of a sphere's,"
        f" below {FEATURE_SPREAD:g}",
        (*_CALMER, "lower optimizer.weight_decay"),
    ),
    Sign(
        DIMENSIONAL_COLLAPSE,
        ("projection_rank",),
        _rank_is_lost("projection_rank"),
        3,
        "projections vary in few directions: effective rank {projection_rank:.1f}",
        _MORE_DIRECTIONS,
    ),
    # Batch norm behind a dying head blows up what is left: its running statistics show now a point, now a line.
    Sign(
        DIMENSIONAL_COLLAPSE,
        ("projection_rank", "projection_std_ratio"),
        lambda now, start: (
            _rank_is_lost("projection_rank")(now, start)
            or _spread_is_lost("projection_std_ratio", PROJECTION_SPREAD)(now, start)
        ),
        3,
        "projections lie now on a line, now in a point: effective rank {projection_rank:.1f}, spread"
        " {projection_std_ratio:.3f} of a sphere's",
        (*_SPREAD_PROJECTIONS, *_MORE_DIRECTIONS[:3]),
    ),
    Sign(
        DIMENSIONAL_COLLAPSE,
        ("feature_rank",),
        _rank_is_lost("feature_rank"),
        3,
        "features vary in few directions: effective rank {feature_rank:.1f}",
        _MORE_DIRECTIONS,
    ),
    Sign(
        FEW_PROTOTYPES,
        ("held_out_mean_teacher_entropy", "held_out_teacher_entropy", "ln_outputs", "held_out_films"),
        lambda now, _: now["held_out_mean_teacher_entropy"] < PROTOTYPES_IN_USE * _ceiling(now),
        3,
        "information is bought with few prototypes: entropy of the mean film {held_out_mean_teacher_entropy:.2f} nats,"
        f" below {PROTOTYPES_IN_USE:.0%} of what {{held_out_films:.0f}} films and all prototypes allow",
        (*_BALANCED_PROTOTYPES[:1], "set method.koleo_weight to 0.1", *_BALANCED_PROTOTYPES[1:]),
    ),
)


def judge(looks: Sequence[Look], warmup: int) -> Verdict:
    """The verdict on a run as it stands.

    Args:
        looks: in the order of their steps. The one at step 0 is the run's own reference, and not judged itself. A
            look may lack any number: the series of a sign goes on past it.
        warmup: steps of the learning rate's warm-up.
    """
    later = [look for look in looks if look.step > 0]
    start = dict(looks[0].numbers) if looks and looks[0].step == 0 else {}
    start.pop("feature_norm", None)
    if later and "feature_norm" in later[0].numbers:
        start["feature_norm"] = later[0].numbers["feature_norm"]
    settled = [look for look in looks if look.step >= max(warmup, 1)]
    measures: dict[str, float] = {}
    pending: list[str] = []
    early = False
    for sign in SIGNS:
        diverging = sign.verdict == DIVERGING
        asked = later if diverging else settled
        asked = [look for look in asked if all(name in look.numbers for name in sign.needs)]
        if not asked:
            continue
        series = list(takewhile(lambda look, sign=sign: sign.holds(look.numbers, start), reversed(asked)))
        seen = {name: asked[-1].numbers[name] for name in sign.needs}
        if len(series) >= sign.looks:
            seen |= {f"start_{name}": start[name] for name in sign.needs if name in start}
            since = series[-1].step
            reason = f"{sign.reason.format(**seen)}, at {_count(len(series))} since step {since}"
            return Verdict(sign.verdict, since, len(series), seen, reason, sign.advice)
        if not diverging:
            measures |= seen
            early = early or len(series) == len(asked)
        if series:
            pending.append(f"{sign.verdict} at {len(series)} of {_count(sign.looks)}")
    if not settled:
        reason = f"the learning rate warms up: looks are judged from step {max(warmup, 1)} on"
        return Verdict(WARMING_UP, 0, len(looks), {}, reason)
    since, count = settled[0].step, len(settled)
    if not measures:
        return Verdict(NOT_MEASURED, since, count, {}, "no look after the warm-up has a number that tells a collapse")
    signs = f"signs of {', '.join(pending)} so far"
    if early:
        return Verdict(WARMING_UP, since, count, measures, f"too early after the warm-up: {signs}")
    reason = f"no collapse in {_count(count)} after the warm-up" + (f"; {signs}" if pending else "")
    return Verdict(HEALTHY, since, count, measures, reason)


def _count(looks: int) -> str:
    return f"{looks} look" if looks == 1 else f"{looks} looks"
