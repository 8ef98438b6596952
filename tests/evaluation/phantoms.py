"""A store of phantoms' films with their labels, and what tests export from it; made once a session."""

from pathlib import Path
from typing import NamedTuple

import pytest

from scarce_cxr.backbones.starts import Start, parse_start
from scarce_cxr.evaluation.export import Parts, probed_parts
from scarce_cxr.evaluation.fewshot import Task, make_tasks
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.phantoms import write_collection
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.sources.nih import NihSource
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store

FINDINGS = ["Cardiomegaly", "Effusion"]
START = "random:test_resnet"


class PhantomFilms(NamedTuple):
    """Where the films are, and the store of them."""

    folder: Path
    store: Path


def make_films(base: Path) -> PhantomFilms:
    """240 films of 64 pixels below `base`, unless they are there."""
    films = PhantomFilms(base / "phantom-films", base / "phantom-store")
    if not films.store.exists():
        write_collection(films.folder, images=240, size=64, jobs=1)
        prepare(NihSource(films.folder), films.store, size=64, jobs=1)
    return films


def make_tasks_of(store: Store, findings: list[str] = FINDINGS) -> tuple[list[Task], list[str]]:
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
