"""Members of zip and tar archives, listed and read where they lie: nothing is unpacked to the disk."""

import errno
import gzip
import io
import stat
import tarfile
import threading
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import IO

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

# Five of the largest detectors' films at 16 bits; whatever claims more is damaged or hostile.
MAX_MEMBER_BYTES = 512 * 2**20
# Radiographs shrink to a half or a third. What expands a hundredfold is a bomb, unless it is small anyway.
MAX_EXPANSION = 100
_SMALL = 2**30

_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What reading a damaged archive raises. zipfile says by NotImplementedError that it does not know a member's
# compression, and by RuntimeError that it is encrypted.
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive, with those methods of `Path` that reading a film or a table needs.

    It travels between processes; each opens the archive for itself, once.

    Attributes:
        archive: the archive's own path.
        inside: its path there, with slashes.
        size: bytes, unpacked.
        start: where its bytes begin: in the tar, or in what a tar.gz unpacks to; not used for zip.
    """

    archive: Path
    inside: str
    size: int
    start: int = 0

    @property
    def name(self) -> str:
        return _path(self.inside).name

    @property
    def stem(self) -> str:
        return _path(self.inside).stem

    @property
    def suffix(self) -> str:
        return _path(self.inside).suffix

    def __str__(self) -> str:
        return f"{self.archive}/{self.inside}"

    def stat(self) -> SimpleNamespace:
        """Its size, as `st_size`."""
        return SimpleNamespace(st_size=self.size)

    def is_symlink(self) -> bool:
        return False

    def read_bytes(self) -> bytes:
        """Unpacks it into memory: at most the `size` bytes that the archive declares, and at most 512 MiB.

        Raises:
            OSError: the archive is missing or unreadable, or this member of it is damaged.
        """
        try:
            modified = self.archive.stat().st_mtime_ns
            if self.archive.suffix.lower() == ".zip":
                with _open_zip(self.archive, modified).open(self.inside) as file:
                    # Without a limit, all would be unpacked before it is found to be more than declared.
                    content = file.read(self.size + 1)
            elif self.archive.suffix.lower() == ".tar":
                with self.archive.open("rb") as file:
                    file.seek(self.start)
                    content = file.read(self.size)
            else:
                content = _open_stream(self.archive, modified).read(self.start, self.size)
        except (*DAMAGE, KeyError) as error:
            raise OSError(errno.EIO, f"damaged in its archive ({type(error).__name__})") from None
        if len(content) != self.size:
            raise OSError(errno.EIO, "damaged in its archive (shorter or longer than declared)")
        return content

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def open(
        self, mode: str = "r", encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO:
        """Opens it for reading, as a seekable file in memory."""
        content = io.BytesIO(self.read_bytes())
        return content if "b" in mode else io.TextIOWrapper(content, encoding, errors, newline)


@dataclass(frozen=True)
class Contents:
    """An archive's members.

    Attributes:
        members: by their path inside.
        refused: (path inside, reason); the path is empty where the archive as a whole is refused.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)


def is_archive(name: str) -> bool:
    """Whether the name is a zip's or a tar's (plain or gzipped)."""
    return name.lower().endswith(SUFFIXES)


def list_members(archive: Path) -> Contents:
    """Lists an archive without unpacking it.

    A zip or a plain tar is listed in moments. A tar.gz has no table of contents: it is read through once, at the
    speed of gzip (some 200 MB/s), and once more by every process that reads films of it.

    Refused, each with its reason: absolute paths, drives, "..", links, devices, sparse or encrypted members, ways of
    compressing that zlib cannot undo, members above 512 MiB, a name that came before; and whole archives that are
    damaged or expand more than a hundredfold.
    """
    try:
        status = archive.stat()
    except OSError as error:
        return Contents(refused=[("", f"cannot be read: {error.strerror}")])
    return _list_members(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _list_members(archive: Path, size: int, modified: int) -> Contents:
    # Size and time of change are there for the cache alone: a changed archive is listed anew.
    contents = Contents({}, [])
    total = 0
    try:
        zipped = archive.suffix.lower() == ".zip"
        for member, reason in _zip_entries(archive, modified) if zipped else _tar_entries(archive):
            path = _path(member.inside).as_posix()
            reason = reason or _unsafe(member.inside)
            if not reason and member.size > MAX_MEMBER_BYTES:
                reason = f"too large: {member.size:,} bytes unpacked"
            if not reason and path in contents.members:
                reason = "another member of the archive has its name"
            total += member.size
            if total > max(_SMALL, MAX_EXPANSION * size):
                return Contents(refused=[("", f"an archive that unpacks to more than {MAX_EXPANSION} times its size")])
            if reason:
                contents.refused.append((path, reason))
            else:
                contents.members[path] = member
    except _Bomb:
        return Contents(refused=[("", f"an archive that unpacks to more than {MAX_EXPANSION} times its size")])
    except (*DAMAGE, OSError) as error:
        # A download that was cut off in the middle still has members that are whole.
        contents.refused.append(("", f"a damaged archive ({type(error).__name__})"))
    return contents


def _zip_entries(archive: Path, modified: int) -> Iterator[tuple[Member, str]]:
    opened = _open_zip(archive, modified)
    for info in opened.infolist():
        if info.is_dir() or info.filename.endswith("\\"):
            continue
        mode = info.external_attr >> 16
        reason = ""
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            reason = "unsafe: a link or device in an archive"
        elif opened.getinfo(info.filename) is not info:
            # The last of that name is the one that can be read.
            reason = "another member of the archive has its name"
        elif info.flag_bits & 1:
            reason = "encrypted"
        elif info.compress_type not in _READABLE:
            reason = f"compressed in a way that is not read (zip method {info.compress_type}): unpack it"
        yield Member(archive, info.filename, info.file_size), reason


def _tar_entries(archive: Path) -> Iterator[tuple[Member, str]]:
    plain = archive.suffix.lower() == ".tar"
    with (
        archive.open("rb") if plain else _sequential(archive) as file,
        # The streaming mode ("r|") reads headers in passing and never seeks back.
        tarfile.open(fileobj=file, mode="r:" if plain else "r|") as tar,
    ):
        for info in tar:
            # Tar's own list of what it met would grow with a million members.
            tar.members = []
            if info.isdir():
                continue
            reason = ""
            if not info.isreg():
                reason = "unsafe: a link or device in an archive"
            elif info.issparse():
                reason = "a sparse member of an archive: unpack it"
            yield Member(archive, info.name, info.size if info.isreg() else 0, info.offset_data), reason


def _path(inside: str) -> PurePosixPath:
    # Some programs for Windows write backslashes.
    return PurePosixPath(inside.replace("\\", "/"))


def _unsafe(inside: str) -> str:
    path = _path(inside)
    outside = path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]
    return "unsafe: a path that leads out of the archive" if outside or "\0" in inside else ""


