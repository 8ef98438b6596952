"""A run goes on as if nothing had happened, to the same bits."""

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scarce_cxr.cli import main
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import Store
from scarce_cxr.training.checkpoint import all_finite, load_checkpoint, save_checkpoint
from scarce_cxr.training.loop import Diverged, Interrupted, Watcher
from scarce_cxr.training.pretrain import pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series

STEPS = 12
SETTINGS = {
    "config": Path(__file__).parents[2] / "recipes/small/spark.yaml",
    "method.decoder_width": 8,
    "backbone.name": "test_resnet",
    "views.augmentation.noise": 0.05,
    "views.size": 64,
    "training.batch_size": 8,
    "training.duration": f"{STEPS} steps",
    "training.log_every": "1 steps",
    "training.save_every": "2 steps",
    "training.precision": "fp32",
    "training.accelerator": "cpu",
    "watch.every": "5 steps",
}


def options(**overrides) -> list[str]:
    return [f"--{name}={value}" for name, value in {**SETTINGS, **overrides}.items()]


def settled_rate() -> float:
    """The recipe's own learning rate."""
    parser = recipe_parser()
    return settle(parser, parser.parse_args(options()))[0].optimizer.lr


def train(store: Path, run: Path, checkpoint: Path | None = None, make_watchers=None, **overrides) -> RunFolder:
    parser = recipe_parser()
    recipe, text = settle(parser, parser.parse_args(options(**overrides)))
    folder = RunFolder(run)
    folder.path.mkdir(exist_ok=True)
    pretrain(recipe, text, Store.open(store), folder, checkpoint=checkpoint, make_watchers=make_watchers)
    return folder


def everything(folder: RunFolder) -> dict[str, torch.Tensor]:
    """All weights, buffers and optimizer states at the end of a run."""
    content = torch.load(folder.last_checkpoint, weights_only=True)
    states = {
        f"optimizer.{index}.{name}": value
        for index, state in content["optimizer"]["state"].items()
        for name, value in state.items()
    }
    return {**content["module"], **states, **load_file(folder.backbone("last"))}


