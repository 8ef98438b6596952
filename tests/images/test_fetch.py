"""A file is there whole and checked, whatever the server and the connection do; or it is not there, and why is said."""

import gzip
import hashlib
import http.server
import io
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.images import fetch as fetching
from scarce_cxr.images.collections import Remote
from scarce_cxr.images.fetch import SUMS, Patience, check_room, fetch, read_sums

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHANGED = np.random.default_rng(1).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMPATIENT = Patience(attempts=3, pause=0, timeout=5)

fetch_now = partial(fetch, patience=IMPATIENT)


class Server:
    """A server of one file, which misbehaves as a test tells it.

    Attributes:
        content, tag: the file and its ETag; a list of faults is worked off, one a request: an HTTP status, or how
            many bytes are sent before the connection breaks.
        requests: the headers Range and If-Range of each request.
    """

    def __init__(self) -> None:
        self.content, self.tag, self.faults, self.requests = CONTENT, '"one"', [], []
        self.knows_ranges, self.heeds_if_range, self.declared, self.type = True, True, None, "application/gzip"
        self.before = lambda: None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/file"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.headers.get("Range"), handler.headers.get("If-Range")))
        self.before()
        fault = self.faults.pop(0) if self.faults else None
        if fault in (202, 404, 429, 503):
            handler.send_response(fault)
            handler.send_header("Retry-After", "0")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        asked = handler.headers.get("Range")
        same = not self.heeds_if_range or handler.headers.get("If-Range") in (None, self.tag)
        first = int(asked[6:-1]) if asked and self.knows_ranges and same else 0
        if first >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        body = self.content[first:]
        length = len(body) if self.declared is None else self.declared
        if length >= 0:
            handler.send_header("Content-Length", str(length))
        handler.send_header("Content-Type", self.type)
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.end_headers()
        handler.wfile.write(body[:fault])
        handler.wfile.flush()
        handler.close_connection = True
        if fault is not None or length != len(body):
            handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def remote(server: Server) -> Callable[..., Remote]:
    def make(name: str = "films.bin", **known) -> Remote:
        return Remote(name, server.address, **known)

    return make


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_checked_recorded_and_not_fetched_again(server, remote, tmp_path: Path):
    wanted = remote(size=len(CONTENT), checksum=f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    first = fetch_now(wanted, tmp_path / "new")
    assert first.path.read_bytes() == CONTENT
    assert (first.size, first.received, first.check) == (len(CONTENT), len(CONTENT), "md5")
    assert (tmp_path / "new" / SUMS).read_text() == f"# 3000000 bytes: films.bin\n{SHA256}  films.bin\n"
    assert left(tmp_path / "new") == {"films.bin", SUMS}
    again = fetch_now(wanted, tmp_path / "new")
    assert (again.received, again.check) == (0, "was there")
    assert len(server.requests) == 1


def test_dropped_connections_cost_no_byte_twice(server, remote, tmp_path: Path):
    # More of them than attempts in vain are allowed: each brings something.
    server.faults = [300_000] * 6
    fetched = fetch_now(remote(), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.received == len(CONTENT)
    assert server.requests == [(None, None), *((f"bytes={300_000 * n}-", '"one"') for n in range(1, 7))]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, remote, tmp_path: Path):
    server.faults = [1_000_000, 503, 503, 503]
    with pytest.raises(ScarceError, match=r"503.*1,000,000 bytes are there.*run it again"):
        fetch_now(remote(), tmp_path)
    assert left(tmp_path) == {"films.bin.part", "films.bin.part.json"}
    fetched = fetch_now(remote(), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.received == 2_000_000


def test_a_server_without_ranges_starts_again(server, remote, tmp_path: Path):
    server.knows_ranges, server.faults = False, [1_000_000, 2_000_000]
    fetched = fetch_now(remote(checksum=f"sha256:{SHA256}"), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.received == 6_000_000


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_between_attempts_is_taken_anew(server, remote, tmp_path: Path, heeds_if_range: bool):
    def change() -> None:
        if len(server.requests) == 2:
            server.content, server.tag = CHANGED, '"two"'

    server.before, server.faults, server.heeds_if_range = change, [1_000_000], heeds_if_range
    assert fetch_now(remote(), tmp_path).path.read_bytes() == CHANGED


def test_pieces_of_two_versions_that_nothing_tells_apart_are_found_by_the_checksum(server, remote, tmp_path: Path):
    def change() -> None:
        server.content = CONTENT if len(server.requests) > 1 else CHANGED

    server.before, server.tag, server.faults = change, "", [1_000_000]
    fetched = fetch_now(remote(checksum=f"sha256:{SHA256}"), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_part_from_another_address_is_not_gone_on_with(server, remote, tmp_path: Path):
    server.faults = [1_000_000, 404]
    with pytest.raises(ScarceError, match="404"):
        fetch_now(remote(), tmp_path)
    moved = Remote("films.bin", f"{server.address}-moved")
    server.content = CHANGED
    assert fetch_now(moved, tmp_path).path.read_bytes() == CHANGED


@pytest.mark.parametrize("status", [503, 429, 202])
def test_a_busy_server_is_asked_again(server, remote, tmp_path: Path, status: int):
    server.faults = [status, status]
    assert fetch_now(remote(), tmp_path).path.read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_pauses_double_and_follow_the_servers_wish(server, remote, tmp_path: Path, monkeypatch):
    pauses = []
    monkeypatch.setattr(fetching.time, "sleep", pauses.append)
    server.faults = [503, 0, 0, 0, 0]
    fetch(remote(), tmp_path, Patience(attempts=9, pause=1))
    assert pauses == [0, 2, 4, 8, 16]


def test_what_is_not_there_is_said_at_once(server, remote, tmp_path: Path):
    server.faults = [404]
    with pytest.raises(ScarceError, match=r"films\.bin at http.*404.*--table"):
        fetch_now(remote(), tmp_path)
    assert len(server.requests) == 1
    assert left(tmp_path) == set()


def test_a_server_that_is_not_there_is_given_up(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(ScarceError, match=r"no answer.*run it again later"):
            fetch_now(Remote("films.bin", address), tmp_path)


def test_a_server_that_promises_more_than_it_sends_is_given_up(server, remote, tmp_path: Path):
    server.declared = len(CONTENT) + 1000
    server.knows_ranges = False
    with pytest.raises(ScarceError, match=r"closed after 3,000,000 of 3,001,000"):
        fetch_now(remote(), tmp_path)
    assert "films.bin" not in left(tmp_path)


def test_a_server_that_promises_less_than_there_is_is_found_out(server, remote, tmp_path: Path):
    server.declared = 1_000_000
    with pytest.raises(ScarceError, match=r"3,000,000 bytes.*1,000,000 bytes at"):
        fetch_now(remote(size=len(CONTENT)), tmp_path)
    with pytest.raises(ScarceError, match=f"sha256:{SHA256}.*twice"):
        fetch_now(remote("other.bin", checksum=f"sha256:{SHA256}"), tmp_path)
    assert left(tmp_path) == set()


def test_a_server_that_promises_nothing_is_stopped_at_the_known_length(server, remote, tmp_path: Path):
    server.declared = -1
    assert fetch_now(remote(), tmp_path).path.read_bytes() == CONTENT
    with pytest.raises(ScarceError, match="more"):
        fetch_now(remote("other.bin", size=1_500_000), tmp_path)


def test_a_web_page_in_place_of_a_file_is_refused(server, remote, tmp_path: Path):
    server.type = "text/html; charset=utf-8"
    with pytest.raises(ScarceError, match=r"a web page.*in a browser"):
        fetch_now(remote(), tmp_path)
    assert left(tmp_path) == set()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("film.png", content)
    return file.getvalue()


def tarred(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("film.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zipped), ("a.tar.gz", tarred), ("a.csv.gz", gzip.compress)])
def test_archives_of_unknown_checksum_are_checked_by_their_own(server, remote, tmp_path: Path, name: str, pack):
    server.content = pack(CONTENT[:50_000])
    assert fetch_now(remote(name), tmp_path / "whole").check == "the archive's own check sums"
    damaged = bytearray(server.content)
    damaged[len(damaged) // 2] ^= 1
    for content in (bytes(damaged), server.content[:-2000]):
        server.content = content
        with pytest.raises(ScarceError, match=r"an archive that is whole.*twice"):
            fetch_now(remote(name), tmp_path / "damaged")
    assert left(tmp_path / "damaged") == set()


def test_a_recorded_checksum_counts_the_next_time(server, remote, tmp_path: Path):
    fetch_now(remote(), tmp_path).path.unlink()
    server.content = CHANGED
    with pytest.raises(ScarceError, match=rf"sha256:{SHA256}.*{SUMS}"):
        fetch_now(remote(), tmp_path)
    assert read_sums(tmp_path) == {"films.bin": SHA256}


def test_a_file_that_is_there_already_is_checked_once_and_whenever_asked(server, remote, tmp_path: Path):
    (tmp_path / "films.bin").write_bytes(CHANGED)
    wanted = remote(checksum=f"sha256:{SHA256}")
    with pytest.raises(ScarceError, match="move it away"):
        fetch_now(wanted, tmp_path)
    (tmp_path / "films.bin").write_bytes(CONTENT)
    assert fetch_now(wanted, tmp_path).check == "was there"
    assert read_sums(tmp_path) == {"films.bin": SHA256}
    (tmp_path / "films.bin").write_bytes(CHANGED)
    assert fetch_now(wanted, tmp_path).check == "was there"
    with pytest.raises(ScarceError, match="move it away"):
        fetch_now(wanted, tmp_path, verify=True)
    assert server.requests == []


@pytest.mark.parametrize("known", [{}, {"size": len(CONTENT)}, {"checksum": f"sha256:{SHA256}"}])
def test_a_file_that_shrank_since_it_was_recorded_is_not_taken_for_whole(server, remote, tmp_path: Path, known):
    path = fetch_now(remote(**known), tmp_path).path
    path.write_bytes(CONTENT[:500])
    with pytest.raises(ScarceError, match=r"films\.bin of 500 bytes: move it away"):
        fetch_now(remote(**known), tmp_path)
    # A list of checksums that has no lengths is as good: the file is read once.
    (tmp_path / SUMS).write_text(f"{SHA256}  films.bin\n")
    with pytest.raises(ScarceError, match="move it away"):
        fetch_now(remote(**known), tmp_path)
    path.write_bytes(CONTENT)
    assert fetch_now(remote(**known), tmp_path).check == "was there"
    assert len(server.requests) == 1


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_what_was_recorded_is_read_by_sha256sum(server, remote, tmp_path: Path):
    fetch_now(remote(), tmp_path)
    checked = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "films.bin: OK\n", "")


def test_a_part_that_is_whole_already_is_not_fetched_again(server, remote, tmp_path: Path):
    server.faults = [len(CONTENT), 503, 503, 503]
    server.declared = len(CONTENT) + 1
    with pytest.raises(ScarceError):
        fetch_now(remote(), tmp_path)
    server.declared = None
    assert fetch_now(remote(), tmp_path).received == 0


def test_too_small_a_disk_is_found_out_beforehand(remote, tmp_path: Path):
    check_room([remote(size=len(CONTENT)), remote("unknown")], tmp_path)
    with pytest.raises(ScarceError, match=r"1,000,000,000\.0 GB of room"):
        check_room([remote(size=10**18)], tmp_path)
