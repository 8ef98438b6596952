"""Every recipe of the package runs, resumes to the same bits, and names what it writes as every other does.

Recipes are found, not listed: a new one is covered by itself. They run as the command runs them, for three steps on a
few small films and with a small backbone; numbers of prototypes and queues stay.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import timm
import yaml
from matplotlib.figure import Figure
from tests.training.test_resume import same_bits

from scarce_cxr.commands import pretrain
from scarce_cxr.commands.recipes import NIH_FILMS, recipe_name, recipes_folder
from scarce_cxr.commands.resume import resume
from scarce_cxr.figures import theme
from scarce_cxr.training.automatic import read_resolved
from scarce_cxr.training.run_folder import RunFolder, read_metrics

RECIPES = sorted(recipes_folder().rglob("*.yaml"))
# The recipe that the others' files and facts are compared with.
YARDSTICK = recipes_folder() / "small/moco.yaml"
SETTINGS = {
    "backbone.name": "test_resnet",
    "views.size": 64,
    "training.batch_size": 4,
    "training.duration": "3 steps",
    "training.warmup": "1 steps",
    "training.precision": "fp32",
    "training.accelerator": "cpu",
    "training.log_every": "1 steps",
    "training.save_every": "0 steps",
    "training.keep_every": "2 steps",
    "watch.held_out": 0.25,
    "watch.every": "3 steps",
    "watch.films": 4,
    "watch.panel": 2,
}
# Narrow heads, parts of a batch that four films fill; only where a recipe says something of the kind itself.
NARROW = {
    "bn_splits": 2,
    "bottleneck": 16,
    "decoder_width": 8,
    "hidden": 64,
    "projector_widths": [64, 64, 64],
}


def options(recipe: Path) -> list[str]:
    """The recipe as an argument, and what makes it small."""
    content = yaml.safe_load(recipe.read_text())
    settings = dict(SETTINGS)
    settings |= {f"method.{name}": NARROW[name] for name in content["method"]["init_args"].keys() & NARROW.keys()}
    if content["views"]["init_args"].get("local_crops"):
        settings |= {"views.local_size": 32, "views.local_crops": 2}
    return ["--config", str(recipe), *(f"--{name}={value}" for name, value in settings.items())]


def start(recipe: Path, store: Path, run: Path) -> RunFolder:
    pretrain.run(pretrain.parse([*options(recipe), f"--store={store}", f"--run={run}"]))
    return RunFolder(run)


def written(folder: RunFolder) -> set[str]:
    """Names of all files of a run; TensorBoard's hold the time and the machine."""
    files = (str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file())
    return {"tensorboard/" if name.startswith("tensorboard/events") else name for name in files}


def facts(folder: RunFolder) -> dict:
    return json.loads(folder.backbone("last").with_suffix(".json").read_text())


def steps(folder: RunFolder) -> list[dict[str, str]]:
    """The steps' rows without what only the clock knows."""
    rows = [row for row in read_metrics(folder.metrics) if row["kind"] == "step"]
    return [{n: v for n, v in row.items() if n not in ("images_per_second", "waiting")} for row in rows]


@pytest.fixture(scope="module")
def unpainted():
    """Figures are made and their files are there, but empty: painting them would take most of the time."""

    def save(figure: Figure, path: Path) -> Path:
        path.touch()
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theme, "save", save)
        yield


@pytest.fixture(scope="module")
def yardstick(small_store, tmp_path_factory, unpainted) -> RunFolder:
    return start(YARDSTICK, small_store, tmp_path_factory.mktemp("yardstick") / "run")


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "runs"
    # With a large head a checkpoint takes most of a gigabyte.
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_it_names_a_backbone_that_there_is(recipe):
    assert timm.is_model(read_resolved(recipe, NIH_FILMS).backbone.name)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(path, marks=pytest.mark.slow if path.parent.name == "reference" else ()) for path in RECIPES],
    ids=recipe_name,
)
def test_it_runs_resumes_to_the_same_bits_and_names_its_results_as_others_do(recipe, small_store, folder, yardstick):
    whole = start(recipe, small_store, folder / "whole")
    rows = steps(whole)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert {"loss", "lr", "grad_norm"} <= rows[0].keys()
    assert facts(whole).keys() == facts(yardstick).keys()
    # A method that can draw or decorrelates adds its pictures, and nothing else.
    own = ("figures/reconstruction-", "figures/correlation")
    assert all(name.startswith(own) for name in written(whole) ^ written(yardstick))

    # Files are replaced whole, so that links hold what the uninterrupted run wrote.
    parts = RunFolder(shutil.copytree(whole.path, folder / "parts", copy_function=os.link))
    resume(parts.path, checkpoint=parts.checkpoints / "step-0000002.ckpt")
    assert same_bits(whole, parts)
    assert steps(parts) == rows
    assert written(parts) == written(whole)
