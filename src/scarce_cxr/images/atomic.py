"""Files that are either whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, work: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path to write to, which takes the name `path` once the block ends without an error.

    Args:
        path: the final name; what it held before stays untouched until the new file is whole and on the disk.
        work: the folder of the temporary file, on the same disk as `path`; by default the folder of `path`.
    """
    # The process's number keeps two preparations that run by mistake at once out of each other's half-written files.
    temporary = (work or path.parent) / f".{path.name}.{os.getpid()}.part"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
