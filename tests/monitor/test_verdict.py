"""Every verdict is provoked by numbers and by an embedding, and by nothing less; healthy runs provoke none."""

import inspect
import math
import re

import pytest
import torch
import torch.nn.functional as F

from scarce_cxr.methods.barlow_twins import BarlowTwins
from scarce_cxr.methods.byol import BYOL
from scarce_cxr.methods.dino import DINO
from scarce_cxr.methods.moco import MoCo
from scarce_cxr.monitor import verdict
from scarce_cxr.monitor.measures import embedding_measures, matched_information
from scarce_cxr.monitor.verdict import SIGNS, Look, Verdict, judge
from scarce_cxr.training.optimizer import OptimizerSettings
from scarce_cxr.training.recipe import TrainingSettings

# A random start and a run that learns: ResNet-18 at 64 pixels, real films; prototypes as DINO's healthiest trial.
START = {
    "feature_norm": 1.08,
    "feature_std_ratio": 0.184,
    "feature_cosine": 0.941,
    "feature_rank": 56.3,
    "feature_rankme": 20.2,
    "feature_alpha": 1.92,
    "projection_norm": 0.232,
    "projection_std_ratio": 0.143,
    "projection_cosine": 0.976,
    "projection_rank": 44.5,
    "projection_rankme": 9.3,
    "projection_alpha": 1.98,
    "held_out_matched_information": -0.18,
    "held_out_matched_information_high": -0.15,
    "held_out_mean_teacher_entropy": 5.54,
    "held_out_teacher_entropy": 5.21,
    "ln_outputs": math.log(256),
    "held_out_films": 224.0,
    "retrieval": 0.06,
}
GOOD = START | {
    "loss": 4.2,
    "feature_norm": 12.2,
    "feature_std_ratio": 0.495,
    "feature_cosine": 0.746,
    "feature_rank": 80.0,
    "projection_norm": 12.6,
    "projection_std_ratio": 0.714,
    "projection_cosine": 0.429,
    "projection_rank": 32.6,
    "held_out_matched_information": 1.69,
    "held_out_matched_information_high": 1.8,
    "held_out_mean_teacher_entropy": 5.49,
    "held_out_teacher_entropy": 3.5,
    "held_out_error": 0.4,
    "retrieval": 0.33,
}

# What turns a good look into a bad one: one for each sign, in the table's order.
BAD = [
    {"loss": math.nan},
    {"feature_norm": math.inf},
    {"feature_norm": 1221.0},
    {"held_out_mean_teacher_entropy": 0.69, "held_out_matched_information_high": 0.005},
    {"held_out_matched_information_high": 0.0059, "held_out_matched_information_bias": 0.004},
    {"held_out_error": 0.971},
    {"projection_std_ratio": 0.049, "projection_rank": 2.0},
    {"feature_std_ratio": 0.009, "feature_rank": 2.0},
    {"projection_rank": 2.9},
    {"feature_rank": 2.9},
    {"held_out_mean_teacher_entropy": 2.7, "held_out_teacher_entropy": 0.58},
]
# One sign is made of two others' numbers in turn: it has a test of its own.
ALTERNATING = ("projection_rank", "projection_std_ratio")
PAIRS = list(zip([sign for sign in SIGNS if sign.needs != ALTERNATING], BAD, strict=True))

# Numbers of the same signs that are barely good enough.
BARELY = [
    {"loss": 1e9},
    {"feature_norm": 1219.0},
    {"feature_norm": 1219.0},
    {"held_out_mean_teacher_entropy": 0.70, "ln_outputs": math.log(3)},
    {"held_out_matched_information_high": 0.0061, "held_out_matched_information_bias": 0.004},
    {"held_out_error": 0.969},
    {"projection_std_ratio": 0.051},
    {"feature_std_ratio": 0.011},
    {"projection_rank": 3.1},
    {"feature_rank": 3.1},
    {"held_out_mean_teacher_entropy": 3.4, "held_out_teacher_entropy": 0.58},
]


def run_of(*looks: dict[str, float], every: int = 100) -> list[Look]:
    """A run that starts at random and is then looked at every 100 steps."""
    return [Look(every * number, numbers) for number, numbers in enumerate([START, *looks])]


