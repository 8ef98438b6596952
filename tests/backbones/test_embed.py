"""Features of whole films: computed once, and those of a plain pass through timm."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from scarce_cxr.backbones import embed as module
from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.backbones.embed import embed, embed_pixels
from scarce_cxr.backbones.starts import load_start, parse_start, parse_starts
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.training.checkpoint import save_backbone
from scarce_cxr.views.plans import Normalization, plain_view


@pytest.fixture
def start():
    return parse_start("random:test_resnet", size=64)


def test_features_are_those_of_a_plain_pass_through_timm(small_store, tmp_path, start):
    store = Store.open(small_store)
    made = embed(store, start, folder=tmp_path, batch=20)
    plain = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    plain.load_state_dict(load_start(start).model.state_dict())
    # At the store's own size nothing is resampled.
    images = torch.from_numpy(store.pixels(np.arange(len(store)))).float()[:, None] / 255
    with torch.no_grad():
        wanted = plain((images - store.mean) / store.std)
    assert made.array.dtype == np.float32
    assert isinstance(made.array, np.memmap)
    assert (made.films, made.size, made.start) == (48, 64, start)
    np.testing.assert_allclose(made.array, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_a_run_s_features_are_those_of_its_backbone_in_plain_timm_by_its_own_json(small_store, tmp_path):
    file = tmp_path / "run" / "backbone-last.safetensors"
    file.parent.mkdir()
    facts = {"image_size": 64, "mean": 0.3, "std": 0.15, "method": "MoCo"}
    save_backbone(file, Backbone(BackboneSettings("test_resnet")), facts)
    store = Store.open(small_store)
    run, random = parse_starts([str(file.parent), "random"])
    plain = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    images = torch.from_numpy(store.pixels(np.arange(len(store)))).float()[:, None] / 255
    # The random start beside it sees films the same way.
    for start, weights in ((run, load_file(file)), (random, load_start(random).model.state_dict())):
        plain.load_state_dict(weights, strict=True)
        with torch.no_grad():
            wanted = plain((images - 0.3) / 0.15).numpy()
        np.testing.assert_allclose(embed(store, start, folder=tmp_path).array, wanted, rtol=1e-4, atol=1e-5)


def test_films_of_another_size_are_seen_in_the_plain_view(small_store, tmp_path, start):
    store = Store.open(small_store)
    half = replace(start, size=32)
    seen = plain_view(torch.from_numpy(store.pixels([3, 40])), 32, Normalization(store.mean, store.std))
    assert seen.shape == (2, 1, 32, 32)
    with torch.no_grad():
        wanted = load_start(half).model(seen).numpy()
    np.testing.assert_allclose(embed(store, half, folder=tmp_path).array[[3, 40]], wanted, rtol=1e-4, atol=1e-5)


def test_a_batch_alone_has_the_features_of_the_whole(small_store, tmp_path, start):
    store = Store.open(small_store)
    alone = embed_pixels(load_start(start), start, store.pixels([7, 2]), store.mean, store.std)
    np.testing.assert_allclose(alone, embed(store, start, folder=tmp_path).array[[7, 2]], rtol=1e-4, atol=1e-5)


def test_models_whose_vector_is_longer_than_timm_says_are_embedded_too(small_store, tmp_path):
    model = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=0)
    made = embed(Store.open(small_store), parse_start("mobilenetv3_small_050", size=32), folder=tmp_path)
    assert made.array.shape == (48, 1024) != (48, model.num_features)


def test_weights_that_have_diverged_are_said_and_leave_no_file(small_store, tmp_path):
    backbone = Backbone(BackboneSettings("test_resnet"))
    with torch.no_grad():
        next(backbone.parameters()).fill_(torch.nan)
    file = tmp_path / "nan.safetensors"
    save_backbone(file, backbone, {"image_size": 32})
    with pytest.raises(ScarceError, match="nan or inf from nan"):
        embed(Store.open(small_store), parse_start(str(file)), folder=tmp_path / "features")
    assert list((tmp_path / "features").iterdir()) == []


def test_what_is_there_is_read_and_not_computed(small_store, tmp_path, start, monkeypatch):
    store = Store.open(small_store)
    first = embed(store, start, folder=tmp_path)
    monkeypatch.setattr(module, "load_start", lambda start: pytest.fail("computed again"))
    again = embed(store, start, folder=tmp_path)
    assert again.seconds == 0
    assert np.array_equal(first.array, again.array)


def test_other_weights_size_or_normalisation_have_a_file_of_their_own(small_store, tmp_path, start):
    store = Store.open(small_store)
    others = [replace(start, size=32), replace(start, mean=0.1, std=0.5), parse_start("random:test_resnet", seed=1)]
    paths = {embed(store, each, folder=tmp_path).path for each in (start, *others)}
    assert len(paths) == 3 + 1


def test_another_store_has_a_file_of_its_own(small_store, tmp_path, start):
    store = Store.open(small_store)
    other = Store.open(small_store)
    other.fingerprint = "0" * 64
    assert embed(store, start, folder=tmp_path).path != embed(other, start, folder=tmp_path).path


def _cut(path, whole):
    path.write_bytes(path.read_bytes()[:-100])


def _fewer_films(path, whole):
    np.save(path, whole[:5])


def _other_type(path, whole):
    np.save(path, whole.astype(np.float64))


def _fewer_features(path, whole):
    np.save(path, whole[:, :5])


def _no_json(path, whole):
    np.save(path, whole + 1)
    path.with_suffix(".json").unlink()


def _other_architecture(path, whole):
    np.save(path, whole + 1)
    described = path.with_suffix(".json")
    described.write_text(described.read_text().replace("test_resnet", "resnet18"))


@pytest.mark.parametrize("harm", [_cut, _fewer_films, _other_type, _fewer_features, _no_json, _other_architecture])
def test_half_a_file_or_a_stale_one_is_never_used(small_store, tmp_path, start, harm):
    store = Store.open(small_store)
    path = embed(store, start, folder=tmp_path).path
    whole = np.load(path)
    harm(path, whole)
    assert np.array_equal(embed(store, start, folder=tmp_path).array, whole)
    assert embed(store, start, folder=tmp_path).seconds == 0


def test_features_lie_beside_the_store_and_never_inside(small_store, start):
    store = Store.open(small_store)
    path = embed(store, start).path
    assert path.parent == small_store.with_name("small.features")
    store.verify()
