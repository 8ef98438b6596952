"""The same film twice: exact copies, near-duplicates by perceptual hash, and what two sets of films share."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from scarce_cxr.images.keys import private_folder
from scarce_cxr.images.store import Store

MOST = 10
"""How many of 64 bits may differ between near-duplicates.

Measured on 1,000 films of NIH ChestX-ray14 at 320 x 320. Of 498,823 pairs of different patients' films 128 (0.026 %)
differ in no more: in a large store, too many to believe the hash alone. Copies missed, of 1,000 each: none saved as a
JPEG of quality 50, halved and enlarged again, darkened by 20 % or lightened by a gamma of 0.7; 0.1 % brightened by 20 %
(a fifth of the pixels saturated) or 1 % cropped from every side; 0.9 % with 2 % cropped from two sides, 5.1 % from all
four; 3.2 % brightened until 40 % of the pixels are saturated.
"""
LIKENESS = 0.9
"""How alike two films with similar hashes must be to count as one, see `likeness`.

Measured on the same films: none of those 128 pairs reaches more than 0.74 (of the 2,066 that differ in at most 14 bits,
0.84), so that of 498,823 pairs none is taken for a copy. Of the copies that the hash finds none is lost, except where
pixels saturate: in all, 0.3 % of the films brightened by 20 % are missed, and 26.5 % with 40 % of the pixels saturated.
"""
LIKENESS_OF_ONE_PATIENT = 0.95
"""The same for two films of one patient, who looks alike from one day to the next.