def same_bits(first: RunFolder, second: RunFolder) -> bool:
    one, other = everything(first), everything(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def last_step(run: Path) -> int:
    """The last step that is written down; 0 if none is."""
    metrics = run / "metrics.csv"
    return max(series(read_metrics(metrics), "loss")[0], default=0) if metrics.is_file() else 0


class SignalAt(Watcher):
    """A watcher that sends this process a signal once, as an impatient scheduler would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def look(self, method, step):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


@pytest.fixture(scope="module")
def uninterrupted(small_store, tmp_path_factory) -> RunFolder:
    return train(small_store, tmp_path_factory.mktemp("runs") / "whole")


def test_sigterm_saves_and_the_resumed_run_ends_the_same(small_store, tmp_path, uninterrupted):
    with pytest.raises(Interrupted):
        train(small_store, tmp_path / "run", make_watchers=lambda *_: [SignalAt(5)])
    folder = RunFolder(tmp_path / "run")
    assert folder.read_state()["state"] == "stopped"
    assert 5 <= folder.read_state()["step"] < STEPS
    train(small_store, folder.path, checkpoint=folder.last_checkpoint)
    assert folder.read_state()["state"] == "finished"
    assert same_bits(folder, uninterrupted)
    rows, whole = read_metrics(folder.metrics), read_metrics(uninterrupted.metrics)
    for name in ("loss", "epoch_loss", "lr", "grad_norm"):
        assert series(rows, name) == series(whole, name), name


def test_looking_changes_nothing(small_store, tmp_path, uninterrupted):
    from scarce_cxr.monitor.watchers import make_watchers

    folder = train(small_store, tmp_path / "watched", make_watchers=make_watchers)
    assert same_bits(folder, uninterrupted)
    assert sorted(path.name for path in folder.figures.glob("reconstruction-*.png")) == [
        f"reconstruction-{step:07d}.png" for step in (0, 5, 10, 12)
    ]
    assert folder.backbone("best").is_file()


def test_what_a_run_started_from_may_be_gone_when_it_is_resumed(small_store, tmp_path, uninterrupted):
    start = tmp_path / "start.safetensors"
    start.write_bytes(uninterrupted.backbone("last").read_bytes())
    settings = {"backbone.weights": start, "training.duration": "4 steps"}
    folder = train(small_store, tmp_path / "run", **settings)
    before = everything(folder)
    start.unlink()
    train(small_store, folder.path, checkpoint=folder.last_checkpoint, **settings)
    assert all(torch.equal(value, before[name]) for name, value in everything(folder).items())


def test_a_run_that_blows_up_says_so_and_keeps_no_broken_checkpoint(small_store, tmp_path):
    with pytest.raises(ScarceError, match="finite loss"):
        train(small_store, tmp_path / "run", **{"optimizer.lr": 1e30, "training.clip": 0, "training.warmup": "0 steps"})
    folder = RunFolder(tmp_path / "run")
    assert folder.read_state()["state"] == "collapsed"
    assert not folder.last_checkpoint.is_file()
    assert not folder.backbone("last").is_file()


def test_a_changed_recipe_counts_when_a_run_goes_on_and_a_broken_one_leaves_what_was_saved(
    small_store, tmp_path, uninterrupted
):
    with pytest.raises(Interrupted):
        train(small_store, tmp_path / "run", make_watchers=lambda *_: [SignalAt(5)])
    folder = RunFolder(tmp_path / "run")
    good = folder.last_checkpoint.read_bytes(), folder.backbone("last").read_bytes()
    step = folder.read_state()["step"]
    with pytest.raises(Diverged) as raised:
        train(small_store, folder.path, checkpoint=folder.last_checkpoint, **{"optimizer.lr": 1e30})
    assert raised.value.step > step
    assert (folder.last_checkpoint.read_bytes(), folder.backbone("last").read_bytes()) == good
    assert folder.read_state()["step"] == step
    rate = settled_rate()
    train(small_store, folder.path, checkpoint=folder.last_checkpoint, **{"optimizer.lr": rate / 4})
    (_, lower), (_, whole) = (series(read_metrics(run.metrics), "lr") for run in (folder, uninterrupted))
    assert lower == pytest.approx([*whole[:step], *(value / 4 for value in whole[step:])])


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    module = torch.nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD(module.parameters(), lr=1)
    assert all_finite(module)
    for broken in (module.weight.data, module.running_var):
        for value in (torch.nan, torch.inf, -torch.inf):
            broken[1] = value
            assert not all_finite(module)
            save_checkpoint(tmp_path / "last.ckpt", module=module, optimizer=optimizer, counters={})
            with pytest.raises(ScarceError, match="older one"):
                load_checkpoint(tmp_path / "last.ckpt", module=module, optimizer=optimizer)
            broken[1] = 1
    assert all_finite(torch.nn.Identity())


class Scores(Watcher):
    """Finds all films at the first look after the start, by features that are no numbers; later half of them."""

    def look(self, method, step):
        return {"retrieval": 0.5, "feature_norm": 1.0} if step != 5 else {"retrieval": 1.0, "feature_norm": torch.nan}


def test_the_best_backbone_is_none_whose_features_are_no_numbers(small_store, tmp_path):
    folder = train(small_store, tmp_path / "run", make_watchers=lambda *_: [Scores()])
    assert folder.read_state()["best"] == {"step": 10, "value": 0.5}


def test_another_seed_ends_elsewhere(small_store, tmp_path, uninterrupted):
    assert not same_bits(train(small_store, tmp_path / "other", seed=1), uninterrupted)


def command(*words: str) -> None:
    """Runs a command as the shell would, in a process of its own."""
    sys.exit(main(words))


@pytest.mark.slow
def test_kill_nine_at_three_random_steps_and_resume_to_the_same_bits(small_store, tmp_path, uninterrupted):
    run = tmp_path / "run"
    # A server that has imported everything forks the processes: most of a short one's time would go into that.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["scarce_cxr.training.pretrain", "scarce_cxr.monitor.watchers", "scarce_cxr.report.page"]
    )
    resume = ("resume", str(run))
    # Other steps every time.
    for kill_at in sorted(random.Random().sample(range(2, STEPS - 2), 3)):
        words = resume if run.exists() else ("pretrain", *options(), f"--store={small_store}", f"--run={run}")
        process = processes.Process(target=command, args=words)
        process.start()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.is_alive() and last_step(run) < kill_at:
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert RunFolder(run).read_state()["state"] == "running", kill_at
        assert not RunFolder(run).is_locked()
    process = processes.Process(target=command, args=resume)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert same_bits(RunFolder(run), uninterrupted)
