"""What probes of frozen features cost: all draws at once against a plain scikit-learn loop, in turn in one run.

    uv run python benchmarks/probe.py [--features A.npy B.npy ... --store STORE] [--findings NAME ...] [--share 10]

Four findings, shots of 1, 5, 10, 20 and 50 with 20 draws each and all films once, for every table of features (n, d),
whose rows are the store's. Without features it makes three tables of 1,000 films in 512 dimensions and four findings of
their own. The loop is `make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=[0.01, 0.1, 1, 10, 100], cv=min(5, n),
max_iter=1000))` with n films of the rarer class, and LogisticRegression where that is one. With `--share k` it runs on
every k-th trial of each shot count alone, and its time is scaled up. Both times have fitting and scoring the test films
in them. Where both ran, scikit-learn also solves our problem (same features, same strength) to the end: the
AUCs must agree.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scarce_cxr.evaluation.probe import STRENGTHS, fit_probes, score_probes, standardise
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.shots import SHOTS, Missing, Shots, draw_shots
from scarce_cxr.images.splits import patients_of, split
from scarce_cxr.images.store import Store

FINDINGS = ["Effusion", "Infiltration", "Atelectasis", "Pneumonia"]


class Task(NamedTuple):
    """Films with their labels by finding (n,), patients (n,) and sides of the split (n,)."""

    labels: dict[str, np.ndarray]
    patients: np.ndarray
    sides: np.ndarray


class Times:
    """Seconds on the clock and of the processor that stretches of work took."""

    def __init__(self) -> None:
        self.clock = self.processor = 0.0

    def __enter__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def __exit__(self, *_) -> None:
        self.clock += time.perf_counter() - self._begin[0]
        self.processor += time.process_time() - self._begin[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", type=Path, default=[])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--findings", nargs="+", default=FINDINGS)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--share", type=int, default=1, help="the loop runs on every k-th trial")
    arguments = parser.parse_args()
    if arguments.features:
        tables = [np.load(path, mmap_mode="r") for path in arguments.features]
        task = _read_task(Store.open(arguments.store), arguments.findings)
    else:
        tables, task = _make_up()
    _compare(tables, task, arguments.draws, arguments.share)


def _compare(tables: list[np.ndarray], task: Task, draws: int, share: int) -> None:
    first = Times()
    with first:
        scaled = [standardise(table, task.sides == "train") for table in tables]
    shapes = ", ".join(f"{len(table):,} x {table.shape[1]}" for table in tables)
    print(
        f"features {shapes}; {(task.sides == 'train').sum()} films to train on, {(task.sides == 'test').sum()} to test"
    )
    print(f"{torch.get_num_threads()} threads; the loop on every {share}. trial, scaled; seconds: clock (processor)")
    print(f"{'shots':>5} {'trials':>6} {'ours':>15} {'looped':>6} {'loop':>17} {'ratio':>5}  mean AUC ours, loop")
    whole, loop, worst = np.array([first.clock, first.processor]), np.zeros(2), 0.0
    for shot in SHOTS:
        ours, theirs, trials, pairs = Times(), Times(), 0, []
        for table, features in zip(tables, scaled, strict=True):
            cells = {finding: _cell(task, finding, shot, draws) for finding in task.labels}
            drawn = [(finding, films) for finding, cell in cells.items() for films in cell]
            if not drawn:
                continue
            test = np.flatnonzero(task.sides == "test")
            with ours:
                probes = fit_probes(features, [films for _, films in drawn], patients=task.patients)
                scores = score_probes(features[test], probes)
            for number, (finding, films) in enumerate(drawn):
                if (trials + number) % share == 0:
                    with theirs:
                        looped = _plain(films).fit(table[films.rows], films.labels).decision_function(table[test])
                    same = _same_problem(features, films, test, probes.strength[number])
                    aucs = [_auc(task.labels[finding][test], values) for values in (scores[number], looped, same)]
                    worst = max(worst, abs(aucs[0] - aucs[2]))
                    pairs.append(aucs[:2])
            trials += len(drawn)
        if not pairs:
            print(f"{shot:>5}      0  not enough patients")
            continue
        scale = trials / len(pairs)
        whole += [ours.clock, ours.processor]
        loop += [scale * theirs.clock, scale * theirs.processor]
        means = ", ".join(f"{mean:.3f}" for mean in np.mean(pairs, axis=0))
        print(
            f"{shot:>5} {trials:>6} {ours.clock:>7.2f} ({ours.processor:>5.2f}) {len(pairs):>6} "
            f"{scale * theirs.clock:>8.1f} ({scale * theirs.processor:>6.1f}) "
            f"{scale * theirs.clock / ours.clock:>5.0f}  {means}",
            flush=True,
        )
    print(
        f"ours {whole[0]:.2f} s ({whole[1]:.2f}), {first.clock:.2f} s of it to standardise; "
        f"loop {loop[0]:.1f} s ({loop[1]:.1f}); ratio {loop[0] / whole[0]:.1f} ({loop[1] / whole[1]:.1f})"
    )
    print(f"largest difference of AUC from scikit-learn's solution of the same problem: {worst:.5f}")


def _cell(task: Task, finding: str, shot: str, draws: int) -> list[Shots]:
    """The draws of a finding and a shot; none where there are not enough patients."""
    count = 1 if shot == "all" else draws
    made = [
        draw_shots(task.labels[finding], task.patients, task.sides == "train", shot, draw, finding=finding)
        for draw in range(count)
    ]
    return [drawn for drawn in made if not isinstance(drawn, Missing)]


def _auc(labels: np.ndarray, scores: np.ndarray) -> float:
    known = ~np.isnan(labels)
    return roc_auc_score(labels[known], scores[known])


def _plain(drawn: Shots):
    rarer = min(drawn.positives, drawn.negatives)
    if rarer < 2:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=list(STRENGTHS), cv=min(5, rarer), max_iter=1000))


def _same_problem(features: np.ndarray, drawn: Shots, test: np.ndarray, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=100_000)
    return model.fit(features[drawn.rows].astype(float), drawn.labels).decision_function(features[test])


def _read_task(store: Store, findings: list[str]) -> Task:
    labels = read_labels(store, findings).table
    return Task(
        {finding: labels[finding].to_numpy(dtype=float) for finding in findings},
        patients_of(store.table).astype(str),
        split(store.table),
    )


def _make_up() -> tuple[list[np.ndarray], Task]:
    """Three tables of features that tell less and less of what four findings depend on, their spectra as steep as those
    of trained backbones are."""
    films, features, kinds = 1000, 512, 4
    random = np.random.default_rng(0)
    causes = random.normal(size=(films, kinds))
    tables = []
    for signal in (1.0, 0.6, 0.3):
        noise = random.normal(size=(films, features)) / np.sqrt(np.arange(1, features + 1))
        mixing = np.linalg.qr(random.normal(size=(features, features)))[0]
        tables.append(
            ((noise + signal * causes @ random.normal(size=(kinds, features)) / 8) @ mixing).astype(np.float32)
        )
    labels = causes + random.normal(size=(films, kinds)) > np.array([0.0, 0.6, 1.0, 1.4])
    sides = random.permutation(np.repeat(["train", "tune", "test"], [650, 150, 200]))
    patients = np.array([f"patient {number}" for number in range(films)])
    names = zip(FINDINGS, labels.T.astype(float), strict=True)
    return tables, Task(dict(names), patients, sides)


if __name__ == "__main__":
    # scikit-learn announces changes of defaults at every fit.
    warnings.filterwarnings("ignore", category=FutureWarning)
    main()
