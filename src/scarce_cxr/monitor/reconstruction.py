"""Watches what a method paints behind its mask on held-out films."""

import logging
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.reconstructions import reconstruction_panel
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.sparing import SparingFigure
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.run_folder import RunFolder
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, plain_view

logger = logging.getLogger(__name__)

# The masks of every look, in every run: errors of two runs are of the same patches.
_MASK_SEED = 0
_BATCH = 64
# The number's name in the metrics.
MASKED_ERROR = "held_out_error"


class ReconstructionWatch(Watcher):
    """Masked error on held-out films, whole and unaugmented, in evaluation mode; and a panel of some of them.

    Args:
        store: the store.
        films: (n,) indices of the held-out films to measure.
        size: side of the view in pixels.
        panel: how many of them are drawn.
        run: where the panels go.
        drawn: steps whose looks are drawn, and so is the last one; None draws every look.
    """

    def __init__(
        self,
        store: Store,
        films: np.ndarray,
        size: int,
        panel: int,
        run: RunFolder,
        drawn: Container[int] | None = None,
    ) -> None:
        self.store, self.films, self.size, self.panel, self.run = store, films, size, panel, run
        self.drawn = drawn
        rows = store.table.iloc[films]
        self.behind = f"{len(films)} held-out films of {rows['patient_id'].nunique()} patients"
        self.normalization = Normalization(store.mean, store.std)
        self.views: list[torch.Tensor] = []
        # Panels that wait to be drawn, and the last look's if it is none of those.
        self.waiting: list[Callable[[], object]] = []
        self.last: list[Callable[[], object]] = []
        self.figure = SparingFigure(self._draw)

    def look(self, method: Method, step: int) -> dict[str, float]:
        """Returns `held_out_error`; draws `figures/reconstruction-STEP.png` where chosen, now or before the end."""
        images, predictions, visible, error = self.paint(method)
        shown = slice(0, self.panel)
        title = f"Step {step}: masked error {error:.3f} on {self.behind}"
        path = self.run.figures / f"reconstruction-{step:07d}.png"
        # Copies: what waits must not keep all films.
        pictures = [pixels[shown].copy() for pixels in (images, predictions, visible)]
        panel = partial(_draw_panel, pictures, method.patch, title, path)
        if self.drawn is None or step in self.drawn:
            self.waiting.append(panel)
            self.last = []
            self.figure.due()
        else:
            self.last = [panel]
        logger.info("step %d: masked error %.4f on %s", step, error, self.behind)
        return {MASKED_ERROR: error, "held_out_films": len(self.films)}

    def finish(self) -> None:
        """Draws what waits, and the last look in any case: a run may end before its time."""
        if self.last:
            self.waiting += self.last
            self.last = []
            self.figure.due()
        self.figure.finish()

    def _draw(self) -> None:
        for panel in self.waiting:
            panel()
        self.waiting = []

    def paint(self, method: Method) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Films in [0, 1], predictions and visible pixels (each (n, S, S)), and the mean masked error."""
        device = next(method.parameters()).device
        method.eval()
        batches = [
            np.arange(start, min(start + _BATCH, len(self.films))) for start in range(0, len(self.films), _BATCH)
        ]
        if not self.views or self.views[0].device != device:
            # Every look sees the same films: some megabytes kept save reading and resizing them each time.
            pixels = (torch.from_numpy(self.store.pixels(self.films[positions])).to(device) for positions in batches)
            self.views = [plain_view(films, self.size, self.normalization) for films in pixels]
        parts, errors = [], []
        for positions, images in zip(batches, self.views, strict=True):
            made = method.reconstruct(images, Draws(_MASK_SEED, 0, positions))
            arrays = (self.normalization.invert(images), made.prediction, made.visible)
            parts.append([array[:, 0].cpu().numpy() for array in arrays])
            errors.append(made.error.item() * len(positions))
        films, predictions, visible = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return films, predictions, visible, sum(errors) / len(self.films)


def _draw_panel(pictures: list[np.ndarray], patch: int, title: str, path: Path) -> None:
    theme.save(reconstruction_panel(*pictures, patch, title), path)
