"""Copies are found whatever was done to them, other films are not, and no film is compared in vain."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import affine_transform, zoom
from scipy.spatial.distance import cdist

from scarce_cxr.images.copies import copies_within
from scarce_cxr.images.duplicates import (
    LIKENESS,
    LIKENESS_OF_ONE_PATIENT,
    Leak,
    details,
    leaks_between,
    likeness,
    near_duplicates,
    patients_comparable,
    perceptual_hashes,
)
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.names import original_names
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import FolderSource, NihSource
from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import Plan, StoreWriter

KEY = "00112233445566778899aabbccddeeff"


def make_store(path: Path, films: np.ndarray, patients: list[str | None], digests: list[str] | None = None) -> Store:
    plan = Plan({"source": "folder", "size": films.shape[1], "bits": 8 * films.itemsize, "shard_mib": 256})
    digests = digests or [f"{path.name} {number}" for number in range(len(films))]
    writer = StoreWriter(path, plan)
    rows = [
        {"image_id": f"{path.name}{number}", "patient_id": patient, "sha256": digest}
        for number, (patient, digest) in enumerate(zip(patients, digests, strict=True))
    ]
    writer.write_shard(0, films, rows)
    return writer.finish()


def make_films(count: int, size: int = 160, seed: int = 0) -> np.ndarray:
    """Films alike in their broad waves and apart in what is finer, (count, size, size) uint8."""
    generator = np.random.default_rng(seed)
    broad = zoom(np.random.default_rng(99).uniform(60, 160, (4, 4)), size / 4, order=3)
    fine = [zoom(generator.uniform(-50, 50, (16, 16)), size / 16, order=3) for _ in range(count)]
    return (broad + np.array(fine)).clip(0, 255).astype(np.uint8)


def compress(film: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def halve(film: np.ndarray) -> np.ndarray:
    image = Image.fromarray(film)
    return np.asarray(image.resize((image.width // 2,) * 2).resize(image.size))


def darken(film: np.ndarray) -> np.ndarray:
    return (film * 0.7).astype(np.uint8)


def crop(film: np.ndarray) -> np.ndarray:
    image = Image.fromarray(film)
    edge = round(image.width * 0.02)
    return np.asarray(image.crop((0, 0, image.width - edge, image.height - edge)).resize(image.size))


CHANGES = pytest.mark.parametrize("change", [compress, halve, darken, crop])


def test_hashes_are_the_signs_of_slow_waves_against_their_median(tmp_path: Path):
    films = make_films(3)
    store = make_store(tmp_path / "a", films, ["p"] * 3)
    for film, number in zip(films, perceptual_hashes(store, np.arange(3)), strict=True):
        small = film.reshape(32, 5, 32, 5).mean(axis=(1, 3))
        waves = dctn(small)[1:9, 1:9].ravel()
        bits = [int(number) >> place & 1 for place in range(64)]
        assert bits == (waves > np.median(waves)).astype(int).tolist()
        assert sum(bits) == 32


def test_hashes_do_not_depend_on_batch_order_or_depth(tmp_path: Path):
    films = make_films(70, 64)
    store = make_store(tmp_path / "a", films, ["p"] * 70)
    deep = make_store(tmp_path / "b", films.astype(np.uint16) * 257, ["p"] * 70)
    whole = perceptual_hashes(store, np.arange(70))
    assert np.array_equal(perceptual_hashes(deep, np.arange(70)), whole)
    assert np.array_equal(perceptual_hashes(store, np.array([69, 3, 3])), whole[[69, 3, 3]])


def test_a_film_of_any_side_is_averaged_over_areas(tmp_path: Path):
    # Each pixel twice as long and as wide: the areas, and so hash and details, are the same.
    films = make_films(4, 48)
    double = films.repeat(2, axis=1).repeat(2, axis=2)
    small, large = make_store(tmp_path / "a", films, ["p"] * 4), make_store(tmp_path / "b", double, ["p"] * 4)
    rows = np.arange(4)
    assert np.array_equal(perceptual_hashes(small, rows), perceptual_hashes(large, rows))
    assert details(small, rows) == pytest.approx(details(large, rows), abs=1e-5)


def test_pairs_are_those_of_an_exhaustive_comparison():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 2**64, 300, dtype=np.uint64)
    flips = np.uint64(1) << generator.integers(0, 64, (6, 300), dtype=np.uint64)
    b = np.concatenate([np.bitwise_xor.reduce(flips) ^ a, generator.integers(0, 2**64, 200, dtype=np.uint64)])
    bits_a, bits_b = (np.array([[int(n) >> place & 1 for place in range(64)] for n in numbers]) for numbers in (a, b))
    distances = cdist(bits_a, bits_b, "cityblock")
    for most in (0, 4, 6, 24):
        assert near_duplicates(a, b, most).tolist() == np.argwhere(distances <= most).tolist()
    assert near_duplicates(a, b[:0]).shape == near_duplicates(a[:0], b).shape == (0, 2)


def test_likeness_is_one_for_the_same_film_and_low_for_another(tmp_path: Path):
    store = make_store(tmp_path / "a", make_films(20), ["p"] * 20)
    films = details(store, np.arange(20))
    assert likeness(films, films) == pytest.approx(1, abs=1e-5)
    assert likeness(films, -3 * films) == pytest.approx(1, abs=1e-5)
    assert likeness(films, np.roll(films, 1, axis=0)).max() < 0.3


def test_likeness_allows_for_a_small_shift_and_stretch(tmp_path: Path):
    films = make_films(10, 256)
    middle = np.array([127.5, 127.5])
    stretch = np.diag([0.98, 1.01])
    moved = [affine_transform(film, stretch, middle - stretch @ middle + [2, -3], mode="nearest") for film in films]
    pair = make_store(tmp_path / "a", np.concatenate([films, np.array(moved)]), ["p"] * 20)
    found = details(pair, np.arange(20))
    plain = (found[:10] * found[10:]).mean(axis=(1, 2)) ** 2
    assert likeness(found[:10], found[10:]).min() > 0.95 > plain.max()


def test_a_blank_film_is_like_none(tmp_path: Path):
    films = np.concatenate([np.full((2, 64, 64), 7, np.uint8), make_films(1, 64)])
    found = details(make_store(tmp_path / "a", films, ["p"] * 3), np.arange(3))
    assert not found[:2].any()
    assert likeness(found, np.roll(found, 1, axis=0)).tolist() == [0, 0, 0]


@CHANGES
def test_a_changed_copy_under_another_name_is_found_and_nothing_else(tmp_path: Path, change: Callable):
    films = make_films(30)
    ours = make_store(tmp_path / "a", films[:20], [f"p{number}" for number in range(20)])
    copies = np.array([change(film) for film in films[10:]])
    theirs = make_store(tmp_path / "b", copies, [f"q{number}" for number in range(20)])
    leaks = leaks_between(ours, np.arange(20), theirs, np.arange(20))
    assert leaks == [Leak("near-duplicate", f"a{number + 10}", f"b{number}") for number in range(10)]


def test_a_patient_is_named_once_and_every_copy_whosoever_it_is(tmp_path: Path):
    films = make_films(5)
    ours = make_store(tmp_path / "a", films, ["p0", "p0", "p1", None, "p0"], ["x", "y", "z", "w", "u"])
    # Of the same patient two equal files and one saved anew, equal pixels of another patient, and one of nobody's.
    theirs = make_store(tmp_path / "b", films, ["p0", "p0", "p9", None, "p0"], ["x", "y", "z", "v", "t"])
    files = [Leak("patient", "a0", "b0"), *(Leak("file", f"a{n}", f"b{n}") for n in range(3))]
    near = [Leak("near-duplicate", "a3", "b3"), Leak("near-duplicate", "a4", "b4")]
    assert leaks_between(ours, np.arange(5), theirs, np.arange(5)) == files + near
    assert leaks_between(ours, np.arange(5), theirs, np.arange(5), near=False) == files


def test_films_of_one_patient_must_be_more_alike_than_those_of_two(tmp_path: Path):
    """A film, and the same mixed with a quarter of another: alike enough to be a copy, but not of one patient."""
    one, other = make_films(2).astype(float)
    films = np.array([one, one + 0.25 * (other - one)]).astype(np.uint8)
    ours = make_store(tmp_path / "a", films[:1], ["p"])
    found = []
    for number, patient in enumerate(("p", "q", None)):
        theirs = make_store(tmp_path / f"b{number}", films[1:], [patient])
        alike = likeness(details(ours, np.arange(1)), details(theirs, np.arange(1)))
        assert LIKENESS < alike < LIKENESS_OF_ONE_PATIENT
        leaks = leaks_between(ours, np.arange(1), theirs, np.arange(1))
        found.append([leak.kind for leak in leaks])
    assert found == [["patient"], ["near-duplicate"], ["near-duplicate"]]


def test_only_the_rows_asked_for_are_compared(tmp_path: Path):
    films = make_films(3)
    store = make_store(tmp_path / "a", films[[0, 1, 2, 0]], ["p0", "p1", "p2", "p3"], ["x", "y", "z", "x"])
    assert leaks_between(store, np.array([0, 1]), store, np.array([2, 3])) == [Leak("file", "a0", "a3")]
    assert leaks_between(store, np.array([1]), store, np.array([2, 3])) == []
    assert leaks_between(store, np.array([], int), store, np.array([2, 3])) == []


def test_films_without_a_patient_share_none(tmp_path: Path):
    films = make_films(4)
    ours = make_store(tmp_path / "a", films[:2], [None, None])
    theirs = make_store(tmp_path / "b", films[2:], [None, None])
    assert leaks_between(ours, np.arange(2), theirs, np.arange(2)) == []


def test_patients_are_comparable_under_one_key_alone(tmp_path: Path):
    stores = [make_store(tmp_path / name, make_films(1, seed=ord(name)), ["p"]) for name in "abc"]
    for store, key in zip(stores, (KEY, KEY, KEY[::-1]), strict=True):
        private_folder(store.path).mkdir()
        (private_folder(store.path) / "key").write_text(key + "\n")
    assert patients_comparable(stores[0], stores[1])
    assert not patients_comparable(stores[0], stores[2])
    shutil.rmtree(private_folder(stores[1].path))
    assert not patients_comparable(stores[0], stores[1])
    assert patients_comparable(stores[1], stores[1])


@pytest.fixture(scope="module")
def real(nih_folder: Path, tmp_path_factory) -> Store:
    """The first 200 real films of 320 pixels."""
    folder, store = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("stores") / "real"
    for path in sorted((nih_folder / "images").iterdir())[:200]:
        (folder / path.name).symlink_to(path)
    prepare(FolderSource(folder), store, jobs=1)
    return Store.open(store)


@pytest.mark.slow
@CHANGES
def test_real_copies_are_found_and_real_films_kept_apart(real: Store, tmp_path: Path, change: Callable):
    films = real.pixels(np.arange(200))
    copies = make_store(tmp_path / "b", np.array([change(film) for film in films]), [None] * 200)
    leaks = leaks_between(real, np.arange(200), copies, np.arange(200))
    ids = real.table["image_id"].tolist()
    right = [leak for leak in leaks if leak.b == f"b{ids.index(leak.a)}"]
    # Two films in the first 200 may be copies of one another; none is known to be.
    assert len(right) == len(leaks)
    assert len(right) >= 195


@pytest.mark.slow
def test_the_same_radiographs_in_another_collection_are_found(real: Store, nih_folder: Path, tmp_path: Path):
    """Another subset of the same films, reduced to 64 x 64 by others, under another key: seven are in both."""
    other = nih_folder.parent / "nih64"
    if not other.is_dir():
        pytest.skip(f"no real films at {other}")
    prepare(NihSource(other), tmp_path / "small", size=64, jobs=1)
    small = Store.open(tmp_path / "small")
    assert not patients_comparable(real, small)
    leaks = leaks_between(real, np.arange(len(real)), small, np.arange(len(small)))
    names = original_names(real.path)
    in_both = sorted(set(names) & set(small.table["image_id"]))
    assert sorted(names[leak.a] for leak in leaks if names[leak.a] == leak.b) == in_both
    assert len(in_both) == 7
    assert len(leaks) == 7
    assert {leak.kind for leak in leaks} == {"near-duplicate"}


@pytest.mark.slow
def test_real_films_of_one_patient_are_told_apart(nih_folder: Path, tmp_path: Path):
    """4,724 pairs of 190 patients' films, up to 61 of one patient, none of them known to be copies."""
    other = nih_folder.parent / "nih64"
    if not other.is_dir():
        pytest.skip(f"no real films at {other}")
    prepare(NihSource(other), tmp_path / "small", size=64, jobs=1)
    assert not len(copies_within(Store.open(tmp_path / "small")))
