"""Few-shot draws: which films of which patients a trial learns from, the same for every start."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.labels import Labels, normals

SHOTS = ("1", "5", "10", "20", "50", "all")
"""How many patients with and as many without a finding a trial sees; `all`: every labelled film."""


class Shots(NamedTuple):
    """The films of one draw.

    Attributes:
        rows: (m,) int64 rows of the table; first the films with the finding, then those without, each in drawn order.
        labels: (m,) int8, 1 or 0, in the same order.
        positives, negatives: how many films of each.
        patients: how many patients stand behind them.
    """

    rows: np.ndarray
    labels: np.ndarray
    positives: int
    negatives: int
    patients: int


class Missing(NamedTuple):
    """A draw that cannot be made.

    Attributes:
        reason: why, e.g. "12 patients with the finding, 20 needed".
    """

    reason: str


def draw_shots(
    labels: np.ndarray,
    patients: np.ndarray,
    candidates: np.ndarray,
    shot: str,
    draw: int,
    *,
    finding: str,
    seed: int = 0,
    negatives: np.ndarray | None = None,
    one_film_per_patient: bool = True,
) -> Shots | Missing:
    """Draws the films that one trial learns a finding from.

    A shot of k takes k patients with the finding and k without, one film of each. A patient who has films of both kinds
    counts as one with it. Every draw puts the patients in an order of its own, by a keyed hash, and takes the first: so
    a draw's 5 shots contain its 1 shot, and a patient who joins the store takes at most one other's place.

    Args:
        labels: (n,) 1, 0 or nan for the finding.
        patients: (n,) strings, see `patients_of`.
        candidates: (n,) bool, the films that may be learned from.
        shot: a number from 1 up, or "all" for every candidate with a label, whosever it is.
        draw: from 0 up; "all" has number 0 only.
        finding, seed: others give other draws.
        negatives: (n,) bool, the films that may stand for the finding's absence, see `negative_kinds`; None: all.
        one_film_per_patient: false takes k films with and k without instead of patients, whosever they are.

    Returns:
        The films, or the reason why there are not enough. Never fewer than asked for.

    Raises:
        ScarceError: the shot is neither a number nor "all".
    """
    count = _read_shot(shot)
    present = candidates & (labels == 1)
    absent = candidates & (labels == 0) & (True if negatives is None else negatives)
    pool = np.flatnonzero(present | absent)
    codes, names = pd.factorize(patients[pool])
    ill = present[pool]
    if count is None:
        return _take_all(pool, codes, ill, draw)
    ill_patients = np.bincount(codes[ill], minlength=len(names)) > 0
    usable = ill == ill_patients[codes]
    pool, codes, ill = pool[usable], codes[usable], ill[usable]
    places = _scramble(_digests(names) ^ np.uint64(_digest(repr((finding, int(draw), int(seed))))))
    if one_film_per_patient:
        chosen = np.concatenate([_first(np.flatnonzero(who), places, count) for who in (ill_patients, ~ill_patients)])
        films = np.flatnonzero(np.isin(codes, chosen))
        films = films[np.lexsort((_film_places(codes[films], places), codes[films]))]
        # The first film of each patient, then the patients back in drawn order.
        owners, firsts = np.unique(codes[films], return_index=True)
        taken = films[firsts][np.searchsorted(owners, chosen)]
        available, unit = (int(ill_patients.sum()), int((~ill_patients).sum())), "patients"
    else:
        film_places = _film_places(codes, places)
        taken = np.concatenate([_first(np.flatnonzero(who), film_places, count) for who in (ill, ~ill)])
        available, unit = (int(ill.sum()), int((~ill).sum())), "films"
    lacking = [
        f"{have:,} {unit} {which} the finding, {count:,} needed"
        for have, which in zip(available, ("with", "without"), strict=True)
        if have < count
    ]
    return Missing("; ".join(lacking)) if lacking else _shots(pool[taken], ill[taken], codes[taken])


def negative_kinds(labels: Labels, finding: str) -> dict[str, np.ndarray]:
    """Films without a finding, by what they show instead.

    Args:
        labels: n films' labels, with this finding among them.
        finding: its name.

    Returns:
        (n,) bool each: `normals` show nothing, `other findings` something else. A film of which neither is known is in
        none of them.
    """
    absent = labels.table[finding].to_numpy() == 0
    return {"normals": absent & normals(labels), "other findings": absent & labels.abnormal}


def _read_shot(shot: str) -> int | None:
    """The number; None for all."""
    if shot == "all":
        return None
    if not str(shot).isascii() or not str(shot).isdigit() or int(shot) < 1:
        raise ScarceError("a number of shots from 1 up, or all", f"{shot!r}", f"choose e.g. {', '.join(SHOTS)}")
    return int(shot)


def _take_all(pool: np.ndarray, codes: np.ndarray, ill: np.ndarray, draw: int) -> Shots | Missing:
    if draw != 0:
        return Missing("all films are one draw, number 0")
    if not ill.any() or ill.all():
        return Missing(f"no film {'without' if ill.any() else 'with'} the finding")
    order = np.argsort(~ill, kind="stable")
    return _shots(pool[order], ill[order], codes[order])


def _shots(rows: np.ndarray, ill: np.ndarray, codes: np.ndarray) -> Shots:
    positives = int(ill.sum())
    return Shots(rows.astype(np.int64), ill.astype(np.int8), positives, len(rows) - positives, len(np.unique(codes)))


def _first(items: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """The `count` items whose places are lowest, in that order."""
    return items[np.argsort(places[items], kind="stable")[:count]]


def _film_places(codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(m,) uint64, in which order films are taken: by their patient's place and their number among the patient's."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    numbers = np.empty(len(codes), np.uint64)
    numbers[order] = np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    return _scramble(places[codes] + numbers)


def _digests(patients: np.ndarray) -> np.ndarray:
    return np.fromiter((_digest(patient) for patient in patients), np.uint64, len(patients))


@lru_cache(maxsize=2**20)
def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _scramble(numbers: np.ndarray) -> np.ndarray:
    """Mixes (m,) uint64 so that each bit of the result depends on every one (the finaliser of SplitMix64)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
