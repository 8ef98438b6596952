"""Recipes: typed, closed, and the same when read again."""

from pathlib import Path

import numpy as np
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.training.automatic import read_resolved
from scarce_cxr.training.pretrain import build_method
from scarce_cxr.training.recipe import TrainingSettings, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
SMALL = Path(__file__).parents[2] / "recipes/small/spark.yaml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_reads_and_its_settled_text_says_the_same(path, tmp_path):
    _, text = read_recipe(path)
    again = tmp_path / "recipe.yaml"
    again.write_text(text)
    assert read_recipe(again)[1] == text
    build_method(read_resolved(path, films=100_000))


def test_the_reference_recipe_is_that_of_the_experiments():
    recipe, _ = read_recipe(Path(__file__).parents[2] / "recipes/reference/spark.yaml")
    assert (recipe.backbone.name, recipe.backbone.gradient_checkpointing) == ("resnet50", True)
    optimizer, training, augmentation = recipe.optimizer, recipe.training, recipe.views.augmentation
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.betas) == ("adamw", 3e-4, 5e-2, (0.9, 0.95))
    assert (training.batch_size, str(training.duration), str(training.warmup)) == (256, "200 epochs", "20 epochs")
    assert training.clip == 3.0
    assert (augmentation.crop, augmentation.rotation, augmentation.noise) == ((0.2, 1.0), 10.0, 0.05)
    assert augmentation.brightness == augmentation.contrast == 0.8


def test_the_warm_up_cannot_be_longer_than_the_run(tmp_path):
    text = SMALL.read_text().replace("warmup: 10 %", "warmup: 301 steps")
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ScarceError, match="warm-up no longer"):
        read_recipe(tmp_path / "recipe.yaml")[0].training.check(800)


@pytest.mark.parametrize("batch_size", [11, 0])
def test_films_fewer_than_a_batch_and_empty_batches_are_refused(batch_size):
    with pytest.raises(ScarceError, match="no larger than the data"):
        TrainingSettings(batch_size=batch_size).check(10)


def test_sources_have_the_weights_that_the_recipe_gives_them(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        SMALL.read_text().replace("training:\n", "training:\n  source_weights: {nih: 2, padchest: 0.5}\n")
    )
    sources = np.array(["nih", "padchest", "vindr", "nih"], dtype=object)
    assert read_recipe(tmp_path / "recipe.yaml")[0].training.weights_of(sources).tolist() == [2, 0.5, 1, 2]
    assert TrainingSettings().weights_of(sources) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"nhi": 1.0}, "nih.*nhi"),
        ({"nih": -1.0}, "at least 0"),
        ({"nih": float("inf")}, "0"),
        ({"nih": 0.0}, "above 0"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights, message):
    with pytest.raises(ScarceError, match=message):
        TrainingSettings(source_weights=weights).weights_of(np.array(["nih", "nih"], dtype=object))
