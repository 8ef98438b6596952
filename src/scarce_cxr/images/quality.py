"""Films that do not belong where they are: negatives, lying and lateral ones, no chests, blank and odd ones.

All measures look at stored pixels alone and at one film at a time, so that a single film can be asked about too. How a
film stands is told by a linear discriminant of its 256 ranks (the film averaged to 16 x 16, each pixel replaced by its
place in the order of all), fitted to phantoms: no real film was learnt from, all real films test it.
`studies/chest_model.py` fits it and measures what follows.

On 1,000 films of NIH ChestX-ray14 (682 patients) and 705 others (190 patients), all labelled frontal:

- inverted: none of the 1,705 was called a negative; of their negatives 13 were not (0.8 %), but 12 of these were called
  turned or no chest;
- turned: 3 films (0.2 %), of which one is indeed upside down; of the films that were set upside down 20 were not called
  turned (1.2 %), of those turned by a quarter to the left 20, to the right 15;
- lateral: 11 films (0.6 %). **No real lateral film was at hand.** Of 24 views from the side that were computed from one
  patient's CT 20 were called lateral; what is missed among real ones is not known. A store whose table has laterals
  tells, see `views_as_seen`;
- no chest: 5 of the 1,000, by the choice of the threshold; 2 of the 705 others; none of 39 views computed from the CT.
  Of 45 other pictures (photographs, digits, ultrasound, slices of CT and MR, noise) 41 were called no chest or clipped,
  and one passed as a chest. Radiographs of other parts of the body were not at hand.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import softmax
from scipy.stats import rankdata

SIDE = 16
"""Side in pixels of the averaged film that the poses are told from."""
POSES = ("upright", "inverted", "upside_down", "turned_left", "turned_right", "lateral")
"""How a film can stand; `turned_left` has its head at the left edge."""
LATERAL = 0.8
"""From which probability on a film is called lateral; the other poses count from one half."""
STRANGE = 0.995
"""From which share of real chest films that are less strange a film is called no chest."""
BLANK = 0.02
"""Below which standard deviation of pixels in [0, 1] a film is called blank."""
SATURATED = 0.1
"""From which share of the middle's pixels at the darkest or brightest level a film is called clipped.

0.4 % is the most that the middle of one of the 1,000 films has.
"""
OBLONG = 1.6
"""From which ratio of the longer to the shorter side a film's shape is called wrong."""
OUTLYING = 6.0
"""From which robust z a film's size or intensity is called an outlier; none of the 1,000 films is."""
FEWEST = 30
"""Among how many films, at least, outliers are looked for."""

KINDS = {
    "blank": "nothing on it",
    "clipped": "much of the middle at the darkest or the brightest level",
    "no chest": "unlike nearly all chest films, whichever way it is turned",
    "inverted": "a photometric negative: bones dark, air bright",
    "turned": "upside down or on its side",
    "lateral": "seen from the side, where the table does not say so",
    "aspect": "longer than a chest film is",
    "size": "far larger or smaller than the others",
    "intensity": "far brighter, darker, flatter or harsher than the others",
}
"""What `suspects` and `outliers` look for, in the order in which they are told."""

_TO_DEVIATION = 1.4826


class ChestModel(NamedTuple):
    """What was learnt from phantoms, and measured on real films.

    Attributes:
        weights, bias: (6, 256) and (6,), of the discriminant, by `POSES`.
        centre, axes: (256,) and (k, 256), the mean and the principal axes of phantoms' ranks, upright and lateral.
        strangeness: (m,) ascending quantiles of real frontal films' strangeness, evenly spaced from 0 to 1.
    """

    weights: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    strangeness: np.ndarray


@lru_cache(maxsize=1)
def chest_model() -> ChestModel:
    """The model that comes with the package."""
    with (files("scarce_cxr.images") / "chest_model.npz").open("rb") as file, np.load(file) as arrays:
        return ChestModel(**{name: arrays[name].astype(np.float64) for name in ChestModel._fields})