def embed(rows: torch.Tensor, kind: str) -> dict[str, float]:
    return {f"{kind}_{name}": value for name, value in embedding_measures(rows).items()}


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def held_out(teacher_logits: torch.Tensor, student_logits: torch.Tensor) -> dict[str, float]:
    """What a look logs of prototypes: logits (2, n, K) of the teacher, at its temperature, and of the student."""
    measured = matched_information(teacher_logits.softmax(dim=-1), 0.1 * student_logits)
    _, films, outputs = teacher_logits.shape
    named = {f"held_out_{name}": value for name, value in measured.items()}
    return named | {"ln_outputs": math.log(outputs), "held_out_films": films}


@pytest.mark.parametrize(("sign", "bad"), PAIRS)
def test_every_sign_leads_to_its_verdict_when_it_has_shown_often_enough(sign, bad):
    looks = run_of(GOOD, GOOD, *[GOOD | bad] * sign.looks)
    found = judge(looks, warmup=100)
    assert (found.name, found.since, found.looks, found.advice) == (sign.verdict, 300, sign.looks, sign.advice)
    for name in sign.needs:
        assert found.measures[name] == pytest.approx((GOOD | bad)[name], nan_ok=True)
    assert f"since step {found.since}" in found.reason
    assert judge(looks[:-1], warmup=100).name == "healthy"


def test_projections_that_are_now_a_point_and_now_a_line_have_collapsed():
    # The numbers of a BYOL run without predictor that kept the norm behind its projector, steps 50 to 70.
    point, line = {"projection_std_ratio": 0.015, "projection_rank": 18.2}, {"projection_rank": 1.07}
    found = judge(run_of(GOOD, GOOD | point, GOOD | line, GOOD | point), warmup=100)
    assert (found.name, found.since, found.looks) == ("dimensional collapse", 200, 3)
    assert judge(run_of(GOOD, GOOD | point, GOOD | line), warmup=100).name == "healthy"


@pytest.mark.parametrize(("sign", "bad"), PAIRS)
def test_a_look_in_between_that_lacks_the_numbers_does_not_end_the_series_and_a_good_one_does(sign, bad):
    worse = GOOD | bad
    silent = {name: value for name, value in worse.items() if name not in bad}
    found = judge(run_of(GOOD, *[worse, silent] * sign.looks), warmup=100)
    assert (found.name, found.since, found.looks) == (sign.verdict, 200, sign.looks)
    healthy = judge(run_of(GOOD, *[worse, GOOD] * sign.looks), warmup=100)
    assert healthy.name == "healthy"
    assert not healthy.advice


@pytest.mark.parametrize("numbers", BARELY)
def test_what_is_barely_good_enough_is_healthy(numbers):
    assert judge(run_of(*[GOOD | numbers] * 8), warmup=100).name == "healthy"


def test_one_bad_look_raises_no_alarm_and_is_mentioned():
    for sign, bad in PAIRS:
        if sign.looks > 1:
            found = judge(run_of(GOOD, GOOD, GOOD | bad), warmup=100)
            assert found.name == "healthy"
            assert f"{sign.verdict} at 1 of {sign.looks} looks" in found.reason


@pytest.mark.parametrize(("sign", "bad"), PAIRS)
def test_a_sign_whose_numbers_are_missing_is_silent(sign, bad):
    worse = GOOD | bad
    for missing in sign.needs:
        rest = {name: worse[name] for name in sign.needs if name != missing}
        assert judge(run_of(*[rest] * 8), warmup=100).name != sign.verdict


def test_the_learning_rates_warm_up_is_judged_for_divergence_only():
    for sign, bad in PAIRS:
        found = judge(run_of(GOOD, *[GOOD | bad] * 7), warmup=801)
        assert found.name == ("diverging" if sign.verdict == "diverging" else "warming up")
    assert judge([], warmup=10).name == "warming up"
    assert judge(run_of(), warmup=0).name == "warming up"


def test_before_there_are_looks_enough_it_is_too_early_rather_than_healthy():
    plateau = GOOD | {"held_out_matched_information_high": 0.005}
    early = judge(run_of(*[plateau] * 4), warmup=100)
    assert early.name == "warming up"
    assert "no image information at 4 of 5 looks" in early.reason
    assert judge(run_of(*[plateau] * 5), warmup=100).name == "no image information"
    # In the warm-up nobody asks: the series begins behind it.
    assert judge(run_of(*[plateau] * 5), warmup=101).name == "warming up"


