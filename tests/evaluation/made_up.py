"""Trials whose truth is known: made-up patients and scores, put into a folder as `scarce probe` puts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from scarce_cxr.evaluation.fewshot import measure_scores
from scarce_cxr.evaluation.trials import TestFilms, Trials

PROTOCOL = {"store": "made up", "films": 400, "labels": "the store's", "test": 0.2, "tune": 0.15, "seed": 0}
KINDS = {"random": "random", "imagenet": "imagenet"}


def make_films(
    finding: str, positives: int, negatives: int, films_a_patient: int = 2, patients: int | None = None
) -> TestFilms:
    """Test films; every finding's are of the same patients, and which are positive is the finding's own."""
    count = positives + negatives
    generator = np.random.default_rng(list(finding.encode()))
    labels = generator.permutation(np.repeat([1, 0], [positives, negatives])).astype(np.int8)
    normal = (labels == 0) & (np.arange(count) % 3 > 0)
    names = np.array([f"p{number // films_a_patient:04d}" for number in range(count)], dtype=object)
    return TestFilms(np.arange(count), labels, names, normal)


def make_scores(
    auc: float, labels: np.ndarray, draws: Sequence[int], key: Sequence[int] = (0,), own: Sequence[int] = (0,)
) -> np.ndarray:
    """Binormal scores (D, n) of this true AUC in every draw.

    Of the noise, half is the film's in all scores of the same key (so that starts are paired), a quarter the film's in
    all draws of the start that `own` stands for, a quarter of the draw alone.
    """
    parts = [
        np.random.default_rng([1, *key]).normal(size=(1, len(labels))) * np.sqrt(0.5),
        np.random.default_rng([2, *key, *own]).normal(size=(1, len(labels))) * np.sqrt(0.25),
        np.random.default_rng([3, *key, *own]).normal(size=(1 + max(draws), len(labels)))[list(draws)] * np.sqrt(0.25),
    ]
    return np.sqrt(2) * norm.ppf(auc) * labels + sum(parts)


def make_trials(
    folder: Path,
    truth: Mapping[tuple[str, str, str, str], float],
    films: Mapping[str, TestFilms],
    draws: int = 8,
    *,
    protocol: Mapping[str, Any] | None = None,
    missing: Mapping[tuple[str, str, str, str], str] | None = None,
    pool: int = 60,
) -> Trials:
    """A folder of trials.

    Args:
        folder: where.
        truth: AUC by (start, how, finding, shot).
        films: test films by finding.
        draws: of every shot but `all`.
        protocol: beside `PROTOCOL`.
        missing: reasons by (start, how, finding, shot).
        pool: positive films that `all` has.
    """
    trials = Trials(folder, {**PROTOCOL, **(protocol or {})})
    count = max(len(of.labels) for of in films.values())
    trials.keep_test_films(films, [f"film{number}" for number in range(count)])
    rows = []
    for (start, how, finding, shot), auc in truth.items():
        test = films[finding]
        numbers = range(1 if shot == "all" else draws)
        key = [*finding.encode(), *shot.encode()]
        own = [*start.encode(), *how.encode()]
        scores = make_scores(auc, test.labels, numbers, key, own).astype(np.float32).astype(float)
        tune_labels = np.repeat([1, 0], [12, 40])
        tune = make_scores(auc, tune_labels, numbers, [*key, 7], own)
        positives = pool if shot == "all" else int(shot)
        negatives = 4 * pool if shot == "all" else int(shot)
        for number, told in zip(numbers, measure_scores(tune, tune_labels, scores, test), strict=True):
            counts = {"films": positives + negatives, "positives": positives, "negatives": negatives}
            counts["patients"] = positives + negatives
            rows.append({**_named(start, how, finding, shot), **counts, **told, "draw": number})
    for (start, how, finding, shot), reason in (missing or {}).items():
        rows.append({**_named(start, how, finding, shot), "draw": 0, "missing": reason})
    trials.add(rows)
    starts = dict.fromkeys([start for start, *_ in truth])
    trials.keep_starts({_fingerprint(start): _facts(start) for start in starts})
    return trials


def _named(start: str, how: str, finding: str, shot: str) -> dict[str, Any]:
    kind = KINDS.get(start, "ssl")
    named = {"start": start, "start_kind": kind, "start_fingerprint": _fingerprint(start), "how": how}
    return {**named, "finding": finding, "shot": shot, "seed": 0}


def _fingerprint(start: str) -> str:
    return f"{start.encode().hex():0<16.16}-64"


def _facts(start: str) -> dict[str, Any]:
    kind = KINDS.get(start, "ssl")
    return {
        "name": start,
        "kind": kind,
        "architecture": "resnet18",
        "image_size": 64,
        "method": "MoCo" if kind == "ssl" else None,
        "source": start,
        "test_films_seen": 0 if kind == "ssl" else None,
    }
