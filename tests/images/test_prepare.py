"""Preparing loses no film silently, tells no name, and ends in the same bytes however often it is killed."""

import csv
import os
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.decode import decode, quantise, resize, scale
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import CheXpertSource, FolderSource, Listing, NihSource
from scarce_cxr.images.store import Store

KEY = "00112233445566778899aabbccddeeff"


def draw(folder: Path, count: int, shape: tuple[int, int] = (40, 50)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{index:03d}.png")
    return folder


def key_file(folder: Path) -> Path:
    path = folder / "shared-key"
    path.write_text(KEY)
    return path


def skipped(store: Path) -> dict[str, str]:
    with (store.with_name(store.name + ".private") / "skipped.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def names(store: Path) -> pd.Series:
    return pd.read_parquet(store.with_name(store.name + ".private") / "names.parquet").set_index("image_id")["path"]


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse_to_decode(path: Path) -> np.ndarray:
    raise RuntimeError(f"{path} was decoded again")


def test_a_messy_folder_loses_no_film_silently(tmp_path: Path):
    films = draw(tmp_path / "films", 3)
    grey = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    film = Image.fromarray(grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    film.convert("RGBA").save(films / "rgba.png")
    film.convert("P").save(films / "palette.png")
    film.save(films / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(films / "deep.png")
    Image.fromarray(np.rot90(grey).copy()).save(films / "rotated.png", exif=exif)
    Image.fromarray(np.tile(grey, (2, 2))).save(films / "large.png")
    Image.new("L", (40, 50), 7).save(films / "blank.png")
    (films / "cut.png").write_bytes((films / "grey.png").read_bytes()[:900])
    (films / "empty.png").touch()
    (films / "text.png").write_text("no picture")
    (films / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (films / "notes.txt").write_text("no film at all")
    limited = partial(decode, max_pixels=2000)
    summary = prepare(FolderSource(films), tmp_path / "store", size=48, jobs=1, decoder=limited)

    assert skipped(tmp_path / "store") == {
        "blank.png": "blank: all pixels are equal",
        "cut.png": "truncated",
        "dangling.png": "a link that leads nowhere",
        "empty.png": "zero bytes",
        "large.png": "too large: 100 x 80 pixels",
        "text.png": "not an image",
    }
    stored = names(tmp_path / "store")
    assert set(stored) == {
        "000.png",
        "001.png",
        "002.png",
        "rgba.png",
        "palette.png",
        "grey.png",
        "deep.png",
        "rotated.png",
    }
    assert sum(summary.skipped.values()) == 6
    assert summary.skipped["too large"] == 1
    # All but the 16-bit film have the very pixels of the grey one, and all are enlarged: 40 is less than 48.
    assert (summary.films, summary.identical, summary.smaller) == (8, 4, 8)
    store = summary.store
    place = {stored[image_id]: index for index, image_id in enumerate(store.table["image_id"])}
    expected = quantise(resize(scale(grey), 48)[0])
    for name in ("rgba.png", "palette.png", "grey.png", "deep.png", "rotated.png"):
        assert np.array_equal(store.pixels([place[name]])[0], expected)


def test_nothing_in_a_folders_store_tells_a_name(tmp_path: Path):
    films = draw(tmp_path / "films" / "JaneDoe19700101", 4)
    (films / "broken.png").write_text("no")
    summary = prepare(
        FolderSource(tmp_path / "films", patient_pattern="^([^/]+)/"), tmp_path / "store", size=16, jobs=1
    )
    for path, content in bytes_below(tmp_path / "store").items():
        assert b"JaneDoe" not in content, path
        assert str(tmp_path).encode() not in content, path
    assert summary.patients == 1
    assert summary.store.table["patient_id"].str.fullmatch("[0-9a-f]{16}").all()
    private = tmp_path / "store.private"
    assert stat.S_IMODE((private / "key").stat().st_mode) == 0o600
    assert set(names(tmp_path / "store")) == {f"JaneDoe19700101/00{index}.png" for index in range(4)}


def test_real_films_and_labels_equal_the_csv(nih_folder: Path, tmp_path: Path):
    summary = prepare(NihSource(nih_folder), tmp_path / "store", size=64, jobs=2)
    store = summary.store
    reference = (
        pd.read_csv(nih_folder / "Data_Entry_2017_v2020.csv").set_index("Image Index").loc[store.table["image_id"]]
    )
    assert len(store) == summary.films == 1000
    assert summary.patients == store.table["patient_id"].nunique() == reference["Patient ID"].nunique() == 682
    assert pd.crosstab(store.table["patient_id"].to_numpy(), reference["Patient ID"].to_numpy()).gt(0).sum().max() == 1
    assert summary.views == {"AP": 567, "PA": 433}
    assert (store.table["age"].to_numpy() == reference["Patient Age"].to_numpy()).all()
    expected = reference["Finding Labels"].str.get_dummies("|")
    assert set(expected) == set(store.findings)
    for finding in store.findings:
        assert (store.table[finding].to_numpy() == expected[finding].to_numpy()).all()
    assert summary.identical == 2
    assert summary.skipped == {}
    counts = pd.read_csv(nih_folder / "label_counts.csv").set_index("finding")
    for count in summary.findings:
        assert (count.present, count.patients) == tuple(counts.loc[count.finding])
    pixels = store.pixels(range(1000)) / 255
    assert store.mean == pytest.approx(pixels.mean())
    assert store.std == pytest.approx(pixels.std())
    some = int(np.flatnonzero(store.table["image_id"] == "00000061_012.png")[0])
    film = decode(nih_folder / "images" / "00000061_012.png")
    assert np.array_equal(store.pixels([some])[0], quantise(resize(scale(film), 64)[0]))


def test_boxes_follow_the_film_into_the_stores_pixels(tmp_path: Path):
    films = draw(tmp_path / "films", 1, shape=(100, 200))
    columns = "Image Index,Finding Labels,Patient ID"
    (films / "Data_Entry_2017.csv").write_text(f"{columns}\n000.png,Infiltration,1\n")
    # In the owner's 1024 x 1024 pixels: the middle half, then a box that the crop cuts off altogether.
    rows = "000.png,Infiltrate,256,256,512,512,,\n000.png,Mass,0,0,100,100,,\n"
    (films / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + rows)
    boxes = {
        fit: prepare(NihSource(films), tmp_path / fit, size=50, fit=fit, jobs=1).store.boxes.drop(columns="image_id")
        for fit in ("crop", "pad", "squash")
    }
    # The film is 200 wide: the box spans 50 to 150 across and 25 to 75 down, the crop 50 to 150 across.
    assert boxes["crop"].to_numpy().tolist() == [["Infiltration", 0.0, 12.5, 50.0, 25.0]]
    assert boxes["pad"].iloc[0].tolist() == ["Infiltration", 12.5, 18.75, 25.0, 12.5]
    assert boxes["squash"].iloc[0].tolist() == ["Infiltration", 12.5, 12.5, 25.0, 25.0]
    assert len(boxes["squash"]) == 2


def test_a_second_run_decodes_nothing_and_changes_nothing(tmp_path: Path):
    films = draw(tmp_path / "films", 5)
    first = prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1)
    before = bytes_below(tmp_path / "store"), bytes_below(tmp_path / "store.private")
    second = prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1, decoder=refuse_to_decode)
    assert (first.decoded, second.decoded) == (5, 0)
    assert (bytes_below(tmp_path / "store"), bytes_below(tmp_path / "store.private")) == before
    assert second.store.fingerprint == first.store.fingerprint


def test_other_settings_and_other_films_are_refused_by_name(tmp_path: Path):
    films = draw(tmp_path / "films", 5)
    again = partial(prepare, store_path=tmp_path / "store", jobs=1, decoder=refuse_to_decode)
    prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1)
    with pytest.raises(ScarceError, match=r"size = 16.*size = 32.*another name"):
        again(FolderSource(films), size=32)
    (films / "004.png").write_bytes(b"now another size")
    with pytest.raises(ScarceError, match="digest_of_names_and_sizes"):
        again(FolderSource(films), size=16)
    draw(films, 6)
    with pytest.raises(ScarceError, match=r"films_listed = 5.*films_listed = 6"):
        again(FolderSource(films), size=16)
    (films / "005.png").unlink()
    with pytest.raises(ScarceError, match="digest_of_labels"):
        again(FolderSource(films, patient_pattern=r"(\d+)\.png"), size=16)


def test_one_key_gives_one_pseudonym_in_two_stores_and_another_key_another(tmp_path: Path):
    films = draw(tmp_path / "films", 2)
    source = FolderSource(films, patient_pattern=r"(\d+)\.png")
    key = key_file(tmp_path)
    made = [prepare(source, tmp_path / name, size=16, jobs=1, key_file=given).store.table["patient_id"].to_list()
            for name, given in (("a", key), ("b", key), ("c", None))]  # fmt: skip
    assert made[0] == made[1]
    assert not set(made[0]) & set(made[2])
    with pytest.raises(ScarceError, match="another one"):
        prepare(source, tmp_path / "c", size=16, jobs=1, key_file=key)


def test_a_store_without_its_private_key_is_not_touched(tmp_path: Path):
    films = draw(tmp_path / "films", 2)
    prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1)
    (tmp_path / "store.private" / "key").unlink()
    with pytest.raises(ScarceError, match="private folder"):
        prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1)


