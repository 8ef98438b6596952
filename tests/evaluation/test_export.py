"""What is exported gives the start's own numbers, is tried before it is there, and says what it was measured on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.evaluation.phantoms import (  # noqa: F401 - fixtures
    FINDINGS,
    START,
    make_parts,
    make_tasks_of,
    parts,
    phantom_films,
    phantom_store,
)

from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation import export
from scarce_cxr.evaluation.card import write_card
from scarce_cxr.evaluation.estimator import FewShotProbe
from scarce_cxr.evaluation.export import backbone_parts, export_model, fit_findings
from scarce_cxr.evaluation.film_model import EXTRA_WEIGHTS, WEIGHTS, read_model
from scarce_cxr.evaluation.scores import calibrate
from scarce_cxr.views.plans import Normalization, plain_view


def test_timm_alone_loads_the_folder_and_gives_the_features_of_the_store(parts, phantom_store, tmp_path):  # noqa: F811
    made = export_model(parts, "timm", tmp_path / "model")
    model = timm.create_model(f"local-dir:{made.path}", pretrained=True).eval()
    model.load_state_dict(load_file(made.path / WEIGHTS), strict=True)
    config = model.pretrained_cfg
    assert config["input_size"] == (1, 64, 64)
    view = plain_view(
        torch.from_numpy(phantom_store.pixels([5, 3])), 64, Normalization(config["mean"][0], config["std"][0])
    )
    with torch.no_grad():
        features = model(view).numpy()
    own = embed(phantom_store, parts.start).array[[5, 3]]
    assert np.abs(features - own).max() < 1e-4
    assert set(made.differences) == {"features", "probabilities", "distances", "features by timm alone"}


def test_probabilities_are_those_of_the_probe_calibrated_on_the_tuning_films(parts, phantom_store, tmp_path):  # noqa: F811
    made = export_model(parts, "timm", tmp_path / "model")
    tasks, sides = make_tasks_of(phantom_store)
    features = np.array(embed(phantom_store, parts.start).array)
    found = read_model(made.path).run(phantom_store.pixels(np.arange(len(phantom_store)))).probabilities
    train = np.flatnonzero(sides == "train")
    for number, task in enumerate(tasks):
        probe = FewShotProbe().fit(features[train], task.labels[train], task.patients[train])
        scores = probe.decision_function(features)
        line = calibrate(scores[task.tune.rows], task.tune.labels)
        assert np.allclose(found[:, number], line(scores)[0], atol=1e-4)


def test_at_the_threshold_nine_of_ten_tuning_negatives_are_negative(parts, phantom_store):  # noqa: F811
    tasks, _ = make_tasks_of(phantom_store)
    fitted, missing = fit_findings(embed(phantom_store, parts.start).array, tasks)
    assert not missing
    for task, of in zip(tasks, fitted, strict=True):
        negative = of.probabilities[task.tune.rows][task.tune.labels == 0]
        above = (negative > of.facts.threshold * (1 + 1e-9)).mean()
        assert above <= 0.1
        # And no lower threshold would do.
        assert (negative >= of.facts.threshold * (1 - 1e-9)).mean() > 0.1


def test_counts_of_the_facts_are_those_of_the_split(parts, phantom_store):  # noqa: F811
    _, sides = make_tasks_of(phantom_store)
    table, facts = phantom_store.table, parts.film_model.facts
    for probe in facts.probes:
        positive = (table[probe.finding] == 1).to_numpy()
        assert (probe.train_films, probe.train_positives) == (
            (sides == "train").sum(),
            positive[sides == "train"].sum(),
        )
        assert (probe.test_films, probe.test_positives) == ((sides == "test").sum(), positive[sides == "test"].sum())
        # One film a patient.
        assert probe.test_patients == (sides == "test").sum()
        assert probe.auroc[1] <= probe.auroc[0] <= probe.auroc[2]
    assert facts.guard.held_out_films == (sides == "test").sum()
    assert facts.store == phantom_store.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(("to", "pixels"), [("pt2", "uint8"), ("onnx", "float32")])
def test_one_file_holds_everything_and_takes_any_number_of_films(phantom_store, tmp_path, to, pixels):  # noqa: F811
    if to == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    built = make_parts(phantom_store, pixels=pixels)
    made = export_model(built, to, tmp_path / "model")
    assert made.path == tmp_path / f"model.{to}"
    assert [path.name for path in tmp_path.iterdir()] == [f"model.{to}"]
    model, films = read_model(made.path), phantom_store.pixels(np.arange(7))
    assert model.facts == built.film_model.facts
    together, alone = model.run(films), model.run(films[3:4])
    for whole, single, own in zip(together, alone, built.film_model.run(films), strict=True):
        assert np.allclose(whole[3:4], single, atol=1e-5)
        assert np.allclose(whole, own, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_other_architectures_are_exported_alike(name: str, phantom_store, tmp_path):  # noqa: F811
    built = backbone_parts(parse_start(f"random:{name}", size=64), phantom_store)
    made = export_model(built, "timm", tmp_path / "model")
    assert max(made.differences.values()) < 1e-4
    assert read_model(made.path).run(phantom_store.pixels([0])).probabilities is None


def test_an_export_with_other_numbers_is_never_there(parts, tmp_path, monkeypatch):  # noqa: F811
    whole = export._write_timm

    def spoilt(film_model, folder):
        whole(film_model, folder)
        tensors = load_file(folder / WEIGHTS)
        name = next(name for name, of in tensors.items() if of.ndim == 4)
        save_file(tensors | {name: tensors[name] * 1.001}, folder / WEIGHTS)

    monkeypatch.setattr(export, "_write_timm", spoilt)
    with pytest.raises(ScarceError, match=r"within 0\.0001 of the backbone"):
        export_model(parts, "timm", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(parts, tmp_path):  # noqa: F811
    (tmp_path / "model").mkdir()
    with pytest.raises(ScarceError, match="a name that is free"):
        export_model(parts, "hf", tmp_path / "model")


def test_a_finding_without_films_is_left_out_with_its_reason_and_none_at_all_is_refused(phantom_store):  # noqa: F811
    tasks, _ = make_tasks_of(phantom_store)
    features = embed(phantom_store, parse_start(START, size=64)).array
    bare = tasks[1]._replace(tune=tasks[1].tune._replace(labels=np.zeros_like(tasks[1].tune.labels)))
    fitted, missing = fit_findings(features, [tasks[0], bare])
    assert [of.facts.finding for of in fitted] == FINDINGS[:1]
    assert missing == {FINDINGS[1]: "the tuning films are not of both classes"}
    with pytest.raises(ScarceError, match=r"patients with the finding, 5000 needed|5,000 needed"):
        make_parts(phantom_store, shot="5000")


def test_without_a_store_a_backbone_is_tried_on_phantoms_and_its_pixels_must_be_known(tmp_path):
    start = replace(parse_start(START, size=32), mean=0.5, std=0.25)
    built = backbone_parts(start)
    assert built.reference.films.shape == (32, 32, 32)
    assert "assumed" in built.notes[0]
    assert export_model(built, "timm", tmp_path / "model").differences["features"] < 1e-4
    with pytest.raises(ScarceError, match="add --store"):
        backbone_parts(replace(start, mean=None, std=None))


def test_the_card_says_what_was_measured_and_names_no_place(parts, phantom_store, tmp_path):  # noqa: F811
    folder = export_model(parts, "hf", tmp_path / "model").path
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "scarce.json", "scarce.safetensors"
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for probe in parts.film_model.facts.probes:
        assert f"| {probe.finding} | {probe.train_positives:,} of {probe.train_films:,} films" in card
        assert f"{probe.test_films:,} films, {probe.test_patients:,} patients" in card
    assert card.count("Research use only") == 2
    for text in (card, (folder / "scarce.json").read_text(), (folder / "config.json").read_text()):
        assert str(tmp_path) not in text
        assert str(phantom_store.path) not in text
    assert json.loads((folder / "config.json").read_text())["architecture"] == "test_resnet"
    seen = replace(parts.film_model.facts, test_films_seen=12)
    assert "pretrained on 12 of the test films" in write_card(seen)


def test_nothing_of_a_single_film_leaves_with_the_model(parts, phantom_store, tmp_path):  # noqa: F811
    """Identifiers, pixels, features: none is among what is written beside the backbone."""
    folder = export_model(parts, "timm", tmp_path / "model").path
    features = embed(phantom_store, parts.start).array
    for tensor in load_file(folder / EXTRA_WEIGHTS).values():
        if tensor.ndim and tensor.shape[-1] == features.shape[1]:
            rows = np.atleast_2d(tensor.numpy())
            assert np.abs(rows[:, None] - features[None]).max(axis=2).min() > 1e-3
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert not any(name.encode() in written for name in phantom_store.table["image_id"])
