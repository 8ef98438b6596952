"""Fine-tuning trains what it says, from a head worked out by hand, and comes to the same scores again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.finetune import (
    Classifier,
    Films,
    FinetuneSettings,
    equal_batches,
    finetune,
    finetune_trial,
    parameter_groups,
    prototype_head,
    score_films,
    stages_of,
    trial_seed,
)
from scarce_cxr.images.store import Store
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, Views

QUICK = FinetuneSettings(epochs=6, looks=3)
TEST = np.arange(30, 48)
TUNE = Films(np.arange(20, 30), np.arange(10) % 2)


def make_backbone(name: str = "test_resnet") -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneSettings(name))


@pytest.fixture(scope="module")
def store(small_store) -> Store:
    return Store.open(small_store)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return make_backbone()


@pytest.fixture(scope="module")
def draw(store) -> Films:
    """The ten brightest and the ten darkest of the first twenty films: something that can be learnt."""
    brightness = store.pixels(np.arange(20)).mean(axis=(1, 2))
    return Films(np.arange(20), (brightness > np.median(brightness)).astype(int))


def make_classifier(backbone: Backbone, first_stage: int = 1) -> Classifier:
    return Classifier(backbone, nn.Linear(backbone.features, 1), np.array([1.0, 0.0, 0.0, 0.0]), first_stage)


def run(store, backbone, draw, **changes):
    asked = {"size": 32, "seed": 5, "settings": QUICK, **changes}
    return finetune_trial(store, backbone, draw, TUNE, TEST, **asked)


def test_two_runs_give_the_same_scores_and_another_seed_others(store, backbone, draw):
    first, again, other = (run(store, backbone, draw, seed=seed) for seed in (5, 5, 6))
    for name in ("tune", "test"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert first.tune.shape == (10,)
    assert first.test.shape == TEST.shape


def test_the_start_itself_is_left_as_it_was(store, backbone, draw):
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    run(store, backbone, draw)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "first"), [("test_resnet", 1), ("test_resnet", 2), ("test_convnext", 1)])
def test_only_what_comes_from_the_first_trained_stage_on_moves_and_batch_norm_never(store, draw, name, first):
    start = make_backbone(name)
    fitted = finetune(store, start, draw, TUNE, size=32, seed=0, settings=replace(QUICK, first_stage=first))
    trained, norms = fitted.classifier.backbone.state_dict(), set()
    for path, module in start.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            norms |= {f"{path}.{entry}" for entry in module.state_dict()}
    before = [f"model.{stage}." for stage in start.stage_names[:first]]
    for entry, tensor in start.state_dict().items():
        frozen = entry in norms or entry.startswith(("model.stem", "model.conv1", *before))
        assert torch.equal(tensor, trained[entry]) == frozen, entry


def test_masked_reconstruction_keeps_one_stage_more_unless_told_otherwise(store, backbone, draw):
    first = backbone.state_dict()["model.layer2.0.conv1.weight"]

    def moved(**changes) -> bool:
        fitted = finetune(store, backbone, draw, TUNE, size=32, seed=0, settings=QUICK, **changes)
        return not torch.equal(fitted.classifier.backbone.state_dict()["model.layer2.0.conv1.weight"], first)

    assert moved(method="MoCo")
    assert not moved(method="SparK")
    assert moved(method=None)


def test_what_a_draw_shows_is_learnt(store, backbone, draw):
    settings = FinetuneSettings(epochs=30, head_lr=1e-2, backbone_lr=1e-3)
    fitted = finetune(store, backbone, draw, TUNE, size=32, seed=0, settings=settings)
    assert fitted.loss < 0.3
    scores = score_films(
        fitted.classifier, store, draw.rows, size=32, normalization=Normalization(store.mean, store.std)
    )
    assert roc_auc_score(draw.labels, scores) > 0.95


def test_the_look_that_is_best_on_tune_is_taken_and_its_weights_are_returned(store, backbone, draw):
    normalization = Normalization(store.mean, store.std)

    def fit(labels: np.ndarray):
        tune = Films(TUNE.rows, labels)
        settings = FinetuneSettings(epochs=6, looks=6, head_lr=0.05)
        return finetune(store, backbone, draw, tune, size=32, seed=5, settings=settings)

    last = fit(np.zeros(10))
    assert last.epoch == 6
    assert np.isnan(last.tune_auroc)
    # Labels by the last look's own order are what the last look is best at; their opposite is what it is worst at.
    order = last.tune_scores > np.median(last.tune_scores)
    assert (fit(order).epoch, fit(order).tune_auroc) == (6, 1.0)
    opposite = fit(~order)
    assert opposite.epoch < 6
    assert opposite.tune_auroc == pytest.approx(roc_auc_score(~order, opposite.tune_scores))
    # What is returned scores the films as the chosen look did.
    scores = score_films(opposite.classifier, store, TUNE.rows, size=32, normalization=normalization)
    assert np.allclose(scores, opposite.tune_scores, atol=1e-6)
    assert not np.allclose(scores, last.tune_scores, atol=1e-4)


def test_without_films_to_tune_on_the_last_look_is_taken(store, backbone, draw):
    nothing = Films(np.empty(0, dtype=int), np.empty(0))
    trial = finetune_trial(store, backbone, draw, nothing, TEST, size=32, seed=5, settings=QUICK)
    assert trial.epoch == 6
    assert trial.tune.shape == (0,)


def test_the_first_step_is_that_of_a_plain_adamw(store, backbone, draw):
    """One step over the whole draw without augmentation, worked out with torch alone."""
    still = replace(FinetuneSettings().augmentation, crop=(1.0, 1.0), rotation=0.0)
    settings = FinetuneSettings(epochs=1, first_stage=len(backbone.stage_names), augmentation=still)
    fitted = finetune(store, backbone, draw, TUNE, size=64, seed=0, settings=settings)
    pixels = torch.from_numpy(store.pixels(draw.rows))[:, None].float() / 255
    with torch.no_grad():
        features = backbone.eval()((pixels - store.mean) / store.std)
    weight, bias = prototype_head(features, torch.from_numpy(draw.labels))
    head = nn.Linear(backbone.features, 1)
    head.weight.data, head.bias.data = weight[None].clone(), torch.tensor([bias])
    nn.functional.binary_cross_entropy_with_logits(
        head(features)[:, 0], torch.from_numpy(draw.labels).float()
    ).backward()
    torch.optim.AdamW(
        [{"params": [head.weight], "weight_decay": 0.01}, {"params": [head.bias], "weight_decay": 0.0}], lr=1e-3
    ).step()
    assert torch.allclose(fitted.classifier.head.weight, head.weight, atol=2e-5)
    assert torch.allclose(fitted.classifier.head.bias, head.bias, atol=2e-5)


def test_the_first_head_is_the_difference_of_directions_half_way_between_the_means():
    # Means (3, 4) and (0, 2): directions (0.6, 0.8) and (0, 1), so the weights point along (0.6, -0.2); half-way
    # between the means lies (1.5, 3) with a product of 0.3.
    features = torch.tensor([[2.0, 4.0], [4.0, 4.0], [0.0, 1.0], [0.0, 3.0]])
    labels = torch.tensor([1, 1, 0, 0])
    unscaled = np.array([0.4, 1.6, -0.2, -0.6]) - 0.3
    scale = 1 / np.sqrt((unscaled**2).mean())
    weight, bias = prototype_head(features, labels)
    assert weight.tolist() == pytest.approx([0.6 * scale, -0.2 * scale])
    assert bias == pytest.approx(-0.3 * scale)
    assert (features @ weight + bias).square().mean().item() == pytest.approx(1)


def test_means_of_one_direction_give_a_head_that_says_nothing():
    weight, bias = prototype_head(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([1, 0]))
    assert weight.tolist() == [0, 0]
    assert bias == 0


def test_both_answers_weigh_the_same_in_the_loss(backbone):
    """One positive among four films weighs three times a negative: with all log-odds equal the loss is symmetric."""
    classifier = make_classifier(backbone)
    nn.init.zeros_(classifier.head.weight)
    images = torch.zeros(4, 1, 32, 32)

    def loss(bias: float) -> float:
        nn.init.constant_(classifier.head.bias, bias)
        return classifier(Views([images], [images], Draws(0, 0, np.arange(4)), np.arange(4))).loss.item()

    assert loss(0.0) == pytest.approx(np.log(2))
    assert loss(1.5) == pytest.approx(loss(-1.5))
    assert loss(1.5) > loss(0.0)


def test_labels_are_those_of_the_films_that_are_seen(backbone):
    classifier = make_classifier(backbone)
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = classifier.logits(images)
    views = Views([images], [images], Draws(0, 0, np.arange(2)), np.array([2, 0]))
    expected = (nn.functional.softplus(logits[0]) * 2 / 3 + nn.functional.softplus(-logits[1]) * 2) / 2
    assert classifier(views).loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rates_fall_from_layer_to_layer_towards_the_stem(backbone):
    decayed = make_classifier(backbone, 1)
    groups = parameter_groups(decayed, FinetuneSettings(layer_decay=0.5))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = {name: rates[id(p)] for name, p in decayed.named_parameters() if p.requires_grad}
    assert named["head.weight"] == named["head.bias"] == 1e-3
    last, before = (named[f"backbone.model.{stage}.0.conv1.weight"] for stage in ("layer4", "layer3"))
    assert last == pytest.approx(1e-4)
    assert before == pytest.approx(0.5e-4)
    plain = parameter_groups(decayed, FinetuneSettings())
    assert {group["lr"] for group in plain} == {1e-3, 1e-4}
    decays = {id(p): group["weight_decay"] for group in plain for p in group["params"]}
    assert {decays[id(p)] for p in decayed.parameters() if id(p) in decays and p.ndim > 1} == {0.01}
    assert decays[id(decayed.head.bias)] == 0.0


def test_stages_are_told_from_names(backbone):
    stages = stages_of(backbone)
    assert stages["conv1.0.weight"] == -1
    assert stages["layer1.0.conv1.weight"] == 0
    assert stages["layer4.0.bn1.running_mean"] == 3
    tail = stages_of(make_backbone("test_convnext"))
    assert tail["stem.0.weight"] == -1
    assert tail["head.norm.weight"] == 3


@pytest.mark.parametrize(("films", "size"), [(2, 2), (10, 10), (32, 32), (40, 20), (100, 25), (101, 25)])
def test_batches_are_equal_and_at_most_32(films, size):
    assert equal_batches(films, 32) == size
    assert films - size * (films // size) < -(-films // 32)


def test_seeds_tell_trials_apart_and_fit_the_table():
    asked = [(f, s, d, n) for f in ("Mass", "Edema") for s in ("1", "10") for d in range(20) for n in (0, 1)]
    seeds = {trial_seed(*one) for one in asked}
    assert len(seeds) == len(asked)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert trial_seed("Mass", "1", 11) != trial_seed("Mass", "11", 1)


@pytest.mark.parametrize(
    ("films", "words"),
    [
        (Films(np.arange(4), np.ones(4)), "4 positives among 4"),
        (Films(np.arange(4), np.array([1, 0, np.nan, 0])), "nan"),
        (Films(np.arange(4), np.array([1, 0])), "one label for each film"),
    ],
)
def test_draws_that_cannot_be_learnt_from_are_refused(store, backbone, films, words):
    with pytest.raises(ScarceError, match=words):
        run(store, backbone, films)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"looks": 0}, {"batch_size": 0}, {"layer_decay": 0.0}, {"head_lr": -1.0}, {"weight_decay": np.nan}],
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ScarceError, match=rf"finetune\.{next(iter(wrong))}"):
        FinetuneSettings(**wrong)


def test_a_stage_that_is_not_there_is_refused_with_the_names_of_those_that_are(store, backbone, draw):
    with pytest.raises(ScarceError, match=r"3 \(layer4\)"):
        run(store, backbone, draw, settings=replace(QUICK, first_stage=9))
