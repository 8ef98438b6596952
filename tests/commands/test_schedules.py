"""`scarce schedules` lists what decides learning rates, and draws them."""

import subprocess
import sys

import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.schedules import schedules
from scarce_cxr.errors import ScarceError


def test_steps_are_those_counted_by_hand(tmp_path):
    result = schedules(["reference/moco", "reference/dino_last"], out=tmp_path / "made.png")
    # 112,120 // 384 = 291 steps an epoch, 112,120 // 64 = 1,751.
    assert result.tables[0].rows == [
        ["reference/moco", "sgd", 4.5e-2, 1e-4, 384, 800.0, 800 * 291, 10 * 291],
        ["reference/dino_last", "adamw", 5e-4, 4e-2, 64, 100.0, 100 * 1751, 10 * 1751],
    ]
    assert result.files == [("figure", tmp_path / "made.png")]
    assert (tmp_path / "made.png").is_file()


def test_drawn_rates_are_those_of_the_loop(tmp_path, monkeypatch):
    from scarce_cxr.figures import schedules as figures

    drawn = []
    plain = figures.schedules_figure
    monkeypatch.setattr(figures, "schedules_figure", lambda curves: drawn.extend(curves) or plain(curves))
    schedules(["reference/spark"], films=2560, out=tmp_path / "made.png")
    (curve,) = drawn
    # 10 steps an epoch: 200 of warm-up, 2,000 in all; the peak comes with the end of epoch 20.
    assert curve.epochs[0] == pytest.approx(0.1)
    assert curve.rates[0] == pytest.approx(3e-4 / 200)
    assert curve.epochs[curve.rates.argmax()] == pytest.approx(20)
    assert curve.rates.max() == pytest.approx(3e-4)
    assert curve.epochs[-1] == pytest.approx(200)
    assert 0 < curve.rates[-1] < 1e-9


def test_films_and_recipes_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "made.png"
    assert main(["schedules", "small/moco", "small/byol", "--films", "1000", f"--out={out}"]) == 0
    assert "1,000 films" in " ".join(capsys.readouterr().out.split())
    assert out.is_file()
    assert main(["schedules"]) == 2


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ScarceError, match="a batch no larger"):
        schedules(["reference/moco"], films=100, out=tmp_path / "made.png")


def test_commands_wait_with_their_imports():
    code = (
        "import sys, scarce_cxr.commands.schedules, scarce_cxr.commands.methods;"
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'jsonargparse') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
