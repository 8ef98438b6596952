"""A map of films by a run's features, with a small picture of each film, and which are nearest to which."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scarce_cxr.backbones.embed import embed, embed_pixels, normalization_of
from scarce_cxr.backbones.starts import Start, load_start, parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.embedding_map import JoinedStores, lay_out, nearest_of_others
from scarce_cxr.evaluation.probe import standardise
from scarce_cxr.images.labels import Labels
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.report.pictures import Sheet, make_sheet
from scarce_cxr.report.runs import ShownRun
from scarce_cxr.training.pretrain import held_out_films
from scarce_cxr.views.draws import Draws

MOST_FILMS = 800
# Stores up to so many films are embedded whole, once for the page and for probes; of larger ones only what is shown.
_EMBEDDED_WHOLE = 4000
_BATCH = 64
_NEIGHBOURS = 5
# Pixels of a small film: 800 of them are a megabyte.
_SIDE = 112
# Findings to colour by: so many shown films must have them, and no more findings than a list is read for.
_FEWEST, _MOST_FINDINGS = 5, 20
_DIGITS = 3


class Coloring(NamedTuple):
    """One way to colour films.

    Attributes:
        name: what by.
        groups: names.
        codes: (m,) number of each film's group; -1 is unknown.
    """

    name: str
    groups: list[str]
    codes: list[int]


class RunMap(NamedTuple):
    """Films by the features of one run.

    Attributes:
        run: its number among the page's runs.
        layouts: name -> (m, 2) places.
        neighbours: (m, 5) the films of other patients that are nearest; empty if there are too few.
        cosines: how near.
        colorings: those that are the run's own.
    """

    run: int
    layouts: dict[str, list[list[float]]]
    neighbours: list[list[int]]
    cosines: list[list[float]]
    colorings: list[Coloring]


class FilmMap(NamedTuple):
    """Films of one store.

    Attributes:
        store: its name.
        films: how many it has.
        patients: behind the films that are shown.
        maps: one a run.
        colorings: common to all runs.
        names: (m,) identifiers of the films; empty if they are left out.
        words: (m,) what is known of them; empty if they are left out.
        sheet: their pictures; None if they are left out.
        queries: films whose neighbours are shown without asking.
    """

    store: str
    films: int
    patients: int
    maps: list[RunMap]
    colorings: list[Coloring]
    names: list[str]
    words: list[str]
    sheet: Sheet | None
    queries: list[int]


def map_films(
    runs: Sequence[ShownRun], *, films: int = MOST_FILMS, redact: bool = False, seed: int = 0, device: str = "cpu"
) -> tuple[list[FilmMap], list[str]]:
    """Maps the films of every store that the runs were trained on, by the features of each run's last backbone.

    Args:
        runs: those whose store or backbone is not there are left out.
        films: how many to map, at most.
        redact: leave out pictures and names.
        seed: another seed takes other films.
        device: where features are computed.

    Returns:
        A map a store, and why runs were left out.
    """
    stores: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        if run.store is not None:
            stores.setdefault(run.store.fingerprint, []).append(number)
    maps, notes = [], []
    for numbers in stores.values():
        store = runs[numbers[0]].store
        rows = _sample(len(store), films, seed)
        made = []
        for number in numbers:
            try:
                made.append(_map_run(runs[number], number, store, rows, seed, device))
            except (ScarceError, OSError) as error:
                notes.append(f"{runs[number].name}: no map of films ({error})")
        if made:
            maps.append(_map_store(store, rows, made, redact))
    return maps, notes


def _sample(count: int, most: int, seed: int) -> np.ndarray:
    """Rows in random order, so that their number says nothing of their place in the store."""
    return np.argsort(Draws(seed, 0, np.arange(count)).uniform("map")[:, 0])[:most]


def _map_run(run: ShownRun, number: int, store: Store, rows: np.ndarray, seed: int, device: str) -> RunMap:
    start = parse_start(str(run.folder.path))
    features = standardise(_features(store, start, rows, device), np.arange(len(rows)))
    patients = patients_of(store.table).astype(str)[rows]
    layouts = {layout.name: np.round(layout.places, _DIGITS).tolist() for layout in lay_out(features, seed)}
    neighbours, cosines = [], []
    if len(rows) - np.unique(patients, return_counts=True)[1].max() >= _NEIGHBOURS:
        found = nearest_of_others(features, np.arange(len(rows)), patients, _NEIGHBOURS)
        neighbours, cosines = (np.round(array, _DIGITS).tolist() for array in found)
    colorings = []
    if run.recipe is not None:
        sides = np.where(held_out_films(store, run.recipe)[rows], "held out", "trained on")
        colorings.append(_coloring("pretraining", sides, ("trained on", "held out")))
    return RunMap(number, layouts, neighbours, cosines, colorings)


def _features(store: Store, start: Start, rows: np.ndarray, device: str) -> np.ndarray:
    """(m, d) of the films in rows."""
    if len(store) <= _EMBEDDED_WHOLE:
        return np.array(embed(store, start, device=device).array[rows])
    backbone = load_start(start).to(device)
    backbone.check(start.size)
    mean, std = normalization_of(store, start)
    parts = [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]
    return np.concatenate([embed_pixels(backbone, start, store.pixels(part), mean, std) for part in parts])


def _map_store(store: Store, rows: np.ndarray, maps: list[RunMap], redact: bool) -> FilmMap:
    table = store.table.iloc[rows]
    joined = JoinedStores([store])
    labels = joined.labels()
    patients = patients_of(table)
    view = table["view"].fillna("").replace("UNKNOWN", "").to_numpy(dtype=str)
    sex = table["sex"].fillna("").to_numpy(dtype=str)
    finding = np.select([labels.abnormal[rows], labels.normal[rows]], ["with a finding", "normal"], "")
    colorings = [_coloring("any finding", finding, ("normal", "with a finding"))]
    for name in _common(labels, rows):
        has = labels.table[name].to_numpy(dtype=float)[rows]
        groups = np.select([has == 1, has == 0], ["with it", "without it"], "")
        colorings.append(_coloring(name.replace("_", " "), groups, ("without it", "with it")))
    colorings += [_coloring("site", joined.sites[rows]), _coloring("split", _sides(joined)[rows])]
    colorings += [_coloring("view", view), _coloring("sex", sex)]
    words = [_describe(labels, row, *known) for row, *known in zip(rows, view, sex, strict=True)]
    return FilmMap(
        store.path.resolve().name,
        len(store),
        len(set(patients)),
        [shown._replace(neighbours=[], cosines=[]) for shown in maps] if redact else maps,
        [coloring for coloring in colorings if len(set(coloring.codes) - {-1}) > 1 or coloring.name == "any finding"],
        [] if redact else table["image_id"].astype(str).to_list(),
        [] if redact else words,
        None if redact else make_sheet(store.pixels(rows), _SIDE),
        _choose_queries(finding, patients),
    )


def _coloring(name: str, groups: np.ndarray, order: Sequence[str] = ()) -> Coloring:
    """The largest group first, unless an order is given; "" is unknown."""
    names, counts = np.unique(groups[groups != ""], return_counts=True)
    ordered = [*order] or names[np.argsort(-counts, kind="stable")].tolist()
    places = {group: place for place, group in enumerate(ordered)}
    return Coloring(name, ordered, [places.get(group, -1) for group in groups])


def _common(labels: Labels, rows: np.ndarray) -> list[str]:
    """Findings that enough of the shown films have, the most frequent first."""
    counts = (labels.table.iloc[rows] == 1).sum().sort_values(ascending=False, kind="stable")
    return counts[counts >= _FEWEST].index[:_MOST_FINDINGS].to_list()


def _sides(joined: JoinedStores) -> np.ndarray:
    """(n,) train, tune or test; "" where films cannot be split by patient."""
    try:
        return joined.split(test=0.2, tune=0.15)
    except ScarceError:
        return np.full(len(joined), "")


def _describe(labels: Labels, row: int, view: str, sex: str) -> str:
    found = [name.replace("_", " ") for name in labels.findings if labels.table[name].iat[row] == 1]
    known = ", ".join(found) or ("normal" if labels.normal[row] else "no label")
    return " · ".join(filter(None, (known, view, sex)))


def _choose_queries(finding: np.ndarray, patients: np.ndarray, count: int = 4) -> list[int]:
    """Films of different patients, with a finding and without in turn as far as there are both."""
    _, firsts = np.unique(patients.astype(str), return_index=True)
    firsts = np.sort(firsts)
    ill = firsts[finding[firsts] == "with a finding"]
    others = firsts[finding[firsts] != "with a finding"]
    pairs = [row for pair in zip(ill, others, strict=False) for row in pair]
    rest = [row for row in firsts if row not in pairs]
    return [int(row) for row in [*pairs, *rest][:count]]
