"""Draws what the projections of two views have in common, for methods that decorrelate them."""

import numpy as np
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.correlation import correlation_figure
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.retrieval import encode_in_batches, evaluation_views
from scarce_cxr.monitor.sparing import SparingFigure
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.run_folder import RunFolder


class CorrelationWatch(Watcher):
    """Draws `figures/correlation.png` of a method that offers `correlate`, on held-out films in evaluation mode.

    Args:
        store: the store.
        films: (n,) indices of the held-out films, n >= 2.
        size: side of the views in pixels.
        run: where the figure goes.
    """

    def __init__(self, store: Store, films: np.ndarray, size: int, run: RunFolder) -> None:
        self.store, self.films, self.size, self.run = store, films, size, run
        self.figure = SparingFigure(self._draw)
        self.method: Method | None = None
        self.step = 0

    def look(self, method: Method, step: int) -> dict[str, float]:
        """Draws now or later; measures nothing: the loss's own two terms stand in the metrics."""
        self.method, self.step = method, step
        self.figure.due()
        return {}

    def finish(self) -> None:
        self.figure.finish()

    @torch.no_grad()
    def _draw(self) -> None:
        training = self.method.training
        self.method.eval()
        device = next(self.method.parameters()).device
        views = evaluation_views(self.store, self.films, self.size, device=device)
        features = [encode_in_batches(self.method.backbone, view) for view in views]
        correlation = self.method.correlate(*features).cpu().numpy()
        self.method.train(training)
        title = f"Step {self.step}: cross-correlation of two views of {len(self.films)} held-out films"
        theme.save(correlation_figure(correlation, len(self.films), title), self.run.figures / "correlation.png")
