"""How often do 95 % intervals cover the truth, and how wide are they, when positives are few?

    uv run python studies/interval_coverage.py [OUT] [--studies 1000]

Simulates studies whose truth is known: made-up patients with 1 to 4 films each, whose scores share an effect of the
patient (intraclass correlation 0.5), or patients with one film each. OUT, by default
studies/results/interval_coverage.csv, gets a row for every method and cell as soon as it is known; a second run does
what is missing. What is measured:

- `model`: the AUROC of one fixed model, by each method;
- `draws`: the AUROC that models have on average which are trained on fresh draws, from 20 of them;
- `auprc`: the average precision of one fixed model, at the share of positives of the test;
- `difference`: of two starts with the same truth, from 5 or 20 draws: how often the interval holds 0.

`covered_low` and `covered_high` are the 95 % interval (Wilson) of the coverage itself, from the number of studies;
`above` and `below` are the shares of intervals wholly above or below the truth.
"""

import argparse
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from scarce_cxr.evaluation.comparison import paired_difference
from scarce_cxr.evaluation.intervals import (
    auprc_interval,
    auroc_interval,
    auroc_intervals,
    bootstrap_interval,
    place,
)
from scarce_cxr.images.atomic import written_whole

RESULTS = Path(__file__).parent / "results" / "interval_coverage.csv"

LIKENESS = 0.5
STUDIES_A_SAMPLE = 20
METHODS = ("DeLong", "logit-DeLong", "shrunken logit-DeLong", "chosen")


class Cell(NamedTuple):
    """What is simulated: films of either class, the truth, the scores' distribution, and how many draws."""

    measured: str
    positives: int
    negatives: int
    auc: float
    distribution: str
    clustered: bool
    draws: int = 1


class Sample(NamedTuple):
    """The films of a study: labels (n,) and whose they are (n,)."""

    labels: np.ndarray
    patients: np.ndarray


def cells() -> Iterator[Cell]:
    """All that is measured, the decisive ones first."""
    everything = product((10, 30, 100, 5), (100, 1000, 30), (0.9, 0.7), DISTRIBUTIONS, (True, False))
    yield from (Cell("model", *each) for each in everything)
    yield from (Cell("model", 300, 1000, auc, each, False) for auc, each in product((0.9, 0.7), DISTRIBUTIONS))
    for positives, auc in product((10, 30, 100), (0.9, 0.7)):
        yield Cell("bootstrap", positives, 100, auc, "binormal", True)
        yield Cell("draws", positives, 100, auc, "binormal", True, 20)
        yield Cell("auprc", positives, 100, auc, "binormal", True)
    for draws, positives, auc in product((5, 20), (10, 30), (0.9, 0.7)):
        yield Cell("difference", positives, 100, auc, "binormal", True, draws)


def measure(cell: Cell, studies: int) -> list[dict]:
    """Simulates a cell and returns a row for every method."""
    generator = np.random.default_rng(zlib.crc32(repr(cell).encode()))
    found: dict[str, list] = {}
    patients = []
    for _ in range(0, studies, STUDIES_A_SAMPLE):
        sample = draw_sample(cell, generator)
        patients.append(len(np.unique(sample.patients[sample.labels == 1])))
        for method, low, high in MEASURED[cell.measured](cell, sample, generator):
            found.setdefault(method, []).append(np.stack([low, high]))
    truth = truth_of(cell)
    return [
        {"method": method, **cell._asdict(), "positive_patients": np.mean(patients), **coverage(ends, truth)}
        for method, ends in ((method, np.concatenate(parts, axis=1)) for method, parts in found.items())
    ]


def coverage(ends: np.ndarray, truth: float) -> dict:
    """What the lower and upper ends (2, studies) come to."""
    low, high = ends
    held = (low <= truth) & (truth <= high)
    covered = stats.binomtest(int(held.sum()), len(held)).proportion_ci(method="wilson")
    return {
        "studies": len(held),
        "coverage": held.mean(),
        "covered_low": covered.low,
        "covered_high": covered.high,
        "above": (low > truth).mean(),
        "below": (high < truth).mean(),
        "mean_width": (high - low).mean(),
    }


