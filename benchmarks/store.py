"""What it costs to open a store of NIH ChestX-ray14's size, to draw a batch from it, and to read its table.

    uv run python benchmarks/store.py [--films 112120] [--size 256]

The store is sparse: its shards have their full length and take no room on the disk, so that what is measured is the
opening and not the disk. Each figure is of a fresh process, which has imported the package; memory is its peak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from scarce_cxr.images.store import FORMAT, VERSION, table_schema

FINDINGS = ["Mass", "Nodule", "Pneumonia", "No Finding"]
SHARD_BYTES = 256 * 2**20
# What a fresh process is told to do with the store's folder.
MEASURE = """
import json, sys, time
from pathlib import Path
import numpy as np
from scarce_cxr.images.store import Store

def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

said = {}
for what in sys.argv[2:]:
    read, clock, processor = bytes_read(), time.perf_counter(), time.process_time()
    if what == "open":
        store = Store.open(sys.argv[1])
    elif what == "batch":
        store.pixels(np.random.default_rng(0).integers(0, len(store), 256))
    elif what == "table":
        store.table
    said[what] = {"seconds": time.perf_counter() - clock, "processor": time.process_time() - processor,
                  "bytes": bytes_read() - read, "mb": peak_mb()}
print(json.dumps(said))
"""


def write_sparse_store(path: Path, films: int = 112_120, size: int = 256) -> Path:
    """Writes a store of black films whose shards take no room on the disk.

    Args:
        path: the store's folder.
        films: how many.
        size: side of the square pixels.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir(parents=True)
    length = SHARD_BYTES // size**2
    shards = []
    for shard, first in enumerate(range(0, films, length)):
        count = min(length, films - first)
        name = f"pixels-{shard:05d}.npy"
        with (path / name).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + count * size**2)
        shards.append({"file": name, "films": count, "sha256": "0" * 64})
    numbers = np.arange(films)
    schema = table_schema(FINDINGS)
    texts = {
        "image_id": [f"{number // 4:08d}_{number % 4:03d}.png" for number in numbers.tolist()],
        "source": ["nih"] * films,
        "patient_id": [f"{number // 4:016x}" for number in numbers.tolist()],
        "view": ["PA"] * films,
        "sha256": [f"{number:064x}" for number in numbers.tolist()],
    }
    columns = {
        field.name: texts.get(field.name, pa.nulls(films) if pa.types.is_string(field.type) else numbers % 2)
        for field in schema
    }
    pq.write_table(pa.table(columns, schema=schema), path / "table.parquet")
    described = {
        "format": FORMAT,
        "version": VERSION,
        "settings": {"source": "nih", "size": size, "fit": "crop", "bits": 8, "shard_mib": 256},
        "findings": FINDINGS,
        "origin": {},
        "dtype": "uint8",
        "films": films,
        "mean": 0.0,
        "std": 1.0,
        "shards": shards,
        "tables": {"table.parquet": "0" * 64},
        "fingerprint": "0" * 64,
    }
    (path / "store.json").write_text(json.dumps(described))
    return path


def measure(store: Path, *what: str) -> dict[str, dict[str, float]]:
    """Does some of "open", "batch" (256 films drawn at random) and "table", in this order, in a fresh process.

    Returns:
        Of each: seconds, seconds of the processor, bytes that were read, and the process's peak memory in MB so far.
    """
    command = [sys.executable, "-c", MEASURE, str(store), *what]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=112_120)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = write_sparse_store(Path(folder) / "store", arguments.films, arguments.size)
        for what, cost in measure(store, "open", "batch", "table").items():
            print(
                f"{what:6s} {1000 * cost['seconds']:8.1f} ms ({1000 * cost['processor']:.1f} of the processor), "
                f"{cost['bytes']:>12,.0f} bytes read, peak {cost['mb']:.0f} MB"
            )


if __name__ == "__main__":
    main()
