"""What users type for a start, and the weights that they get."""

import hashlib
import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.backbones.starts import fingerprint_of, load_start, parse_start, parse_starts
from scarce_cxr.errors import ScarceError
from scarce_cxr.training.checkpoint import save_backbone

FACTS = {
    "image_size": 48,
    "mean": 0.6,
    "std": 0.3,
    "store": "ab" * 32,
    "method": "MoCo",
    "recipe": "watch:\n  held_out: 0.25\n",
}


@pytest.fixture
def run(tmp_path):
    """A folder as a run leaves it, with weights of seed 7."""
    torch.manual_seed(7)
    folder = tmp_path / "moco-1"
    folder.mkdir()
    save_backbone(folder / "backbone-last.safetensors", Backbone(BackboneSettings("test_resnet")), FACTS)
    return folder


def test_a_run_says_by_itself_how_it_wants_its_films(run):
    start = parse_start(str(run), size=224)
    assert (start.name, start.kind, start.settings.name) == ("moco-1", "ssl", "test_resnet")
    assert (start.size, start.mean, start.std, start.method) == (48, 0.6, 0.3, "MoCo")
    assert (start.store_fingerprint, start.held_out) == ("ab" * 32, 0.25)


def test_a_run_s_weights_load_strictly_into_plain_timm_and_give_the_same_features(run):
    backbone = load_start(parse_start(str(run)))
    plain = timm.create_model("test_resnet", in_chans=1, num_classes=0).eval()
    plain.load_state_dict(load_file(run / "backbone-last.safetensors"), strict=True)
    images = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(backbone(images), plain(images))


def test_plain_starts_see_the_same_pixels_as_the_first_run_wherever_it_stands(run):
    random, moco, resnet = parse_starts(["random", f"moco={run}", "resnet18"])
    assert (moco.name, random.name, resnet.name) == ("moco", "random test_resnet", "random resnet18")
    assert (random.settings.name, random.kind) == ("test_resnet", "random")
    assert {(start.size, start.mean, start.std) for start in (random, moco, resnet)} == {(48, 0.6, 0.3)}


def test_a_run_keeps_its_own_size_and_normalisation_beside_another(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    facts = {**FACTS, "image_size": 96, "mean": 0.4, "std": 0.2}
    save_backbone(other / "backbone-last.safetensors", Backbone(BackboneSettings("test_resnet")), facts)
    first, second, random = parse_starts([str(run), str(other), "random"], size=32)
    assert (first.size, first.mean) == (48, 0.6)
    assert (second.size, second.mean, second.std) == (96, 0.4, 0.2)
    # A size that is typed is for those that say none.
    assert (random.size, random.mean) == (32, 0.6)


def test_without_a_run_nothing_is_known_but_the_default():
    alone = parse_start("random:test_resnet")
    assert (alone.settings.name, alone.size, alone.mean, alone.std) == ("test_resnet", 224, None, None)
    assert parse_start("random").settings.name == "resnet50"


def test_random_weights_are_those_of_plain_torch_at_the_seed():
    start = parse_start("test_resnet", seed=5)
    torch.manual_seed(5)
    expected = Backbone(BackboneSettings("test_resnet")).model.state_dict()
    loaded = load_start(start).model.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_a_fingerprint_is_the_hash_of_the_tensors_in_the_order_of_their_names():
    backbone = Backbone(BackboneSettings("test_resnet"))
    tensors = {name: tensor.numpy() for name, tensor in backbone.model.state_dict().items()}
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} torch.{tensors[name].dtype} {tensors[name].shape}\n".encode() + tensors[name].tobytes())
    assert fingerprint_of(backbone) == digest.hexdigest()[:16]


