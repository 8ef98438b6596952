"""A film model sees films as the views do, and its facts come back as they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.film_model import (
    FACTS,
    Facts,
    FilmModel,
    FilmSettings,
    ProbeFacts,
    as_input,
    read_facts,
    read_model,
    squash_weights,
)
from scarce_cxr.evaluation.guard import GuardFacts
from scarce_cxr.views.plans import Normalization, plain_view

PROBE = ProbeFacts(
    "Mass", "20", 0.3, 40, 20, 40, 30, 5, 50, 9, 41, (0.8, 0.6, 0.9), (0.5, 0.2, 0.8), (0.9, 0.8, 1.0), 0.1, 0.02, 1.5
)
FACTS_OF = Facts(
    name="ours",
    kind="ssl",
    method="DINO",
    pretraining_films=100,
    architecture="test_resnet",
    fingerprint="0" * 16,
    features=384,
    image_size=48,
    mean=0.4,
    std=0.2,
    film=FilmSettings(100, "pad", 16, "full"),
    store="1" * 64,
    test_films_seen=3,
    probes=(PROBE,),
    guard=GuardFacts(4, 7.5, 200, 100, 50, 2),
)


@pytest.mark.parametrize(("side", "size"), [(64, 32), (100, 48), (48, 48), (40, 64), (320, 224), (33, 7)])
def test_the_view_is_that_of_the_views(side: int, size: int):
    facts = replace(FACTS_OF, film=FilmSettings(side), image_size=size, probes=(), guard=None)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
    model = FilmModel(Backbone(BackboneSettings("test_resnet")), facts)
    expected = plain_view(torch.from_numpy(pixels), size, Normalization(facts.mean, facts.std))
    for kind in ("uint8", "float32"):
        # On noise, where neighbours have nothing in common, the rounding of the views' coordinates shows.
        assert torch.allclose(model.view(torch.from_numpy(as_input(pixels, kind))), expected, atol=5e-4)


def test_a_pixel_of_the_view_takes_no_more_than_the_whole_of_the_film():
    weights = squash_weights(320, 64)
    assert weights.shape == (64, 320)
    assert np.allclose(weights.sum(axis=1)[1:-1], 1)
    assert (weights >= 0).all()


def test_films_of_16_bits_become_numbers_but_not_bytes():
    films = np.array([[[0, 65535]]], np.uint16)
    assert as_input(films, "float32").tolist() == [[[[0.0, 1.0]]]]
    with pytest.raises(ScarceError, match="--pixels float32"):
        as_input(films, "uint8")


def test_facts_come_back_as_they_were(tmp_path):
    assert read_facts(FACTS_OF.to_json(), tmp_path) == FACTS_OF
    alone = replace(FACTS_OF, probes=(), guard=None, store=None, method=None)
    assert read_facts(alone.to_json(), tmp_path) == alone


@pytest.mark.parametrize("text", ["", "[]", "{}", FACTS_OF.to_json().replace('"version": 1', '"version": 2')])
def test_what_are_no_facts_of_ours_is_refused(text: str, tmp_path):
    with pytest.raises(ScarceError, match="a model that scarce export wrote"):
        read_facts(text, tmp_path / FACTS)


def test_what_is_no_model_is_refused_by_name(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "model.pt2").write_bytes(b"x")
    for name in ("nowhere", "model.bin", "model.pt2", ""):
        with pytest.raises(ScarceError, match=str(tmp_path / name)):
            read_model(tmp_path / name)
