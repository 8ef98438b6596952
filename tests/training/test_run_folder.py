"""Metrics survive kills, resumptions and new columns."""

import fcntl
import threading
from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.training.run_folder import Metrics, RunFolder, names_apart, read_metrics, series


def test_columns_appear_when_they_are_first_used(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    metrics.write("step", 10, 0, {"loss": 1.5})
    metrics.write("watch", 10, 0, {"held_out_error": 0.25})
    rows = read_metrics(tmp_path / "metrics.csv")
    assert series(rows, "loss") == ([10], [1.5])
    assert series(rows, "held_out_error", "watch") == ([10], [0.25])
    assert rows[0]["held_out_error"] == ""


def test_a_resumed_run_says_nothing_twice(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    for step in (10, 20, 30):
        metrics.write("step", step, 0, {"loss": float(step)})
    Metrics(tmp_path / "metrics.csv", resume_at=20).write("step", 30, 0, {"loss": 99.0})
    assert series(read_metrics(tmp_path / "metrics.csv"), "loss") == ([10, 20, 30], [10.0, 20.0, 99.0])


def test_a_line_torn_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    Metrics(path).write("step", 10, 0, {"loss": 1.0})
    with path.open("a") as file:
        file.write("step,20,0,0.")
    assert series(read_metrics(path), "loss") == ([10], [1.0])


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    run = RunFolder(tmp_path)
    with run.locked():
        assert run.is_locked()
        with pytest.raises(ScarceError, match="nobody else"), run.locked():
            pass
    assert not run.is_locked()


def test_to_look_whether_a_run_is_locked_writes_nothing(tmp_path):
    absent = RunFolder(tmp_path / "run")
    assert not absent.is_locked()
    assert not absent.path.exists()
    with absent.locked():
        pass
    (absent.path / ".lock").write_text("kept")
    assert not absent.is_locked()
    assert (absent.path / ".lock").read_text() == "kept"


def test_who_looks_neither_keeps_a_run_from_training_nor_is_taken_for_one_that_trains(tmp_path):
    run = RunFolder(tmp_path)
    looker = (tmp_path / ".lock").open("w")
    fcntl.flock(looker, fcntl.LOCK_SH)
    assert not run.is_locked()
    threading.Timer(0.05, looker.close).start()
    with run.locked():
        assert run.is_locked()


def test_names_have_as_much_of_the_path_as_sets_them_apart():
    paths = [Path("/a/first/run"), Path("/a/second/run")]
    assert names_apart(paths[:1]) == ["run"]
    assert names_apart(paths) == ["first/run", "second/run"]
    assert names_apart(paths[:1], taken=["run"]) == ["first/run"]
    assert names_apart([Path("/run"), Path("/b/run")]) == ["/run", "b/run"]
    assert names_apart([]) == []


def test_state_is_updated_not_replaced(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_state() == {}
    run.write_state(state="running", step=3)
    run.write_state(step=4)
    assert run.read_state() == {"state": "running", "step": 4}
