"""`scarce fetch` downloads and prepares what is public, and says how to ask for the rest."""

import contextlib
import functools
import http.server
import io
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from jsonargparse import CLI
from PIL import Image
from tests.images.test_portions import ARCHIVES, write_collection

from scarce_cxr.commands.fetch import fetch
from scarce_cxr.errors import ScarceError
from scarce_cxr.images import fetch as fetching
from scarce_cxr.images.keys import keep_key, private_folder
from scarce_cxr.images.store import Store


@pytest.fixture
def table(tmp_path: Path, monkeypatch):
    """A table that leads to a server of this test's own: six films in Montgomery's layout, in two zips."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = tmp_path / "served"
    served.mkdir()
    for part in range(2):
        with zipfile.ZipFile(served / f"part{part}.zip", "w") as archive:
            for number in range(3):
                film = io.BytesIO()
                grey = np.random.default_rng(3 * part + number).integers(0, 256, (40, 30), dtype=np.uint8)
                Image.fromarray(grey).save(film, "PNG")
                archive.writestr(
                    f"MontgomerySet/CXR_png/MCUCXR_{3 * part + number:04d}_{number % 2}.png", film.getvalue()
                )
    (served / "readings.txt").write_text("nothing")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    names = ("part0.zip", "part1.zip", "readings.txt")
    files = [{"name": name, "address": f"http://127.0.0.1:{server.server_address[1]}/{name}"} for name in names]
    entries = {
        "montgomery": {"title": "Films", "page": "https://example.org", "terms": "Cite them.", "files": files},
        "padchest": {"title": "Others", "page": "https://example.org/ask", "ask": "Fill in the form."},
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(entries))
    yield tmp_path / "table.yaml"
    server.shutdown()
    server.server_close()


def test_one_command_leads_from_a_server_to_a_store(table: Path, tmp_path: Path):
    store, folder = tmp_path / "store", tmp_path / "films"
    line = ["montgomery", "--folder", str(folder), "--table", str(table), "--into", str(store), "--size", "16"]
    result = CLI(fetch, args=[*line, "--jobs", "1", "--delete_archives", "true"])
    assert result.exit_code == 0
    assert {row[0]: row[3] for row in result.tables[0].rows} == {
        "part0.zip": "the archive's own check sums",
        "part1.zip": "the archive's own check sums",
        "readings.txt": "length alone",
    }
    assert len(Store.open(store)) == 6
    assert {path.name for path in folder.iterdir()} == {"readings.txt", "SHA256SUMS"}
    assert any("Cite them." in note for note in result.notes)
    again = CLI(fetch, args=line)
    assert again.tables == []
    assert "is finished" in again.notes[0]


def test_some_of_the_files_may_be_chosen(table: Path, tmp_path: Path):
    result = fetch("montgomery", tmp_path / "films", only=["*0.zip", "*.txt"], table=table)
    assert [row[0] for row in result.tables[0].rows] == ["part0.zip", "readings.txt"]
    assert "scarce prepare" in result.notes[-1]
    with pytest.raises(ScarceError, match=r"part0\.zip, part1\.zip"):
        fetch("montgomery", tmp_path / "films", only=["images_*"], table=table)


def test_what_has_to_be_asked_for_says_how_and_fetches_nothing(table: Path, tmp_path: Path):
    result = fetch("padchest", tmp_path / "films", table=table)
    said = "\n".join(result.notes)
    for words in (
        "https://example.org/ask",
        "Fill in the form.",
        f"scarce prepare {tmp_path / 'films'} STORE --kind padchest",
    ):
        assert words in said
    assert result.exit_code == 1
    assert not (tmp_path / "films").exists()


def test_the_collections_are_listed_and_others_refused_by_name(table: Path):
    assert [row[0] for row in fetch("list").tables[0].rows][:2] == ["nih", "montgomery"]
    with pytest.raises(ScarceError, match=r"montgomery, padchest.*nih"):
        fetch("nih", table=table)
    with pytest.raises(ScarceError, match="--into"):
        fetch("montgomery", table=table, delete_archives=True)


def renamed(table: Path, name: str, **fields) -> Path:
    """A copy of the table in which the films are a collection of the user's own."""
    entry = yaml.safe_load(table.read_text())["montgomery"]
    copy = table.with_name(f"{name}.yaml")
    copy.write_text(yaml.safe_dump({name: entry | fields}))
    return copy


