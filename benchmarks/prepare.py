"""Preparing films against merely decoding them, and against a plain script, in turn in one run on the same cores.

    uv run python benchmarks/prepare.py [--count 1000] [--films FOLDER] [--size 320] [--jobs 2] [--rounds 3]

Films are 1024 x 1024 PNG files of 8 bits: those of --films over and over, or made-up ones. `decode` opens and loads
each with Pillow in as many processes as `prepare` has, in chunks of the same length. `script` is one process that
decodes, stretches from the smallest value to the largest in float, resamples with Lanczos, rounds and writes a PNG
file. All processes have been started and have imported what they need before the clock starts.

Printed are medians of seconds on the clock and of all processes' processor time, ratios of both, and the peak memory of
the largest worker and of the main process after the first films and at the end. Linux only.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import FolderSource

SIDE = 1024
CHUNK = 16
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        few = _lay_out(arguments.films, Path(work) / "few", 2 * CHUNK * arguments.jobs)
        all_ = _lay_out(arguments.films, Path(work) / "films", arguments.count)
        ways: dict[str, Callable[[Path, Path], None]] = {
            "decode": lambda films, out: _decode_all(films, arguments.jobs),
            "prepare": lambda films, out: prepare(
                FolderSource(films), out / "store", size=arguments.size, jobs=arguments.jobs
            ),
            "script": lambda films, out: _run_script(films, out, arguments.size),
        }
        for name, way in ways.items():
            way(few, _folder(Path(work), f"{name}-few"))
        first = _peaks()
        seconds = {name: [] for name in ways}
        for round_ in range(arguments.rounds):
            for name, way in ways.items():
                out = _folder(Path(work), f"{name}-{round_}")
                clock, processor = time.perf_counter(), _processor_seconds()
                way(all_, out)
                seconds[name].append((time.perf_counter() - clock, _processor_seconds() - processor))
        size = np.mean([path.stat().st_size for path in all_.iterdir()])
        print(f"{arguments.count} films of {size / 1e3:.0f} kB to {arguments.size} pixels, {arguments.jobs} jobs")
        medians = {
            name: [statistics.median(column) for column in zip(*of, strict=True)] for name, of in seconds.items()
        }
        for name, (clock, processor) in medians.items():
            clock_each, processor_each = (1000 * value / arguments.count for value in (clock, processor))
            print(
                f"{name:8s} {clock:7.2f} s ({clock_each:5.2f} ms a film), "
                f"processor {processor:7.2f} s ({processor_each:5.2f})"
            )
        for other in ("decode", "script"):
            ratios = [ours / theirs for ours, theirs in zip(medians["prepare"], medians[other], strict=True)]
            print(f"prepare / {other}: {ratios[0]:.2f} on the clock, {ratios[1]:.2f} of the processor")
        few_films = len(list(few.iterdir()))
        for (who, before), after in zip(first.items(), _peaks().values(), strict=True):
            print(f"peak memory of {who}: {before:.0f} MB after {few_films} films, {after:.0f} MB at the end")


def _folder(work: Path, name: str) -> Path:
    path = work / name
    path.mkdir()
    return path


def _lay_out(films: Path | None, folder: Path, count: int) -> Path:
    """A folder of so many films: links to those there are, in turn, or ten made-up ones."""
    folder.mkdir()
    originals = sorted(films.glob("*.png")) if films else []
    if not originals:
        (made := folder.parent / "made").mkdir(exist_ok=True)
        for number in range(10):
            path = made / f"{number}.png"
            if not path.exists():
                Image.fromarray(_made_up(number)).save(path)
            originals.append(path)
    for number in range(count):
        (folder / f"{number:06d}.png").symlink_to(originals[number % len(originals)].resolve())
    return folder


def _made_up(number: int) -> np.ndarray:
    """Broad shapes under as much noise as makes the file as large as a real film's."""
    random = np.random.default_rng(number)
    broad = Image.fromarray(random.uniform(20, 230, (8, 8)).astype(np.float32)).resize((SIDE, SIDE))
    return (np.asarray(broad) + random.normal(0, 1.2, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)


def _decode_all(films: Path, jobs: int) -> None:
    paths = sorted(films.iterdir())
    chunks = (paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK))
    Parallel(n_jobs=jobs, batch_size=1)(delayed(_decode)(chunk) for chunk in chunks)


def _decode(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.load()


def _run_script(films: Path, out: Path, size: int) -> None:
    for path in sorted(films.iterdir()):
        with Image.open(path) as image:
            film = np.asarray(image).astype(np.float32)
        film = (film - film.min()) / (film.max() - film.min())
        small = np.asarray(Image.fromarray(film).resize((size, size), Image.Resampling.LANCZOS))
        Image.fromarray((small.clip(0, 1) * 255).round().astype(np.uint8)).save(out / path.name)


def _workers() -> Iterator[tuple[Path, list[str]]]:
    """Folders under /proc of this process's children, and the fields of their `stat` from the third on."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[1]) == os.getpid():
            yield path, stat


def _processor_seconds() -> float:
    """Of this process and of its children, those that live and those that are gone."""
    return sum(os.times()[:4]) + sum((int(stat[11]) + int(stat[12])) / TICKS for _, stat in _workers())


def _peaks() -> dict[str, float]:
    """Peak memory in MB."""

    def peak(path: Path) -> int:
        return int((path / "status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    return {
        "the largest worker": max(peak(path) for path, _ in _workers()),
        "the main process": peak(Path("/proc/self")),
    }


if __name__ == "__main__":
    main()
