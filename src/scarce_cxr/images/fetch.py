"""Files from a server: resumed where the connection broke, checked, and there whole or not at all."""

import gzip
import hashlib
import http.client
import json
import math
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scarce_cxr import progress
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.archives import DAMAGE
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.collections import Remote
from scarce_cxr.images.store import checksum_of

# What was found, in the form that `sha256sum --check` reads.
SUMS = "SHA256SUMS"

_BLOCK = 2**20
_LONGEST_PAUSE = 60.0

Check = Literal["md5", "sha256", "the archive's own check sums", "length alone", "was there"]


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server.

    Attributes:
        attempts: how many in a row may bring nothing new.
        pause: seconds after the first of them; twice as many after each further one, at most 60.
        timeout: seconds without an answer or a byte.
    """

    attempts: int = 8
    pause: float = 1.0
    timeout: float = 60.0


@dataclass(frozen=True)
class Fetched:
    """A file that is there.

    Attributes:
        path: where.
        size: bytes.
        received: bytes that came over the network; 0 where it was there.
        check: what vouches for it.
    """

    path: Path
    size: int
    received: int
    check: Check


def check_room(remotes: Sequence[Remote], folder: Path, store: Path | None = None, store_bytes: int = 0) -> None:
    """Compares the sizes, as far as they are known, of what is missing with the room on the disk.

    Args:
        remotes: the files that will be in the folder.
        folder: where to put them; made if missing.
        store: a store that is to be written too, on the same disk or another one.
        store_bytes: of what is missing of it.

    Raises:
        ScarceError: there is not enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = sum(missing_bytes(remote, folder) for remote in remotes)
    if store is None:
        needs = [(folder, missing)]
    else:
        beside = next(path for path in store.absolute().parents if path.exists())
        shared = beside.stat().st_dev == folder.stat().st_dev
        needs = [(folder, missing + store_bytes)] if shared else [(folder, missing), (beside, store_bytes)]
    for place, needed in needs:
        free = shutil.disk_usage(place).free
        if needed > free:
            raise ScarceError(
                f"{needed / 1e9:,.1f} GB of room in {place}", f"{free / 1e9:,.1f} GB", "take another folder"
            )


def missing_bytes(remote: Remote, folder: Path) -> int:
    """How many bytes of a file have not come yet; 0 where its size is not known."""
    if (folder / remote.name).exists():
        return 0
    return max(0, (remote.size or 0) - _Part(folder, remote.name).length())


def fetch(remote: Remote, folder: Path, patience: Patience = Patience(), verify: bool = False) -> Fetched:
    """Downloads a file, or what is missing of it.

    Until it is whole it is called NAME.part; a later call goes on there. Whole means: the length is the table's and the
    server's, and the checksum is the table's, or that which SHA256SUMS in the folder has from an earlier time; where
    there is neither, an archive's own check sums must be right. What was found is added to SHA256SUMS. A file that is
    there and stands in it is checked again if its length is another than the table's or the recorded one.

    Args:
        remote: the file.
        folder: where to put it; made if missing.
        patience: with the server.
        verify: whether a file that is there, and stands in SHA256SUMS, is read and compared too.

    Raises:
        ScarceError: the server refuses, brings something else, or stays away; or a file that is there is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    if target.exists():
        known = remote.size or _read_lengths(folder).get(remote.name)
        if verify or remote.name not in read_sums(folder) or target.stat().st_size != known:
            try:
                _check(target, remote, folder)
            except _Wrong as wrong:
                got = f"another file {target} of {target.stat().st_size:,} bytes"
                raise ScarceError(str(wrong), got, "move it away, and fetch it again") from None
        return Fetched(target, target.stat().st_size, 0, "was there")
    part = _Part(folder, remote.name)
    received = 0
    for again in (True, False):
        received += _download(remote, part, patience)
        try:
            check = _check(part.path, remote, folder)
            break
        except _Wrong as wrong:
            # Pieces of two versions of the file may have come together: once, all is taken anew.
            part.clear()
            if not again:
                raise ScarceError(
                    f"{wrong} of {remote.address}",
                    "something else, twice",
                    "look at the owner's page: if the file was changed, mend the table (--table) or SHA256SUMS",
                ) from None
    part.finish(target)
    return Fetched(target, target.stat().st_size, received, check)


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by name, as SHA256SUMS in the folder has them; none where there is no such file."""
    path = folder / SUMS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = (re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines)
    return {match[2]: match[1] for match in found if match}


