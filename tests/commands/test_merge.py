"""`scarce merge` takes stores and a folder, and says what came from where."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.cli import main
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import FolderSource
from scarce_cxr.images.store import Store
from scarce_cxr.training.recipe import TrainingSettings


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """Two stores, the second with one film of the first."""
    generator = np.random.default_rng(0)
    films = generator.integers(0, 256, (5, 40, 40), dtype=np.uint8)
    for name, rows in (("a", (0, 1, 2)), ("b", (2, 3, 4))):
        (tmp_path / "films" / name).mkdir(parents=True)
        for row in rows:
            Image.fromarray(films[row]).save(tmp_path / "films" / name / f"{row}.png")
        prepare(FolderSource(tmp_path / "films" / name), tmp_path / name, size=32, jobs=1)
    return [tmp_path / "a", tmp_path / "b"]


def test_stores_are_merged_from_the_command_line(stores, tmp_path, capsys):
    out = tmp_path / "both"
    assert main(["merge", *map(str, stores), str(out), "--drop-duplicates", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(row["films"], row["dropped"]) for row in content["tables"]["Store both"]] == [(3, 0), (2, 1)]
    (shared,) = content["tables"]["Films in two stores"]
    assert (shared["kind"], shared["films"]) == ("file", 1)
    assert len(Store.open(out)) == 5


def test_a_forgotten_folder_is_noticed(stores, capsys):
    assert main(["merge", *map(str, stores)]) == 2
    assert "the folder to write" in capsys.readouterr().err


def test_named_parts_can_be_weighted_apart(stores, tmp_path, capsys):
    out = tmp_path / "both"
    assert main(["merge", *map(str, stores), str(out), "--names", "ward-a", "ward-b", "--drop-duplicates"]) == 0
    sources = Store.open(out).table["source"].to_numpy()
    assert sources.tolist() == ["ward-a"] * 3 + ["ward-b"] * 2
    weights = TrainingSettings(source_weights={"ward-b": 0.5}).weights_of(sources)
    assert weights.tolist() == [1, 1, 1, 0.5, 0.5]
    assert main(["merge", *map(str, stores), str(tmp_path / "other"), "--names", "ward-a"]) == 2
    assert "each of the 2 stores" in capsys.readouterr().err
