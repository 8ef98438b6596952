"""What films' features have in common: maps of them, what else than findings they tell, neighbours, worst errors."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import Start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.explain import one_a_patient
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.probe import fit_probes, score_probes
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.labels import Labels, read_labels
from scarce_cxr.images.splits import refuse_unknown_patients, split
from scarce_cxr.images.store import Store

# From where the interval of a probe for site, view or sex begins, it is warned of.
FLAGGED = 0.6
# Patients of either group, on either side of the split, below which nothing is told.
_FEWEST = 5
_COMPONENTS = 50
_PERPLEXITY = 30.0


class JoinedStores:
    """Several stores, looked at as one: their films in the order of the stores.

    Args:
        stores: at least one.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = list(stores)
        self._ends = np.cumsum([len(store) for store in self.stores])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def table(self) -> pd.DataFrame:
        """All rows of the stores' tables, one after the other."""
        return pd.concat([store.table for store in self.stores], ignore_index=True)

    @property
    def sites(self) -> np.ndarray:
        """(n,) strings: where films come from. Of several stores the folder's name, of one what its table says."""
        if len(self.stores) == 1:
            return self.table["source"].fillna("").to_numpy(dtype=str)
        names = [store.path.resolve().name for store in self.stores]
        if len(set(names)) < len(names):
            names = [str(store.path) for store in self.stores]
        return np.repeat(names, [len(store) for store in self.stores])

    def features(self, start: Start, device: str = "cpu") -> np.ndarray:
        """(n, d) features of all films, see `embed`."""
        return np.concatenate([embed(store, start, device=device).array for store in self.stores])

    def split(self, *, test: float, tune: float) -> np.ndarray:
        """(n,) sides, each store split by itself, see `images.splits.split`.

        Raises:
            ScarceError: the patients of a store without an official split are unknown; or as for `split`.
        """
        sides = []
        for store in self.stores:
            if store.table["split"].isna().any():
                refuse_unknown_patients(store.settings)
            sides.append(split(store.table, test=test, tune=tune, store_path=store.path))
        return np.concatenate(sides)

    def labels(self, findings: Sequence[str] | None = None, **how: Any) -> Labels:
        """Labels of all films, see `read_labels`, whose keywords `how` are; without findings or file perhaps none."""
        parts = [
            read_labels(store, findings, **how) if findings or how.get("file") or store.findings else _no_labels(store)
            for store in self.stores
        ]
        return Labels(
            pd.concat([part.table for part in parts], ignore_index=True),
            pd.concat([part.counts for part in parts]).groupby(level=0, sort=False).sum(),
            list(dict.fromkeys(note for part in parts for note in part.notes)),
            np.concatenate([part.normal for part in parts]),
            np.concatenate([part.abnormal for part in parts]),
        )

    def film(self, row: int) -> np.ndarray:
        """(H, W) in [0, 1], of the side that its store has."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        store = self.stores[number]
        return store.pixels([row - int(self._ends[number]) + len(store)])[0] / np.iinfo(store.dtype).max


class Layout(NamedTuple):
    """Films on a plane.

    Attributes:
        name: how they came there.
        places: (n, 2).
    """

    name: str
    places: np.ndarray


class Told(NamedTuple):
    """How well a probe tells one group of films from others by their features alone.

    Attributes:
        what: e.g. "view".
        group, others: e.g. "AP" and "PA".
        films, others_films: test films of both.
        patients: behind them.
        auroc: on them; nan where `missing` says why there is none.
        low, high: its 95 % interval.
        missing: why there is no number, or "".
    """

    what: str
    group: str = ""
    others: str = ""
    films: int = 0
    others_films: int = 0
    patients: int = 0
    auroc: float = np.nan
    low: float = np.nan
    high: float = np.nan
    missing: str = ""

    @property
    def flagged(self) -> bool:
        """Whether even the lower end of the interval is over `FLAGGED`."""
        return bool(self.low > FLAGGED)


class Errors(NamedTuple):
    """Films that a probe has most wrong, the worst first.

    Attributes:
        positives: (k,) places of films without the finding that it puts above films with it.
        above: (k,) share of the films with the finding that score lower, in [0, 1].
        negatives: (l,) places of films with the finding that it puts below films without it.
        below: (l,) share of the films without the finding that score higher.
    """

    positives: np.ndarray
    above: np.ndarray
    negatives: np.ndarray
    below: np.ndarray


def lay_out(features: np.ndarray, seed: int = 0) -> list[Layout]:
    """Places films by their first two principal components, and by t-SNE of the first 50.

    van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008; begun from the principal components, which
    keeps the large groups where they are (Kobak and Berens, "The art of using t-SNE", Nature Communications, 2019).
    Distances between its groups, and their sizes, mean little.

    Args:
        features: (n, d) standardised features.
        seed: of t-SNE.

    Raises:
        ScarceError: there are fewer than 10 films, or they are all the same.
    """
    if len(features) < 10:
        raise ScarceError("at least 10 films to map", f"{len(features)}", "take a larger store")
    if not np.ptp(features, axis=0).any():
        raise ScarceError("features that differ", "all the same", "take another start")
    reduced = PCA(min(_COMPONENTS, *features.shape), random_state=seed)
    components = reduced.fit_transform(features)
    shares = ", ".join(f"{share:.0%}".replace("%", " %") for share in reduced.explained_variance_ratio_[:2])
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    placed = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(components)
    return [Layout(f"PCA: {shares} of variance", components[:, :2]), Layout("t-SNE", placed)]


def tell_apart(
    features: np.ndarray,
    what: str,
    groups: np.ndarray,
    patients: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
) -> list[Told]:
    """Fits probes that tell groups of films apart, on all films of the train split, and tests them on other patients.

    What can be told from features may stand in for a finding that goes with it: the finding's probe then reads the
    site, and fails where the two no longer go together.

    Args:
        features: (n, d) standardised features.
        what: the groups' name, e.g. "view".
        groups: (n,) strings; "" is unknown and left out.
        patients: (n,) strings.
        train, test: (n,) bool.
        seed: of folds.

    Returns:
        One entry for two groups; one a group, against all others, for more; for fewer, one that says so.
    """
    names, counts = np.unique(groups[groups != ""], return_counts=True)
    if len(names) < 2:
        return [Told(what, missing=f"all films are {names[0]}" if len(names) else "not known of any film")]
    names = names[np.argsort(-counts, kind="stable")]
    asked = [(names[0], names[1])] if len(names) == 2 else [(name, "all others") for name in names]
    told, draws = [], []
    for name, others in asked:
        sides = [(groups == name) & side for side in (train, test)]
        sides += [(groups != name) & (groups != "") & side for side in (train, test)]
        fewest = min(len(np.unique(patients[side])) for side in sides)
        if fewest < _FEWEST:
            told.append(Told(what, name, others, missing=f"{fewest} patients, {_FEWEST} needed"))
            continue
        told.append(Told(what, name, others))
        rows = np.flatnonzero((groups != "") & train)
        draws.append(_Labelled(rows, (groups[rows] == name).astype(np.int8)))
    if not draws:
        return told
    rows = np.flatnonzero((groups != "") & test)
    scores = iter(score_probes(features[rows], fit_probes(features, draws, patients=patients, seed=seed)))
    return [
        each if each.missing else _tested(each, next(scores), (groups[rows] == each.group).astype(int), patients[rows])
        for each in told
    ]


def nearest_of_others(
    features: np.ndarray, rows: np.ndarray, patients: np.ndarray, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """The films of other patients that are most like some, by cosine.

    Args:
        features: (n, d) standardised features.
        rows: (q,) films that are asked for.
        patients: (n,) whose film it is.
        count: how many neighbours.

    Returns:
        Rows (q, count), the nearest first, and their cosines.

    Raises:
        ScarceError: a film has fewer films of other patients beside it.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.where(lengths > 0, lengths, 1)
    cosines = (directions[rows] @ directions.T).astype(np.float64)
    own = patients[rows][:, None] == patients
    if (fewest := int((~own).sum(axis=1).min())) < count:
        raise ScarceError(f"{count} films of other patients", f"{fewest}", "take a larger store")
    cosines[own] = -np.inf
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return nearest, np.take_along_axis(cosines, nearest, axis=1)


