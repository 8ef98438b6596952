"""Members are read byte by byte as they were packed, wherever they lie; hostile and damaged archives stay harmless."""

import io
import os
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images import archives
from scarce_cxr.images.archives import Member, list_members
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import FolderSource, list_files


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """40 files of 0 to 300 kB, half noise, half zeros, in folders."""
    generator = np.random.default_rng(0)
    sizes = [0, 1, *generator.integers(2, 300_000, 38).tolist()]
    return {
        f"images/{number % 3}/{number:03d}.png": generator.bytes(size // 2) + bytes(size - size // 2)
        for number, size in enumerate(sizes)
    }


def tar(path: Path, files: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


MAKE = {
    "zip": lambda folder, files: zipped(folder / "a.zip", files),
    "stored": lambda folder, files: zipped(folder / "a.ZIP", files, zipfile.ZIP_STORED),
    "tar": lambda folder, files: tar(folder / "a.tar", files, "w"),
    "tar.gz": lambda folder, files: tar(folder / "a.tar.gz", files, "w:gz"),
    "tgz": lambda folder, files: tar(folder / "a.tgz", files, "w:gz"),
}


@pytest.mark.parametrize("kind", MAKE)
def test_members_are_what_was_packed_in_any_order(tmp_path: Path, files: dict[str, bytes], kind: str):
    contents = list_members(MAKE[kind](tmp_path, files))
    assert contents.refused == []
    assert list(contents.members) == list(files)
    order = list(files)
    random.Random(1).shuffle(order)
    for name in [*files, *order]:
        member = contents.members[name]
        assert (member.name, member.stat().st_size) == (Path(name).name, len(files[name]))
        assert member.read_bytes() == files[name]
    assert pickle.loads(pickle.dumps(contents.members[order[0]])).read_bytes() == files[order[0]]


def test_a_gzip_in_two_parts_is_one(tmp_path: Path, files: dict[str, bytes]):
    whole = tar(tmp_path / "whole.tar", files, "w").read_bytes()
    compress = [zlib.compressobj(wbits=31) for _ in range(2)]
    halves = [whole[:600_000], whole[600_000:]]
    packed = b"".join(one.compress(half) + one.flush() for one, half in zip(compress, halves, strict=True))
    (tmp_path / "a.tar.gz").write_bytes(packed)
    members = list_members(tmp_path / "a.tar.gz").members
    for name in reversed(files):
        assert members[name].read_bytes() == files[name]


def test_marks_spare_most_of_a_way_back(tmp_path: Path):
    noise = np.random.default_rng(0).bytes(16 * 2**20)
    (tmp_path / "a.tar.gz").write_bytes(b"")
    tar(tmp_path / "a.tar.gz", {"first": noise, "last": noise[:9]}, "w:gz")
    stream = archives._Stream(tmp_path / "a.tar.gz")
    assert stream.read(512 + len(noise) - 5, 5) == noise[-5:]
    fed = []
    read = stream._file.read
    stream._file = type("Counting", (), {"seek": stream._file.seek, "read": lambda self, n: fed.append(n) or read(n)})()
    assert stream.read(512 + 8 * 2**20, 5) == noise[8 * 2**20 : 8 * 2**20 + 5]
    # A mark lies at most 1 MiB (and what one bite takes) before; from the front it would be 8.
    assert sum(fed) <= 2 * 2**20


def test_text_and_bytes_open_as_of_a_path(tmp_path: Path):
    text = "Größe;1\r\nb;2\r\n"
    (tmp_path / "table.csv").write_bytes(text.encode("utf-8-sig"))
    member = list_members(zipped(tmp_path / "a.zip", {"table.csv": text.encode("utf-8-sig")})).members["table.csv"]
    for path in (tmp_path / "table.csv", member):
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert file.read() == text
        with path.open("rb") as file:
            file.seek(3)
            assert file.read(2) == b"Gr"
    assert (member.suffix, member.stem, member.is_symlink()) == (".csv", "table", False)


UNSAFE = ("/etc/a.png", "../a.png", "b/../../a.png", "C:/a.png", "..\\a.png")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, kind: str):
    contents = list_members(MAKE[kind](tmp_path, {**dict.fromkeys(UNSAFE, b"x"), "b/good.png": b"y"}))
    assert list(contents.members) == ["b/good.png"]
    assert len(contents.refused) == len(UNSAFE)
    assert {reason for _, reason in contents.refused} == {"unsafe: a path that leads out of the archive"}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_links_and_devices_of_a_tar_are_refused(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("good.png"))
    contents = list_members(path)
    assert list(contents.members) == ["good.png"]
    assert [reason for _, reason in contents.refused] == ["unsafe: a link or device in an archive"] * 5


def test_links_secrets_and_strange_methods_of_a_zip_are_refused(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bzip2.png", b"x", zipfile.ZIP_BZIP2)
        archive.writestr("secret.png", b"x")
        archive.writestr("good.png", b"x")
        archive.writestr("__MACOSX/._good.png", b"x")
    raw = bytearray(path.read_bytes())
    # The flag of an encrypted member, in the table of contents.
    raw[raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"secret.png")) + 8] |= 1
    path.write_bytes(raw)
    files = list_files(tmp_path)
    assert list(files) == ["a.zip/good.png"]
    assert dict(files.refused) == {
        "a.zip/link.png": "unsafe: a link or device in an archive",
        "a.zip/bzip2.png": "compressed in a way that is not read (zip method 12): unpack it",
        "a.zip/secret.png": "encrypted",
    }


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_of_two_members_with_one_name_one_is_read(tmp_path: Path, kind: str):
    class Twice(dict):
        def items(self):
            return [("a.png", b"first"), ("a.png", b"other")]

    contents = list_members(MAKE[kind](tmp_path, Twice()))
    assert contents.refused == [("a.png", "another member of the archive has its name")]
    assert contents.members["a.png"].read_bytes() in (b"first", b"other")


