"""`scarce predict` ends well where one film can be read, and says what it made of every file."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from tests.evaluation.phantoms import FINDINGS, START, phantom_films  # noqa: F401 - a fixture

from scarce_cxr.cli import main


@pytest.fixture(scope="module")
def model(phantom_films, tmp_path_factory) -> Path:  # noqa: F811
    path = tmp_path_factory.mktemp("exports") / "model"
    words = ["export", START, str(path), "--store", str(phantom_films.store), "--size", "64", "--finding", *FINDINGS]
    assert main(words) == 0
    return path


@pytest.fixture
def films(phantom_films, tmp_path) -> Path:  # noqa: F811
    folder = tmp_path / "films"
    folder.mkdir()
    first, second = sorted(phantom_films.folder.iterdir())[:2]
    (folder / "a.png").write_bytes(first.read_bytes())
    Image.open(second).convert("L").point(lambda value: 255 - value).save(folder / "b.png")
    (folder / "c.png").write_text("no picture")
    return folder


def test_the_table_the_csv_and_the_overlays_are_of_the_same_films(model, films, tmp_path, capsys):
    out, overlays = tmp_path / "p.csv", tmp_path / "overlays"
    words = ["predict", str(model), str(films), "--out", str(out), "--overlays", str(overlays), "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    scored, skipped = said["tables"].values()
    assert [row["film"] for row in scored] == ["a.png", "b.png"]
    assert "inverted" in scored[1]["warnings"]
    assert skipped == [{"file": "c.png", "why": "not an image"}]
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(Path(row["film"]).name, row["finding"]) for row in rows] == [
        *((name, finding) for name in ("a.png", "b.png") for finding in FINDINGS), ("c.png", "")
    ]  # fmt: skip
    assert scored[0][FINDINGS[0]] == f"{float(rows[0]['probability']):.3f} {rows[0]['decision']}"
    assert sorted(path.name for path in overlays.iterdir()) == ["0001-a.png", "0002-b.png"]
    assert any("Research use only" in note for note in said["notes"])


def test_without_a_single_film_it_says_so_in_its_exit_code(model, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"")
    assert main(["predict", str(model), str(tmp_path / "x.png"), "--out", str(tmp_path / "p.csv")]) == 1
    assert "zero bytes" in capsys.readouterr().out


def test_a_folder_without_files_and_what_is_no_model_are_refused(model, films, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["predict", str(model), str(tmp_path / "empty")]) == 2
    assert main(["predict", str(films), str(films)]) == 2
    assert "scarce export" in capsys.readouterr().err