def draw_sample(cell: Cell, generator: np.random.Generator) -> Sample:
    """Patients until the films are enough; one with the finding has it on some of its 1 to 4 films, or on all."""
    if not cell.clustered:
        labels = np.repeat([1, 0], [cell.positives, cell.negatives])
        return Sample(labels, np.arange(len(labels)))
    left, labels, patients = {1: cell.positives, 0: cell.negatives}, [], []
    while left[1] or left[0]:
        films = int(generator.integers(1, 5))
        with_finding = min(int(generator.integers(1, films + 1)), left[1]) if left[1] else 0
        without = min(films - with_finding, left[0])
        left = {1: left[1] - with_finding, 0: left[0] - without}
        patient = patients[-1] + 1 if patients else 0
        labels += [1] * with_finding + [0] * without
        patients += [patient] * (with_finding + without)
    return Sample(np.array(labels), np.array(patients))


def draw_effects(sample: Sample, clustered: bool, studies: int, generator: np.random.Generator) -> np.ndarray:
    """Standard normal numbers (studies, n), alike within a patient."""
    own = generator.standard_normal((studies, len(sample.labels)))
    if not clustered:
        return own
    shared = generator.standard_normal((studies, sample.patients.max() + 1))[:, sample.patients]
    return np.sqrt(LIKENESS) * shared + np.sqrt(1 - LIKENESS) * own


def binormal(effects: np.ndarray, positive: np.ndarray, auc: float) -> np.ndarray:
    return effects + positive * np.sqrt(2) * stats.norm.ppf(auc)


def wide(effects: np.ndarray, positive: np.ndarray, auc: float) -> np.ndarray:
    """Binormal, the positives spread 1.5 times as far as the negatives."""
    return np.where(positive, 1.5 * effects + np.sqrt(3.25) * stats.norm.ppf(auc), effects)


def exponential(effects: np.ndarray, positive: np.ndarray, auc: float) -> np.ndarray:
    """Hanley and McNeil's model."""
    return -stats.norm.logcdf(effects) * np.where(positive, auc / (1 - auc), 1)


def t3(effects: np.ndarray, positive: np.ndarray, auc: float) -> np.ndarray:
    """Student's t with three degrees of freedom, shifted: some positives lie below nearly all negatives."""
    return stats.t.ppf(stats.norm.cdf(effects), 3) + positive * _shift_of_t3(auc)


def ratings(effects: np.ndarray, positive: np.ndarray, auc: float) -> np.ndarray:
    """Five grades, as a reader gives them, with many ties."""
    return np.digitize(effects + positive * _shift_of_ratings(auc), _GRADES).astype(float)


DISTRIBUTIONS: dict[str, Callable] = {each.__name__: each for each in (binormal, wide, exponential, t3, ratings)}

_GRADES = np.array([0.0, 0.7, 1.4, 2.1])


@cache
def _shift_of_t3(auc: float) -> float:
    steps = np.linspace(-300, 300, 300_001)
    density = stats.t.pdf(steps, 3) * (steps[1] - steps[0])
    return brentq(lambda shift: (stats.t.cdf(steps + shift, 3) * density).sum() - auc, 0, 20)


@cache
def _shift_of_ratings(auc: float) -> float:
    def area(shift: float) -> float:
        of_positives, of_negatives = (
            np.diff(stats.norm.cdf(np.r_[-np.inf, _GRADES, np.inf] - by)) for by in (shift, 0.0)
        )
        return float((of_positives * (np.cumsum(of_negatives) - of_negatives / 2)).sum())

    return brentq(lambda shift: area(shift) - auc, 0, 20)


def draw_scores(cell: Cell, sample: Sample, studies: int, generator: np.random.Generator) -> np.ndarray:
    """Scores (studies, n) of one model in every study."""
    effects = draw_effects(sample, cell.clustered, studies, generator)
    return DISTRIBUTIONS[cell.distribution](effects, sample.labels == 1, cell.auc)


