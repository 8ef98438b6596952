"""Watches how the representation of held-out films is spread, and what two views of a film share."""

import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.collapse import collapse_figure
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.methods.dino import entropy
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.measures import alignment, embedding_measures, matched_information, uniformity
from scarce_cxr.monitor.retrieval import encode_in_batches, evaluation_views, retrieval
from scarce_cxr.monitor.sparing import SparingFigure
from scarce_cxr.monitor.verdict import Look, Verdict, judge
from scarce_cxr.training.loop import Watcher
from scarce_cxr.training.recipe import WatchSettings
from scarce_cxr.training.run_folder import RunFolder, read_looks

logger = logging.getLogger(__name__)

_FILMS_PER_DRAW = 100
# Films that a look must see to measure how they are spread. A rank is at most one less than their number: where few are
# seen, a healthy run has the rank of a collapse.
FEWEST_FILMS = 16
_OF_SPREAD = ("std", "std_ratio", "rank", "rankme", "alpha")

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]


def measure(method: Method, store: Store, films: np.ndarray, size: int, *, pairs: int = 1) -> dict[str, float]:
    """`measure_views` of the store's films, whose views are made for it.

    Args:
        method: the method, in evaluation mode.
        store: the store.
        films: (n,) indices of films that were not trained on, n >= 2.
        size: side of the views in pixels.
        pairs: pairs of views of each film for what two views share; entropies over many prototypes need at least
            1,000 views.
    """
    device = next(method.parameters()).device
    views = [evaluation_views(store, films, size, pair=pair, device=device) for pair in range(pairs)]
    return measure_views(method, views, patients_of(store.table.iloc[films]).astype(str))


def measure_views(method: Method, views: Pairs, patients: np.ndarray) -> dict[str, float]:
    """Everything that the monitor measures of a method on held-out films, in evaluation mode.

    Args:
        method: the method; one that projects or assigns is asked for that too.
        views: pairs of views of the same n films, (n, 1, S, S) each; what is not said of prototypes looks at the first
            pair alone.
        patients: (n,) whose film it is.

    Returns:
        Named numbers: `feature_*` and `projection_*` (see `embedding_measures`, with `alignment` and `uniformity`; of
        fewer than `FEWEST_FILMS` films nothing of rank and spread), `retrieval` with its interval,
        `held_out_matched_information` and its kin (see `matched_information`), and `held_out_films`,
        `held_out_patients`, `held_out_views`, which stand behind them.
    """
    films = len(patients)
    features = [encode_in_batches(method.backbone, view) for view in views[0]]
    numbers = _spread("feature", features)
    with torch.no_grad():
        projections = [method.project(view) for view in features]
    if all(projection is not None for projection in projections):
        numbers |= _spread("projection", [projection.float() for projection in projections])
    drawn = min(_FILMS_PER_DRAW, films)
    found = retrieval(*features, patients, films_per_draw=drawn)
    numbers |= {"retrieval": found.top1, "retrieval_low": found.low, "retrieval_high": found.high}
    numbers |= {"retrieval_among": drawn}
    if hasattr(method, "assign"):
        numbers |= _matched(method, views, features, patients)
    return numbers | {
        "held_out_films": films,
        "held_out_patients": found.patients,
        "held_out_views": 2 * len(views) * films,
    }


def _spread(what: str, views: list[torch.Tensor]) -> dict[str, float]:
    first, second = views
    numbers = embedding_measures(first)
    if np.isfinite(numbers["norm"]) and second.isfinite().all():
        numbers |= {"alignment": alignment(first, second)}
        numbers |= {"uniformity": (uniformity(first) + uniformity(second)) / 2}
    if len(first) < FEWEST_FILMS:
        numbers = {name: value for name, value in numbers.items() if name not in _OF_SPREAD}
    return {f"{what}_{name}": value for name, value in numbers.items()}


def _matched(
    method: Method, views: Pairs, first_features: list[torch.Tensor], patients: np.ndarray
) -> dict[str, float]:
    crops = [torch.cat([pair[which] for pair in views]) for which in (0, 1)]
    # The first pair has been through the backbone.
    others = [[encode_in_batches(method.backbone, view) for view in pair] for pair in views[1:]]
    features = [torch.cat(parts) for parts in zip(first_features, *others, strict=True)]
    said = method.assign(crops, features)
    shared = matched_information(said.targets, said.logits, method.student_temperature, np.tile(patients, len(views)))
    numbers = {f"held_out_{name}": value for name, value in shared.items()}
    plain = entropy(said.plain.mean(dim=(0, 1), dtype=torch.float64)).item()
    return numbers | {"held_out_plain_entropy": plain, "ln_outputs": float(np.log(said.logits.shape[-1]))}


class RepresentationWatch(Watcher):
    """Measures held-out films at every look, gives the verdict, and draws `figures/collapse.png`.

    Args:
        store: the store.
        films: (n,) indices of the held-out films to measure, n >= 2.
        size: side of the views in pixels.
        settings: what to do about a collapse.
        run: where numbers and figures go; earlier looks are read from there.
        warmup: steps of the learning rate's warm-up.
    """

    def __init__(
        self, store: Store, films: np.ndarray, size: int, settings: WatchSettings, run: RunFolder, warmup: int
    ) -> None:
        self.store, self.films, self.size, self.settings, self.run = store, films, size, settings, run
        self.warmup = warmup
        self.patients = patients_of(store.table.iloc[films]).astype(str)
        self.views: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.figure = SparingFigure(self._draw)
        self.looks = [Look(step, numbers) for step, numbers in read_looks(run.metrics)]
        self.verdict: Verdict | None = None

    def look(self, method: Method, step: int) -> dict[str, float]:
        """Returns the numbers of `measure`; writes the verdict into the run's state."""
        method.eval()
        device = next(method.parameters()).device
        if not self.views or self.views[0][0].device != device:
            # Every look sees the same views: some megabytes kept save making them each time.
            self.views = [evaluation_views(self.store, self.films, self.size, device=device)]
        numbers = measure_views(method, self.views, self.patients)
        self.looks = [look for look in self.looks if look.step < step] + [Look(step, numbers)]
        verdict = judge(self.looks, self.warmup)
        if self.verdict is None or verdict.name != self.verdict.name:
            say = logger.warning if verdict.is_collapse else logger.info
            say("step %d: %s (%s)", step, verdict.name, verdict.reason)
            if verdict.is_collapse:
                logger.warning("what to change, the likeliest first: %s", "; ".join(verdict.advice))
        self.verdict = verdict
        self.run.write_state(verdict=asdict(verdict))
        self.figure.due()
        return numbers

    def finish(self) -> None:
        self.figure.finish()

    def _draw(self) -> None:
        title = f"Step {self.looks[-1].step}: {self.verdict.name}"
        figure = collapse_figure({self.run.path.resolve().name: self.looks}, title)
        theme.save(figure, self.run.figures / "collapse.png")

    def reason_to_stop(self) -> str:
        if self.settings.on_collapse == "stop" and self.verdict is not None and self.verdict.is_collapse:
            return f"{self.verdict.name}: {self.verdict.reason}"
        return ""
