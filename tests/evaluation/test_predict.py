"""Files are scored as the store's films are, warned of where they are unlike them, and skipped where they are none."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from scipy.special import logit
from tests.evaluation.phantoms import FINDINGS, make_parts, parts, phantom_films, phantom_store  # noqa: F401 - fixtures

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.export import export_model
from scarce_cxr.evaluation.film_model import FilmSettings, Model, read_model
from scarce_cxr.evaluation.predict import explain_film, list_inputs, predict, read_film, write_predictions
from scarce_cxr.images.decode import quantise, scale
from scarce_cxr.images.names import original_names
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.phantoms.lateral import draw_lateral

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture(scope="module")
def model(parts, tmp_path_factory) -> Model:  # noqa: F811
    return read_model(export_model(parts, "timm", tmp_path_factory.mktemp("exports") / "model").path)


def save(film: np.ndarray, path: Path) -> Path:
    Image.fromarray(quantise(film)).save(path)
    return path


def kinds(prediction) -> list[str]:
    return [warning.partition(":")[0] for warning in prediction.warnings]


def test_a_file_gets_the_probability_of_its_film_in_the_store(model, phantom_films, phantom_store):  # noqa: F811
    rows = [0, 50, 100]
    names = original_names(phantom_store.path)[phantom_store.table["image_id"].iloc[rows]]
    paths = [phantom_films.folder / name for name in names]
    files, _ = list_inputs(paths)
    found = list(predict(model, files))
    assert [Path(of.name) for of in found] == paths
    assert np.array_equal(np.stack([of.film for of in found]), phantom_store.pixels(rows))
    expected = model.run(phantom_store.pixels(rows)).probabilities
    assert np.allclose([of.probabilities for of in found], expected, atol=1e-6)


def test_negatives_photographs_and_laterals_are_warned_of_and_films_of_other_patients_are_not(model, tmp_path):
    fresh = [scale(draw_film(9, patient, 0, 64).pixels) for patient in range(1, 41)]
    odd = {
        "negative": [1 - film for film in fresh],
        "lateral": [scale(draw_lateral(9, patient, 64)) for patient in range(1, 41)],
    }
    files = {f"fresh{n}": save(film, tmp_path / f"fresh{n}.png") for n, film in enumerate(fresh)}
    files |= {
        f"{name}{n}": save(film, tmp_path / f"{name}{n}.png") for name, of in odd.items() for n, film in enumerate(of)
    }
    photographs = ("china.jpg", "flower.jpg")
    files |= {name: PHOTOGRAPHS / name for name in photographs}
    warned = {of.name: kinds(of) for of in predict(model, files)}
    # The guard is made to warn of 5 %: more than 5 of 40 would be one time in seventy.
    assert sum("unfamiliar" in warned[f"fresh{n}"] for n in range(40)) <= 5
    # A few phantoms are over-exposed, which is a warning of its own.
    assert sum(bool(warned[f"fresh{n}"]) for n in range(40)) <= 8
    assert all(warned[name] for name in photographs)
    for name, kind, most in (("negative", "inverted", 39), ("lateral", "lateral", 34)):
        assert sum(bool(warned[f"{name}{n}"]) for n in range(40)) >= most
        assert sum(kind in warned[f"{name}{n}"] for n in range(40)) >= most - 3


@pytest.mark.slow
def test_of_real_films_of_other_patients_95_percent_are_not_warned_of(nih_folder, tmp_path):
    """1,000 real films; the model is made of the training patients, the held-out films are read from their files."""
    from scarce_cxr.backbones.starts import parse_start
    from scarce_cxr.images.prepare import prepare
    from scarce_cxr.images.sources.nih import NihSource
    from scarce_cxr.images.splits import split
    from scarce_cxr.images.store import Store

    prepare(NihSource(nih_folder), tmp_path / "store", size=96, jobs=1)
    store = Store.open(tmp_path / "store")
    built = make_parts(store, parse_start("random:resnet18", size=64), ["Effusion"])
    real = read_model(export_model(built, "timm", tmp_path / "model").path)
    held_out = store.table["image_id"][split(store.table) == "test"]
    paths = {path.name: path for path in nih_folder.rglob("*.png")}
    found = list(predict(real, {name: paths[name] for name in held_out}))
    assert len(found) > 100
    assert sum(bool(of.warnings) for of in found) <= 0.05 * len(found)
    for name in list(held_out)[:20]:
        negative = save(1 - scale(np.asarray(Image.open(paths[name]).convert("L"))), tmp_path / name)
        assert kinds(next(predict(real, {name: negative})))


def test_what_is_no_film_is_skipped_with_a_reason_and_the_rest_is_scored(model, tmp_path):
    film = save(scale(draw_film(9, 1, 0, 64).pixels), tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "c.txt").write_text("no picture")
    (tmp_path / "d.png").write_bytes(film.read_bytes()[:200])
    files, _ = list_inputs([tmp_path])
    found = list(predict(model, files))
    assert [(Path(of.name).name, of.skipped) for of in found] == [
        ("a.png", "zero bytes"), ("b.png", ""), ("c.txt", "not an image"), ("d.png", "truncated")
    ]  # fmt: skip
    write_predictions(tmp_path / "out" / "p.csv", found, model.facts)
    with (tmp_path / "out" / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 + len(FINDINGS)
    scored = [row for row in rows if row["finding"]]
    assert [row["finding"] for row in scored] == FINDINGS
    for row, probe, probability in zip(scored, model.facts.probes, found[1].probabilities, strict=True):
        assert float(row["probability"]) == pytest.approx(probability, abs=1e-6)
        assert row["decision"] == ("positive" if probability > probe.threshold else "negative")


def test_folders_archives_and_files_may_be_mixed(phantom_films, tmp_path):  # noqa: F811
    some = sorted(phantom_films.folder.iterdir())[:3]
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(some[0], tmp_path / "in" / "deep")
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in")
    files, refused = list_inputs([some[1], tmp_path / "in", tmp_path / "packed.zip"])
    assert [Path(name).name for name in files] == [some[1].name, some[0].name, some[0].name]
    assert not refused
    films = [read_film(path, FilmSettings(64)) for path in files.values()]
    assert np.array_equal(films[1], films[2])
    with pytest.raises(ScarceError, match="nowhere"):
        list_inputs([tmp_path / "nowhere"])


def test_what_a_map_adds_up_to_is_the_probability(model, phantom_store):  # noqa: F811
    """Of a last stage that is averaged, the map's mean is the log-odds less the head's bias."""
    film = phantom_store.pixels([7])
    cams, odds = explain_film(model.film_model, film[0]), logit(model.run(film).probabilities[0].astype(float))
    biases = model.film_model.head.bias.detach().numpy()
    for cam, odd, bias in zip(cams, odds, biases, strict=True):
        assert cam.scores[0] == pytest.approx(odd, abs=1e-3)
        assert cam.maps[-1].mean() + bias == pytest.approx(odd, abs=1e-3)


def test_a_backbone_alone_predicts_nothing(model):
    from dataclasses import replace

    bare = model._replace(facts=replace(model.facts, probes=()))
    with pytest.raises(ScarceError, match="--finding"):
        next(predict(bare, {}))