def test_random_weights_are_those_of_the_seed_and_disturb_nobody_s_numbers():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = (parse_start("random:test_resnet", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert fingerprint_of(load_start(first)) == first.fingerprint


def test_a_fingerprint_sees_a_single_changed_number():
    backbone = Backbone(BackboneSettings("test_resnet"))
    before = fingerprint_of(backbone)
    with torch.no_grad():
        next(backbone.parameters()).view(-1)[0] += 1
    assert fingerprint_of(backbone) != before


def test_files_name_their_architecture(run, tmp_path):
    file = (run / "backbone-last.safetensors").rename(tmp_path / "mine.safetensors")
    start = parse_start(f"test_resnet:{file}", size=64)
    assert (start.name, start.kind, start.size, start.settings.weights) == ("mine", "file", 64, file)
    with pytest.raises(ScarceError, match="weights of a resnet50"):
        parse_start(str(file))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("nowhere/at/all.safetensors", "no nowhere/at/all.safetensors"),
        ("resnet5000", "a model that timm knows"),
        ("best:resnet18", "check that the folder or file is there"),
        ("runs/nowhere", "check that the folder or file is there"),
        ("pretrained:test_resnet.nosuch", "published weights of test_resnet.nosuch"),
        ("=resnet18", "a label and a start"),
    ],
)
def test_what_cannot_be_found_is_said(typed, said):
    with pytest.raises(ScarceError, match=said):
        parse_start(typed)


def test_a_missing_best_and_a_repeated_name_are_said(run):
    with pytest.raises(ScarceError, match="backbone-best"):
        parse_start(f"{run}:best")
    with pytest.raises(ScarceError, match="moco-1 more than once"):
        parse_starts([str(run), f"{run}:last"])


def test_best_is_taken_where_it_is_asked_for(run):
    torch.manual_seed(8)
    save_backbone(run / "backbone-best.safetensors", Backbone(BackboneSettings("test_resnet")), FACTS)
    last, best, file = parse_starts([str(run), f"{run}:best", f"file={run / 'backbone-best.safetensors'}"])
    assert (last.name, best.name) == ("moco-1", "moco-1 (best)")
    assert last.fingerprint != best.fingerprint == file.fingerprint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(FACTS)[:20], "a JSON beside the weights"),
        ("[]", "a JSON that names the architecture"),
        (json.dumps(FACTS), "a JSON that names the architecture"),
        (json.dumps({**FACTS, "architecture": "test_resnet", "image_size": "48"}), 'image_size = "48"'),
        (json.dumps({**FACTS, "architecture": "test_resnet", "std": 0}), "std = 0"),
        (json.dumps({**FACTS, "architecture": "resnet18"}), "weights of a resnet18"),
        (None, "a JSON beside a run's weights"),
    ],
)
def test_a_description_that_does_not_fit_is_said(run, text, said):
    path = run / "backbone-last.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ScarceError, match=said):
        parse_start(str(run))


def test_an_architecture_that_is_typed_must_be_that_of_the_json(run):
    file = run / "backbone-last.safetensors"
    assert parse_start(f"test_resnet.r160_in1k:{file}").settings.name == "test_resnet"
    with pytest.raises(ScarceError, match="resnet18 typed, and test_resnet in"):
        parse_start(f"resnet18:{file}")


def test_a_json_of_another_program_is_left_alone(run, tmp_path):
    file = (run / "backbone-last.safetensors").rename(tmp_path / "mine.safetensors")
    file.with_suffix(".json").write_text('{"model_type": "resnet"}')
    assert parse_start(f"test_resnet:{file}", size=64).size == 64


def test_weights_that_change_after_they_were_named_are_not_taken_for_the_same(run):
    start = parse_start(str(run))
    save_backbone(run / "backbone-last.safetensors", Backbone(BackboneSettings("test_resnet")), FACTS)
    with pytest.raises(ScarceError, match="changed since"):
        load_start(start)


def test_paths_may_hold_equals_signs_and_folders_may_be_called_like_models(run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "lr=0.1")
    (tmp_path / "test_resnet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [parse_start(text).name for text in ("lr=0.1", "lr=0.1:last", "a=lr=0.1")] == ["lr=0.1", "lr=0.1", "a"]
    assert parse_start("test_resnet").kind == "random"
