"""Copies within a store are found once each, whosoever's they are, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from scarce_cxr.images.copies import copies_within
from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import Plan, StoreWriter


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Films 0 to 9 are alike in their broad waves; 10 is 2's file, 11 is 4 darkened, 12 is 5 once more brightened."""
    generator = np.random.default_rng(0)
    broad = zoom(np.random.default_rng(99).uniform(60, 160, (4, 4)), 40, order=3)
    films = [broad + zoom(generator.uniform(-50, 50, (16, 16)), 10, order=3) for _ in range(10)]
    films += [films[2], films[4] * 0.8, films[5] * 1.1]
    patients = [*"abcdefghij", "c", "z", None]
    digests = [*map(str, range(10)), "2", "11", "12"]
    rows = [
        {"image_id": str(n), "patient_id": patient, "sha256": digest}
        for n, (patient, digest) in enumerate(zip(patients, digests, strict=True))
    ]
    writer = StoreWriter(
        tmp_path_factory.mktemp("copies") / "store", Plan({"size": 160, "bits": 8, "shard_mib": 1, "source": "folder"})
    )
    writer.write_shard(0, np.array(films).clip(0, 255).astype(np.uint8), rows)
    return writer.finish()


def test_files_and_near_duplicates_are_found_with_whose_they_are(store):
    found = copies_within(store)
    assert found[["a", "b", "kind", "patients"]].to_numpy().tolist() == [
        [2, 10, "file", "same"],
        [4, 11, "near-duplicate", "different"],
        [5, 12, "near-duplicate", "unknown"],
    ]
    assert found["likeness"].between(0.9, 1).all()


def test_a_file_that_is_there_three_times_is_told_twice(tmp_path):
    generator = np.random.default_rng(1)
    films = generator.integers(0, 256, (4, 64, 64), dtype=np.uint8)
    rows = [{"image_id": str(n), "sha256": digest} for n, digest in enumerate(["x", "x", "y", "x"])]
    writer = StoreWriter(tmp_path / "store", Plan({"size": 64, "bits": 8, "shard_mib": 1, "source": "folder"}))
    writer.write_shard(0, films, rows)
    assert copies_within(writer.finish())[["a", "b"]].to_numpy().tolist() == [[0, 1], [0, 3]]
