"""Does each method's small recipe know held-out films again, better than a random backbone and than raw pixels?

    uv run python studies/retrieval.py STORE OUT [--steps 300] [--seeds 0 1 2] [--recipes moco barlow_twins ...]

Trains each small recipe and measures `scarce_cxr.monitor.retrieval` on its held-out patients: top-1 among 100 films,
10 draws, with a 95 % interval by patients. Ten looks of the monitor a run tell whether it ever raises a false alarm:
`alarms` counts the looks after which its verdict was a collapse, `verdict` is the last one. A run that is finished is
not trained again, one that was stopped goes on; OUT/retrieval.csv holds a row a recipe and seed.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import measure_retrieval
from scarce_cxr.monitor.verdict import Look, judge
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_looks

RECIPES = Path(__file__).parents[1] / "recipes/small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=["moco", "barlow_twins", "dino", "byol", "spark"])
    arguments = parser.parse_args()
    store, table = Store.open(arguments.store), arguments.out / "retrieval.csv"
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for seed in arguments.seeds:
        for name in arguments.recipes:
            if (name, seed, arguments.steps) in {(row["recipe"], row["seed"], row["steps"]) for row in rows}:
                continue
            rows.append(one(store, arguments.out, name, seed, arguments.steps))
            print(rows[-1])
            with written_whole(table) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)


def one(store: Store, out: Path, name: str, seed: int, steps: int) -> dict:
    """Trains one recipe with one seed and measures it."""
    recipes = recipe_parser()
    options = [f"--seed={seed}", f"--training.duration={steps} steps", "--watch.every=10 %"]
    # For studies/best_agreement.py: what the score says of a run's way, and not of its end alone.
    options += ["--training.keep_every=20 %"]
    recipe, text = settle(recipes, recipes.parse_args(["--config", str(RECIPES / f"{name}.yaml"), *options]))
    run = RunFolder(out / f"{name}-{steps}-{seed}")
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        last = run.last_checkpoint
        pretrain(recipe, text, store, run, checkpoint=last if last.is_file() else None, make_watchers=make_watchers)
    films = np.flatnonzero(held_out_films(store, recipe))
    method = build_method(recipe).eval()
    random = measure_retrieval(store, films, method.backbone, recipe.views.size)
    pixels = measure_retrieval(store, films, lambda views: views.flatten(1), recipe.views.size)
    method.load_state_dict(read_checkpoint(run.last_checkpoint)["module"])
    trained = measure_retrieval(store, films, method.backbone, recipe.views.size)
    row = {"recipe": name, "seed": seed, "steps": steps}
    for what, measured in (("trained", trained), ("random", random), ("pixels", pixels)):
        row |= {what: measured.top1, f"{what}_low": measured.low, f"{what}_high": measured.high}
    looks = [Look(step, numbers) for step, numbers in read_looks(run.metrics)]
    _, warmup = recipe.training.check(int((~held_out_films(store, recipe)).sum()))
    alarms = [judge(looks[: last + 1], warmup).is_collapse for last in range(len(looks))]
    row |= {"looks": len(looks), "alarms": sum(alarms), "verdict": run.read_state()["verdict"]["name"]}
    row |= {"draws": trained.draws, "of": trained.films_per_draw, "films": trained.films}
    row |= {"patients": trained.patients, "minutes": run.read_state()["seconds"] / 60}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


if __name__ == "__main__":
    main()
