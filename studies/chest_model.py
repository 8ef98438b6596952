"""Fits the model by which `scarce check` tells how a film stands, on phantoms, and tests it on real films.

    uv run python studies/chest_model.py --real STORE [--also STORE] [--other FILMS.npy] [--sides FILMS.npy] [--fit]

500 phantoms' frontal films, as they are and mirrored, in five poses (upright, negative, upside down, turned left,
turned right), and as many lateral ones: a linear discriminant with a shrunk covariance. Their principal axes span what
chest films look like. Real frontal films (--real) set one thing, the quantiles of strangeness; printed is how often the
model is wrong on them, on others (--also), on pictures of other things (--other) and on views of a CT from the side
(--sides). Each is a store or a file of (n, H, W) uint8. Without --fit nothing is written.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from scarce_cxr.images import quality
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import scale
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.phantoms.lateral import draw_lateral
from scarce_cxr.images.store import Store

MODEL = Path(quality.__file__).with_name("chest_model.npz")
PATIENTS, PIXELS, SHRINKAGE, AXES, QUANTILES = 500, 64, 0.3, 64, 201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true")
    for name in ("--real", "--also", "--other", "--sides"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    real = None if options.real is None else read(options.real)
    if options.fit:
        write(fit(), real)
    for name in ("real", "also", "other", "sides"):
        path = getattr(options, name)
        if path is not None:
            films = real if name == "real" else read(path)
            report(name, films, turned=name in ("real", "also"))


def read(path: Path) -> np.ndarray:
    """(n, H, W) films of a store or of a NumPy file."""
    if path.suffix == ".npy":
        return np.load(path)
    store = Store.open(path)
    return store.pixels(np.arange(len(store)))


def poses(films: np.ndarray) -> list[np.ndarray]:
    """Frontal films (n, H, H) in [0, 1] or uint8 in the first five of `quality.POSES`."""
    top = 255 if films.dtype == np.uint8 else 1
    return [films, top - films, films[:, ::-1], np.rot90(films, 1, (1, 2)), np.rot90(films, 3, (1, 2))]


def fit() -> dict[str, np.ndarray]:
    """The arrays of `quality.ChestModel`, but for the strangeness of real films."""
    patients = range(1, PATIENTS + 1)
    frontal = np.array([scale(draw_film(1, patient, 0, PIXELS).pixels) for patient in patients])
    lateral = np.array([scale(draw_lateral(1, patient, PIXELS)) for patient in patients])
    frontal, lateral = (np.concatenate([films, films[:, :, ::-1]]) for films in (frontal, lateral))
    ranks = np.concatenate([quality.rank_coarsely(films) for films in (*poses(frontal), lateral)])
    labels = np.repeat(np.arange(len(quality.POSES)), len(frontal))
    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(ranks, labels)
    chests = ranks[(labels == 0) | (labels == len(quality.POSES) - 1)]
    centre = chests.mean(axis=0)
    axes = np.linalg.svd(chests - centre, full_matrices=False)[2][:AXES]
    return {"weights": linear.coef_, "bias": linear.intercept_, "centre": centre, "axes": axes}


def write(arrays: dict[str, np.ndarray], real: np.ndarray | None) -> None:
    """Writes the model; the quantiles of strangeness come from real films."""
    if real is None:
        raise SystemExit("--fit needs --real")

    def save(strangeness: np.ndarray) -> None:
        with written_whole(MODEL) as temporary, temporary.open("wb") as file:
            kept = {name: array.astype(np.float32) for name, array in (arrays | {"strangeness": strangeness}).items()}
            np.savez_compressed(file, **kept | {"axes": arrays["axes"].astype(np.float16)})
        quality.chest_model.cache_clear()

    save(np.linspace(0, 1, QUANTILES))
    measured = quality.measure_films(real)["strangeness"]
    save(np.quantile(measured, np.linspace(0, 1, QUANTILES)))


def report(name: str, films: np.ndarray, turned: bool) -> None:
    """Prints, for films in each pose, how many are called what."""
    for pose, shown in zip(quality.POSES, poses(films) if turned else [films], strict=False):
        kinds = quality.suspects(quality.measure_films(shown))["kind"].value_counts()
        print(f"{name}, {pose if turned else 'as they are'}: {len(shown)} films; {kinds.to_dict()}")


if __name__ == "__main__":
    main()
