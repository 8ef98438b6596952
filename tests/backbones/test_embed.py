"""Features of whole films: computed once, and those of a plain pass through timm."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from scarce_cxr.backbones import embed as module
from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import load_start, parse_start
from scarce_cxr.images.store import Store


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
    np.testing.assert_allclose(made.array, wanted.numpy(), rtol=1e-4, atol=1e-5)


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


def test_half_a_file_is_never_used(small_store, tmp_path, start):
    store = Store.open(small_store)
    made = embed(store, start, folder=tmp_path)
    whole = np.array(made.array)
    made.path.write_bytes(made.path.read_bytes()[:-100])
    assert np.array_equal(embed(store, start, folder=tmp_path).array, whole)
    np.save(made.path, whole[:5])
    assert np.array_equal(embed(store, start, folder=tmp_path).array, whole)


def test_features_lie_beside_the_store_and_never_inside(small_store, start):
    store = Store.open(small_store)
    path = embed(store, start).path
    assert path.parent == small_store.with_name("small.features")
    store.verify()
