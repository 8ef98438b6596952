"""Runs are read with what is there; what is missing is noted, what is wrong refused."""

import shutil

import pytest
from tests.report.shown import make_store

from scarce_cxr.errors import ScarceError
from scarce_cxr.report.runs import read_runs


def test_a_run_is_read_with_its_store_and_recipe(run, store):
    (read,) = read_runs([run])
    assert read.name == "a <run>"
    assert read.store.fingerprint == store.fingerprint
    assert read.recipe.watch.price_per_hour == 1.5
    assert read.series("held_out_error", "watch") == ([0, 10, 20], [1.01, 0.6, 0.4])
    assert read.last_look["held_out_error"] == 0.4
    assert read.notes == ()


def test_runs_of_one_name_are_told_apart_by_their_folders(run, tmp_path):
    copies = [shutil.copytree(run, tmp_path / folder / "same") for folder in ("x", "y")]
    assert [read.name for read in read_runs(copies)] == ["x/same", "y/same"]
    with pytest.raises(ScarceError, match="name each once"):
        read_runs([copies[0], copies[0] / ".." / "same"])


def test_a_missing_store_and_a_strange_recipe_are_noted(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    (moved / "recipe.yaml").write_text("method: {class_path: nobody.Knows}\n")
    state = (moved / "run.json").read_text().replace("shown", "gone")
    (moved / "run.json").write_text(state)
    (read,) = read_runs([moved])
    assert read.store is None
    assert read.recipe is None
    assert len(read.notes) == 2
    assert "--store STORE" in read.notes[0]


def test_another_store_and_what_is_no_run_are_refused(run, store, tmp_path):
    (read,) = read_runs([run], store.path)
    assert read.store.path == store.path
    with pytest.raises(ScarceError, match="give the right one"):
        read_runs([run], make_store(tmp_path / "another", patients=3).path)
    with pytest.raises(ScarceError, match=r"no run\.json"):
        read_runs([tmp_path])