def worst_errors(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray, count: int = 6) -> Errors:
    """Where a probe is surest and wrong: films without the finding that score highest, and with it that score lowest.

    Only films that are out of order with some of the other class count, at most one of a patient in either group.

    Args:
        scores: (n,) larger where the finding is likelier.
        labels: (n,) of 0 and 1.
        patients: (n,) whose film it is.
        count: how many of either kind, at most.
    """
    found = []
    for sign, wrong in ((1, labels == 0), (-1, labels == 1)):
        places = np.flatnonzero(wrong)
        others = np.sort(sign * scores[~wrong])
        order = places[np.argsort(-sign * scores[places], kind="stable")]
        share = np.searchsorted(others, sign * scores[order]) / max(len(others), 1)
        kept = one_a_patient(order[share > 0], patients, count)
        found += [kept, share[np.searchsorted(-sign * scores[order], -sign * scores[kept])]]
    return Errors(*found)


def _no_labels(store: Store) -> Labels:
    nothing = np.zeros(len(store), dtype=bool)
    return Labels(pd.DataFrame(index=range(len(store))), pd.DataFrame(), [], nothing, nothing)


class _Labelled(NamedTuple):
    rows: np.ndarray
    labels: np.ndarray


def _tested(told: Told, scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Told:
    interval = auroc_interval(scores, labels, patients)
    return told._replace(
        films=int(labels.sum()),
        others_films=int((labels == 0).sum()),
        patients=len(np.unique(patients)),
        auroc=float(auroc(scores, labels)[0]),
        low=interval.low,
        high=interval.high,
    )
