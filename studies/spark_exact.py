"""Does the paper's exact encoder paint or know more than a dense one that runs over the holes?

    uv run python studies/spark_exact.py STORE OUT [--steps 300] [--seeds 0 1 2]

Trains small/spark (dense encoder, U-Net with concatenated skips) and small/spark_exact (the paper's encoder and
decoder) on the same films, views, masks and steps, a run a seed, and measures on the held-out patients:

    masked_error      mean squared error on masked pixels, each patch normalised by itself: whole films, evaluation
                      mode, the same masks (5 of 9 patches of 32 pixels) for every run
    retrieval         frozen features of unmasked films: top-1 among 100 films, 10 draws, 95 % interval by patients;
                      beside it the same backbone before training

Encoder and decoder differ at once: what is found is said of the two recipes, not of the leak alone. A recipe whose run
is finished is not trained again, one that was stopped goes on; OUT/spark_exact.csv holds a row a run, and
OUT/spark_exact.png shows what both make of the same films with the first seed.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from scarce_cxr.figures import theme
from scarce_cxr.figures.grid import film_grid
from scarce_cxr.figures.reconstructions import composite, join_patches, rescale_prediction, tone_curve
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.reconstruction import ReconstructionWatch
from scarce_cxr.monitor.retrieval import measure_retrieval
from scarce_cxr.training.checkpoint import read_checkpoint
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder

RECIPES = Path(__file__).parents[1] / "recipes/small"
VARIANTS = {"dense": "spark", "exact": "spark_exact"}
SHOWN = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    store, rows, painted = Store.open(arguments.store), [], {}
    for seed in arguments.seeds:
        for variant, name in VARIANTS.items():
            recipe, run = trained(store, arguments.out / f"{name}-{seed}", name, arguments.steps, seed)
            films = np.flatnonzero(held_out_films(store, recipe))
            method = build_method(recipe).eval()
            size = recipe.views.size
            random = measure_retrieval(store, films, method.backbone, size)
            method.load_state_dict(read_checkpoint(run.last_checkpoint)["module"])
            found = measure_retrieval(store, films, method.backbone, size)
            *pictures, error = ReconstructionWatch(store, films, size, SHOWN, run).paint(method)
            painted.setdefault(variant, (pictures, error, method.patch))
            state = run.read_state()
            row = {"recipe": name, "seed": seed, "steps": state["step"], "masked_error": error}
            for what, measured in (("retrieval", found), ("random", random)):
                row |= {what: measured.top1, f"{what}_low": measured.low, f"{what}_high": measured.high}
            row |= {"draws": found.draws, "of": found.films_per_draw, "films": found.films, "patients": found.patients}
            row["minutes"] = state["seconds"] / 60
            rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
            print(rows[-1])
            with written_whole(arguments.out / "spark_exact.csv") as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
    theme.save(draw_variants(painted, rows[0]["steps"]), arguments.out / "spark_exact.png")


def trained(store: Store, folder: Path, name: str, steps: int, seed: int):
    """The recipe and the run of a variant, after training it if that was not done before."""
    parser = recipe_parser()
    options = [f"--seed={seed}", f"--training.duration={steps} steps", "--watch.every=100 %"]
    recipe, text = settle(parser, parser.parse_args(["--config", str(RECIPES / f"{name}.yaml"), *options]))
    run = RunFolder(folder)
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        pretrain(recipe, text, store, run, checkpoint=run.last_checkpoint if run.last_checkpoint.is_file() else None)
    return recipe, run


def draw_variants(painted: dict, steps: int):
    """Films, masks, and what each variant paints: as bright as the visible pixels, then as fits the neighbours."""
    (films, _, visible), _, patch = next(iter(painted.values()))
    films, visible = films[:SHOWN], visible[:SHOWN]
    shades = [tone_curve(film) for film in films]
    rows = [films, [np.where(seen, film, np.nan) for film, seen in zip(films, visible, strict=True)]]
    labels = ["original", "masked"]
    for variant, ((_, predictions, _), _, _) in painted.items():
        shown = list(zip(predictions[:SHOWN], films, visible, strict=True))
        rows.append([np.where(seen, film, rescale_prediction(made, film, seen)) for made, film, seen in shown])
        rows.append([composite(join_patches(made, film, seen, patch), film, seen, patch) for made, film, seen in shown])
        labels += [variant, f"{variant}, composite"]
    errors = ", ".join(f"{variant} {error:.3f}" for variant, (_, error, _) in painted.items())
    shaded = [[shade(picture) for shade, picture in zip(shades, row, strict=True)] for row in rows]
    return film_grid(shaded, f"Same films and masks after {steps} steps: masked error {errors}", labels)


if __name__ == "__main__":
    main()
