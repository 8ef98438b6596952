"""What users type for a start, and the weights that they get."""

import json

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


def test_plain_starts_take_the_first_runs_architecture_and_size(run):
    moco, random, resnet = parse_starts([f"moco={run}", "random", "resnet18"])
    assert (moco.name, random.name, resnet.name) == ("moco", "random test_resnet", "random resnet18")
    assert (random.settings.name, random.size, resnet.size, random.kind) == ("test_resnet", 48, 48, "random")
    assert random.mean is None
    alone = parse_start("random:resnet18")
    assert (alone.settings.name, alone.size) == ("resnet18", 224)


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


def test_a_damaged_description_is_said(run):
    (run / "backbone-last.json").write_text(json.dumps(FACTS)[:20])
    with pytest.raises(ScarceError, match="a JSON beside the weights"):
        parse_start(str(run))
