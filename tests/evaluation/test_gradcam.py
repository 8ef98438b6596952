"""Grad-CAM agrees with maps worked out without it, and notices a map that does not depend on the weights."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.gradcam import (
    Randomised,
    grad_cam,
    linear_head,
    randomisation_check,
    randomisation_words,
    upsampled,
)

IMAGES = torch.randn(5, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def make_network(name: str = "test_resnet") -> tuple[Backbone, nn.Linear]:
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings(name)).eval()
    return backbone, nn.Linear(backbone.features, 1)


@pytest.fixture(scope="module")
def network() -> tuple[Backbone, nn.Linear]:
    return make_network()


def test_of_a_last_stage_that_is_averaged_the_map_is_the_weighted_sum_of_its_channels(network):
    """Class activation mapping (Zhou et al., CVPR 2016), which needs no gradient."""
    backbone, head = network
    cam = grad_cam(backbone, head, IMAGES)
    with torch.no_grad():
        last = backbone.maps(IMAGES)[-1]
        expected = (head.weight[0, :, None, None] * last).sum(dim=1).numpy()
        scores = head(backbone(IMAGES))[:, 0].numpy()
    assert np.allclose(cam.maps[-1], expected, atol=1e-5)
    assert np.allclose(cam.scores, scores, atol=1e-5)
    assert np.allclose(cam.maps[-1].mean(axis=(1, 2)) + head.bias.item(), cam.scores, atol=1e-5)


def test_of_an_earlier_stage_it_is_channels_weighted_by_their_mean_slope(network):
    backbone, head = network
    model = backbone.model
    assert grad_cam(backbone, head, IMAGES).stages[1] == "layer2"
    kept = {}
    hook = model.layer2.register_forward_hook(lambda module, inputs, output: kept.update(maps=output))
    score = head(backbone(IMAGES)).sum()
    hook.remove()
    (slope,) = torch.autograd.grad(score, kept["maps"])
    # Equations 1 and 2; the sum over positions, not the mean, makes them log-odds.
    expected = (slope.sum(dim=(2, 3), keepdim=True) * kept["maps"]).sum(dim=1)
    assert np.allclose(grad_cam(backbone, head, IMAGES).maps[1], expected.detach().numpy(), atol=1e-4)


def test_maps_of_every_stage_have_its_resolution_and_leave_the_network_alone(network):
    backbone, head = network
    backbone.train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    cam = grad_cam(backbone, head, IMAGES)
    assert [maps.shape for maps in cam.maps] == [(5, side, side) for side in (16, 8, 4, 2)]
    assert backbone.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    backbone.eval().requires_grad_(True)


def test_many_films_are_looked_at_as_each_alone(network):
    backbone, head = network
    many = torch.cat([IMAGES] * 7)
    together, alone = grad_cam(backbone, head, many), grad_cam(backbone, head, IMAGES[2:3])
    for maps, own in zip(together.maps, alone.maps, strict=True):
        assert maps.shape[0] == 35
        assert np.allclose(maps[32], own[0], atol=1e-5)


def test_a_convnext_has_maps_too_and_a_transformer_is_refused():
    assert [maps.shape[1:] for maps in grad_cam(*make_network("test_convnext"), IMAGES).maps][-1] == (2, 2)
    backbone, head = make_network("test_vit")
    with pytest.raises(ScarceError, match="convolutional"):
        grad_cam(backbone, head, torch.zeros(1, 1, 160, 160))


def test_a_folded_probe_scores_raw_features_as_the_pipeline_does():
    generator = np.random.default_rng(0)
    features = (generator.normal(size=(60, 12)) * generator.uniform(0.1, 9, 12) + 3).astype(np.float32)
    features[:, 4] = 2.5
    labels = (features[:, 0] + generator.normal(size=60) > 3).astype(int)
    train = np.arange(40)
    scaler = StandardScaler().fit(features[train])
    probe = LogisticRegression().fit(scaler.transform(features), labels)
    head = linear_head(probe.coef_[0], probe.intercept_[0], features, train)
    with torch.no_grad():
        scores = head(torch.from_numpy(features))[:, 0].numpy()
    assert np.allclose(scores, probe.decision_function(scaler.transform(features)), atol=1e-4)


def test_grown_maps_keep_their_place_and_what_speaks_against_is_left_out():
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 0, 3], maps[0, 3, 0] = 2.0, -5.0
    grown = upsampled(maps, 64)
    assert grown.shape == (1, 64, 64)
    assert grown.min() == 0
    assert grown.max() == pytest.approx(2)
    assert grown[0, 0, 63] == grown.max()
    assert grown[0, 40:, :40].max() == 0


def test_weights_are_drawn_anew_from_the_head_backwards_and_alike_every_time(network):
    backbone, head = network
    found = randomisation_check(backbone, head, IMAGES[:2], repeats=1)
    steps = ["head", "from layer4 on", "from layer3 on", "from layer2 on", "from layer1 on", "all"]
    assert [(result.random, result.stage) for result in found] == [
        (step, stage) for step in steps for stage in backbone.stage_names
    ]
    assert all(0 <= result.correlation <= 1 for result in found)
    # A map of 2 x 2 cannot tell; one of 16 x 16 can.
    assert {result.verdict for result in found if result.stage == "layer4"} == {"too coarse to tell"}
    assert randomisation_check(backbone, head, IMAGES[:2], repeats=1, cascade=False) == found[-4:]


def test_the_correlation_is_spearmans_with_a_network_of_the_same_seed(network):
    backbone, head = network
    found = randomisation_check(backbone, head, IMAGES, repeats=1, seed=7, cascade=False)
    torch.manual_seed(7)
    other = Backbone(BackboneSettings("test_resnet"))
    other_head = nn.Linear(backbone.features, 1)
    maps = zip(grad_cam(backbone, head, IMAGES).maps[0], grad_cam(other, other_head, IMAGES).maps[0], strict=True)
    expected = [abs(spearmanr(one.ravel(), two.ravel()).statistic) for one, two in maps]
    assert found[0].correlation == pytest.approx(np.mean(expected))


def test_a_map_that_shows_the_film_whatever_the_weights_is_called_out():
    """Films that are mostly black but for a square: the first stage's map is the square, learnt or not."""
    backbone, head = make_network()
    films = torch.zeros(6, 1, 64, 64)
    for number, film in enumerate(films):
        ramp = torch.linspace(0, 40, 64)
        film[0] = ramp[None, :] * ramp[:, None] if number % 2 else ramp[None, :] + 0 * ramp[:, None]
    found = randomisation_check(backbone, head, films, cascade=False)
    assert found[0].verdict == "unchanged"
    words = randomisation_words(found)
    assert words[0].startswith("layer1: THE MAP HARDLY CHANGES")
    assert "6 films, 3 random networks" in words[0]
    assert "too coarse" in words[3]


@pytest.mark.parametrize(
    ("correlation", "positions", "verdict"),
    [
        (0.7, 49, "unchanged"),
        (0.69, 49, "changed"),
        (0.9, 15, "too coarse to tell"),
        (np.nan, 49, "too coarse to tell"),
    ],
)
def test_verdicts(correlation, positions, verdict):
    assert Randomised("layer4", "all", correlation, 0.1, positions, 5, 3).verdict == verdict


def test_chance_is_what_unrelated_maps_have_on_average(network):
    backbone, head = network
    chance = randomisation_check(backbone, head, IMAGES, repeats=1, cascade=False)[1].chance
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(2000, 2, 64))
    measured = np.mean([abs(spearmanr(*pair).statistic) for pair in pairs])
    assert chance == pytest.approx(measured, rel=0.05)