def test_nothing_measured_is_not_called_healthy():
    looks = [Look(step, {"feature_cosine": 0.4, "loss": 0.5}) for step in (0, 100, 200)]
    assert judge(looks, warmup=10).name == "not measured"


def test_the_healthiest_trial_is_healthy_at_every_step():
    rows = [(-0.18, 5.55, 139), (0.22, 5.54, 167), (0.73, 5.54, 130), (1.12, 5.51, 97), (1.48, 5.50, 85)]
    rows += [(1.56, 5.49, 81), (1.69, 5.49, 80)]
    looks = []
    for step, (matched, entropy, rank) in enumerate(rows):
        numbers = {"held_out_matched_information_high": matched + 0.05, "held_out_mean_teacher_entropy": entropy}
        numbers |= {"held_out_teacher_entropy": 3.0, "ln_outputs": math.log(256), "held_out_films": 224}
        looks.append(Look(100 * step, numbers | {"feature_rank": rank, "feature_cosine": 0.95}))
        assert judge(looks, warmup=60).name == ("warming up" if step == 0 else "healthy")
    assert judge(looks, warmup=60).measures["feature_rank"] == 80


def test_information_that_is_bought_with_few_prototypes_is_a_warning_and_no_collapse():
    # (entropy of the mean teacher, of the teacher, rank) in the trial whose loss fell fastest.
    trial = [(4.177, 2.577, 165), (2.704, 0.579, 84), (2.65, 0.5, 80), (2.581, 0.449, 78)]
    looks = [
        GOOD | {"held_out_mean_teacher_entropy": mean, "held_out_teacher_entropy": own, "feature_rank": rank}
        for mean, own, rank in trial
    ]
    found = judge(run_of(*looks), warmup=100)
    assert (found.name, found.since, found.is_collapse) == ("few prototypes", 200, False)
    assert "sinkhorn" in found.advice[0]


def test_more_prototypes_than_films_can_use_are_not_missed():
    # 224 films, each of a prototype of its own, among 65,536: all that can be seen in use is.
    numbers = held_out(1000 * F.one_hot(torch.arange(224), 65536).float().expand(2, -1, -1), draw(2, 224, 65536))
    assert numbers["held_out_mean_teacher_entropy"] == pytest.approx(math.log(224), abs=1e-4)
    assert judge(run_of(*[numbers] * 8), warmup=100).name != "few prototypes"


def test_uniform_teachers_have_no_image_information():
    numbers = held_out(1e-3 * draw(2, 100, 64), 1e-2 * draw(2, 100, 64))
    found = judge(run_of(*[numbers] * 5), warmup=100)
    assert (found.name, found.is_collapse) == ("no image information", True)
    assert "teacher_temperature to 0.01" in found.advice[0]


def test_teachers_that_know_their_films_are_healthy():
    films = draw(1, 300, 64)
    numbers = held_out((4 * films).expand(2, -1, -1), (2 * films).expand(2, -1, -1))
    assert judge(run_of(*[numbers] * 8), warmup=100).name == "healthy"


def test_teachers_that_give_all_films_to_one_prototype():
    logits = 10 * F.one_hot(torch.zeros(100, dtype=torch.long), 64) + 0.1 * draw(2, 100, 64)
    assert judge(run_of(*[held_out(logits, logits)] * 3), warmup=100).name == "one prototype"


def test_projections_that_are_all_the_same_are_one_prototype_whatever_the_features():
    features = embed(draw(200, 64) + 2, "feature")
    same = embed(torch.ones(128) + 0.02 * draw(200, 128), "projection")
    found = judge(run_of(*[features | same] * 3), warmup=100)
    assert (found.name, list(found.measures)) == (
        "one prototype",
        ["projection_std_ratio", "start_projection_std_ratio"],
    )
    assert "method.predictor" in found.advice[0]


def test_features_of_a_dead_network_are_one_prototype():
    found = judge(run_of(*[embed(torch.zeros(50, 16), "feature")] * 3), warmup=100)
    assert (found.name, found.is_collapse) == ("one prototype", True)


def test_projections_that_stay_as_alike_as_at_the_random_start_have_not_collapsed():
    alike = {"projection_std_ratio": 0.04, "feature_rank": 40.0}
    assert judge([Look(step, alike) for step in range(0, 900, 100)], warmup=100).name == "healthy"
    half = alike | {"projection_std_ratio": 0.019}
    looks = [Look(0, alike), *(Look(step, half) for step in range(100, 900, 100))]
    assert judge(looks, warmup=100).name == "one prototype"