def test_what_declares_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
    contents = list_members(zipped(tmp_path / "a.zip", {"large.png": bytes(1001), "good.png": bytes(1000)}))
    assert list(contents.members) == ["good.png"]
    assert contents.refused == [("large.png", "too large: 1,001 bytes unpacked")]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.setattr(archives, "_SMALL", 100_000)
    path = MAKE[kind](tmp_path, {f"{number}.png": bytes(10**6) for number in range(40)})
    tracemalloc.start()
    contents = list_members(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not contents.members
    assert contents.refused == [("", "an archive that unpacks to more than 100 times its size")]
    assert peak < 10 * 2**20


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"bomb.png": bytes(50 * 2**20)})
    raw = bytearray(path.read_bytes())
    # Both headers say 100 bytes instead of 50 MiB.
    for signature, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = raw.index(signature) + place
        raw[start : start + 4] = struct.pack("<I", 100)
    path.write_bytes(raw)
    member = list_members(path).members["bomb.png"]
    tracemalloc.start()
    with pytest.raises(OSError, match="damaged in its archive"):
        member.read_bytes()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_damaged_archives_do_no_harm(tmp_path: Path, files: dict[str, bytes], kind: str):
    few = dict(list(files.items())[:4]) | {"d.png": b"x" * 700}
    raw = MAKE[kind](tmp_path, few).read_bytes()
    chance = random.Random(kind)
    read = broken = 0
    for number in range(120):
        damaged = bytearray(raw)
        if number % 3:
            for _ in range(8):
                # Headers and the table of contents are where damage hurts.
                place = chance.choice([chance.randrange(600), chance.randrange(len(raw)), -chance.randrange(1, 700)])
                damaged[place] ^= 1 << chance.randrange(8)
        else:
            damaged = damaged[: chance.randrange(len(raw))]
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(damaged)
        for member in list_members(path).members.values():
            try:
                member.read_bytes()
                read += 1
            except OSError:
                broken += 1
        path.unlink()
    assert read > 0
    assert broken > 0


def test_a_damaged_member_costs_one_film_and_a_cut_archive_what_is_missing(tmp_path: Path, pictures: dict):
    folder = tmp_path / "films"
    folder.mkdir()
    damaged = bytearray(zipped(folder / "a.zip", pictures, zipfile.ZIP_STORED).read_bytes())
    damaged[damaged.index(pictures["2.png"]) + 200] ^= 1
    (folder / "a.zip").write_bytes(damaged)
    cut = tar(folder / "b.tar.gz", pictures, "w:gz").read_bytes()
    (folder / "b.tar.gz").write_bytes(cut[: len(cut) * 5 // 8])
    (folder / "c.zip").write_bytes(b"no zip at all")
    prepare(FolderSource(folder), tmp_path / "store", size=16, jobs=1)
    skipped = dict(
        line.split(",", 1) for line in (tmp_path / "store.private" / "skipped.csv").read_text().splitlines()[1:]
    )
    assert skipped == {
        "a.zip/2.png": "cannot be read: damaged in its archive (BadZipFile)",
        "b.tar.gz": "a damaged archive (EOFError)",
        "b.tar.gz/2.png": "cannot be read: damaged in its archive (shorter or longer than declared)",
        "c.zip": "a damaged archive (BadZipFile)",
    }
    assert set(paths(tmp_path / "store.private")) == {
        *(f"a.zip/{number}.png" for number in (0, 1, 3)),
        *(f"b.tar.gz/{number}.png" for number in (0, 1)),
    }


@pytest.mark.slow
def test_processes_read_the_members_that_another_one_listed(tmp_path: Path, pictures: dict):
    stores = []
    for number, make in enumerate((MAKE["zip"], MAKE["tar.gz"], MAKE["tar"])):
        (tmp_path / str(number)).mkdir()
        make(tmp_path / str(number), pictures)
        stores.append(prepare(FolderSource(tmp_path / str(number)), tmp_path / f"store{number}", size=16, jobs=2).store)
    assert len({tuple(sorted(store.table["sha256"])) for store in stores}) == 1
    assert [len(store) for store in stores] == [4, 4, 4]


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """Four PNG films of 40 kB."""
    films = {}
    for number in range(4):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (200, 200), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "png")
        films[f"{number}.png"] = buffer.getvalue()
    return films


def paths(private: Path) -> list[str]:
    import pandas as pd

    return pd.read_parquet(private / "names.parquet")["path"].tolist()


def test_an_archive_that_vanished_or_changed_is_noticed(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"a.png": b"first"})
    member = list_members(path).members["a.png"]
    assert member.read_bytes() == b"first"
    zipped(path, {"a.png": b"other"})
    os.utime(path, ns=(1, 1))
    assert list_members(path).members["a.png"].read_bytes() == b"other"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        member.read_bytes()
    assert isinstance(member, Member)
