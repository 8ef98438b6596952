"""`scarce map` warns where features know the site, and says so where there is none."""

import json

import pytest
from tests.evaluation.planted import make_store

from scarce_cxr.cli import main
from scarce_cxr.commands.map import map as map_films
from scarce_cxr.errors import ScarceError


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    sharp, blurred = make_store(folder / "sharp"), make_store(folder / "blurred", seed=1, blur=1.0)
    return sharp.path, blurred.path, make_store(folder / "alike", seed=2).path


def told(stores, out, *more: str) -> None:
    names = [str(path) for path in stores]
    settings = ["--size", "32", "--films", "60", "--queries", "2", "--out", str(out), "--json"]
    assert main(["map", "test_resnet", "--store", *names, *settings, *more]) == 0


def test_of_one_store_the_site_is_left_out_and_the_planted_view_is_told(stores, tmp_path, capsys):
    told(stores[:1], tmp_path, "--finding", "Effusion")
    said = json.loads(capsys.readouterr().out)
    (rows,) = said["tables"].values()
    site, view, sex = rows
    assert site["test, or why not"] == "all films are here"
    assert site["AUROC"] is None
    assert view["AUROC"].endswith("!")
    # Whose film it is says nothing of the sex.
    assert not sex["AUROC"].endswith("!")
    assert any(
        "can tell the view (" in note and "findings that go with the view may be read off it" in note
        for note in said["notes"]
    )
    assert not any("can tell the sex" in note for note in said["notes"])
    assert any(note.startswith("site: left out") for note in said["notes"])
    assert any(note.startswith("Effusion by view: ") for note in said["notes"])
    names = {path.name for path in tmp_path.iterdir()}
    assert {"map-random-test_resnet.png", "neighbours-random-test_resnet.png"} <= names


def test_a_blur_that_one_site_has_is_found_and_two_sites_that_are_alike_are_not_told_apart(stores, tmp_path, capsys):
    told(stores[:2], tmp_path)
    different = json.loads(capsys.readouterr().out)
    told(stores[::2], tmp_path)
    alike = json.loads(capsys.readouterr().out)
    (row, *_), (other, *_) = (next(iter(said["tables"].values())) for said in (different, alike))
    assert (row["what"], row["tells"]) in (("site", "sharp from blurred"), ("site", "blurred from sharp"))
    assert row["AUROC"].endswith("!")
    assert any("can tell the site" in note for note in different["notes"])
    assert not other["AUROC"].endswith("!")
    assert not any("can tell the site" in note for note in alike["notes"])
    assert not (tmp_path / "errors-random-test_resnet.png").exists()


def test_starts_and_a_store_are_asked_for(stores):
    with pytest.raises(ScarceError, match="a store"):
        map_films(["test_resnet"])
    with pytest.raises(ScarceError, match="at least 10 films"):
        map_films(["test_resnet"], [stores[0]], films=3)
