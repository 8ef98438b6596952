"""Damaged and hostile films crash nothing, stall nothing and are all accounted for; studies/ does it 10,000 times."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies.mutated_files import BUILT, make_bases, mutant

from scarce_cxr.images.decode import decode
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import DicomSource, FolderSource

# Outside of tests the decoder keeps Pillow from warning of what it skips.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MOST_SECONDS = 5.0
# These take a second or two each, and up to 1.5 GB.
LARGE = [name for name in BUILT if "100 megapixels" in name or "gigabyte" in name or "bomb" in name]


@pytest.fixture(scope="module")
def bases() -> dict[str, list[bytes]]:
    return make_bases()


def prepared(contents: Mapping[str, bytes], whole: bytes, work: Path, as_dicom: bool) -> dict[str, str]:
    """Prepares files beside a whole one; what became of each. The slowest must be fast."""
    folder = work / "films"
    folder.mkdir(parents=True)
    (folder / "whole.png").write_bytes(whole)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    seconds = {}

    def timed(path: Path, **options):
        started = time.process_time()
        try:
            return decode(path, **options)
        finally:
            seconds[path.name] = time.process_time() - started

    source = DicomSource(folder) if as_dicom else FolderSource(folder)
    started = time.process_time()
    prepare(source, work / "store", size=16, jobs=1, decoder=timed)
    assert max(seconds.values()) < MOST_SECONDS
    # Headers are read before anything is decoded.
    assert time.process_time() - started - sum(seconds.values()) < MOST_SECONDS * max(1, len(contents) / 20)
    stored = set(pd.read_parquet(work / "store.private/names.parquet")["path"])
    with (work / "store.private/skipped.csv").open(newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert not stored & set(skipped)
    assert stored | set(skipped) == {"whole.png", *contents}
    assert "whole.png" in stored
    return {name: skipped.get(name, "stored") for name in contents}


def test_no_damaged_file_is_lost_or_stalls(tmp_path: Path, bases):
    mutants = [mutant(number, bases) for number in range(1, 161) if number % 40 != 39]
    for as_dicom in (False, True):
        chosen = {f"{n:03d}.png": made.content for n, made in enumerate(mutants) if made.is_dicom == as_dicom}
        whole = bases["dicom" if as_dicom else "png"][0]
        outcomes = prepared(chosen, whole, tmp_path / f"{as_dicom}", as_dicom)
        # Damage as mild as a flipped bit is not always seen; most of it is.
        assert 0.2 < np.mean([outcome != "stored" for outcome in outcomes.values()]) < 0.95


@pytest.mark.parametrize("as_dicom", [False, True])
def test_no_file_that_is_built_to_do_harm_does_any(tmp_path: Path, bases, as_dicom: bool):
    random = np.random.default_rng(0)
    contents = {name: build(random) for name, build in BUILT.items() if name not in LARGE}
    contents = {f"{name}.png": content for name, content in contents.items() if name.startswith("dicom") == as_dicom}
    outcomes = prepared(contents, bases["dicom" if as_dicom else "png"][0], tmp_path, as_dicom)
    if not as_dicom:
        assert outcomes["png of 2^31 x 2^31 pixels.png"].startswith("too large")
        assert outcomes["png of 1 x 100 million pixels.png"].startswith("too large")
        assert outcomes["png of 2^31 frames.png"] == "several frames"
        assert outcomes["tiff of 50,000 directories.png"] == "several frames"
        assert outcomes["jpeg of a thousand scans.png"] == "damaged (more scans than any real picture)"
        assert outcomes["postscript.png"] == "not an image"


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_or_inflates_takes_seconds(tmp_path: Path, bases, name: str):
    content = BUILT[name](np.random.default_rng(0))
    as_dicom = name.startswith("dicom")
    prepared({"film.png": content}, bases["dicom" if as_dicom else "png"][0], tmp_path, as_dicom)