def _read_lengths(folder: Path) -> dict[str, int]:
    """Bytes by name, as SHA256SUMS in the folder has them in comments, which `sha256sum` passes over."""
    path = folder / SUMS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = (re.fullmatch(r"# (\d+) bytes: (.+)", line) for line in lines)
    return {match[2]: int(match[1]) for match in found if match}


def _record(folder: Path, name: str, length: int, digest: str) -> None:
    """Adds a file to SHA256SUMS, or corrects what that says of it."""
    sums, lengths = read_sums(folder), _read_lengths(folder)
    if (sums.get(name), lengths.get(name)) == (digest, length):
        return
    sums[name], lengths[name] = digest, length
    comments = [f"# {lengths[name]} bytes: {name}\n" for name in sorted(lengths)]
    with written_whole(folder / SUMS) as temporary:
        temporary.write_text(
            "".join([*comments, *(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))]), "utf-8"
        )


class _Passing(Exception):  # noqa: N818 - never leaves this file
    """Something that may be over at the next attempt, after `pause` seconds if the server names them."""

    def __init__(self, what: str, pause: float | None = None) -> None:
        self.pause = pause
        super().__init__(what)


class _Wrong(Exception):  # noqa: N818 - never leaves this file
    """A whole file that is not the one expected; says what was."""


class _Part:
    """What has come so far, and by which mark the server knows that version of the file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self._marks = folder / f"{name}.part", folder / f"{name}.part.json"

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def mark(self) -> dict[str, str]:
        """`address`, `ETag`, `Last-Modified` and `total` of what has come, as far as the server named them."""
        try:
            return json.loads(self._marks.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def begin(self, mark: dict[str, str]) -> None:
        """Starts anew, with another version."""
        self.clear()
        with written_whole(self._marks) as temporary:
            temporary.write_text(json.dumps(mark), "utf-8")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self._marks.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self._marks.unlink(missing_ok=True)


def _download(remote: Remote, part: _Part, patience: Patience) -> int:
    """Brings the part to its whole length; returns how many bytes came over the network."""
    received = vain = 0
    furthest = part.length()
    while True:
        try:
            for length in _go_on(remote, part, patience.timeout):
                received += length
            return received
        except _Passing as fault:
            vain = 0 if part.length() > furthest else vain + 1
            furthest = max(furthest, part.length())
            if vain >= patience.attempts:
                raise ScarceError(
                    f"the whole of {remote.name} from {remote.address}",
                    f"{fault} ({part.length():,} bytes are there)",
                    "run it again later: it goes on where it stopped",
                ) from None
            pause = min(patience.pause * 2 ** max(0, vain - 1), _LONGEST_PAUSE)
            time.sleep(pause if fault.pause is None else min(fault.pause, _LONGEST_PAUSE))


def _go_on(remote: Remote, part: _Part, timeout: float) -> Iterator[int]:
    """One attempt; yields the lengths of what comes."""
    begun, mark = part.length(), part.mark()
    if begun and mark.get("address") != remote.address:
        part.clear()
        begun = 0
    if begun and str(begun) in (str(remote.size), mark.get("total")):
        return
    with _answer(remote, part, begun, mark, timeout) as answer:
        if answer is None:
            return
        begun, total = _settle(answer, remote, part, begun, mark)
        description = remote.name if total else f"{remote.name} (of unknown length)"
        with progress.bar(description, math.ceil((total or 0) / 1e6), "MB") as advance, part.path.open("ab") as file:
            advance(begun / 1e6)
            for block in _blocks(answer):
                file.write(block)
                advance(len(block) / 1e6)
                begun += len(block)
                yield len(block)
                if total is None and remote.size and begun > remote.size:
                    # It might never end.
                    raise ScarceError(
                        f"{remote.size:,} bytes from {remote.address}", "more", "look at the owner's page"
                    )
        if total is not None and begun < total:
            raise _Passing(f"a connection that closed after {begun:,} of {total:,} bytes")


@contextmanager
def _answer(
    remote: Remote, part: _Part, begun: int, mark: dict[str, str], timeout: float
) -> Iterator[http.client.HTTPResponse | None]:
    """The server's answer to a request for what is missing; null where it says that nothing is.

    Raises:
        _Passing: it may be better at the next attempt.
        ScarceError: it will not.
    """
    headers = {"User-Agent": "scarce-cxr", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
        version = _version(mark)
        if version:
            headers["If-Range"] = version
    try:
        answer = urllib.request.urlopen(urllib.request.Request(remote.address, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                if error.headers.get("Content-Range", "") == f"bytes */{begun}":
                    yield None
                    return
                part.clear()
                raise _Passing("less than what had come") from None
            if error.code in (408, 425, 429) or error.code >= 500:
                after = error.headers.get("Retry-After", "")
                raise _Passing(f"the answer {error.code}", float(after) if after.isdecimal() else None) from None
            raise ScarceError(
                f"the file {remote.name} at {remote.address}",
                f"the answer {error.code} ({error.reason})",
                "look at the owner's page, and mend a copy of the table (--table)",
            ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"no answer: {getattr(error, 'reason', None) or error or type(error).__name__}") from None
    with answer:
        if answer.status not in (200, 206):
            # Some stores of files say so while they look for one.
            raise _Passing(f"the answer {answer.status}")
        yield answer


def _settle(
    answer: http.client.HTTPResponse, remote: Remote, part: _Part, begun: int, mark: dict[str, str]
) -> tuple[int, int | None]:
    """Where the answer's bytes belong, and the whole length; starts anew where they do not fit what has come."""
    if answer.headers.get_content_type() == "text/html" and not remote.name.endswith((".html", ".htm")):
        raise ScarceError(
            f"the file {remote.name} at {remote.address}",
            "a web page",
            f"download it in a browser, put it beside {part.path}, and run it again",
        )
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    ranges = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if answer.status == 206:
        total = int(ranges[2]) if ranges and ranges[2] != "*" else total and begun + total
    now = {name: answer.headers[name] for name in ("ETag", "Last-Modified") if name in answer.headers}
    now |= {"address": remote.address} | ({} if total is None else {"total": str(total)})
    if answer.status == 206 and (not ranges or int(ranges[1]) != begun or not _is_same(mark, now)):
        part.clear()
        raise _Passing("another version of the file")
    if remote.size and total is not None and total != remote.size:
        raise ScarceError(
            f"{remote.size:,} bytes of {remote.name}",
            f"{total:,} bytes at {remote.address}",
            "look at the owner's page: if the file was changed, mend a copy of the table (--table)",
        )
    if answer.status != 206:
        # The first attempt, or a server that knows no ranges, or a file that was changed since.
        part.begin(now)
        begun = 0
    return begun, total


