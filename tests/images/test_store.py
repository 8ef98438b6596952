"""The store gives back what was written, notices what is damaged, and costs nothing to open or to ship."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.store import measure, write_sparse_store

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.store import COLUMNS, Store
from scarce_cxr.images.writer import Plan, StoreWriter

SIDE, FILMS = 16, 25
LABELS = [1, 0, -1, None]


def a_plan(bits: int = 8, **changes) -> Plan:
    # Ten 8-bit films of 16 x 16 pixels fit into a shard.
    settings = {"source": "folder", "size": SIDE, "fit": "crop", "bits": bits, "shard_mib": 2560 / 2**20} | changes
    return Plan(settings, ["Mass", "Edema"], {"films_listed": FILMS})


def a_row(index: int) -> dict:
    row = {"image_id": f"{index:03d}", "source": "folder", "view": "PA", "height": 20, "width": 30, "sha256": "0" * 64}
    crop = {"crop_top": 0, "crop_left": 5, "crop_height": 20, "crop_width": 20}
    return (
        row
        | crop
        | {"patient_id": f"p{index // 2}", "age": None if index == 3 else index + 0.5, "Mass": LABELS[index % 4]}
    )


def write(path: Path, films: np.ndarray, bits: int = 8, boxes: list | None = None) -> Store:
    plan = a_plan(bits)
    writer = StoreWriter(path, plan)
    length = plan.films_per_shard
    for shard in range(-(-len(films) // length)):
        indices = range(len(films))[shard * length : (shard + 1) * length]
        writer.write_shard(
            shard, films[indices], [a_row(index) for index in indices], (boxes or []) if shard == 0 else []
        )
    return writer.finish()


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FILMS, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture
def store(tmp_path: Path, films: np.ndarray) -> Store:
    return write(tmp_path / "store", films)


def test_pixels_come_in_the_order_asked_for_across_shards(store: Store, films: np.ndarray):
    indices = np.random.default_rng(1).integers(0, FILMS, 60)
    assert [shard["films"] for shard in store.shards] == [10, 10, 5]
    assert np.array_equal(store.pixels(indices), films[indices])
    assert store.pixels([]).shape == (0, SIDE, SIDE)


def test_pixels_refuses_what_is_no_index(store: Store):
    for wrong in ([-1], [FILMS]):
        with pytest.raises(IndexError):
            store.pixels(wrong)
    for wrong in (np.zeros(FILMS, bool), [0.0], [[0]]):
        with pytest.raises(TypeError):
            store.pixels(wrong)


def test_threads_may_read_at_once(store: Store, films: np.ndarray):
    orders = [np.random.default_rng(seed).permutation(FILMS) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, pixels in zip(orders, pool.map(store.pixels, orders), strict=True):
            assert np.array_equal(pixels, films[order])


def test_statistics_equal_numpys_at_both_depths(tmp_path: Path, films: np.ndarray):
    deep = films.astype(np.uint16) * 257 - films // 2
    for name, pixels, bits, top in (("8", films, 8, 255), ("16", deep, 16, 65535)):
        store = write(tmp_path / name, pixels, bits)
        assert store.dtype == pixels.dtype
        assert np.array_equal(store.pixels(range(FILMS)), pixels)
        assert store.mean == pytest.approx((pixels / top).mean(), rel=1e-12)
        assert store.std == pytest.approx((pixels / top).std(), rel=1e-12)


def test_the_table_keeps_columns_values_and_nulls(store: Store):
    table = store.table
    assert list(table) == [*COLUMNS, "Mass", "Edema"]
    assert store.table is table
    assert table["Mass"].dtype == pd.Int8Dtype()
    assert [None if pd.isna(label) else label for label in table["Mass"][:4]] == LABELS
    assert table["Edema"].isna().all()
    assert pd.isna(table["age"][3])
    assert table["age"][4] == 4.5
    assert table["study_id"].isna().all()


def test_boxes_are_empty_with_their_columns_or_as_written(tmp_path: Path, store: Store, films: np.ndarray):
    box = {"image_id": "001", "finding": "Mass", "left": 1.0, "top": 2.5, "width": 3.0, "height": 4.0}
    with_boxes = write(tmp_path / "boxes", films, boxes=[box])
    assert list(store.boxes) == list(with_boxes.boxes) == list(box)
    assert len(store.boxes) == 0
    assert with_boxes.boxes.to_dict("records") == [box]
    assert not (store.path / "boxes.parquet").exists()


def test_a_pickled_store_ships_its_path_alone(store: Store, films: np.ndarray):
    store.pixels([0])
    assert len(store.table) == FILMS
    shipped = pickle.dumps(store)
    assert len(shipped) < 500
    assert np.array_equal(pickle.loads(shipped).pixels([7]), films[[7]])


def test_the_fingerprint_names_the_content_not_the_place(tmp_path: Path, store: Store, films: np.ndarray):
    shutil.copytree(store.path, tmp_path / "copy")
    changed = films.copy()
    changed[3, 2, 1] ^= 1
    assert Store.open(tmp_path / "copy").fingerprint == store.fingerprint
    assert write(tmp_path / "again", films).fingerprint == store.fingerprint
    assert write(tmp_path / "changed", changed).fingerprint != store.fingerprint


def test_verify_names_the_damaged_and_the_missing_file(store: Store):
    store.verify()
    with (store.path / "pixels-00001.npy").open("rb+") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    (store.path / "table.parquet").unlink()
    with pytest.raises(ScarceError, match=r"pixels-00001\.npy, table\.parquet"):
        store.verify()


def test_a_cut_off_shard_is_refused_by_name(store: Store):
    shard = store.path / "pixels-00002.npy"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ScarceError, match="pixels-00002"):
        store.pixels([FILMS - 1])


def test_open_refuses_what_is_not_a_finished_store_and_says_why(tmp_path: Path, store: Store):
    with pytest.raises(ScarceError, match="no folder"):
        Store.open(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(ScarceError, match="without a store"):
        Store.open(tmp_path / "other")
    StoreWriter(tmp_path / "begun", a_plan())
    with pytest.raises(ScarceError, match="run scarce prepare again"):
        Store.open(tmp_path / "begun")
    described = store.path / "store.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"version": 99}))
    with pytest.raises(ScarceError, match="version 99"):
        Store.open(store.path)
    described.write_text("{}")
    with pytest.raises(ScarceError, match="something else"):
        Store.open(store.path)


def test_a_writer_continues_its_own_plan_and_refuses_another_by_name(tmp_path: Path, films: np.ndarray):
    writer = StoreWriter(tmp_path / "store", a_plan())
    writer.write_shard(0, films[:10], [a_row(index) for index in range(10)])
    assert StoreWriter(tmp_path / "store", a_plan()).has(0)
    assert not StoreWriter(tmp_path / "store", a_plan()).has(1)
    with pytest.raises(ScarceError, match=r"fit = crop.*fit = pad"):
        StoreWriter(tmp_path / "store", a_plan(fit="pad"))


def test_shards_may_be_shorter_or_empty(tmp_path: Path, films: np.ndarray):
    writer = StoreWriter(tmp_path / "store", a_plan())
    writer.write_shard(0, films[:0], [], skipped={str(position): "blank" for position in range(10)})
    writer.write_shard(1, films[:3], [a_row(index) for index in range(3)])
    assert writer.skipped() == dict.fromkeys(range(10), "blank")
    store = writer.finish()
    assert np.array_equal(store.pixels([2, 0]), films[[2, 0]])
    store.verify()


def test_a_store_without_films_is_not_finished(tmp_path: Path, films: np.ndarray):
    writer = StoreWriter(tmp_path / "store", a_plan())
    writer.write_shard(0, films[:0], [])
    with pytest.raises(ScarceError, match="none"):
        writer.finish()


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ScarceError, match="something else"):
        StoreWriter(tmp_path, a_plan())


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
def test_a_store_of_the_size_of_nihs_opens_by_its_description_alone(tmp_path: Path):
    store = write_sparse_store(tmp_path / "store", films=112_120, size=256)
    assert sum(path.stat().st_size for path in store.glob("pixels-*.npy")) > 112_120 * 256**2
    cost = measure(store, "open", "batch")
    assert cost["open"]["bytes"] < 100_000
    assert cost["open"]["processor"] < 0.1
    assert cost["batch"]["mb"] < 200
    assert len(Store.open(store)) == 112_120