Measured on those films and on 705 others (64 x 64 pixels, of 190 patients): of 5,400 pairs of one patient's films 46
have hashes that differ in at most 10 bits; 4 of them, all different films, reach 0.9, the highest 0.93. Copies reach
more than 0.99 if they are compressed, reduced or darkened. Of 1,000 each 0.6 % are missed that were lightened by a
gamma of 0.7, 1.0 % with 2 % cropped from two sides, and 2.6 % of those brightened by 20 %.
"""

_BATCH = 64
_HASHED_SIDE, _COMPARED_SIDE = 32, 64


class Leak(NamedTuple):
    """What two sets of films share.

    Attributes:
        kind: a patient; a file, whose pixels are equal as decoded; or a near-duplicate, one film that was copied with
            loss, resized, cropped or brightened.
        a, b: image_ids of a film of the first set and of one of the second.
    """

    kind: Literal["patient", "file", "near-duplicate"]
    a: str
    b: str


def perceptual_hashes(store: Store, rows: np.ndarray) -> np.ndarray:
    """Numbers that are nearly the same for films that look the same.

    A film is averaged to 32 x 32 pixels; of its cosine transform's 8 x 8 slowest waves, but for those that are constant
    across or down, one bit each tells whether it is stronger than their median. Half the bits are ones, so
    distances are even.

    Args:
        store: the films; compare only stores with the same `fit`.
        rows: (n,) rows of its table.

    Returns:
        (n,) uint64.
    """
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    hashes = np.empty(len(rows), np.uint64)
    for batch in _batches(len(rows)):
        waves = dctn(_shrink(store.pixels(rows[batch]), _HASHED_SIDE), axes=(1, 2), norm="ortho")[:, 1:9, 1:9]
        waves = waves.reshape(-1, 64)
        strong = waves > np.median(waves, axis=1, keepdims=True)
        hashes[batch] = (strong * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def near_duplicates(a: np.ndarray, b: np.ndarray, most: int = MOST) -> np.ndarray:
    """Pairs of hashes that differ in few bits.

    Chests resemble one another, so hashes alone find what may be a copy, see `likeness`.

    Args:
        a, b: (n,) and (m,) uint64, see `perceptual_hashes`.
        most: how many bits may differ.

    Returns:
        (k, 2) int64 positions in a and b, in order. The time goes with n x m, memory with n + m and k.
    """
    found = [np.flatnonzero(np.bitwise_count(b ^ number) <= most) for number in a]
    lengths = [len(positions) for positions in found]
    return np.stack([np.repeat(np.arange(len(a)), lengths), np.concatenate([np.empty(0, np.int64), *found])], axis=1)


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much of a film's fine detail another one explains, if that may be moved, stretched and brightened a little.

    The other's detail is fitted, by least squares, from the one's and its derivatives (a step of Lucas and Kanade, "An
    iterative image registration technique with an application to stereo vision", IJCAI 1981).

    Args:
        one, other: (n, 64, 64) pairs of films, see `details`.

    Returns:
        (n,) share of the other's variance, in [0, 1]; 0 where one of them is blank.
    """
    place = np.linspace(-1, 1, _COMPARED_SIDE, dtype=np.float32)
    # A moved film's edge shows what the other lacks.
    inner = slice(_COMPARED_SIDE // 16, -(_COMPARED_SIDE // 16))
    down, across = np.gradient(one, axis=(1, 2))
    terms = np.stack([one, across, down, across * place, down * place[:, None], other], axis=1)[:, :, inner, inner]
    terms = terms.reshape(*terms.shape[:2], -1)
    terms = terms - terms.mean(axis=2, keepdims=True)
    products = terms @ terms.swapaxes(1, 2)
    among, with_other, total = products[:, :-1, :-1], products[:, :-1, -1:], products[:, -1, -1]
    explained = (with_other.swapaxes(1, 2) @ np.linalg.pinv(among, hermitian=True) @ with_other)[:, 0, 0]
    return np.divide(explained, total, out=np.zeros_like(total), where=total > 0).clip(0, 1)


def are_copies(likeness: np.ndarray, same_patient: np.ndarray) -> np.ndarray:
    """Which pairs of films with similar hashes count as one film.

    Args:
        likeness: (n,) see `likeness`.
        same_patient: (n,) bool, whether both films are known to be of one patient.

    Returns:
        (n,) bool.
    """
    return likeness >= np.where(same_patient, LIKENESS_OF_ONE_PATIENT, LIKENESS)


def leaks_between(
    store_a: Store, rows_a: np.ndarray, store_b: Store, rows_b: np.ndarray, *, near: bool = True
) -> list[Leak]:
    """Finds what two sets of films share: nothing of a test set may be in the training set.

    A patient who is in both is named once, with a film of each. Patients are known again by their pseudonyms, so only
    within one source and one key (see `patients_comparable`). Whosoever's they are, those pairs of films are named that
    are equal as decoded, and those whose hashes differ in at most `MOST` bits and whose `likeness` is enough for
    `are_copies`.

    Args:
        store_a, store_b: may be the same store.
        rows_a, rows_b: (n,) and (m,) rows of their tables; of one store, no row is in both.
        near: whether to look for near-duplicates.

    Returns:
        Patients first, then files, then near-duplicates; within a kind in the order of `rows_a`.
    """
    films_a, films_b = (
        store.table.iloc[rows][["image_id", "patient_id", "sha256"]].reset_index(drop=True)
        for store, rows in ((store_a, rows_a), (store_b, rows_b))
    )
    same_patient = _equal(films_a.drop_duplicates("patient_id"), films_b.drop_duplicates("patient_id"), "patient_id")
    same_pixels = _equal(films_a, films_b, "sha256")
    alike = np.empty((0, 2), np.int64)
    if near:
        alike = near_duplicates(perceptual_hashes(store_a, rows_a), perceptual_hashes(store_b, rows_b))
        alike = alike[films_a["sha256"].to_numpy()[alike[:, 0]] != films_b["sha256"].to_numpy()[alike[:, 1]]]
        found = _likeness_of(store_a, rows_a, store_b, rows_b, alike)
        alike = alike[are_copies(found, _of_one_patient(alike, films_a, films_b))]
    ids_a, ids_b = films_a["image_id"], films_b["image_id"]
    return [
        Leak(kind, ids_a[a], ids_b[b])
        for kind, pairs in (("patient", same_patient), ("file", same_pixels), ("near-duplicate", alike))
        for a, b in pairs.tolist()
    ]


def patients_comparable(store_a: Store, store_b: Store) -> bool:
    """Whether one key made the patients' pseudonyms of both stores; with two, a shared patient goes unnoticed."""
    if store_a.fingerprint == store_b.fingerprint:
        return True
    keys = [private_folder(store.path) / "key" for store in (store_a, store_b)]
    return all(key.exists() for key in keys) and keys[0].read_text("ascii") == keys[1].read_text("ascii")


def details(store: Store, rows: np.ndarray) -> np.ndarray:
    """What tells one chest from another: edges of about 3 to 10 % of a film's side.

    Returns:
        (n, 64, 64) float32 with a standard deviation of 1; zeros for a blank film.
    """
    found = np.empty((len(rows), _COMPARED_SIDE, _COMPARED_SIDE), np.float32)
    for batch in _batches(len(rows)):
        films = _shrink(store.pixels(rows[batch]), _COMPARED_SIDE)
        films = gaussian_filter(films, (0, 1, 1))
        films -= gaussian_filter(films, (0, 4, 4))
        spread = films.std(axis=(1, 2), keepdims=True)
        found[batch] = np.divide(films, spread, out=np.zeros_like(films), where=spread > 1e-9)
    return found


def _shrink(films: np.ndarray, side: int) -> np.ndarray:
    """Averages (n, H, H) whole numbers over areas: (n, side, side) float64.

    The sums are whole numbers too, so that they do not depend on the order in which a machine adds.
    """
    size = films.shape[1]
    # Lengths in units of 1 / (size x side) of the film, so that cells and pixels both begin at whole numbers.
    cells, pixels = np.arange(side)[:, None] * size, np.arange(size)[None] * side
    overlap = np.clip(np.minimum(cells + size, pixels + side) - np.maximum(cells, pixels), 0, None).astype(float)
    return overlap @ films.astype(float) @ overlap.T / size**2


def _equal(films_a: pd.DataFrame, films_b: pd.DataFrame, column: str) -> np.ndarray:
    """(k, 2) positions of films that are equal in this column, those without a value aside."""
    known_a, known_b = (
        films[[column]].assign(position=films.index).dropna(subset=column) for films in (films_a, films_b)
    )
    pairs = known_a.merge(known_b, on=column, suffixes=("_a", "_b")).sort_values(["position_a", "position_b"])
    return pairs[["position_a", "position_b"]].to_numpy(dtype=np.int64)


def _of_one_patient(pairs: np.ndarray, films_a: pd.DataFrame, films_b: pd.DataFrame) -> np.ndarray:
    """(k,) bool, which of (k, 2) pairs of positions are known to be of one patient."""
    patients_a, patients_b = (films["patient_id"].fillna("").to_numpy(dtype=object) for films in (films_a, films_b))
    a, b = patients_a[pairs[:, 0]], patients_b[pairs[:, 1]]
    return (a == b) & (a != "")


def _likeness_of(
    store_a: Store, rows_a: np.ndarray, store_b: Store, rows_b: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """(k,) likeness of (k, 2) pairs of positions; a film is read once, in however many pairs it is."""
    (used_a, a), (used_b, b) = (np.unique(pairs[:, side], return_inverse=True) for side in (0, 1))
    details_a, details_b = details(store_a, rows_a[used_a]), details(store_b, rows_b[used_b])
    found = np.empty(len(pairs))
    for batch in _batches(len(pairs)):
        found[batch] = likeness(details_a[a[batch]], details_b[b[batch]])
    return found


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + _BATCH) for start in range(0, count, _BATCH))