def _version(mark: dict[str, str]) -> str:
    """What stands for a version in If-Range: a strong ETag, or else the date."""
    tag = mark.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else mark.get("Last-Modified", "")


def _is_same(then: dict[str, str], now: dict[str, str]) -> bool:
    return all(now[name] == value for name, value in then.items() if name in now)


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = answer.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(f"a broken connection ({type(error).__name__})") from None
        if not block:
            return
        yield block


def _check(path: Path, remote: Remote, folder: Path) -> Check:
    """Whether a file is the one expected; adds its length and SHA-256 to the folder's list.

    Raises:
        _Wrong: it is not.
    """
    if remote.size and path.stat().st_size != remote.size:
        raise _Wrong(f"{remote.size:,} bytes")
    sums = read_sums(folder)
    found = checksum_of(path)
    known = remote.checksum or (f"sha256:{sums[remote.name]}" if remote.name in sums else "")
    method, _, digits = known.partition(":")
    check: Check
    if method == "sha256":
        check, right = "sha256", found == digits
    elif method == "md5":
        with path.open("rb") as file:
            check, right = "md5", hashlib.file_digest(file, "md5").hexdigest() == digits
    else:
        check, right = _check_archive(path, remote.name)
    if not right:
        raise _Wrong(f"the checksum {known}" if known else "an archive that is whole")
    _record(folder, remote.name, path.stat().st_size, found)
    return check


def _check_archive(path: Path, name: str) -> tuple[Check, bool]:
    """Reads an archive to its end; other files have nothing to be checked by."""
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                whole = archive.testzip() is None
        elif name.endswith((".gz", ".tgz")):
            with gzip.open(path) as unpacked:
                while unpacked.read(_BLOCK):
                    pass
            whole = True
        elif name.endswith(".tar"):
            with tarfile.open(path, "r:") as archive:
                whole = len(archive.getnames()) > 0
        else:
            return "length alone", True
    except (*DAMAGE, OSError):
        whole = False
    return "the archive's own check sums", whole
