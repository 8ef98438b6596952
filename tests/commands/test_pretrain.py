"""A run that diverges is named, told what is left of it, and goes on after its recipe was mended."""

import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.pretrain import _what_stopping_spares
from scarce_cxr.monitor.verdict import SIGNS
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.recipe import Recipe, TrainingSettings, WatchSettings
from scarce_cxr.training.run_folder import RunFolder

SMALL = [
    "--config",
    "small/moco",
    "--method.queue=32",
    "--backbone.name=test_resnet",
    "--views.size=32",
    "--training.batch_size=8",
    "--training.duration=6 steps",
    "--training.precision=fp32",
    "--training.accelerator=cpu",
    "--training.save_every=2 steps",
    "--watch.on_collapse=warn",
]


@pytest.fixture
def no_pictures(monkeypatch):
    """Draws no figures and writes no page, which would take longer than these runs."""
    monkeypatch.setattr("scarce_cxr.figures.theme.save", lambda figure, path: path)
    monkeypatch.setattr("scarce_cxr.commands.pretrain.write_page", lambda folder, store: folder.path / "report.html")


def test_a_loss_that_is_no_number_is_the_verdict_and_ends_the_run_even_if_it_should_only_warn(
    small_store, tmp_path, capsys
):
    folder = RunFolder(tmp_path / "run")
    options = [*SMALL, "--optimizer.lr=1e30", "--training.warmup=0 steps"]
    assert main(["pretrain", *options, f"--store={small_store}", f"--run={folder.path}"]) == 3
    said, state = capsys.readouterr().out.splitlines(), folder.read_state()
    verdict = state["verdict"]
    assert (state["state"], verdict["name"]) == ("collapsed", "diverging")
    assert verdict["measures"].keys() == {"loss", "grad_norm"}
    assert "norm" in verdict["reason"]
    assert tuple(verdict["advice"]) == SIGNS[0].advice
    assert any("diverging" in line and f"after step {verdict['since']} of 6" in line for line in said)
    assert any(SIGNS[0].advice[0] in line for line in said)
    assert any("No finite weights had been saved" in line for line in said)
    assert any(f"scarce resume {folder.path}" in line for line in said)


@pytest.mark.usefixtures("no_pictures")
def test_the_finite_checkpoint_is_named_and_the_mended_recipe_goes_on_from_it(small_store, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["pretrain", *SMALL, f"--store={small_store}", f"--run={run}", "--training.duration=2 steps"]) == 0
    folder = RunFolder(run)
    text = folder.recipe.read_text()
    mended = text.replace("duration: 2 steps", "duration: 6 steps")
    rate = next(line for line in mended.splitlines() if line.strip().startswith("lr:"))
    folder.recipe.write_text(mended.replace(rate, "  lr: 1.0e+30"))
    folder.write_state(state="stopped")
    capsys.readouterr()
    assert main(["resume", str(run)]) == 3
    said = capsys.readouterr().out
    assert read_checkpoint(folder.last_checkpoint)["counters"]["step"] == 2
    assert "finite weights of step 2" in said
    assert "go on from step 2," in said
    assert f"scarce resume {run}" in said
    folder.recipe.write_text(mended)
    assert main(["resume", str(run)]) == 0
    state = folder.read_state()
    assert (state["state"], state["step"]) == ("finished", 6)
    assert state["verdict"]["name"] != "diverging"


@pytest.mark.parametrize(
    ("devices", "nodes", "seconds", "price", "spared"),
    [
        # 100 of 1,100 steps in 6 minutes: an hour is left.
        (1, 1, 360, 1.25, "1.0 device hours, or 1.25 at 1.25 an hour of a device"),
        (4, 2, 360, 1.25, "8.0 device hours (1.0 on 8 devices), or 10.00 at 1.25 an hour of a device"),
        (1, 1, 36, 0, "6.0 device minutes"),
    ],
)
def test_what_stopping_spares_by_hand(devices, nodes, seconds, price, spared):
    training = TrainingSettings(8, duration=Duration(1100, "steps"), accelerator="cpu", devices=devices, nodes=nodes)
    recipe = Recipe(object, training=training, watch=WatchSettings(price_per_hour=price))
    assert _what_stopping_spares(recipe, {"seconds": seconds, "total": 1100}, 100) == spared


def test_a_gpu_is_called_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert _what_stopping_spares(Recipe(object), {"seconds": 360, "total": 1100}, 100) == "1.0 GPU-hours"