def measure_films(films: np.ndarray) -> pd.DataFrame:
    """Measures films one by one; the outcome for a film does not depend on the others.

    Args:
        films: (n, H, W) uint8 or uint16 as stored, or floats in [0, 1]; H = W of at least 16.

    Returns:
        n rows: `mean` and `std` of pixels in [0, 1]; `saturated`, the share of the middle's pixels at the darkest or
        brightest level; a probability for each of `POSES`; `strangeness` in [0, 1], see `strangeness`, and `beyond`,
        the share of real chest films that are less strange.

    Raises:
        ValueError: the films have another shape or type.
    """
    films = np.asarray(films)
    if films.ndim != 3 or min(films.shape[1:]) < SIDE or not (films.dtype.kind == "f" or films.dtype.kind == "u"):
        raise ValueError(f"films must be (n, H, W) of at least {SIDE} pixels, got {films.dtype} {films.shape}")
    top = 1.0 if films.dtype.kind == "f" else float(np.iinfo(films.dtype).max)
    ranks = rank_coarsely(films)
    chances = pose_probabilities(ranks)
    strange = strangeness(ranks, chances.argmax(axis=1))
    quantiles = chest_model().strangeness
    down, across = (slice(length // 4, length - length // 4) for length in films.shape[1:])
    middle = films[:, down, across]
    return pd.DataFrame(
        {
            "mean": films.mean(axis=(1, 2), dtype=np.float64) / top,
            "std": films.std(axis=(1, 2), dtype=np.float64) / top,
            "saturated": ((middle == 0) | (middle == films.dtype.type(top))).mean(axis=(1, 2)),
            **dict(zip(POSES, chances.T, strict=True)),
            "strangeness": strange,
            "beyond": np.interp(strange, quantiles, np.linspace(0, 1, len(quantiles))),
        }
    )


def rank_coarsely(films: np.ndarray) -> np.ndarray:
    """What of a film neither contrast nor exposure changes: the order in which its 16 x 16 areas darken.

    Args:
        films: (n, H, W) numbers.

    Returns:
        (n, 256) with a mean of 0 and a root mean square of 1; zeros for a film without any difference. The negative of
        a film has the negative of its ranks.
    """
    small = np.empty((len(films), SIDE * SIDE))
    for row, film in zip(small, films, strict=True):
        image = Image.fromarray(np.ascontiguousarray(film, np.float32))
        row[:] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()
    ranks = rankdata(small, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    spread = ranks.std(axis=1, keepdims=True)
    return np.divide(ranks, spread, out=np.zeros_like(ranks), where=spread > 0)


def pose_probabilities(ranks: np.ndarray) -> np.ndarray:
    """(n, 6) by `POSES`, of ranks (n, 256); each row adds up to 1. They are sharper than warranted: look at ties."""
    model = chest_model()
    return softmax(ranks @ model.weights.T + model.bias, axis=1)


def strangeness(ranks: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """How much of a film, set upright, is outside what phantoms' films span.

    Args:
        ranks: (n, 256), see `rank_coarsely`.
        poses: (n,) positions in `POSES`.

    Returns:
        (n,) root mean square of what is left, in [0, 1]; 1 for a film without any difference.
    """
    model = chest_model()
    upright = set_upright(ranks, poses) - model.centre
    left = upright - (upright @ model.axes.T) @ model.axes
    found = np.sqrt((left**2).mean(axis=1))
    return np.where(ranks.any(axis=1), found, 1.0).clip(0, 1)


def set_upright(ranks: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Undoes the poses (n,), positions in `POSES`, of ranks (n, 256); lateral films stay lateral."""
    turned = ranks.reshape(-1, SIDE, SIDE)
    undone = np.stack([undo(turned) for undo in _UNDO])
    return undone[poses, np.arange(len(ranks))].reshape(len(ranks), -1)


def suspects(measures: pd.DataFrame, views: np.ndarray | None = None) -> pd.DataFrame:
    """Films that one by one look wrong.

    Args:
        measures: n rows, see `measure_films`.
        views: (n,) what the table says: PA, AP, LATERAL, UNKNOWN; None knows nothing. Where it says LATERAL, a film may
            look it.

    Returns:
        A row for each suspicion: `row` (position in measures), `kind` of `KINDS`, `number`, `why`. A film has one at
        the most.
    """
    views = np.full(len(measures), "UNKNOWN") if views is None else np.asarray(views, dtype=object)
    turned = measures[["upside_down", "turned_left", "turned_right"]]
    poses = turned.columns.to_numpy()[turned.to_numpy().argmax(axis=1)] if len(turned) else []
    turn, lateral = turned.max(axis=1), measures["lateral"]
    std, saturated, beyond, inverted = (measures[name] for name in ("std", "saturated", "beyond", "inverted"))
    tests = {
        "blank": (std < BLANK, std, "pixels' standard deviation is {:.3f} of full scale"),
        "clipped": (saturated >= SATURATED, saturated, "{:.0%} of the middle is saturated"),
        "no chest": (beyond >= STRANGE, beyond, "stranger than {:.1%} of real chest films"),
        "inverted": (inverted > 0.5, inverted, "looks like a negative with probability {:.3f}"),
        "turned": (turn > 0.5, turn, "looks {pose} with probability {:.3f}"),
        "lateral": ((lateral >= LATERAL) & (views != "LATERAL"), lateral, "looks lateral with probability {:.3f}"),
    }
    found, seen = [], np.zeros(len(measures), bool)
    for kind, (flags, numbers, why) in tests.items():
        rows, numbers = np.flatnonzero(flags.to_numpy(dtype=bool) & ~seen), numbers.to_numpy()
        seen[rows] = True
        found += [
            (row, kind, numbers[row], why.format(numbers[row], pose=poses[row].replace("_", " "))) for row in rows
        ]
    return _as_frame(found)


def outliers(table: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Films whose shape is wrong, or that differ from the store's others in size or intensity.

    Args:
        table: a store's table, n rows.
        measures: n rows, see `measure_films`.

    Returns:
        Rows as of `suspects`. A film may have several. Sizes and intensities are compared among `FEWEST` films or more.
    """
    height, width = table["height"].to_numpy(dtype=float), table["width"].to_numpy(dtype=float)
    ratio, mean, std = height / width, measures["mean"].to_numpy(), measures["std"].to_numpy()
    pixels = [f"{down:.0f} x {across:.0f} pixels" for down, across in zip(height, width, strict=True)]
    found = [
        (row, "aspect", ratio[row], f"{pixels[row]}, {ratio[row]:.2f} times as high as wide")
        for row in np.flatnonzero(np.maximum(ratio, 1 / ratio) >= OBLONG)
    ]
    if len(table) < FEWEST:
        return _as_frame(found)
    # Scales are never finer than this: where nearly all films are alike, small differences say nothing.
    z = robust_z(np.log(height * width), finest=0.1)
    found += [
        (row, "size", z[row], f"{pixels[row]}, robust z of the area {z[row]:+.1f}")
        for row in np.flatnonzero(np.abs(z) >= OUTLYING)
    ]
    z_mean, z_std = robust_z(mean, finest=0.02), robust_z(std, finest=0.02)
    z = np.where(np.abs(z_mean) >= np.abs(z_std), z_mean, z_std)
    found += [
        (row, "intensity", z[row], f"mean {mean[row]:.2f}, standard deviation {std[row]:.2f}, robust z {z[row]:+.1f}")
        for row in np.flatnonzero(np.abs(z) >= OUTLYING)
    ]
    return _as_frame(found)


def robust_z(values: np.ndarray, finest: float = 0.0) -> np.ndarray:
    """Distances from the median in standard deviations, as the median absolute deviation tells them.

    Args:
        values: (n,) numbers.
        finest: the smallest standard deviation to believe, in the values' unit.

    Returns:
        (n,), 0 where the deviation is 0.
    """
    gaps = values - np.median(values) if len(values) else np.asarray(values, float)
    scale = max(_TO_DEVIATION * float(np.median(np.abs(gaps))), finest) if len(values) else finest
    return gaps / scale if scale > 0 else np.zeros(len(values))


def views_as_seen(measures: pd.DataFrame, views: np.ndarray) -> pd.DataFrame:
    """How films look, by what the table says they are.

    Args:
        measures: n rows, see `measure_films`.
        views: (n,) PA, AP, LATERAL, UNKNOWN.

    Returns:
        A row for each view that occurs: `view`, `films`, and how many look `frontal`, `lateral` and `other`.
    """
    lateral = (measures["lateral"] >= LATERAL).to_numpy()
    frontal = (measures["upright"] > 0.5).to_numpy()
    counts = pd.DataFrame(
        {"view": views, "films": 1, "frontal": frontal, "lateral": lateral, "other": ~(lateral | frontal)}
    )
    return counts.groupby("view", as_index=False).sum()


def batches(count: int, length: int = 64) -> Iterator[np.ndarray]:
    """Rows 0 to count - 1 in batches of at most `length`."""
    return (np.arange(start, min(start + length, count)) for start in range(0, count, length))


def _as_frame(found: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["row", "kind", "number", "why"]).astype({"row": int, "number": float})


# By `POSES`.
_UNDO = (
    lambda films: films,
    np.negative,
    lambda films: films[:, ::-1],
    lambda films: np.rot90(films, 3, (1, 2)),
    lambda films: np.rot90(films, 1, (1, 2)),
    lambda films: films,
)
