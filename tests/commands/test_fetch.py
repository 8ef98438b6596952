"""`scarce fetch` downloads and prepares what is public, and says how to ask for the rest."""

import functools
import http.server
import io
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import CLI
from PIL import Image

from scarce_cxr.commands.fetch import fetch
from scarce_cxr.errors import ScarceError
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
