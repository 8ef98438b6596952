"""Films of 512 pixels and 16 bits go the whole way: store, sheet, views, pretraining, probe, merge."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom

from scarce_cxr.cli import main
from scarce_cxr.images.store import Store
from scarce_cxr.training.run_folder import RunFolder, read_metrics, series
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, OneView

RECIPE = Path(__file__).parents[2] / "recipes/small/moco.yaml"
FILMS = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """24 made-up films of 600 x 540 pixels and 16 bits, a patient each, prepared on the command line."""
    folder = tmp_path_factory.mktemp("large")
    generator = np.random.default_rng(0)
    lines = ["file,patient,Mass"]
    (folder / "films").mkdir()
    for number in range(FILMS):
        film = zoom(generator.uniform(4_000, 60_000, (10, 9)), 60, order=3).clip(0, 65535)
        Image.fromarray(film.astype(np.uint16)).save(folder / "films" / f"{number}.png")
        lines.append(f"{number}.png,p{number},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    line = f"prepare {folder / 'films'} {folder / 'store'} --kind folder --size 512 --bits 16 --shard-mib 4 --jobs 1"
    line += f" --csv {folder / 'labels.csv'} --patient-column patient --label-columns Mass"
    assert main(line.split()) == 0
    return folder / "store"


def test_the_store_keeps_more_than_8_bits_in_shards_of_the_asked_size(store):
    opened = Store.open(store)
    assert (opened.size, opened.dtype, len(opened)) == (512, np.uint16, FILMS)
    assert [shard["films"] for shard in opened.shards] == [8, 8, 8]
    assert len(np.unique(opened.pixels([3]))) > 10_000


def test_views_of_16_bits_are_as_fine_as_the_film(store):
    opened = Store.open(store)
    import torch

    pixels = torch.from_numpy(opened.pixels([0, 9]))
    plain = Augmentation(crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    view = OneView(512, plain)(pixels, Draws(0, 0, [0, 1]), Normalization(0.0, 1.0)).crops[0]
    # A tenth of a step of 8 bits.
    assert np.allclose(view[:, 0].numpy(), opened.pixels([0, 9]) / 65535, atol=1 / 2550)


def test_it_is_shown_and_checked(store, tmp_path, capsys):
    assert main(["show", str(store), "--out", str(tmp_path / "sheet.png"), "--films", "2"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
    capsys.readouterr()
    assert main(["check", str(store), "--out", str(tmp_path), "--jobs", "1", "--json"]) == 0
    assert (tmp_path / "suspects.csv").is_file()


@pytest.mark.slow
def test_it_is_trained_on_and_probed(store, tmp_path, capsys):
    run = tmp_path / "run"
    settings = {
        "config": RECIPE,
        "store": store,
        "run": run,
        "backbone.name": "test_resnet",
        "method.queue": 8,
        "method.bn_splits": 1,
        "views.size": 512,
        "training.batch_size": 4,
        "training.duration": "2 steps",
        "training.log_every": "1 steps",
        "training.accelerator": "cpu",
        "watch.every": "2 steps",
        "watch.panel": 1,
    }
    assert main(["pretrain", *(f"--{name}={value}" for name, value in settings.items())]) == 0
    _, losses = series(read_metrics(RunFolder(run).metrics), "loss", "step")
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    line = f"probe {run} --store {store} --out {tmp_path / 'trials'} --shots 1 --draws 2 --test 0.4 --tune 0.2 --json"
    capsys.readouterr()
    assert main(line.split()) == 0
    assert json.loads(capsys.readouterr().out)["tables"]
    assert (tmp_path / "trials" / "trials.parquet").is_file()