def draw_models(cell: Cell, sample: Sample, starts: int, generator: np.random.Generator) -> np.ndarray:
    """Scores (starts, draws, n) of models that differ in skill and in what they see in a film.

    Half of the variance is the film's and all models', a fifth the draw's and all starts', the rest a model's own; the
    skill's spread over draws (0.4, where 1 is that of the scores) is shared by the starts to one half.
    """

    def effects(*shape: int) -> np.ndarray:
        flat = draw_effects(sample, cell.clustered, int(np.prod(shape)), generator)
        return flat.reshape(*shape, -1)

    mean = stats.norm.ppf(cell.auc) * np.sqrt(2 + 0.4**2)
    draws = cell.draws
    luck = generator.standard_normal((1, draws, 1)) + generator.standard_normal((starts, draws, 1))
    seen = np.sqrt(0.5) * effects(1, 1) + np.sqrt(0.2) * effects(1, draws) + np.sqrt(0.3) * effects(starts, draws)
    return sample.labels * (mean + 0.4 * np.sqrt(0.5) * luck) + seen


def truth_of(cell: Cell) -> float:
    """What the intervals are to cover."""
    if cell.measured == "difference":
        return 0.0
    return true_auprc(cell) if cell.measured == "auprc" else cell.auc


def true_auprc(cell: Cell) -> float:
    """Average precision of endlessly many binormal films at the cell's share of positives, by quadrature."""
    at = np.linspace(-8, 12, 20_001)
    shift = np.sqrt(2) * stats.norm.ppf(cell.auc)
    right, wrong = cell.positives * stats.norm.sf(at - shift), cell.negatives * stats.norm.sf(at)
    return float((right / (right + wrong) * stats.norm.pdf(at - shift)).sum() * (at[1] - at[0]))


def _measure_model(cell: Cell, sample: Sample, generator: np.random.Generator) -> Iterator[tuple]:
    placements = place(draw_scores(cell, sample, STUDIES_A_SAMPLE, generator), *sample)
    for method in METHODS:
        low, high, _ = auroc_intervals(placements, None if method == "chosen" else method)
        yield method, low, high


def _measure_bootstrap(cell: Cell, sample: Sample, generator: np.random.Generator) -> Iterator[tuple]:
    scores = draw_scores(cell, sample, STUDIES_A_SAMPLE, generator)
    yield "bootstrap", *_ends(bootstrap_interval(row, *sample, replicates=500) for row in scores)


def _measure_auprc(cell: Cell, sample: Sample, generator: np.random.Generator) -> Iterator[tuple]:
    scores = draw_scores(cell, sample, STUDIES_A_SAMPLE, generator)
    intervals = [auprc_interval(row, *sample, replicates=300) for row in scores]
    yield intervals[0].method, *_ends(intervals)
    yield "bootstrap", *_ends(bootstrap_interval(row, *sample, measure="auprc", replicates=300) for row in scores)


def _measure_draws(cell: Cell, sample: Sample, generator: np.random.Generator) -> Iterator[tuple]:
    studies = [draw_models(cell, sample, 1, generator)[0] for _ in range(STUDIES_A_SAMPLE)]
    yield "chosen", *_ends(auroc_interval(scores, *sample) for scores in studies)


def _measure_difference(cell: Cell, sample: Sample, generator: np.random.Generator) -> Iterator[tuple]:
    studies = [draw_models(cell, sample, 2, generator) for _ in range(STUDIES_A_SAMPLE)]
    differences = [paired_difference(*scores, *sample, replicates=500) for scores in studies]
    yield "stretched bootstrap", *_ends((each.low, each.high) for each in differences)


def _ends(intervals) -> np.ndarray:
    """(2, studies) of intervals whose first two values are the ends."""
    return np.array([each[:2] for each in intervals]).T


MEASURED = {
    "model": _measure_model,
    "bootstrap": _measure_bootstrap,
    "draws": _measure_draws,
    "auprc": _measure_auprc,
    "difference": _measure_difference,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--studies", type=int, default=1000)
    arguments = parser.parse_args()
    known = pd.read_csv(arguments.out) if arguments.out.is_file() else pd.DataFrame(columns=Cell._fields)
    rows = known.to_dict("records")
    done = {tuple(row[name] for name in Cell._fields) for row in rows}
    for cell in cells():
        if tuple(cell) in done:
            continue
        new = measure(cell, arguments.studies)
        rows += [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in new]
        print(*cell, *(f"{row['method']} {row['coverage']:.3f}" for row in new), flush=True)
        with written_whole(arguments.out) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
