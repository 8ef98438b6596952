"""What tests of several rooms share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def nih_folder() -> Path:
    """1,000 real films in NIH's layout, beside the repository; tests that need them are skipped where they are not."""
    folder = Path(__file__).parents[1] / "../shared/data/nih"
    if not folder.is_dir():
        pytest.skip(f"no real films at {folder}")
    return folder.resolve()


@pytest.fixture(scope="session")
def small_store(tmp_path_factory) -> Path:
    """A store of 48 made-up films of 64 pixels, two a patient: broad waves and bars, nothing like a chest."""
    import numpy as np
    from PIL import Image
    from scipy.ndimage import zoom

    from scarce_cxr.images.prepare import prepare
    from scarce_cxr.images.sources import FolderSource

    folder = tmp_path_factory.mktemp("films")
    generator = np.random.default_rng(0)
    for number in range(48):
        film = zoom(generator.uniform(40, 200, (6, 6)), 16, order=3)
        film[:, :: generator.integers(7, 13)] += 50
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(folder / f"p{number // 2:02d}_{number % 2}.png")
    store = tmp_path_factory.mktemp("stores") / "small"
    prepare(FolderSource(folder, patient_pattern=r"(p\d+)_"), store, size=64, jobs=1)
    return store
