"""Trials on disk go on where they were, refuse another protocol, and are whole at every moment."""

import numpy as np
import pytest
from tests.evaluation.made_up import PROTOCOL, make_films, make_trials

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.trials import TestFilms, Trials, read_evidence

FILMS = {"Effusion": make_films("Effusion", 6, 14)}
CELL = ("moco", "probe", "Effusion", "5")


def row(draw: int = 0, start: str = "moco", fingerprint: str = "a" * 16 + "-64", scores=(0.5, 1.5), **more) -> dict:
    named = {"start": start, "start_kind": "ssl", "start_fingerprint": fingerprint, "how": "probe"}
    return {**named, "finding": "Effusion", "shot": "5", "draw": draw, "scores": scores, **more}


def test_what_was_added_is_there_when_the_folder_is_opened_again(tmp_path):
    Trials(tmp_path, PROTOCOL).add([row(1, scores=(0.25, -2.0), auroc=0.75), row(0, scores=None, missing="too few")])
    again = Trials(tmp_path, PROTOCOL)
    table = again.table
    assert table["draw"].tolist() == [1, 0]
    assert table["auroc"].tolist()[0] == 0.75
    np.testing.assert_array_equal(table["scores"][0], np.float32([0.25, -2.0]))
    assert table["scores"][1] is None
    assert table["missing"].isna().tolist() == [True, False]
    assert again.has(start_fingerprint="a" * 16 + "-64", how="probe", finding="Effusion", shot="5", draw=1)
    assert not again.has(start_fingerprint="a" * 16 + "-64", how="probe", finding="Effusion", shot="5", draw=2)


def test_a_trial_that_is_known_is_not_added_twice(tmp_path):
    trials = Trials(tmp_path, PROTOCOL)
    trials.add([row(0, auroc=0.7)])
    trials.add([row(0, auroc=0.9), row(1, auroc=0.8)])
    assert trials.table["auroc"].tolist() == [0.7, 0.8]


def test_two_processes_add_to_one_folder(tmp_path):
    first, second = Trials(tmp_path, PROTOCOL), Trials(tmp_path, PROTOCOL)
    first.add([row(0, auroc=0.1)])
    second.add([row(1, auroc=0.2), row(0, auroc=0.9)])
    first.add([row(2, auroc=0.3)])
    assert Trials(tmp_path).table["auroc"].tolist() == [0.1, 0.2, 0.3]


def test_another_protocol_is_refused_by_what_differs(tmp_path):
    Trials(tmp_path, PROTOCOL)
    with pytest.raises(ScarceError, match=r"test 0\.2 there, 0\.3 now"):
        Trials(tmp_path, {**PROTOCOL, "test": 0.3})
    with pytest.raises(ScarceError, match="protocol None there, 'original' now"):
        Trials(tmp_path, {**PROTOCOL, "protocol": "original"})
    with pytest.raises(ScarceError, match=r"without protocol\.json"):
        Trials(tmp_path / "elsewhere")


def test_one_way_of_fitting_has_one_kind_of_settings(tmp_path):
    trials = Trials(tmp_path, PROTOCOL)
    trials.settle("finetune", {"epochs": 100, "rates": (1, 2)})
    Trials(tmp_path, PROTOCOL).settle("finetune", {"epochs": 100, "rates": (1, 2)})
    with pytest.raises(ScarceError, match="epochs 100 there, 50 now"):
        trials.settle("finetune", {"epochs": 50, "rates": (1, 2)})


