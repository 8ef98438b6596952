"""What takes DINO off its plateau on radiographs: one factor at a time, then those that matter on several seeds.

    uv run python studies/dino_factors.py STORE OUT [--steps 200] [--seeds 0] [--settings NAME ...] [--minutes 80]

From the plateau (recipes/small/plateau.yaml: the original experiments' last try) each setting changes one thing towards
ours; from ours (recipes/small/dino.yaml) each takes one thing away. OUT/dino_factors.csv has a row a setting and seed:

    loss, teacher_entropy      of the last batch, nats
    matched, _low, _high       matched information of held-out patients, nats, with its 95 % interval by patients
    mean_entropy               of the mean teacher over `views` held-out views, nats; with Sinkhorn-Knopp nearly the
                               largest possible by construction
    plain_entropy              the same without centre or Sinkhorn-Knopp: few prototypes show here, whatever balances
    retrieval, _low, _high     which of 100 held-out films a second view belongs to, 10 draws
    rank, cosine               of the features; at the random start: start_rank, start_cosine
    verdict, since             of the monitor, and the step since when

A run that is finished is not trained again, one that was cut short goes on, and none is begun after `--minutes`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.representation import measure
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_looks, read_metrics, series

RECIPES = Path(__file__).parents[1] / "recipes/small"
MILD = {"brightness": 0.4, "contrast": 0.4, "jitter_probability": 0.8, "noise": 0.02, "blur": 0}
VIEWS = {f"views.global_augmentation.{name}": value for name, value in MILD.items()}
COLD = {"method.first_teacher_temperature": 0.01, "method.teacher_temperature": 0.01}
FOLLOWING = {"method.momentum": 0.9, "method.momentum_shape": "cosine"}
BALANCED = {"method.centering": "sinkhorn"}
LOCAL = {"views.local_crops": 4, "views.local_size": 32}
# Three views of each film's pairs: over 1,000 views of 200 films.
PAIRS = 3

FROM_PLATEAU = {
    "plateau": {},
    "plateau + teacher 0.01": COLD,
    "plateau + teacher 0.04 fixed": {"method.first_teacher_temperature": 0.04},
    "plateau + teacher 0.04 to 0.07": {"method.first_teacher_temperature": 0.04, "method.teacher_temperature": 0.07},
    "plateau + centre 0.9": {"method.center_momentum": 0.9},
    "plateau + sinkhorn": BALANCED,
    "plateau + head norm": {"method.head_norm": True},
    "plateau + mild views": VIEWS,
    "plateau + decay off norms": {"optimizer.decay_everything": False},
    "plateau + sgd": {"optimizer.name": "sgd", "optimizer.lr": 0.05, "optimizer.weight_decay": 1e-4},
    "plateau + ema 0.996 cosine": {"method.momentum": 0.996, "method.momentum_shape": "cosine"},
    "plateau + local crops": LOCAL,
    "plateau + 4096 outputs": {"method.outputs": 4096},
    "plateau + nothing frozen": {"method.frozen": 0.0},
    "plateau + batch 128": {"training.batch_size": 128},
    "plateau + koleo": {"method.koleo_weight": 0.1},
    "plateau + ema 0.9 cosine": FOLLOWING,
    "plateau + teacher 0.01 + ema 0.9": {**COLD, **FOLLOWING},
    "plateau + teacher 0.01 + mild views": {**COLD, **VIEWS},
    "plateau + teacher 0.01 + sinkhorn": {**COLD, **BALANCED},
    "plateau + teacher 0.01 + sinkhorn + mild views": {**COLD, **BALANCED, **VIEWS},
    "plateau + teacher 0.01 + sinkhorn + mild views + ema 0.9": {**COLD, **BALANCED, **VIEWS, **FOLLOWING},
}
FROM_OURS = {
    "ours": {},
    "ours with teacher 0.02": {"method.teacher_temperature": 0.02},
    "ours with teacher 0.04": {"method.teacher_temperature": 0.04},
    "ours with ema 0.99": {"method.momentum": 0.99},
    "ours with lr 0.0005": {"optimizer.lr": 5e-4},
    "ours with centre": {"method.centering": "mean"},
    "ours without head norm": {"method.head_norm": False},
    "ours with strong views": {
        "views.global_augmentation.brightness": 0.8,
        "views.global_augmentation.contrast": 0.8,
        "views.global_augmentation.noise": 0.1,
        "views.global_augmentation.blur": 7,
    },
    "ours with local crops": LOCAL,
    "ours with koleo": {"method.koleo_weight": 0.1},
    "ours with crop ratios": {"views.global_augmentation.ratio": [0.75, 1.3333]},
}
SETTINGS = {
    **{name: ("plateau", overrides) for name, overrides in FROM_PLATEAU.items()},
    **{name: ("dino", overrides) for name, overrides in FROM_OURS.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--minutes", type=float, default=80)
    arguments = parser.parse_args()
    store, end = Store.open(arguments.store), time.monotonic() + 60 * arguments.minutes
    table = arguments.out / "dino_factors.csv"
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for seed in arguments.seeds:
        for name in arguments.settings:
            done = {(row["setting"], row["seed"], row["steps"]) for row in rows}
            if (name, seed, arguments.steps) in done:
                continue
            if time.monotonic() > end:
                print(f"{arguments.minutes:g} minutes are over; the same command goes on")
                return
            rows.append(one(store, arguments.out, name, seed, arguments.steps))
            print(rows[-1])
            with written_whole(table) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)


def one(store: Store, out: Path, name: str, seed: int, steps: int) -> dict:
    """Trains one setting with one seed and measures it."""
    base, overrides = SETTINGS[name]
    overrides = {
        **overrides,
        "seed": seed,
        "training.duration": f"{steps} steps",
        "watch.every": "10 %",
        "watch.on_collapse": "warn",
    }
    recipes = recipe_parser()
    options = [f"--{key}={value}" for key, value in overrides.items()]
    recipe, text = settle(recipes, recipes.parse_args(["--config", str(RECIPES / f"{base}.yaml"), *options]))
    run = RunFolder(out / f"{name.replace(' ', '_')}-{steps}-{seed}")
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        last = run.last_checkpoint
        checkpoint = last if last.is_file() else None
        pretrain(recipe, text, store, run, checkpoint=checkpoint, make_watchers=make_watchers)
    method = build_method(recipe).eval()
    method.load_state_dict(read_checkpoint(run.last_checkpoint)["module"])
    films = np.flatnonzero(held_out_films(store, recipe))
    measured = measure(method, store, films, recipe.views.size, pairs=PAIRS)
    metrics, state = read_metrics(run.metrics), run.read_state()
    start = read_looks(run.metrics)[0][1]
    row = {
        "setting": name,
        "seed": seed,
        "steps": steps,
        "loss": series(metrics, "loss", "step")[1][-1],
        "teacher_entropy": series(metrics, "teacher_entropy", "step")[1][-1],
        "matched": measured["held_out_matched_information"],
        "matched_low": measured["held_out_matched_information_low"],
        "matched_high": measured["held_out_matched_information_high"],
        "mean_entropy": measured["held_out_mean_teacher_entropy"],
        "plain_entropy": measured["held_out_plain_entropy"],
        "views": int(measured["held_out_views"]),
        "retrieval": measured["retrieval"],
        "retrieval_low": measured["retrieval_low"],
        "retrieval_high": measured["retrieval_high"],
        "rank": measured["feature_rank"],
        "cosine": measured["feature_cosine"],
        "start_rank": start["feature_rank"],
        "start_cosine": start["feature_cosine"],
        "verdict": state["verdict"]["name"],
        "since": state["verdict"]["since"],
        "films": len(films),
        "patients": int(measured["held_out_patients"]),
        "minutes": state["seconds"] / 60,
    }
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


if __name__ == "__main__":
    main()
