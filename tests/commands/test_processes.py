"""`scarce pretrain` with two processes is one run: one of them writes, and both leave together."""

import csv
import json
import subprocess
import sys

import pytest

SETTINGS = {
    "backbone.name": "test_resnet",
    "method.bn_splits": "1",
    "method.queue": "16",
    "training.accelerator": "cpu",
    "training.batch_size": "8",
    "training.devices": "2",
    "training.duration": "3 steps",
    "training.log_every": "1 steps",
    "training.precision": "fp32",
    "training.warmup": "1 steps",
    "views.size": "32",
    "watch.every": "3 steps",
}


@pytest.mark.slow
def test_two_processes_write_one_run(small_store, tmp_path):
    words = [sys.executable, "-m", "scarce_cxr.cli", "pretrain", "--config", "small/moco"]
    words += [f"--store={small_store}", f"--run={tmp_path / 'run'}", *(f"--{n}={v}" for n, v in SETTINGS.items())]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Run run") == 1
    state = json.loads((tmp_path / "run/run.json").read_text())
    assert (state["state"], state["step"]) == ("finished", 3)
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        rows = [(row["kind"], row["step"]) for row in csv.DictReader(file)]
    assert rows == [("watch", "0"), ("step", "1"), ("step", "2"), ("step", "3"), ("watch", "3")]
