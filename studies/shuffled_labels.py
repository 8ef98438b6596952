"""Does the test against chance keep its promise on real features when there is nothing to find?

    uv run python studies/shuffled_labels.py STORE [--start random:resnet18] [--size 64] [--finding Effusion]
        [--shot 10] [--draws 20] [--shuffles 200] [--out studies/results/shuffled_labels.csv]

Exchanges the labels of a finding among patients with equally many films, draws, probes and tests as `scarce probe`
does, again and again. A row of OUT tells a finding and shot: the mean AUROC over shuffles, how many of the permutation
values are below 5 % (a fair test comes to more than 17 of 200 once in 80 such studies), how many 95 % intervals hold
0.5, and the p value of Kolmogorov and Smirnov for the permutation values to be evenly spread.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kstest

from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.evaluation.comparison import permutation_p
from scarce_cxr.evaluation.fewshot import Task, draw_cells, make_tasks
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store

RESULTS = Path(__file__).parent / "results" / "shuffled_labels.csv"

PERMUTATIONS = 999


def shuffle_patients(labels: np.ndarray, patients: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Labels (n,) of 1, 0 and nan; each patient's are given as a whole to another one with as many labelled films."""
    labelled = np.flatnonzero(~np.isnan(labels))
    owner = np.unique(patients[labelled], return_inverse=True)[1]
    films = np.bincount(owner)
    by_patient, starts = labelled[np.argsort(owner, kind="stable")], np.cumsum(films) - films
    shuffled = labels.copy()
    for size in np.unique(films):
        rows = by_patient[starts[films == size][:, None] + np.arange(size)]
        shuffled[rows] = labels[generator.permutation(rows)]
    return shuffled


def relabelled(task: Task, labels: np.ndarray) -> Task:
    """The task with other labels (n,), on the same films."""
    return task._replace(labels=labels, test=task.test._replace(labels=labels[task.test.rows].astype(np.int8)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--start", default="random:resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--finding", default="Effusion")
    parser.add_argument("--shot", default="10")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shuffles", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    store, start = Store.open(arguments.store), parse_start(arguments.start, size=arguments.size)
    task = make_tasks(store, read_labels(store, [arguments.finding]), split(store.table))[arguments.finding]
    features = standardise(embed(store, start).array, task.train)
    found = np.array([one(features, task, arguments, shuffle) for shuffle in range(arguments.shuffles)])
    row = {"start": start.name, "size": start.size, "finding": arguments.finding, "shot": arguments.shot}
    row |= {"draws": arguments.draws, "films": len(store), "test_films": len(task.test.rows)}
    row |= {"test_patients": len(np.unique(task.test.patients)), "shuffles": arguments.shuffles}
    auroc, p, low, high = found.T
    row |= {"mean_auroc": round(auroc.mean(), 4), "std_auroc": round(auroc.std(ddof=1), 4)}
    row |= {"rejections_at_5_percent": int((p < 0.05).sum())}
    row |= {"intervals_with_half": int(((low <= 0.5) & (high >= 0.5)).sum())}
    row |= {"evenness_p": round(kstest(p, "uniform").pvalue, 3)}
    print(row)
    key = ["start", "size", "finding", "shot", "draws", "shuffles"]
    known = pd.read_csv(arguments.out, dtype={"shot": str}) if arguments.out.is_file() else pd.DataFrame()
    table = pd.concat([known, pd.DataFrame([row])]).drop_duplicates(key, keep="last")
    with written_whole(arguments.out) as temporary:
        table.to_csv(temporary, index=False)


def one(features: np.ndarray, task: Task, arguments: argparse.Namespace, shuffle: int) -> tuple[float, ...]:
    """AUROC, permutation value and interval of one shuffle."""
    generator = np.random.default_rng([shuffle, 1])
    shuffled = relabelled(task, shuffle_patients(task.labels, task.patients, generator))
    drawn = draw_cells(shuffled, [arguments.shot], arguments.draws, seed=shuffle)[arguments.shot]
    probes = fit_probes(features, drawn, patients=task.patients, seed=shuffle)
    scores, test = score_probes(features[task.test.rows], probes), shuffled.test
    chance = permutation_p(scores, test.labels, test.patients, PERMUTATIONS, seed=shuffle)
    interval = auroc_interval(scores, test.labels, test.patients)
    return chance.auroc, chance.p, interval.low, interval.high


if __name__ == "__main__":
    main()
