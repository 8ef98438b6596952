"""Does the monitor's label-free score choose the backbone that few labels would choose?

    uv run python studies/best_agreement.py STORE RUNS OUT [--findings ...] [--shots 10 50] [--draws 20]

RUNS is a folder of runs that kept checkpoints on their way (studies/retrieval.py makes them). Every kept checkpoint's
features of whole films are probed on the test patients, whom pretraining left out; the run's own look at that step
gives `retrieval`. OUT/best_agreement.csv has a row a checkpoint, with the mean AUROC over findings, shots and draws;
printed is Spearman's rank correlation of both within each run and over all checkpoints.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from scarce_cxr.evaluation.fewshot import draw_cells, make_tasks
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.shots import Missing
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import encode_in_batches
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.pretrain import build_method
from scarce_cxr.training.recipe import read_recipe
from scarce_cxr.training.run_folder import RunFolder, read_looks
from scarce_cxr.views.plans import Normalization, plain_view

FINDINGS = ["Effusion", "Infiltration", "Atelectasis", "Pneumonia"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--findings", nargs="+", default=FINDINGS)
    parser.add_argument("--shots", nargs="+", default=["10", "50"])
    parser.add_argument("--draws", type=int, default=20)
    arguments = parser.parse_args()
    store, table = Store.open(arguments.store), arguments.out / "best_agreement.csv"
    tasks = make_tasks(store, read_labels(store, arguments.findings), split(store.table))
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for folder in sorted(arguments.runs.iterdir()):
        run = RunFolder(folder)
        if not run.read_state():
            continue
        looks = dict(read_looks(run.metrics))
        for checkpoint in sorted(run.checkpoints.glob("step-*.ckpt")):
            step = int(checkpoint.stem.removeprefix("step-"))
            if (folder.name, step) in {(row["run"], row["step"]) for row in rows} or step not in looks:
                continue
            scores, films = probe(store, run, checkpoint, tasks, arguments)
            look = looks[step]
            rows.append({"run": folder.name, "step": step, "retrieval": round(look["retrieval"], 4)})
            rows[-1] |= {"held_out_films": int(look["held_out_films"]), "mean_auroc": round(float(np.mean(scores)), 4)}
            rows[-1] |= {"cells": len(scores), "draws": arguments.draws, "test_films": films}
            print(rows[-1])
            with written_whole(table) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
    frame = pd.DataFrame(rows)
    for run, part in frame.groupby("run"):
        print(f"{run}: {agreement(part):+.2f} over {len(part)} checkpoints")
    print(f"all: {agreement(frame):+.2f} over {len(frame)} checkpoints of {frame['run'].nunique()} runs")


def agreement(frame: pd.DataFrame) -> float:
    """Spearman's rank correlation of retrieval and mean AUROC."""
    return float(spearmanr(frame["retrieval"], frame["mean_auroc"]).statistic)


@torch.no_grad()
def probe(store: Store, run: RunFolder, checkpoint: Path, tasks: dict, arguments) -> tuple[list[float], int]:
    """Mean AUROC over draws of every finding and shot that has enough patients, and the number of test films."""
    recipe, _ = read_recipe(run.recipe)
    method = build_method(recipe, restored=True).eval()
    method.load_state_dict(read_checkpoint(checkpoint)["module"])
    normalization = Normalization(store.mean, store.std)
    batches = np.array_split(np.arange(len(store)), -(-len(store) // 200))
    features = torch.cat(
        [
            encode_in_batches(
                method.backbone,
                plain_view(torch.from_numpy(store.pixels(films)), recipe.views.size, normalization),
            )
            for films in batches
        ]
    )
    train = next(iter(tasks.values())).train
    features, scores = standardise(features.numpy(), train), []
    for task in tasks.values():
        for drawn in draw_cells(task, arguments.shots, arguments.draws).values():
            if not isinstance(drawn, Missing):
                probes = fit_probes(features, drawn, patients=task.patients)
                told = score_probes(features[task.test.rows], probes)
                scores.append(float(auroc(told, task.test.labels).mean()))
    return scores, max(len(task.test.rows) for task in tasks.values())


if __name__ == "__main__":
    main()