def test_a_write_that_is_killed_leaves_the_old_table(tmp_path, monkeypatch):
    trials = Trials(tmp_path, PROTOCOL)
    trials.add([row(0, auroc=0.7)])

    def die(table, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("scarce_cxr.evaluation.trials.pq.write_table", die)
    with pytest.raises(KeyboardInterrupt):
        trials.add([row(1, auroc=0.8)])
    monkeypatch.undo()
    assert Trials(tmp_path).table["auroc"].tolist() == [0.7]
    assert not list(tmp_path.glob(".trials*"))
    # Nor is it taken for written: the next one writes both.
    trials.add([row(1, auroc=0.8)])
    assert Trials(tmp_path).table["auroc"].tolist() == [0.7, 0.8]


def test_scores_come_by_draw_and_those_of_another_start_stay_out(tmp_path):
    trials = Trials(tmp_path, PROTOCOL)
    old, new = "a" * 16 + "-64", "b" * 16 + "-64"
    trials.add([row(0, fingerprint=old, scores=(9, 9))])
    trials.add([row(2, fingerprint=new, scores=(2, 3)), row(1, fingerprint=new, scores=(0, 1))])
    draws, scores = trials.scores("moco", "probe", "Effusion", "5")
    assert draws.tolist() == [1, 2]
    assert scores.tolist() == [[0, 1], [2, 3]]
    assert trials.scores(old, "probe", "Effusion", "5")[1].tolist() == [[9, 9]]
    assert trials.scores("moco", "finetune", "Effusion", "5")[1].shape == (0, 0)


def test_test_films_come_back_finding_by_finding(tmp_path):
    trials = Trials(tmp_path, PROTOCOL)
    films = {"Effusion": FILMS["Effusion"], "Mass": make_films("Mass", 3, 5)}
    trials.keep_test_films(films, [f"film{number}" for number in range(20)])
    trials.keep_test_films({"Mass": make_films("Mass", 2, 6)}, [f"film{number}" for number in range(20)])
    for ours, theirs in zip(trials.test_films("Effusion"), films["Effusion"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert trials.test_films("Mass").labels.sum() == 2
    assert isinstance(trials.test_films("Mass"), TestFilms)


def test_folders_of_one_protocol_are_read_together(tmp_path):
    make_trials(tmp_path / "a", {CELL: 0.8}, FILMS, draws=2)
    make_trials(tmp_path / "b", {CELL: 0.8, ("random", *CELL[1:]): 0.6}, FILMS, draws=3)
    read = read_evidence([tmp_path / "a", tmp_path / "b"])
    assert sorted(zip(read.table["start"], read.table["draw"], strict=True)) == [
        *(("moco", draw) for draw in range(3)),
        *(("random", draw) for draw in range(3)),
    ]
    assert read.starts["random"]["kind"] == "random"
    np.testing.assert_array_equal(read.films["Effusion"].labels, FILMS["Effusion"].labels)


def test_folders_of_different_protocols_are_refused_by_what_differs(tmp_path):
    make_trials(tmp_path / "a", {CELL: 0.8}, FILMS)
    make_trials(tmp_path / "b", {CELL: 0.8}, FILMS, protocol={"negatives": "normals"})
    with pytest.raises(ScarceError, match=r"negatives None in .*a, 'normals' in .*b"):
        read_evidence([tmp_path / "a", tmp_path / "b"])
    for name, epochs in (("c", 10), ("d", 20)):
        make_trials(tmp_path / name, {CELL: 0.8}, FILMS).settle("finetune", {"epochs": epochs})
    with pytest.raises(ScarceError, match=r"epochs 10 in .*c, 20 in .*d"):
        read_evidence([tmp_path / "c", tmp_path / "d"])


def test_two_backbones_of_one_name_are_told_apart(tmp_path):
    for name, letter in (("first", "a"), ("second", "b")):
        Trials(tmp_path / name, PROTOCOL).add([row(fingerprint=letter * 16 + "-64")])
        Trials(tmp_path / name).keep_test_films({"Effusion": FILMS["Effusion"]}, [str(n) for n in range(20)])
    read = read_evidence([tmp_path / "first", tmp_path / "second"])
    assert read.table["start"].tolist() == ["moco (first)", "moco (second)"]
    Trials(tmp_path / "first").add([row(fingerprint="a" * 16 + "-32")])
    assert read_evidence([tmp_path / "first"]).table["start"].tolist() == ["moco (aaaaaa-64)", "moco (aaaaaa-32)"]
