"""One probe to look into: what it scores, which films are shown of it, and where on them its answers come from."""

from typing import NamedTuple

import numpy as np
import torch

from scarce_cxr.backbones.embed import embed, normalization_of
from scarce_cxr.backbones.starts import Start, load_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.fewshot import Task, draw_cells
from scarce_cxr.evaluation.gradcam import Cam, Randomised, grad_cam, linear_head, randomisation_check
from scarce_cxr.evaluation.intervals import Interval, auroc_interval
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.shots import Missing, Shots
from scarce_cxr.images.store import Store
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import Normalization, plain_view


class FittedProbe(NamedTuple):
    """A probe of one draw, tested.

    Attributes:
        weights: (d,) on features that `standardise` made of the train split.
        bias: to them.
        shots: the films that it was fitted on.
        scores: (m,) log-odds of the test films, in the task's order.
        auroc: on them, in [0, 1].
        interval: of the AUROC, over test patients: this very probe on other patients.
    """

    weights: np.ndarray
    bias: float
    shots: Shots
    scores: np.ndarray
    auroc: float
    interval: Interval


class Look(NamedTuple):
    """What one start makes of some films.

    Attributes:
        start: the start.
        probe: of its features.
        cam: maps of the films at every stage.
        checks: one a stage: how like they are those of random weights.
    """

    start: Start
    probe: FittedProbe
    cam: Cam
    checks: list[Randomised]

    @property
    def stage(self) -> int:
        """Number of the last stage whose map is fine enough for the check; of the last one where none is."""
        telling = [number for number, check in enumerate(self.checks) if check.verdict in ("changed", "unchanged")]
        return telling[-1] if telling else len(self.checks) - 1


def fit_probe(features: np.ndarray, task: Task, shot: str = "all", draw: int = 0, seed: int = 0) -> FittedProbe:
    """Fits and tests a single probe, the same that `scarce probe` fits on this draw.

    Args:
        features: (n, d) of all films, as a backbone gave them.
        task: a finding.
        shot: a number of positive patients, or "all".
        draw: which of the draws; "all" has one.
        seed: of draws and folds.

    Raises:
        ScarceError: there are not enough films to draw, or the test lacks a class.
    """
    drawn = draw_cells(task, [shot], draw + 1, seed)[shot]
    if isinstance(drawn, Missing):
        raise ScarceError(
            f"enough films of {task.finding} for {shot} shots", drawn.reason, "ask for fewer, or another finding"
        )
    features = standardise(features, task.train)
    probes = fit_probes(features, drawn[-1:], patients=task.patients, seed=seed)
    scores, test = score_probes(features[task.test.rows], probes), task.test
    return FittedProbe(
        probes.weights[0],
        float(probes.bias[0]),
        drawn[-1],
        scores[0],
        float(auroc(scores, test.labels)[0]),
        auroc_interval(scores, test.labels, test.patients),
    )


def one_a_patient(order: np.ndarray, patients: np.ndarray, count: int) -> np.ndarray:
    """The first `count` places of an order that are of different patients.

    Args:
        order: (k,) places among n films, the first preferred.
        patients: (n,) whose film it is.
        count: how many, at most.
    """
    _, firsts = np.unique(patients[order].astype(str), return_index=True)
    return order[np.sort(firsts)[:count]]


def choose_films(task: Task, boxed: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Test films with the finding, of different patients: those with boxes first, otherwise by chance.

    Scores have no say, so that what is shown is not what was hoped for.

    Args:
        task: a finding.
        boxed: (n,) bool, films of the store on which somebody drew the finding.
        count: how many, at most.
        seed: another seed chooses others.

    Returns:
        (k,) rows of the store.
    """
    rows = task.test.rows[task.test.labels == 1]
    order = np.lexsort((Draws(seed, 0, rows).uniform("explain")[:, 0], ~boxed[rows]))
    return one_a_patient(rows[order], task.patients, count)


def look_into(
    store: Store,
    start: Start,
    task: Task,
    rows: np.ndarray,
    *,
    shot: str = "all",
    draw: int = 0,
    seed: int = 0,
    device: str = "cpu",
) -> Look:
    """Fits a start's probe and maps what it sees on films.

    Args:
        store: the films.
        start: the start.
        task: the finding.
        rows: (k,) films to look at.
        shot, draw, seed: see `fit_probe`.
        device: where the backbone computes.

    Raises:
        ScarceError: as for `fit_probe`; or the backbone has no maps.
    """
    features = embed(store, start, device=device).array
    probe = fit_probe(features, task, shot, draw, seed)
    backbone = load_start(start).to(device)
    head = linear_head(probe.weights, probe.bias, features, np.flatnonzero(task.train)).to(device)
    pixels = torch.from_numpy(store.pixels(rows)).to(device)
    images = plain_view(pixels, start.size, Normalization(*normalization_of(store, start)))
    cam = grad_cam(backbone, head, images)
    return Look(start, probe, cam, randomisation_check(backbone, head, images, cascade=False, seed=seed))
