"""What tests of several rooms share."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# Before torch is imported: workers that each take all cores hinder each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    # A key of its own would hold out other patients every time, and not even the same number of films.
    key_file = tmp_path_factory.mktemp("keys") / "key"
    key_file.write_text("5c" * 32)
    prepare(FolderSource(folder, patient_pattern=r"(p\d+)_"), store, size=64, jobs=1, key_file=key_file)
    return store


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, one for all tests of a process: a second one beside it would not start."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--headless"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def golden() -> Callable:
    """Reads a file of golden values by name into a dictionary of tensors; skips where there is none."""
    import numpy as np
    import torch

    def read(name: str) -> dict:
        path = Path(__file__).parents[1] / "../shared/golden" / name
        if not path.is_file():
            pytest.skip(f"no golden values at {path}")
        return {name: torch.from_numpy(np.asarray(array)) for name, array in np.load(path).items()}

    return read


@pytest.fixture(scope="session")
def make_views() -> Callable:
    """Makes views of random pixels, one of each size named: make_views(32, 32, count=8)."""
    import numpy as np
    import torch

    from scarce_cxr.views.draws import Draws
    from scarce_cxr.views.plans import Views

    def make(*sizes: int, count: int = 8, seed: int = 1) -> Views:
        generator = torch.Generator().manual_seed(seed)
        crops = [torch.randn(count, 1, size, size, generator=generator) for size in sizes]
        return Views(crops, crops, Draws(0, 0, np.arange(count)))

    return make


@pytest.fixture(scope="session")
def check_checkpointing() -> Callable:
    """Asserts that gradient checkpointing changes neither loss nor gradients nor buffers of a method.

    It takes a function from a backbone to a method, and views.
    """
    import torch

    from scarce_cxr.backbones.backbone import Backbone, BackboneSettings

    def outcome(build, views, checkpointing: bool) -> tuple:
        torch.manual_seed(0)
        method = build(Backbone(BackboneSettings("test_resnet", gradient_checkpointing=checkpointing)))
        # A gain of 0 before the residual sum would hide what the branches do.
        for name, parameter in method.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                torch.nn.init.ones_(parameter)
        loss = method(views).loss
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in method.named_parameters()}, dict(method.named_buffers())

    def check(build, views) -> None:
        plain, recomputed = (outcome(build, views, checkpointing) for checkpointing in (False, True))
        assert torch.equal(plain[0], recomputed[0])
        assert any(gradient is not None and gradient.any() for gradient in plain[1].values())
        for ours, theirs in zip(plain[1:], recomputed[1:], strict=True):
            assert ours.keys() == theirs.keys()
            for name, value in ours.items():
                same = value is theirs[name] if value is None else torch.equal(value, theirs[name])
                assert same, name

    return check