def test_a_folder_of_damage_alone_is_refused_and_explained(tmp_path: Path):
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.png").write_text("no picture")
    for _ in range(2):
        with pytest.raises(ScarceError, match="at least one film"):
            prepare(FolderSource(films), tmp_path / "store", size=16, jobs=1)
    assert skipped(tmp_path / "store") == {"a.png": "not an image"}


def test_a_source_without_a_film_left_says_why_and_leaves_nothing_behind(tmp_path: Path):
    film = "train/patient00001/study{}/view1_lateral.jpg"
    rows = [f"CheXpert-v1.0/{film.format(number)},Lateral,1\n" for number in range(4)]
    for number in range(4):
        path = tmp_path / "films" / film.format(number)
        path.parent.mkdir(parents=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    (tmp_path / "films/train.csv").write_text("Path,Frontal/Lateral,Pleural Effusion\n" + "".join(rows))
    again = partial(prepare, store_path=tmp_path / "store", size=16, jobs=1)
    with pytest.raises(ScarceError, match="none: 4 x not a frontal view: --views all keeps laterals"):
        again(CheXpertSource(tmp_path / "films"))
    assert [path.name for path in tmp_path.iterdir()] == ["films"]
    assert again(CheXpertSource(tmp_path / "films", views="all")).films == 4


def test_reasons_why_no_film_is_left_are_counted(tmp_path: Path):
    class Empty:
        name = "empty"

        def settings(self) -> dict:
            return {"source": self.name}

        def read(self, pseudonym) -> Listing:
            return Listing([], [], [("a", "zero bytes"), ("b", "too large: 9 x 9"), ("c", "too large: 8 x 8")])

    with pytest.raises(ScarceError, match="none: 2 x too large, 1 x zero bytes: check the folder"):
        prepare(Empty(), tmp_path / "store", jobs=1)


def test_an_interrupted_run_continues_by_shard(tmp_path: Path):
    films = draw(tmp_path / "films", 20)
    settings = {"size": 16, "shard_mib": 4 * 256 / 2**20, "jobs": 1, "key_file": key_file(tmp_path)}
    opened = []

    def unplugged(path: Path) -> np.ndarray:
        opened.append(path)
        if len(opened) == 18:
            raise FileNotFoundError(path)
        return decode(path)

    with pytest.raises(ScarceError, match="nothing at"):
        prepare(FolderSource(films), tmp_path / "store", decoder=unplugged, **settings)
    with pytest.raises(ScarceError, match="run scarce prepare again"):
        Store.open(tmp_path / "store")
    continued = prepare(FolderSource(films), tmp_path / "store", **settings)
    whole = prepare(FolderSource(films), tmp_path / "whole", **settings)
    assert len(continued.store.shards) == 5
    assert continued.decoded < whole.decoded == 20
    assert bytes_below(tmp_path / "store") == bytes_below(tmp_path / "whole")


KILLED = """
import sys, time
from pathlib import Path
from scarce_cxr.images.decode import decode
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import NihSource

def slowly(path):
    time.sleep(float(sys.argv[4]))
    return decode(path)

prepare(NihSource(Path(sys.argv[1])), Path(sys.argv[2]), size=64, shard_mib=100 * 4096 / 2**20, jobs=2,
        key_file=Path(sys.argv[3]), decoder=slowly)
"""


@pytest.mark.slow
def test_a_killed_preparation_continues_to_the_same_bytes(nih_folder: Path, tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    key = key_file(tmp_path)

    def command(name: str, pause: float = 0.0) -> list[str]:
        return [sys.executable, str(script), str(nih_folder), str(tmp_path / name), str(key), str(pause)]

    process = subprocess.Popen(command("killed", 0.003), start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("pixels-*.npy"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "store.json").exists()
    assert 5 <= len(list((tmp_path / "killed").glob("pixels-*.npy"))) < 10
    subprocess.run(command("killed"), check=True)
    subprocess.run(command("whole"), check=True)
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "whole")
    assert bytes_below(tmp_path / "killed.private") == bytes_below(tmp_path / "whole.private")
    assert len(Store.open(tmp_path / "killed").shards) == 10
    Store.open(tmp_path / "killed").verify()


@pytest.mark.slow
def test_a_decoder_that_crashes_costs_one_film_by_name(tmp_path: Path):
    films = draw(tmp_path / "films", 40)

    # A function of this test's own travels to the workers by value.
    def deadly(path: Path) -> np.ndarray:
        if path.name == "037.png":
            os._exit(139)
        return decode(path)

    summary = prepare(FolderSource(films), tmp_path / "store", size=16, jobs=2, decoder=deadly)
    assert skipped(tmp_path / "store") == {"037.png": "the decoder crashed"}
    assert summary.films == 39
    alone = FolderSource(films)
    expected = prepare(alone, tmp_path / "whole", size=16, jobs=1, key_file=tmp_path / "store.private" / "key").store
    kept = names(tmp_path / "whole").ne("037.png").to_numpy()
    assert np.array_equal(summary.store.pixels(range(39)), expected.pixels(np.flatnonzero(kept)))


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"fit": "stretch"}, {"bits": 12}, {"shard_mib": 0}, {"jobs": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_out_of_range_are_refused_by_name(tmp_path: Path, wrong: dict):
    with pytest.raises(ScarceError, match=next(iter(wrong))):
        prepare(FolderSource(tmp_path), tmp_path / "store", **wrong)
    assert not (tmp_path / "store.private").exists()
