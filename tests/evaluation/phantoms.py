"""A store of phantoms' films with their labels, and what tests export from it; made once a session."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from scarce_cxr.backbones.starts import Start, parse_start
from scarce_cxr.evaluation.export import Parts, probed_parts
from scarce_cxr.evaluation.fewshot import Task, make_tasks
from scarce_cxr.images.decode import quantise, scale
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources import FolderSource
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store

FINDINGS = ["Cardiomegaly", "Effusion"]
START = "random:test_resnet"


class PhantomFilms(NamedTuple):
    """Where the films are, and the store of them."""

    folder: Path
    store: Path


def make_films(base: Path) -> PhantomFilms:
    """Films of 64 pixels of 120 patients below `base`, unless they are there; every finding is on a third or a half."""
    films = PhantomFilms(base / "phantom-films", base / "phantom-store")
    if films.store.exists():
        return films
    films.folder.mkdir()
    rows = ["file,Cardiomegaly,Effusion"]
    for patient in range(1, 121):
        shown = {"Cardiomegaly": patient % 3 == 0, "Effusion": patient % 2 == 0}
        film = draw_film(0, patient, 0, 64, findings=[name for name, there in shown.items() if there])
        Image.fromarray(quantise(scale(film.pixels))).save(films.folder / f"{patient:03d}.png")
        rows.append(f"{patient:03d}.png,{shown['Cardiomegaly']:d},{shown['Effusion']:d}")
    (base / "labels.csv").write_text("\n".join(rows))
    source = FolderSource(films.folder, base / "labels.csv", label_columns=FINDINGS)
    # With a key of its own a store would have another split every time, and a guard of other films.
    (base / "key").write_text("5c" * 32)
    prepare(source, films.store, size=64, jobs=1, key_file=base / "key")
    return films


def make_tasks_of(store: Store, findings: list[str] = FINDINGS) -> tuple[list[Task], np.ndarray]:
    """Tasks of the findings, and the split."""
    sides = split(store.table)
    return list(make_tasks(store, read_labels(store, findings), sides).values()), sides


def make_parts(store: Store, start: Start | None = None, findings: list[str] = FINDINGS, **settings) -> Parts:
    """A random backbone with probes of the findings and a guard."""
    tasks, sides = make_tasks_of(store, findings)
    return probed_parts(start or parse_start(START, size=64), store, tasks, sides, **settings)


@pytest.fixture(scope="session")
def phantom_films(tmp_path_factory) -> PhantomFilms:
    return make_films(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def phantom_store(phantom_films: PhantomFilms) -> Store:
    return Store.open(phantom_films.store)


@pytest.fixture(scope="session")
def parts(phantom_store: Store) -> Parts:
    return make_parts(phantom_store)
