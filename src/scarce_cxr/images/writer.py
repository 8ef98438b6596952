"""The writing half of the store: shard by shard, each whole or not there, the same bytes however often interrupted."""

import hashlib
import io
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import histogram
from scarce_cxr.images.store import FORMAT, VERSION, Store, boxes_schema, checksum_of, read_description, table_schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Plan:
    """What a store will hold, settled before its first shard.

    Attributes:
        settings: at least size (pixels), fit, bits (8 or 16), shard_mib (MiB) and source.
        findings: names of the finding columns, in order.
        origin: what the store is made from, as keyed digests that name no file.
    """

    settings: Mapping[str, Any]
    findings: Sequence[str] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.settings["bits"] == 8 else np.uint16)

    @property
    def films_per_shard(self) -> int:
        """How many films fit into `shard_mib`, at least one."""
        return max(1, int(self.settings["shard_mib"] * 2**20) // (self.settings["size"] ** 2 * self.dtype.itemsize))


class StoreWriter:
    """Writes a store shard by shard; what is not finished waits in `parts/`, and a later writer continues there.

    Args:
        path: the store's folder; made if missing.
        plan: what it will hold.

    Raises:
        ScarceError: the folder holds something else, or a store begun with another plan.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = Path(path), plan
        self._parts = self.path / "parts"
        begun = read_plan(self.path)
        if begun is not None:
            refuse_other_plan(self.path, begun, plan)
        self._parts.mkdir(parents=True, exist_ok=True)
        if begun is None:
            self._write_json(self._parts / "plan.json", asdict(plan))

    def has(self, shard: int) -> bool:
        """Whether shard number `shard` is whole on the disk."""
        return self._part(shard, "json").exists()

    def write_shard(
        self,
        shard: int,
        films: np.ndarray,
        rows: Sequence[Mapping[str, Any]],
        boxes: Sequence[Mapping[str, Any]] = (),
        skipped: Mapping[str, str] | None = None,
    ) -> None:
        """Writes one shard; it counts as written only when pixels, rows and statistics all are on the disk.

        Args:
            shard: its number, from 0.
            films: (n, H, W) in the plan's type; n may be 0.
            rows: n dictionaries by the table's columns; what is left out is null.
            boxes: dictionaries by the columns of `Store.boxes`.
            skipped: reasons by position in the sorted list of files, kept until the store is finished.
        """
        shape = (len(rows), self.plan.settings["size"], self.plan.settings["size"])
        if films.shape != shape:
            raise ValueError(f"films must be {shape}, got {films.shape}")
        with self.open_shard(shard) as opened:
            for pixels, row in zip(films, rows, strict=True):
                opened.add(pixels, row)
            opened.boxes.extend(boxes)
            opened.skipped.update(skipped or {})

    @contextmanager
    def open_shard(self, shard: int) -> Iterator["Shard"]:
        """A shard to add films to as they come; it counts as written once the block ends without an error.

        Args:
            shard: its number, from 0.
        """
        name = f"pixels-{shard:05d}.npy"
        with written_whole(self.path / name, self._parts) as temporary:
            with temporary.open("wb") as file:
                opened = Shard(file, self.plan)
                yield opened
                opened.finish()
            checksum = checksum_of(temporary)
        self._write_parquet(self._part(shard, "table.parquet"), opened.rows, table_schema(self.plan.findings))
        self._write_parquet(self._part(shard, "boxes.parquet"), opened.boxes, boxes_schema())
        total, squares = opened.sums()
        described = {"file": name, "films": len(opened.rows), "sha256": checksum}
        part = {"shard": described, "sum": total, "sum_of_squares": squares, "skipped": opened.skipped}
        self._write_json(self._part(shard, "json"), part)

    def skipped(self) -> dict[int, str]:
        """Reasons by position in the sorted list of files, over all shards written so far."""
        reasons = (part["skipped"] for part in self._read_parts())
        return {int(position): reason for shard in reasons for position, reason in shard.items()}

    def image_ids(self) -> list[str]:
        """The images stored so far, in pixel order."""
        return self._join("table").column("image_id").to_pylist()

    def discard(self) -> None:
        """Removes all that was written, and the folder unless it is a link."""
        for pixels in self.path.glob("pixels-*.npy"):
            pixels.unlink()
        shutil.rmtree(self._parts)
        if not self.path.is_symlink():
            self.path.rmdir()

    def finish(self) -> Store:
        """Joins the parts into table.parquet, boxes.parquet and store.json, and removes them."""
        parts = self._read_parts()
        films = sum(part["shard"]["films"] for part in parts)
        if films == 0:
            raise ScarceError(
                "at least one film in the store", "none", f"see the skipped files' reasons, then delete {self.path}"
            )
        table, boxes = self._join("table"), self._join("boxes")
        written = {"table.parquet": table} | ({"boxes.parquet": boxes} if boxes.num_rows else {})
        for name, content in written.items():
            self._write_arrow(self.path / name, content)
        mean, std = _moments(parts, films * self.plan.settings["size"] ** 2, np.iinfo(self.plan.dtype).max)
        shards = [part["shard"] for part in parts]
        described = {
            "format": FORMAT,
            "version": VERSION,
            **asdict(self.plan),
            "dtype": self.plan.dtype.name,
            "films": films,
            "mean": mean,
            "std": std,
            "shards": shards,
            "tables": {name: checksum_of(self.path / name) for name in written},
            "fingerprint": _fingerprint(self.plan, shards, written.values()),
        }
        self._write_json(self.path / "store.json", described)
        shutil.rmtree(self._parts)
        return Store.open(self.path)

    def _part(self, shard: int, suffix: str) -> Path:
        return self._parts / f"{shard:05d}.{suffix}"

    def _read_parts(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text("utf-8")) for path in sorted(self._parts.glob("[0-9]*.json"))]

    def _join(self, name: str) -> "pa.Table":
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pa.concat_tables(pq.read_table(path) for path in sorted(self._parts.glob(f"[0-9]*.{name}.parquet")))

    def _write_parquet(self, path: Path, rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> None:
        import pyarrow as pa

        self._write_arrow(path, pa.Table.from_pylist([dict(row) for row in rows], schema=schema))

    def _write_arrow(self, path: Path, table: "pa.Table") -> None:
        import pyarrow.parquet as pq

        with written_whole(path, self._parts) as temporary:
            pq.write_table(table.combine_chunks(), temporary)

    def _write_json(self, path: Path, content: Any) -> None:
        with written_whole(path, self._parts) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")


class Shard:
    """Films that go to the disk as they come, so that never more than one of them is in memory.

    Attributes:
        rows: dictionaries by the table's columns, one a film.
        boxes: dictionaries by the columns of `Store.boxes`; to be extended by the caller.
        skipped: reasons by position in the sorted list of files; to be filled by the caller.
    """

    def __init__(self, file: BinaryIO, plan: Plan) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.boxes: list[Mapping[str, Any]] = []
        self.skipped: dict[str, str] = {}
        self._file, self._plan = file, plan
        self._counts = np.zeros(np.iinfo(plan.dtype).max + 1, np.int64)
        self._write_header()

    def add(self, pixels: np.ndarray, row: Mapping[str, Any]) -> None:
        """Appends a film.

        Args:
            pixels: (H, W) in the plan's type.
            row: a dictionary by the table's columns; what is left out is null.
        """
        side = self._plan.settings["size"]
        if pixels.shape != (side, side) or pixels.dtype != self._plan.dtype:
            raise ValueError(f"pixels must be {(side, side)} {self._plan.dtype}, got {pixels.shape} {pixels.dtype}")
        pixels = np.ascontiguousarray(pixels)
        self._file.write(pixels)
        self._counts += histogram(pixels)
        self.rows.append(row)

    def sums(self) -> tuple[int, int]:
        """Sum and sum of squares over all pixels, exact: through a histogram and Python's unbounded integers."""
        used = [(level, int(self._counts[level])) for level in np.flatnonzero(self._counts).tolist()]
        return sum(level * n for level, n in used), sum(level * level * n for level, n in used)

    def finish(self) -> None:
        """Writes how many films there are to where it belongs."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in it for the number of films to grow, so that its length stays the same.
        side = self._plan.settings["size"]
        shape = (len(self.rows), side, side)
        described = {"descr": np.lib.format.dtype_to_descr(self._plan.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, described)


def read_plan(path: Path) -> Plan | None:
    """The plan of a finished or half-written store; None where `path` does not exist or holds nothing yet.

    Raises:
        ScarceError: the folder holds something that is not a store.
    """
    if (path / "store.json").exists():
        content = read_description(path)
    elif (path / "parts" / "plan.json").exists():
        content = json.loads((path / "parts" / "plan.json").read_text("utf-8"))
    elif not path.exists() or (path.is_dir() and all(entry.name == "parts" for entry in path.iterdir())):
        return None
    else:
        raise ScarceError("a new or empty folder for the store", f"{path} with something else in it", "choose another")
    return Plan(content["settings"], content["findings"], content["origin"])


def refuse_other_plan(path: Path, begun: Plan, wanted: Plan) -> None:
    """Compares the plan that a store was begun with to the one wanted now.

    Raises:
        ScarceError: they differ; the settings that do are named with both values.
    """

    def values(plan: Plan) -> dict[str, Any]:
        return json.loads(json.dumps({**plan.settings, "findings": list(plan.findings), **plan.origin}))

    old, new = values(begun), values(wanted)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    if names:
        raise ScarceError(
            f"the settings and films that {path} was begun with: " + ", ".join(f"{n} = {old.get(n)}" for n in names),
            ", ".join(f"{name} = {new.get(name)}" for name in names),
            f"choose another name for the new store, or delete {path}",
        )


def _moments(parts: Iterable[Mapping[str, Any]], count: int, top: int) -> tuple[float, float]:
    """Mean and standard deviation in [0, 1] of `count` pixels with values from 0 to `top`."""
    parts = list(parts)
    total, squares = sum(part["sum"] for part in parts), sum(part["sum_of_squares"] for part in parts)
    return total / (count * top), math.sqrt(count * squares - total * total) / (count * top)


def _fingerprint(plan: Plan, shards: Sequence[Mapping[str, Any]], tables: Iterable["pa.Table"]) -> str:
    # From the tables' content, not their bytes: those change with the version of the Parquet writer.
    from pyarrow import csv

    digest = hashlib.sha256(json.dumps([VERSION, asdict(plan), shards], sort_keys=True).encode())
    for table in tables:
        buffer = io.BytesIO()
        csv.write_csv(table, buffer)
        digest.update(hashlib.sha256(buffer.getvalue()).digest())
    return digest.hexdigest()
