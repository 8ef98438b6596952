"""What a user types and sees: mistakes cost one clear line and exit code 2."""

import errno
import json
import subprocess
import sys

import pytest

from scarce_cxr.cli import COMMANDS, main
from scarce_cxr.results import Result

RECIPE = ["--config", "small/spark", "--training.accelerator", "cpu", "--training.batch_size", "8"]
TINY = [*RECIPE, "--views.size", "64", "--method.decoder_width", "8"]


def complaint(capsys, *arguments: str) -> str:
    """Runs a command that must fail, and returns its one line."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1, said.err
    return said.err


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from scarce_cxr.cli import main; main(['--help']);"
        "print([name for name in ('torch', 'timm', 'lightning', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith("[]")
    assert all(f"scarce {name}" in said for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"scarce {command}" in capsys.readouterr().out


def test_a_misspelt_command_is_answered_with_the_nearest(capsys):
    assert "did you mean pretrain?" in complaint(capsys, "pretain")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--optimzer.lr", "1.0e-3"], "did you mean optimizer.lr?"),
        (["--training.batch_size", "many"], "training.batch_size"),
        (["--training.warmup", "5"], "a duration with its unit"),
        (["--training.warmup", "400 steps"], "no longer than the run"),
        (["--training.batch_size", "64"], "a batch no larger than the data"),
        (["--views.size", "100"], "views.size = 100"),
        (["--views.augmentation.blur", "4"], "odd blur kernel"),
        (["--method.mask", "0.5"], "mask"),
        (["--backbone.name", "resnet5O"], "resnet5O"),
        (["--config", "small/sprak"], "small/spark"),
    ],
)
def test_mistakes_in_a_recipe(small_store, tmp_path, capsys, mistake, words):
    arguments = ["pretrain", *RECIPE, f"--store={small_store}", f"--run={tmp_path / 'run'}", *mistake]
    assert words in complaint(capsys, *arguments)
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_asked_for(capsys):
    assert "--config" in complaint(capsys, "pretrain", "--store=store", "--run=run")


def test_a_missing_store(tmp_path, capsys):
    said = complaint(capsys, "pretrain", *RECIPE, f"--store={tmp_path / 'none'}", f"--run={tmp_path / 'run'}")
    assert "scarce prepare" in said


def test_a_dry_run_draws_the_views_and_prints_the_recipe_but_trains_nothing(small_store, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["pretrain", *TINY, f"--store={small_store}", f"--run={run}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "decoder_width: 8" in said
    assert [path.name for path in run.rglob("*") if path.is_file()] == ["views.png"]


@pytest.mark.slow
def test_the_way_from_store_to_page(small_store, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = [*TINY, "--training.duration", "4 steps", "--watch.every", "2 steps"]
    assert main(["pretrain", *arguments, f"--store={small_store}", f"--run={run}"]) == 0
    assert "masked error" in capsys.readouterr().out
    written = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert written >= {
        "recipe.yaml",
        "metrics.csv",
        "report.html",
        "backbone-last.safetensors",
        "backbone-last.json",
        "backbone-best.safetensors",
        "checkpoints/last.ckpt",
        "figures/views.png",
        "figures/curves.png",
        "figures/reconstruction-0000004.png",
    }
    # A second run does not overwrite the first.
    assert "scarce resume" in complaint(capsys, "pretrain", *arguments, f"--store={small_store}", f"--run={run}")
    assert main(["resume", str(run)]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["tables"][f"Runs in {tmp_path}"]
    assert (row["run"], row["state"], row["steps saved"], row["of"]) == ("run", "finished", 4, 4)
    assert main(["reconstruct", str(run), "--films", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"]["Reconstruction"][0]["films"] == 3


def test_doctor_names_torch_and_the_decoders(capsys):
    assert main(["doctor", "--json"]) == 0
    (rows,) = json.loads(capsys.readouterr().out)["tables"].values()
    said = {row["what"]: row["is"] for row in rows}
    assert said["torch"]
    assert said["decoder for PNG"] == "yes"
    assert said["compressed DICOM"].partition(";")[0] == "12 of 12 transfer syntaxes"


@pytest.mark.parametrize("installed", [["pillow"], []])
def test_doctor_names_the_package_that_a_compressed_syntax_lacks(capsys, monkeypatch, installed):
    monkeypatch.setattr("scarce_cxr.images.dicom.pixels._installed", lambda _: installed)
    assert main(["doctor", "--json"]) == 0
    (rows,) = json.loads(capsys.readouterr().out)["tables"].values()
    (said,) = (row["is"] for row in rows if row["what"] == "compressed DICOM")
    assert ("RLE Lossless needs pydicom" in said) == (not installed)


def test_a_full_disk_is_one_sentence_that_says_how_to_go_on(monkeypatch, capsys):
    def show(store: str) -> Result:
        """Finds no room."""
        raise OSError(errno.ENOSPC, "No space left on device", f"{store}/sheet.png")

    monkeypatch.setattr("scarce_cxr.commands.show.show", show)
    assert main(["show", "runs"]) == 2
    said = capsys.readouterr().err
    assert "space on the disk" in said
    assert "runs/sheet.png" in said
    assert "scarce resume" in said


def test_words_before_the_options_make_a_list_and_a_switch_may_be_typed_alone(monkeypatch):
    seen = {}

    def monitor(runs: list[str], size: int = 1, follow: bool = False) -> Result:
        """Remembers what it was called with."""
        seen.update(runs=runs, size=size, follow=follow)
        return Result()

    monkeypatch.setattr("scarce_cxr.commands.monitor.monitor", monitor)
    assert main(["monitor", "first", "second", "--follow", "--size", "3"]) == 0
    assert seen == {"runs": ["first", "second"], "size": 3, "follow": True}
    assert main(["monitor", "first", "--follow", "false"]) == 0
    assert seen == {"runs": ["first"], "size": 1, "follow": False}