@pytest.mark.parametrize(
    ("fields", "kind", "source"),
    [({}, "auto", "montgomery"), ({"kind": "auto"}, "auto", "montgomery"), ({"kind": "folder"}, "folder", "folder")],
)
def test_a_collection_of_ones_own_becomes_a_store_of_its_kind(table: Path, tmp_path: Path, fields, kind, source):
    own, films = renamed(table, "ward", **fields), tmp_path / "films"
    said = fetch("ward", films, table=own).notes[-1]
    assert said == f"Next: scarce prepare {films} STORE --kind {kind}"
    fetch("ward", films, table=own, into=tmp_path / "store", size=16, jobs=1)
    assert Store.open(tmp_path / "store").settings["source"] == source


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"size": 0}, "size = 0"), ({"jobs": 0}, "jobs = 0"), ({"into": "occupied"}, "something else in it")],
)
def test_what_cannot_be_prepared_is_refused_before_anything_is_fetched(table: Path, tmp_path: Path, wrong, message):
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "letter.txt").write_text("")
    settings = {"size": 16, "jobs": 1} | wrong | {"into": tmp_path / wrong.get("into", "store")}
    with pytest.raises(ScarceError, match=message):
        fetch("montgomery", tmp_path / "films", table=table, **settings)
    assert not (tmp_path / "films").exists()


def test_a_store_of_another_source_or_other_settings_is_refused_before_anything_is_fetched(table: Path, tmp_path: Path):
    store = tmp_path / "store"
    fetch("montgomery", tmp_path / "films", table=table, into=store, size=16, jobs=1)
    for own, wrong, message in (
        (renamed(table, "shenzhen"), {"size": 16}, "source = montgomery.*source = shenzhen"),
        (table, {"size": 24}, "size = 16.*size = 24"),
        (table, {"size": 16, "bits": 16}, "bits = 8.*bits = 16"),
        (renamed(table, "ward"), {"size": 24}, "size = 16.*size = 24"),
    ):
        with pytest.raises(ScarceError, match=message):
            fetch(next(iter(yaml.safe_load(own.read_text()))), tmp_path / "new", table=own, into=store, **wrong)
    # What only the files of a collection would tell is not asked of a folder that is not there.
    with pytest.raises(ScarceError, match=r"source = montgomery.*source = rsna"):
        fetch("rsna", tmp_path / "new", table=renamed(table, "rsna"), into=store, size=16)
    # Of which source a collection of kind auto is, its files would tell.
    assert "is finished" in fetch("ward", table=renamed(table, "ward"), into=store, size=16).notes[0]
    assert not (tmp_path / "new").exists()


@pytest.fixture
def nih(table: Path, tmp_path: Path) -> Path:
    """A table that leads to a miniature of NIH's collection in three archives, on the same server."""
    write_collection(tmp_path / "nih")
    for path in (tmp_path / "nih").iterdir():
        path.rename(tmp_path / "served" / path.name)
    address = yaml.safe_load(table.read_text())["montgomery"]["files"][0]["address"].removesuffix("part0.zip")
    names = [*ARCHIVES, "Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt", "BBox_List_2017.csv"]
    files = [
        {"name": name, "address": address + name, "size": (tmp_path / "served" / name).stat().st_size} for name in names
    ]
    return renamed(table, "nih", files=files, films=14, by_archive=True)


