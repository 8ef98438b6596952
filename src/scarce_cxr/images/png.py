"""PNG files made quick to decode: inflating, half of the work, is left to a faster library than Pillow's."""

import io
import struct
import zlib
from typing import BinaryIO

try:
    from isal import isal_zlib
except ImportError:
    # There are processors that it is not made for.
    isal_zlib = None

# Signature, length and name of the first chunk, and its content: width, height, bits, colour type, three methods.
_BEGINNING = struct.Struct(">8sI4sIIBBBBB")
_CHUNK = struct.Struct(">I4s")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Larger ones Pillow inflates little by little, in less memory.
_LARGEST = 2**26


def inflated(file: BinaryIO) -> BinaryIO:
    """A PNG of the same content whose pixels are stored as they are, so that Pillow has only to undo their filters.

    Args:
        file: at its beginning; left there.

    Returns:
        A file in memory. Or `file` itself, if that is no PNG, is damaged, interlaced, animated or larger than 64 MiB,
        or if ISA-L is not installed: all that is out of the ordinary stays as it is, for Pillow to judge.
    """
    rewritten = None if isal_zlib is None else _rewrite(file)
    file.seek(0)
    return file if rewritten is None else io.BytesIO(rewritten)


def _rewrite(file: BinaryIO) -> bytes | None:
    head = file.read(_BEGINNING.size)
    if len(head) < _BEGINNING.size or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    _, _, name, width, height, bits, colour, _, _, interlaced = _BEGINNING.unpack(head)
    # Every row begins with a byte that names its filter.
    size = height * (1 + (width * bits * _CHANNELS.get(colour, 0) + 7) // 8)
    if name != b"IHDR" or interlaced or not 0 < size <= _LARGEST:
        return None
    # What is deflated is never much larger than what was there before.
    if file.seek(0, io.SEEK_END) > 2 * _LARGEST:
        return None
    file.seek(0)
    content = file.read()
    found = _find_pixels(content)
    if found is None:
        return None
    begin, end, deflated = found
    try:
        inflater = isal_zlib.decompressobj()
        pixels = inflater.decompress(deflated, size + 1)
    except isal_zlib.error:
        return None
    if len(pixels) != size or not inflater.eof or inflater.unused_data:
        return None
    stored = b"IDAT" + zlib.compress(pixels, 0)
    chunk = struct.pack(">I", len(stored) - 4), stored, struct.pack(">I", isal_zlib.crc32(stored))
    return b"".join((content[:begin], *chunk, content[end:]))


def _find_pixels(content: bytes) -> tuple[int, int, bytes] | None:
    """Where the IDAT chunks begin and end, and what they hold; None if there are none, or several films."""
    place, begin, parts = 8, 0, []
    while place + _CHUNK.size <= len(content):
        length, name = _CHUNK.unpack_from(content, place)
        if name == b"acTL":
            return None
        if name == b"IDAT":
            begin = begin or place
            parts.append(content[place + 8 : place + 8 + length])
        elif parts:
            break
        place += length + 12
    return (begin, place, b"".join(parts)) if parts else None
