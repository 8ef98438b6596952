"""The store on disk: pixels in memory-mapped shards, one table, statistics and checksums."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scarce_cxr.errors import ScarceError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMAT = "scarce-store"
VERSION = 1

# The table's columns before its findings, with their Arrow types, in the order in which they stand.
COLUMNS = {
    "image_id": "string",
    "source": "string",
    "patient_id": "string",
    "study_id": "string",
    "view": "string",
    "split": "string",
    "age": "float64",
    "sex": "string",
    "height": "int32",
    "width": "int32",
    "pixel_spacing_mm": "float64",
    "crop_top": "int32",
    "crop_left": "int32",
    "crop_height": "int32",
    "crop_width": "int32",
    "sha256": "string",
}
BOX_COLUMNS = {
    "image_id": "string",
    "finding": "string",
    "left": "float64",
    "top": "float64",
    "width": "float64",
    "height": "float64",
}


class Store:
    """A finished store, open for reading. Pickled, it ships its path alone; threads may read at once.

    Attributes:
        path: its folder.
        size: side of the square pixels, H = W.
        dtype: uint8, or uint16 on request.
        settings: what it was prepared with.
        findings: names of the table's finding columns.
        mean, std: of all pixels, in [0, 1].
        fingerprint: hex digits that name this content: settings, pixels and table.
        shards: one dictionary a shard: file, films, sha256.
    """

    def __init__(self, path: Path | str) -> None:
        """Reads store.json; `Store.open` is the same under a name that says so."""
        self.path = Path(path)
        described = read_description(self.path)
        self.settings: dict[str, Any] = described["settings"]
        self.size: int = described["settings"]["size"]
        self.dtype = np.dtype(described["dtype"])
        self.findings: list[str] = described["findings"]
        self.mean: float = described["mean"]
        self.std: float = described["std"]
        self.fingerprint: str = described["fingerprint"]
        self.shards: list[dict[str, Any]] = described["shards"]
        self._checksums: dict[str, str] = described["tables"]
        self._ends = np.cumsum([shard["films"] for shard in self.shards])
        self._maps: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Opens the store in folder `path`, in milliseconds at any size.

        Raises:
            ScarceError: the folder is missing, is not a store, is unfinished, or has an unknown format version.
        """
        return cls(path)

    def __reduce__(self) -> tuple:
        # A pickled memory map would carry every pixel to each worker: open it again there by its path.
        return type(self), (self.path.absolute(),)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self)} films of {self.size} x {self.size})"

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One row an image, in pixel order; findings are 1, 0, -1 (uncertain) or null (not mentioned)."""
        return _read_parquet(self.path / "table.parquet")

    @cached_property
    def boxes(self) -> "pd.DataFrame":
        """Findings' boxes (image_id, finding, left, top, width, height) in the store's pixels; may have no rows."""
        if "boxes.parquet" not in self._checksums:
            return _to_pandas(boxes_schema().empty_table())
        return _read_parquet(self.path / "boxes.parquet")

    def pixels(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Copies films out of the memory maps.

        Args:
            indices: (n,) rows of the table, in any order, repeats allowed.

        Returns:
            (n, H, W) in the stored type, in the order asked for.

        Raises:
            IndexError: an index is negative or beyond the last film.
            TypeError: the indices are not whole numbers.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise TypeError(f"indices must be whole numbers of shape (n,), got {indices.dtype} {indices.shape}")
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"indices must lie in [0, {len(self)}), got {indices.min()} to {indices.max()}")
        films = np.empty((len(indices), self.size, self.size), self.dtype)
        for position, index in enumerate(indices.tolist()):
            shard = int(np.searchsorted(self._ends, index, side="right"))
            films[position] = self._map(shard)[index - int(self._ends[shard])]
        return films

    def verify(self) -> None:
        """Reads every file once and compares its checksum; takes as long as the disk needs.

        Raises:
            ScarceError: a shard or table is missing or damaged; all such files are named.
        """
        expected = {shard["file"]: shard["sha256"] for shard in self.shards} | self._checksums
        damaged = [name for name, checksum in expected.items() if _checksum_or_none(self.path / name) != checksum]
        if damaged:
            raise ScarceError(
                f"files in {self.path} with the checksums of store.json",
                f"missing or damaged {', '.join(damaged)}",
                "copy the store again, or delete it and run scarce prepare",
            )

    def _map(self, shard: int) -> np.ndarray:
        # Films are counted from the shard's end: with `index - end` negative, numpy's own rule finds the row.
        films = self._maps.get(shard)
        if films is None:
            path = self.path / self.shards[shard]["file"]
            try:
                films = np.load(path, mmap_mode="r").view(np.ndarray)
            except (OSError, ValueError) as error:
                raise ScarceError(f"a whole shard {path}", str(error), "copy the store again, or prepare it") from None
            if films.shape != (self.shards[shard]["films"], self.size, self.size) or films.dtype != self.dtype:
                raise ScarceError(
                    f"{self.shards[shard]['films']} films of {self.size} x {self.size} {self.dtype} in {path}",
                    f"{films.dtype} {films.shape}",
                    "copy the store again, or prepare it",
                )
            self._maps[shard] = films
        return films


def read_description(path: Path) -> dict[str, Any]:
    """What store.json says.

    Raises:
        ScarceError: as for `Store.open`.
    """
    described_in = path / "store.json"
    if not described_in.exists():
        if not path.is_dir():
            raise ScarceError("a store's folder", f"no folder {path}", "check the path, or make it with scarce prepare")
        if (path / "parts").is_dir():
            raise ScarceError("a finished store", f"a half-written one in {path}", "run scarce prepare again")
        raise ScarceError("a store's folder", f"{path} without a store.json", "make a store with scarce prepare")
    try:
        described = json.loads(described_in.read_text("utf-8"))
        form, version = described["format"], described["version"]
    except (ValueError, KeyError, TypeError, OSError):
        form, version = None, None
    if form != FORMAT:
        raise ScarceError("the store.json of a store", f"something else in {described_in}", "prepare the store again")
    if version != VERSION:
        raise ScarceError(
            f"format version {VERSION}",
            f"version {version} in {described_in}",
            "use the scarce that wrote it, or prepare",
        )
    return described


def checksum_of(path: Path) -> str:
    """SHA-256 of a file's bytes as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum_or_none(path: Path) -> str | None:
    return checksum_of(path) if path.exists() else None


def table_schema(findings: Sequence[str]) -> "pa.Schema":
    """Types of table.parquet with these finding columns."""
    import pyarrow as pa

    return pa.schema([*COLUMNS.items(), *((finding, "int8") for finding in findings)])


def boxes_schema() -> "pa.Schema":
    """Types of boxes.parquet."""
    import pyarrow as pa

    return pa.schema(list(BOX_COLUMNS.items()))


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pyarrow.parquet as pq

    return _to_pandas(pq.read_table(path))


def _to_pandas(table: "pa.Table") -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    return table.to_pandas(types_mapper={pa.int8(): pd.Int8Dtype()}.get)
