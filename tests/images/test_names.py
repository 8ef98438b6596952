"""Original names come from the private folder alone, and from nowhere else."""

import shutil
from pathlib import Path

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.names import original_names
from scarce_cxr.images.store import Store


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    """A copy whose private folder may be changed."""
    shutil.copytree(private_folder(small_store), tmp_path / "copy.private")
    return shutil.copytree(small_store, tmp_path / "copy")


def test_every_film_has_the_name_of_its_file(store: Path):
    names = original_names(store)
    assert names.index.tolist() == Store.open(store).table["image_id"].tolist()
    assert sorted(names) == sorted(f"p{number // 2:02d}_{number % 2}.png" for number in range(48))


def test_a_store_that_travelled_alone_has_no_names(store: Path):
    shutil.rmtree(private_folder(store))
    assert original_names(store) is None


def test_a_damaged_table_is_refused_by_its_path(store: Path):
    (private_folder(store) / "names.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ScarceError, match=r"copy.private/names.parquet"):
        original_names(store)
