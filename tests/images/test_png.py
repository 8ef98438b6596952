"""A PNG that was rewritten is the same picture to Pillow, and whatever is out of the ordinary is left as it was."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.images import png
from scarce_cxr.images.decode import Skipped, decode
from scarce_cxr.images.png import inflated

pytestmark = pytest.mark.skipif(png.isal_zlib is None, reason="ISA-L is not made for this processor")

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (37, 50), dtype=np.uint8)


def encoded(picture: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def pixels_of(content: bytes) -> bytes:
    """What lies in the IDAT chunks together."""
    place, parts = 8, []
    while place < len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        if name == b"IDAT":
            assert struct.unpack_from(">I", content, place + 8 + length)[0] == zlib.crc32(
                content[place + 4 : place + 8 + length]
            )
            parts.append(content[place + 8 : place + 8 + length])
        place += length + 12
    return b"".join(parts)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_picture_of_any_mode_keeps_its_pixels_and_what_was_noted_beside_them(mode: str):
    if mode == "I;16":
        picture = Image.fromarray(GREY.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(np.stack([GREY, GREY[::-1], 255 - GREY], 2)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture, exif=exif, dpi=(72, 72))
    file = inflated(io.BytesIO(content))
    rewritten = file.read()
    file.seek(0)
    # Stored, not deflated: zlib's own two bytes and then a block of the kind 00.
    assert pixels_of(rewritten)[2] & 0b110 == 0
    assert zlib.decompress(pixels_of(rewritten)) == zlib.decompress(pixels_of(content))
    before, after = Image.open(io.BytesIO(content)), Image.open(file)
    assert (after.mode, after.size, after.info["dpi"]) == (before.mode, before.size, before.info["dpi"])
    assert after.tobytes() == before.tobytes()
    assert after.getexif()[0x0112] == 6


def test_pixels_that_lie_in_many_chunks_are_joined():
    content = encoded(Image.fromarray(GREY))
    begin = content.index(b"IDAT") - 4
    end = begin + 12 + struct.unpack_from(">I", content, begin)[0]
    deflated = content[begin + 8 : end - 4]
    pieces = [chunk(b"IDAT", deflated[first : first + 100]) for first in range(0, len(deflated), 100)]
    assert len(pieces) > 5
    file = inflated(io.BytesIO(content[:begin] + b"".join(pieces) + content[end:]))
    assert file.read().count(b"IDAT") == 1
    file.seek(0)
    assert np.array_equal(np.asarray(Image.open(file)), GREY)


def animated() -> bytes:
    return encoded(Image.fromarray(GREY), save_all=True, append_images=[Image.fromarray(255 - GREY)])


def with_interlacing() -> bytes:
    content = bytearray(encoded(Image.fromarray(GREY)))
    content[28] = 1
    return bytes(content)


def longer() -> bytes:
    """More pixels than the header says."""
    content = bytearray(encoded(Image.fromarray(GREY)))
    content[23] -= 1
    return bytes(content)


def with_one_bit_changed() -> bytes:
    """So that pixels can be inflated, and their checksum tells that they are not the ones that were written."""
    content = bytearray(encoded(Image.fromarray(GREY), compress_level=0))
    content[len(content) // 2] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        encoded(Image.fromarray(GREY))[:-200],
        encoded(Image.fromarray(GREY))[:60],
        animated(),
        with_interlacing(),
        longer(),
        with_one_bit_changed(),
        b"GIF89a" + bytes(100),
    ],
    ids=["empty", "signature", "cut", "cut early", "animated", "interlaced", "longer", "bit", "gif"],
)
def test_what_is_out_of_the_ordinary_is_left_for_pillow_to_judge(content: bytes):
    file = io.BytesIO(content)
    assert inflated(file) is file
    assert file.tell() == 0


def test_a_bomb_is_not_inflated_beyond_what_its_header_says(monkeypatch: pytest.MonkeyPatch):
    content = encoded(Image.fromarray(np.zeros((2000, 2000), np.uint8)))
    bomb = bytearray(content)
    bomb[16:24] = struct.pack(">II", 10, 10)
    given = []
    real = png.isal_zlib.decompressobj

    class Counted:
        def __init__(self) -> None:
            self._inflater = real()

        def decompress(self, deflated: bytes, most: int) -> bytes:
            pixels = self._inflater.decompress(deflated, most)
            given.append(len(pixels))
            return pixels

        def __getattr__(self, name: str):
            return getattr(self._inflater, name)

    monkeypatch.setattr(png.isal_zlib, "decompressobj", Counted)
    file = io.BytesIO(bytes(bomb))
    assert inflated(file) is file
    assert given == [10 * 11 + 1]


def test_films_too_large_to_hold_twice_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch):
    content = encoded(Image.fromarray(GREY))
    monkeypatch.setattr(png, "_LARGEST", 37 * 51)
    file = io.BytesIO(content)
    assert inflated(file) is not file
    monkeypatch.setattr(png, "_LARGEST", 37 * 51 - 1)
    assert inflated(file) is file


def test_damaged_films_end_as_they_do_without_the_rewriting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = encoded(Image.fromarray(GREY))

    def outcome(path: Path) -> str | bytes:
        try:
            return decode(path).tobytes()
        except Skipped as skipped:
            return skipped.reason

    ends = {"read": 0, "skipped": 0}
    for number in range(300):
        damaged = bytearray(content)
        # Among the pixels, or behind them, where Pillow does not mind.
        damaged[RANDOM.integers(0, len(content)) if number % 2 else -RANDOM.integers(1, 16)] ^= 1 << number % 8
        (path := tmp_path / f"{number}.png").write_bytes(bytes(damaged[: RANDOM.integers(50, 4 * len(content))]))
        with monkeypatch.context() as without:
            without.setattr(png, "isal_zlib", None)
            expected = outcome(path)
        assert outcome(path) == expected
        ends["read" if isinstance(expected, bytes) else "skipped"] += 1
    assert min(ends.values()) > 20