def test_projections_on_a_plane_are_a_dimensional_collapse():
    plane = draw(200, 2) @ draw(2, 128)
    found = judge(run_of(*[embed(plane, "projection")] * 3), warmup=100)
    assert (found.name, found.is_collapse) == ("dimensional collapse", True)
    assert found.measures["projection_rank"] < 2.01
    assert judge(run_of(*[embed(draw(200, 128), "projection")] * 3), warmup=100).name == "healthy"


def test_a_rank_is_lost_too_where_it_is_a_small_share_of_the_starts():
    for left, name in ((24.0, "dimensional collapse"), (26.0, "healthy")):
        looks = [Look(0, {"projection_rank": 500.0}), *(Look(s, {"projection_rank": left}) for s in (100, 200, 300))]
        assert judge(looks, warmup=100).name == name


def test_features_that_explode_diverge_even_in_the_warm_up():
    features = draw(100, 32)
    scales = ((0, 1e-4), (10, 9), (20, 901), (30, 1e5))
    looks = [Look(step, embed(features * scale, "feature")) for step, scale in scales]
    found = judge(looks, warmup=1000)
    assert (found.name, found.since, found.is_collapse) == ("diverging", 20, True)
    assert found.measures["start_feature_norm"] == pytest.approx(9 * features.norm(dim=1).mean().item())
    nothing = [*looks[:2], Look(20, embed(features / 0, "feature"))]
    assert judge(nothing, warmup=1000).name == "diverging"


def test_batch_norm_that_finds_its_statistics_does_not_diverge():
    """Lengths of an untrained EfficientNet-B0's features after 0, 2, 10 and 50 batches that change no weight."""
    lengths = ((0, 5e-5), (2, 0.65), (10, 2.56), (50, 4.41))
    looks = [Look(step, GOOD | {"feature_norm": norm}) for step, norm in lengths]
    assert judge(looks, warmup=1).name == "healthy"


def test_few_films_do_not_hide_what_is_known_of_them_among_many_prototypes():
    def look(films: int, outputs: int, noise: float = 0.25) -> dict[str, float]:
        prototypes = F.normalize(draw(outputs, 24), dim=1)
        views = F.normalize(draw(films, 24) + noise * torch.randn(2, films, 24, generator=seeded(1)), dim=2)
        logits = views @ prototypes.T
        targets = (logits - logits.mean(dim=(0, 1))) / 0.04
        return held_out(targets, 0.8 * logits)

    many, few = look(4096, 4096), look(256, 4096)
    # The same student of the same teacher, and less is seen of what it knows.
    assert many["held_out_matched_information"] > 0.3
    assert few["held_out_matched_information_high"] < 0
    for seen in (many, few):
        assert judge([Look(step, seen) for step in range(100, 900, 100)], warmup=100).name == "healthy"


def test_a_healthy_embedding_whose_films_are_alike_is_healthy():
    alike = embed(0.1 * draw(224, 512) + 0.5, "feature") | embed(draw(224, 128) + 3, "projection")
    assert alike["feature_cosine"] > 0.95
    found = judge(run_of(*[alike] * 8), warmup=100)
    assert (found.name, found.since, found.looks) == ("healthy", 100, 8)


def test_advice_names_settings_that_exist():
    known = {"optimizer": set(inspect.signature(OptimizerSettings).parameters)}
    known["training"] = set(inspect.signature(TrainingSettings).parameters)
    known["method"] = {name for each in (DINO, MoCo, BYOL, BarlowTwins) for name in inspect.signature(each).parameters}
    named = [match for sign in SIGNS for line in sign.advice for match in re.findall(r"\b([a-z]+)\.([a-z_]+)", line)]
    assert len(named) > 20
    for group, name in named:
        assert name in known[group], f"{group}.{name}"


def test_collapses_are_the_verdicts_of_which_a_run_does_not_recover():
    names = {sign.verdict for sign in SIGNS} | {verdict.HEALTHY, verdict.WARMING_UP, verdict.NOT_MEASURED}
    collapses = {name for name in names if Verdict(name, 0, 1, {}, "").is_collapse}
    assert collapses == {"diverging", "one prototype", "no image information", "dimensional collapse"}
