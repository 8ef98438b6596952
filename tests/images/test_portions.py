"""A store made archive by archive is the one made from all at once, however often the making is interrupted."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.names import original_names
from scarce_cxr.images.portions import begun_with, delete_archive, is_prepared, is_under_way, prepare_by_archive
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import NihSource
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import StoreWriter

ARCHIVES = [f"images_{number:03d}.tar.gz" for number in (1, 2, 3)]
HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,Spacing,\n"
FINDINGS = ("Mass", "Effusion|Edema", "No Finding")
SETTINGS = {"size": 16, "jobs": 1, "shard_mib": 16**2 * 3 / 2**20}


def film(number: int) -> bytes:
    file = io.BytesIO()
    grey = np.random.default_rng(number).integers(0, 256, (20, 24), dtype=np.uint8)
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


def name_of(number: int) -> str:
    # Three films a patient, so that archives part the films of one.
    return f"{number // 3:08d}_{number % 3:03d}.png"


def write_archive(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"images/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_collection(folder: Path) -> Path:
    """Fifteen films in three archives, four of a patient in two of them; one damaged, one of no row, one twice."""
    folder.mkdir()
    for archive, numbers in zip(ARCHIVES, (range(4), range(4, 10), range(10, 14)), strict=True):
        contents = {name_of(number): film(number) for number in numbers}
        if archive == ARCHIVES[1]:
            contents |= {name_of(6): film(6)[:100], "unknown.png": film(90)}
        if archive == ARCHIVES[2]:
            contents[name_of(1)] = film(91)
        write_archive(folder / archive, contents)
    (folder / name_of(14)).write_bytes(film(14))
    rows = (f"{name_of(n)},{FINDINGS[n % 3]},{n % 3},{n // 3},{50 + n},M,PA,0.1,\n" for n in range(16))
    (folder / "Data_Entry_2017.csv").write_text(HEADER + "".join(rows))
    (folder / "train_val_list.txt").write_text("\n".join(name_of(n) for n in range(9)))
    (folder / "test_list.txt").write_text("\n".join(name_of(n) for n in range(9, 16)))
    boxes = "".join(f"{name_of(n)},Mass,{100 * n % 900},200.0,64.0,32.0,,,\n" for n in (0, 9, 12))
    (folder / "BBox_List_2017.csv").write_text(f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{boxes}")
    return folder


@pytest.fixture(scope="module")
def at_once(tmp_path_factory) -> Path:
    """The store made from all archives at once, beside the collection."""
    base = tmp_path_factory.mktemp("at_once")
    prepare(NihSource(write_collection(base / "nih")), base / "store", **SETTINGS)
    return base / "store"


class Place:
    """A folder that archives come into from elsewhere, and a store with the key of the one made at once."""

    def __init__(self, base: Path, at_once: Path) -> None:
        self.served, self.folder, self.store = at_once.parent / "nih", base / "nih", base / "store"
        shutil.copytree(self.served, self.folder, ignore=shutil.ignore_patterns("*.tar.gz"))
        private_folder(self.store).mkdir()
        shutil.copy(private_folder(at_once) / "key", private_folder(self.store) / "key")
        self.most = 0

    def bring(self, name: str) -> None:
        if not (self.folder / name).exists():
            shutil.copy(self.served / name, self.folder / name)
        self.most = max(self.most, len(list(self.folder.glob("*.tar.gz"))))

    def go_on(self, archives=ARCHIVES, **other):
        source = lambda: NihSource(self.folder)  # noqa: E731
        return prepare_by_archive(self.bring, source, self.folder, archives, self.store, **SETTINGS | other)


@pytest.fixture
def place(tmp_path: Path, at_once: Path) -> Place:
    return Place(tmp_path, at_once)


def sorted_table(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["image_id", *table.columns[1:2]]).reset_index(drop=True)


def assert_same_films(path: Path, expected_path: Path) -> None:
    store, expected = Store.open(path), Store.open(expected_path)
    store.verify()
    assert store.settings == expected.settings
    assert (store.mean, store.std) == (expected.mean, expected.std)
    pd.testing.assert_frame_equal(sorted_table(store.table), sorted_table(expected.table))
    pd.testing.assert_frame_equal(sorted_table(store.boxes), sorted_table(expected.boxes))
    order, expected_order = (np.argsort(of.table["image_id"].to_numpy()) for of in (store, expected))
    np.testing.assert_array_equal(store.pixels(order), expected.pixels(expected_order))
    np.testing.assert_array_equal(split(store.table)[order], split(expected.table)[expected_order])
    names, expected_names = original_names(path), original_names(expected_path)
    assert names.index.tolist() == store.table["image_id"].tolist()
    assert names.to_dict() == expected_names.to_dict()
    skipped = [(private_folder(of) / "skipped.csv").read_text() for of in (path, expected_path)]
    assert skipped[0] == skipped[1]
    assert len(skipped[0].splitlines()) == 4


def assert_nothing_is_left(place: Place) -> None:
    assert not list(place.folder.glob("*.tar.gz"))
    assert {path.name for path in private_folder(place.store).iterdir()} == {"key", "names.parquet", "skipped.csv"}
    assert not (place.store / "parts").exists()
    assert not is_under_way(place.store)


def test_archive_by_archive_the_store_is_the_one_made_at_once(place: Place, at_once: Path):
    summary = place.go_on()
    assert place.most == 1
    assert_same_films(place.store, at_once)
    assert_nothing_is_left(place)
    assert (summary.films, summary.decoded) == (14, 16)
    assert summary.skipped == {"another file has its name": 1, "no row in Data_Entry_2017.csv": 1, **summary.skipped}
    assert place.go_on().decoded == 0


@pytest.mark.parametrize(("every", "done"), [(6, False), (9, True)])
def test_interruptions_anywhere_change_nothing(place: Place, at_once: Path, monkeypatch, every: int, done: bool):
    """Whenever so many files have got their final names, the power fails: before the next gets its own, or after."""
    replace, count = Path.replace, 0

    def fail_now_and_then(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count % every == 0:
            if done:
                replace(self, target)
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_now_and_then)
    calls = 0
    while True:
        calls += 1
        assert calls < 60
        try:
            place.go_on()
            break
        except KeyboardInterrupt:
            pass
    assert calls > 2
    assert place.most == 1
    assert_same_films(place.store, at_once)
    place.go_on()
    assert_nothing_is_left(place)


def test_what_is_prepared_is_not_brought_again(place: Place, at_once: Path, monkeypatch):
    brought = []

    def bring(name: str) -> None:
        brought.append(name)
        if brought == ARCHIVES[:2]:
            raise KeyboardInterrupt
        Place.bring(place, name)

    monkeypatch.setattr(place, "bring", bring)
    with pytest.raises(KeyboardInterrupt):
        place.go_on()
    assert is_under_way(place.store)
    assert [is_prepared(place.store, name) for name in ARCHIVES] == [True, False, False]
    assert place.go_on().decoded == 16 - 5
    assert brought == [ARCHIVES[0], ARCHIVES[1], ARCHIVES[1], ARCHIVES[2]]
    assert_same_films(place.store, at_once)


def test_other_settings_or_archives_are_refused_before_an_archive_comes(place: Place, monkeypatch):
    monkeypatch.setattr("scarce_cxr.images.portions.delete_archive", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        place.go_on()
    # Nothing of the store is there yet but its first portion.
    assert not place.store.exists()
    where, begun = begun_with(place.store)
    assert (where, begun.settings["size"]) == (private_folder(place.store) / "portions", 16)
    monkeypatch.undo()
    for _ in range(2):
        # Before it is finished, and afterwards.
        with pytest.raises(ScarceError, match=r"size = 16.*size = 8"):
            place.go_on(size=8)
        place.go_on()
    with pytest.raises(ScarceError, match=r"archives = 3.*archives = 2"):
        place.go_on(ARCHIVES[:2])


@pytest.mark.parametrize("moment", ["write_shard", "finish"])
def test_a_store_that_was_deleted_under_way_is_made_anew(place: Place, at_once: Path, monkeypatch, moment: str):
    """Films that were moved into it are not taken for films that are there."""
    done = getattr(StoreWriter, moment)

    def fail_later(writer: StoreWriter, *arguments):
        if writer.path == place.store and (moment == "finish" or writer.has(3)):
            raise KeyboardInterrupt
        return done(writer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, moment, fail_later)
        with pytest.raises(KeyboardInterrupt):
            place.go_on()
    shutil.rmtree(place.store)
    assert place.go_on().decoded == 16
    assert_same_films(place.store, at_once)


def test_a_store_whose_key_is_gone_is_not_gone_on_with(place: Place):
    place.go_on(ARCHIVES[:1])
    shutil.rmtree(private_folder(place.store))
    with pytest.raises(ScarceError, match="the key of"):
        place.go_on()


def test_an_archive_without_films_is_named(place: Place, at_once: Path):
    write_archive(place.folder / ARCHIVES[1], {"readme.txt": b""})
    with pytest.raises(ScarceError, match=rf"films of kind nih in {ARCHIVES[1]}"):
        place.go_on()


def test_a_deleted_archive_takes_no_room_even_where_it_is_still_open(tmp_path: Path):
    path, beside = tmp_path / "films.zip", tmp_path / "beside.zip"
    path.write_bytes(b"1234")
    with path.open("rb") as file:
        assert delete_archive(path) == 4
        assert file.seek(0, io.SEEK_END) == 0
    assert delete_archive(path) == 0
    # What has another name is not touched there.
    for link in (Path.symlink_to, Path.hardlink_to):
        beside.write_bytes(b"1234")
        link(path, beside)
        assert delete_archive(path) == 4
        assert beside.read_bytes() == b"1234"
        assert not path.exists()
