"""Metrics survive kills, resumptions and new columns."""

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.training.run_folder import Metrics, RunFolder, read_metrics, series


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


def test_state_is_updated_not_replaced(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_state() == {}
    run.write_state(state="running", step=3)
    run.write_state(step=4)
    assert run.read_state() == {"state": "running", "step": 4}