def test_archives_are_fetched_prepared_and_deleted_one_by_one_however_often_interrupted(
    nih: Path, tmp_path: Path, monkeypatch
):
    at_once, store, folder = tmp_path / "at_once", tmp_path / "store", tmp_path / "films"
    settings = {"table": nih, "size": 16, "jobs": 1}
    fetch("nih", tmp_path / "all", into=at_once, **settings)
    keep_key(private_folder(store), (private_folder(at_once) / "key").read_text().strip())
    settings |= {"folder": folder, "into": store, "delete_archives": True}
    second = tmp_path / "served" / ARCHIVES[1]

    # Within a download: of the first archive, 1,000 bytes have come.
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_BLOCK", 1000)
        patch.setattr(fetching.progress, "bar", bar_that_breaks("images_001"))
        with pytest.raises(KeyboardInterrupt):
            fetch("nih", **settings)
    assert (folder / f"{ARCHIVES[0]}.part").stat().st_size == 1000
    # Between two archives: the server has lost the second.
    second.rename(tmp_path / "lost")
    with pytest.raises(ScarceError, match="404"):
        fetch("nih", **settings)
    (tmp_path / "lost").rename(second)
    assert not list(folder.glob("*.tar.gz*"))
    # Within preparing: the second archive is there, its films are not in the store.
    with monkeypatch.context() as patch:
        patch.setattr(fetching.progress, "bar", bar_that_breaks("preparing"))
        with pytest.raises(KeyboardInterrupt):
            fetch("nih", **settings)
    assert [path.name for path in folder.glob("*.tar.gz")] == [ARCHIVES[1]]
    with pytest.raises(ScarceError, match="archive by archive"):
        fetch("nih", **settings | {"delete_archives": False})
    with pytest.raises(ScarceError, match=r"archives = 3.*archives = 2"):
        fetch("nih", **settings, only=["*1.tar.gz", "*2.tar.gz", "*.csv"])

    result = fetch("nih", **settings)
    received = {row[0]: row[2] for row in result.tables[0].rows}
    assert received[ARCHIVES[1]] == 0
    assert received[ARCHIVES[2]] > 0
    assert ARCHIVES[0] not in received
    assert "1 of 3 archives were prepared before." in result.notes
    assert dict(result.tables[1].rows)["films"] == 13
    assert not list(folder.glob("*.tar.gz*"))
    one, other = Store.open(store), Store.open(at_once)
    assert one.settings == other.settings
    assert one.table.equals(other.table)
    assert one.boxes.equals(other.boxes)
    assert np.array_equal(one.pixels(np.arange(13)), other.pixels(np.arange(13)))
    assert "is finished" in fetch("nih", **settings).notes[0]
    with pytest.raises(ScarceError, match=r"archives = 3.*archives = 2"):
        fetch("nih", **settings, only=["*1.tar.gz", "*2.tar.gz"])


def bar_that_breaks(description: str):
    """A bar of progress at which somebody interrupts what it describes, once that has come a little way."""

    @contextlib.contextmanager
    def bar(described: str, total: int, unit: str = "films"):
        count = 0

        def advance(n: float = 1, note: str = "") -> None:
            nonlocal count
            count += 1
            if described.startswith(description) and count == 2:
                raise KeyboardInterrupt

        yield advance

    return bar


def test_the_room_of_one_archive_and_the_store_is_enough(nih: Path, tmp_path: Path, monkeypatch):
    sizes = {file["name"]: file["size"] for file in yaml.safe_load(nih.read_text())["nih"]["files"]}
    tables = sum(size for name, size in sizes.items() if name not in ARCHIVES)
    largest = max(sizes[name] for name in ARCHIVES)
    needed = tables + largest + 14 * 16**2
    free = needed - 1
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    settings = {"folder": tmp_path / "films", "table": nih, "into": tmp_path / "store", "size": 16, "jobs": 1}
    for delete_archives in (True, False):
        with pytest.raises(ScarceError, match="GB of room"):
            fetch("nih", **settings, delete_archives=delete_archives)
    free = needed
    with pytest.raises(ScarceError, match="GB of room"):
        fetch("nih", **settings)
    assert len(Store.open(fetch("nih", **settings, delete_archives=True).files[2][1])) == 13


def test_a_store_begun_from_all_archives_is_gone_on_with_from_all(nih: Path, tmp_path: Path, monkeypatch):
    settings = {"folder": tmp_path / "films", "table": nih, "into": tmp_path / "store", "size": 16, "jobs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(fetching.progress, "bar", bar_that_breaks("preparing"))
        with pytest.raises(KeyboardInterrupt):
            fetch("nih", **settings)
    result = fetch("nih", **settings, delete_archives=True)
    assert {row[3] for row in result.tables[0].rows} == {"was there"}
    assert len(Store.open(tmp_path / "store")) == 13
    assert not list((tmp_path / "films").glob("*.tar.gz"))
