"""What a method paints on held-out films: measured at every look, drawn at some."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.methods.spark import Reconstruction
from scarce_cxr.monitor import reconstruction, sparing
from scarce_cxr.monitor.reconstruction import ReconstructionWatch
from scarce_cxr.training.run_folder import RunFolder


class Painter(Method):
    """Paints what it was given, behind a mask on the left half; its error is a batch's mean pixel."""

    patch = 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def reconstruct(self, images: torch.Tensor, draws) -> Reconstruction:
        visible = torch.ones_like(images, dtype=torch.bool)
        visible[..., :16] = False
        return Reconstruction(visible, images, images.mean())


@pytest.fixture
def panels(monkeypatch):
    """What panels are made of, which are not painted; with a clock that makes drawing one take a second."""
    made, clock = [], [0.0]

    def draw(*given):
        made.append(given)
        clock[0] += 1.0

    monkeypatch.setattr(reconstruction, "reconstruction_panel", draw)
    monkeypatch.setattr(reconstruction.theme, "save", lambda figure, path: path)
    monkeypatch.setattr(sparing.time, "perf_counter", lambda: clock[0])
    return SimpleNamespace(all=made, clock=clock, steps=lambda: [int(given[-1].split()[1][:-1]) for given in made])


def test_every_look_measures_and_chosen_ones_are_drawn_when_the_time_allows_or_before_the_end(
    small_store, tmp_path, panels
):
    store = Store.open(small_store)
    watch = ReconstructionWatch(store, np.arange(48), 32, 2, RunFolder(tmp_path), {0, 3, 6, 9})
    looks = []
    for step in range(8):
        looks.append(watch.look(Painter(), step))
        # A second in 400: of steps that take 100, the one at 3 comes too early, and is drawn with that at 6.
        assert panels.steps() == ([0] if step < 6 else [0, 3, 6])
        panels.clock[0] += 100
    assert looks == 8 * looks[:1]
    # The run ends before its time: the last look is drawn, once.
    watch.finish()
    watch.finish()
    assert panels.steps() == [0, 3, 6, 7]
    assert panels.all[-1][0].shape == (2, 32, 32)
    assert np.array_equal(panels.all[-1][0], panels.all[0][0])


def test_in_the_end_all_looks_are_drawn_unless_some_are_chosen(small_store, tmp_path, panels):
    watch = ReconstructionWatch(Store.open(small_store), np.arange(5), 32, 2, RunFolder(tmp_path))
    for step in range(3):
        watch.look(Painter(), step)
    watch.finish()
    assert panels.steps() == [0, 1, 2]


def test_films_are_read_once_for_all_looks(small_store, tmp_path, panels, monkeypatch):
    store, read = Store.open(small_store), []
    pixels = store.pixels
    monkeypatch.setattr(store, "pixels", lambda films: read.append(films) or pixels(films))
    watch = ReconstructionWatch(store, np.arange(48), 32, 2, RunFolder(tmp_path))
    for step in range(3):
        watch.look(Painter(), step)
    assert len(read) == 1
