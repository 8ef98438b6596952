"""Does each method's small recipe know held-out films again, better than a random backbone and than raw pixels?

    uv run python studies/retrieval.py STORE OUT [--steps 300] [--recipes moco barlow_twins dino byol spark]

Trains each small recipe and measures `scarce_cxr.monitor.retrieval` on its held-out patients: top-1 among 100 films,
10 draws, with a 95 % interval by patients. A recipe whose run is finished is not trained again; OUT/retrieval.csv
holds a row a recipe.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import measure_retrieval
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder

RECIPES = Path(__file__).parents[1] / "recipes/small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--recipes", nargs="+", default=["moco", "barlow_twins", "dino", "byol", "spark"])
    arguments = parser.parse_args()
    store, rows = Store.open(arguments.store), []
    for name in arguments.recipes:
        recipes = recipe_parser()
        options = [f"--training.duration={arguments.steps} steps", "--watch.every=100 %"]
        recipe, text = settle(recipes, recipes.parse_args(["--config", str(RECIPES / f"{name}.yaml"), *options]))
        run = RunFolder(arguments.out / name)
        if run.read_state().get("state") != "finished":
            run.path.mkdir(parents=True, exist_ok=True)
            last = run.last_checkpoint
            pretrain(recipe, text, store, run, checkpoint=last if last.is_file() else None)
        films = np.flatnonzero(held_out_films(store, recipe))
        method = build_method(recipe).eval()
        random = measure_retrieval(store, films, method.backbone, recipe.views.size)
        pixels = measure_retrieval(store, films, lambda views: views.flatten(1), recipe.views.size)
        method.load_state_dict(read_checkpoint(run.last_checkpoint)["module"])
        trained = measure_retrieval(store, films, method.backbone, recipe.views.size)
        row = {"recipe": name, "steps": arguments.steps}
        for what, measured in (("trained", trained), ("random", random), ("pixels", pixels)):
            row |= {what: measured.top1, f"{what}_low": measured.low, f"{what}_high": measured.high}
        row |= {"draws": trained.draws, "of": trained.films_per_draw, "films": trained.films}
        row |= {"patients": trained.patients, "minutes": run.read_state()["seconds"] / 60}
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        print(rows[-1])
        with written_whole(arguments.out / "retrieval.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
