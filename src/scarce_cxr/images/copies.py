"""Films that a store holds twice."""

import numpy as np
import pandas as pd

from scarce_cxr.images.duplicates import are_copies, details, likeness, near_duplicates, perceptual_hashes
from scarce_cxr.images.store import Store

# Pairs whose films' details are in memory at a time: at most 260 MB.
_PAIRS = 8192


def copies_within(store: Store) -> pd.DataFrame:
    """Finds pairs of a store's films that are one film, whether of one patient or of two.

    Files are equal as decoded. Near-duplicates have similar hashes and enough likeness, see `duplicates`.

    Args:
        store: the films.

    Returns:
        A row for each pair: `a` < `b` (rows of the table), `kind` (file or near-duplicate), `likeness` in [0, 1] and
        `patients` (same, different, or unknown where the table does not know one of both). Files come first. The time
        goes with the square of the number of films.
    """
    table = store.table
    digests = pd.Series(table["sha256"].to_numpy(dtype=object))
    first = digests.groupby(digests).transform(lambda group: group.index[0])
    files = [(int(a), b, "file", 1.0) for b, a in enumerate(first.fillna(-1).to_numpy(dtype=np.int64)) if 0 <= a < b]
    hashes = perceptual_hashes(store, np.arange(len(store)))
    pairs = near_duplicates(hashes, hashes)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    known = digests.notna().to_numpy()[pairs].all(axis=1)
    pairs = pairs[~known | (digests.to_numpy()[pairs[:, 0]] != digests.to_numpy()[pairs[:, 1]])]
    near = []
    for start in range(0, len(pairs), _PAIRS):
        chunk = pairs[start : start + _PAIRS]
        rows, places = np.unique(chunk, return_inverse=True)
        places = places.reshape(chunk.shape)
        shown = details(store, rows)
        alike = np.concatenate(
            [likeness(shown[part[:, 0]], shown[part[:, 1]]) for part in np.array_split(places, -(-len(places) // 64))]
        )
        near += [(*pair, "near-duplicate", value) for pair, value in zip(chunk.tolist(), alike, strict=True)]
    found = pd.DataFrame([*files, *near], columns=["a", "b", "kind", "likeness"])
    patients = table["patient_id"].fillna("").to_numpy(dtype=object)
    one, other = (patients[found[side].to_numpy(dtype=np.int64)] for side in ("a", "b"))
    found["patients"] = np.select([(one == "") | (other == ""), one == other], ["unknown", "same"], "different")
    right = are_copies(found["likeness"].to_numpy(dtype=float), found["patients"].to_numpy() == "same")
    return found[right].reset_index(drop=True)
