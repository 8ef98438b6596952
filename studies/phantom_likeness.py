"""How alike are a folder's films to one another? Three numbers, for real films or for the phantoms.

Each film is read as luminance in [0, 1] (8-bit values / 255, 16-bit values / 65535), shrunk to 64 x 64 pixels by
area averaging (Pillow's BOX filter), and flattened to a vector of 4096 values. Over at most 1000 films:

* correlation   the mean over all pairs of films of Pearson's correlation between their two vectors;
* first_five    the share (0 to 1) of the variance between films in the first 5 principal components, of the vectors
                minus the mean film, with no other normalisation;
* first_twenty  the same for the first 20 components.

Usage: ``python studies/phantom_likeness.py [FOLDER]``; without a folder, phantoms are drawn, and ``--images``,
``--size`` and ``--seed`` say which.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from scarce_cxr.images.phantoms import write_collection

SIDE = 64


def read_vector(path: Path) -> np.ndarray:
    """Read one film as a vector of 4096 float64 values in [0, 1]."""
    with Image.open(path) as image:
        deep = image.mode.startswith("I")
        film = np.asarray(image if deep else image.convert("L"), dtype=np.float32) / (65535 if deep else 255)
    return shrink(film)


def shrink(film: np.ndarray) -> np.ndarray:
    """Shrink a film of shape (H, W) to 64 x 64 by area averaging and flatten it."""
    small = Image.fromarray(film.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel()


def measure_likeness(vectors: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the three numbers of the module's docstring for film vectors of equal length (two films or more)."""
    films = np.stack(list(vectors))
    count = len(films)
    correlations = np.corrcoef(films)
    centred = films - films.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    return {
        "correlation": float((correlations.sum() - count) / (count * (count - 1))),
        "first_five": float(variances[:5].sum() / variances.sum()),
        "first_twenty": float(variances[:20].sum() / variances.sum()),
    }


def main() -> None:
    """Print the three numbers for the folder or the phantoms named on the command line."""
    parser = argparse.ArgumentParser(description="Measure how alike films are to one another.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder of PNG films; phantoms are drawn without it")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder
        if folder is None:
            write_collection(Path(scratch), images=arguments.images, seed=arguments.seed, size=arguments.size)
            folder = Path(scratch) / "images"
        numbers = measure_likeness(read_vector(path) for path in sorted(folder.glob("*.png"))[: arguments.images])
    print("  ".join(f"{name} {value:.3f}" for name, value in numbers.items()))


if __name__ == "__main__":
    main()