@lru_cache(maxsize=128)
def _open_zip(archive: Path, modified: int) -> zipfile.ZipFile:
    # Kept open: the table of contents of a large zip takes longer to read than a film.
    return zipfile.ZipFile(archive)


class _Bomb(Exception):  # noqa: N818 - never leaves this file
    """What a gzip unpacks to has grown past all proportion."""


@contextmanager
def _sequential(archive: Path) -> Iterator[IO[bytes]]:
    """What a gzip unpacks to, from front to end, up to the size of a bomb."""
    limit = max(_SMALL, MAX_EXPANSION * archive.stat().st_size)

    class Counted(io.RawIOBase):
        read_so_far = 0

        def read(self, length: int = -1) -> bytes:
            content = unpacked.read(length)
            self.read_so_far += len(content)
            if self.read_so_far > limit:
                raise _Bomb
            return content

    with gzip.open(archive, "rb") as unpacked:
        yield Counted()


class _Stream:
    """What a gzip unpacks to, at any place: a pass from front to end leaves marks from which to go on later.

    A mark is zlib's state, some 50 kB. They stand a 256th of the file apart: films in the archive's own order cost
    the pass alone, and films in any order that pass and then, each, the unpacking of a 512th of it on average.
    """

    _BLOCK = 2**18

    def __init__(self, archive: Path) -> None:
        self._file = archive.open("rb")
        self._apart = max(2**20, archive.stat().st_size // 256)
        self._lock = threading.Lock()
        # Beside each state: how many unpacked bytes lie before it, and where in the file its next input begins.
        self._marks: list[tuple[int, int, object]] = [(0, 0, zlib.decompressobj(wbits=31))]
        self._go_to(0)

    def read(self, start: int, length: int) -> bytes:
        """`length` unpacked bytes from `start` on, or what there is of them."""
        with self._lock:
            nearest = bisect_right(self._marks, start, key=lambda mark: mark[0]) - 1
            here = self._unpacked - len(self._left)
            if start < here or self._marks[nearest][0] > here:
                self._go_to(nearest)
            parts = []
            missing = length
            while missing:
                if not self._left and not self._unpack():
                    break
                before = self._unpacked - len(self._left)
                piece = self._left[max(0, start - before) :][:missing]
                self._left = self._left[max(0, start - before) + len(piece) :]
                parts.append(piece)
                missing -= len(piece)
                start += len(piece)
            return b"".join(parts)

    def _go_to(self, mark: int) -> None:
        self._unpacked, self._place, state = self._marks[mark]
        self._state = state.copy()
        self._input, self._left = b"", b""

    def _unpack(self) -> bool:
        """Unpacks the next bytes into `_left`; false at the end of the file."""
        if self._state.eof:
            # One gzip may follow another in the same file.
            self._place -= len(self._state.unused_data)
            self._state, self._input = zlib.decompressobj(wbits=31), b""
        if not self._input:
            if self._place >= self._marks[-1][1] + self._apart:
                self._marks.append((self._unpacked, self._place, self._state.copy()))
            self._file.seek(self._place)
            self._input = self._file.read(self._BLOCK)
            self._place += len(self._input)
            if not self._input:
                return False
        self._left = self._state.decompress(self._input, 4 * self._BLOCK)
        self._input = self._state.unconsumed_tail
        self._unpacked += len(self._left)
        return True


@lru_cache(maxsize=8)
def _open_stream(archive: Path, modified: int) -> _Stream:
    return _Stream(archive)
