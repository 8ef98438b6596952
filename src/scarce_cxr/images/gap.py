"""How far apart stores are in what their frontal films' pixels are like."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from scarce_cxr.images.splits import held_out, patients_of
from scarce_cxr.images.store import Store

LEVELS = 256
"""Bins of a histogram, from black to white."""


@dataclass(frozen=True, eq=False)
class Shades:
    """What the pixels of some frontal films are like.

    Attributes:
        name: of the store.
        histogram: (256,) share of all pixels in each bin from 0 to 1.
        means, stds: (n,) of each film's pixels, in [0, 1].
        patients: (n,) of each film.
    """

    name: str
    histogram: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    patients: np.ndarray


def frontal_rows(table: pd.DataFrame, measures: pd.DataFrame) -> np.ndarray:
    """(n,) bool: films that the table says are frontal, and those of unknown view that look it.

    Args:
        table: a store's table, n rows.
        measures: n rows, see `quality.measure_films`.
    """
    views = table["view"].fillna("UNKNOWN").to_numpy(dtype=object)
    return np.isin(views, ["PA", "AP"]) | ((views == "UNKNOWN") & (measures["upright"].to_numpy() > 0.5))


def read_shades(name: str, store: Store, measures: pd.DataFrame, most: int = 2000) -> tuple[Shades, Shades, Shades]:
    """Reads frontal films of a store.

    Args:
        name: of the store.
        store: the films.
        measures: n rows, see `quality.measure_films`.
        most: how many films to read, chosen at random.

    Returns:
        All of them, and two halves with patients of their own: how far these are apart, chance alone does.
    """
    rows = np.flatnonzero(frontal_rows(store.table, measures))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    half = held_out(store.table, 0.5, key="gap")[rows]
    patients = patients_of(store.table)[rows]
    bins = np.array([histogram(store.pixels([row])[0]) for row in rows]).reshape(-1, LEVELS)
    means, stds = (measures[column].to_numpy()[rows] for column in ("mean", "std"))

    def some(chosen: np.ndarray, title: str) -> Shades:
        total = bins[chosen].sum(axis=0) / max(int(chosen.sum()), 1)
        return Shades(title, total, means[chosen], stds[chosen], patients[chosen])

    return some(np.ones(len(rows), bool), name), some(half, f"half of {name}"), some(~half, "its other half")


def histogram(film: np.ndarray) -> np.ndarray:
    """(256,) share of a stored film's pixels in each of 256 equal bins."""
    return np.bincount((film >> (8 * film.itemsize - 8)).ravel(), minlength=LEVELS) / film.size


def distances(one: Shades, other: Shades) -> dict[str, float]:
    """How far two sets of films are apart.

    Returns:
        The largest gap between cumulative distributions (Kolmogorov and Smirnov's statistic, 0 alike and 1 without
        overlap) of pixels (`pixels`), of films' means (`means`) and of their standard deviations (`stds`); and
        `shift`, the difference of films' mean brightness in units of its standard deviation (the other's less the
        one's). NaN where one of both has no film.
    """
    if not (len(one.means) and len(other.means)):
        return dict.fromkeys(("pixels", "means", "stds", "shift"), float("nan"))
    spread = np.sqrt((one.means.var() + other.means.var()) / 2)
    return {
        "pixels": float(np.abs(np.cumsum(one.histogram) - np.cumsum(other.histogram)).max()),
        "means": float(ks_2samp(one.means, other.means).statistic),
        "stds": float(ks_2samp(one.stds, other.stds).statistic),
        "shift": float((other.means.mean() - one.means.mean()) / spread) if spread > 0 else float("nan"),
    }


def gaps(read: Sequence[tuple[Shades, Shades, Shades]]) -> pd.DataFrame:
    """Distances between all pairs of stores, and between the halves of each.

    Args:
        read: what `read_shades` returns, a store each.

    Returns:
        A row for each pair: `one`, `other`, their `films` (and patients) in words, and what `distances` says.
    """
    pairs = [*combinations([whole for whole, _, _ in read], 2), *((half, rest) for _, half, rest in read)]
    return pd.DataFrame(
        [
            {
                "one": one.name,
                "other": other.name,
                "films": " and ".join(f"{len(side.means):,} ({len(set(side.patients)):,})" for side in (one, other)),
                **distances(one, other),
            }
            for one, other in pairs
        ]
    )
