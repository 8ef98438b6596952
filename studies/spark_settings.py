"""What SparK's settings do: patch-normalised against raw targets, 60 against 75 % masked, with and without skips.

    uv run python studies/spark_settings.py STORE OUT [--steps 200]

Trains the small recipe once a setting, the same films, seeds and steps each, and measures on the held-out patients:

    masked_error      mean squared error on masked pixels in the setting's own units: across targets not comparable
    correlation       Pearson correlation of prediction and film inside a masked patch, mean over patches: comparable
    relative_contrast standard deviation of the prediction inside masked patches over that of the film there, both in
                      the film's units (for patch-normalised predictions the film's is 1): 0 is a flat grey square
    flat_contrast     the same over the quarter of the patches whose films have the least contrast: lung and soft tissue
    seam              mean jump of the prediction across the border of two masked patches over that inside patches

A setting whose run is finished is not trained again; OUT/spark_settings.csv holds a row a setting, OUT/targets_*.png
show the two targets side by side.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scarce_cxr.figures import theme
from scarce_cxr.figures.grid import film_grid
from scarce_cxr.figures.reconstructions import rescale_prediction, seam_contrast
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.methods.spark import to_patches
from scarce_cxr.monitor.reconstruction import ReconstructionWatch
from scarce_cxr.training.checkpoint import load_checkpoint
from scarce_cxr.training.optimizer import make_optimizer
from scarce_cxr.training.pretrain import build_method, held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder

RECIPE = Path(__file__).parents[1] / "recipes/small/spark.yaml"
SETTINGS = {
    "patch_60": {},
    "raw_60": {"method.target": "raw"},
    "patch_75": {"method.mask_ratio": 0.75},
    "patch_60_without_skips": {"method.skips": False},
    "patch_75_without_skips": {"method.mask_ratio": 0.75, "method.skips": False},
    "patch_60_fine": {"method.patch": 16},
    "raw_60_fine": {"method.patch": 16, "method.target": "raw"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    rows, painted = [], {}
    for name, overrides in SETTINGS.items():
        watch, method = trained(store, arguments.out / name, arguments.steps, overrides)
        films, predictions, visible, error = watch.paint(method)
        painted[name] = films, predictions, visible
        measured = measure(films, predictions, visible, method.patch, store.std if method.target == "raw" else None)
        held_out = store.table.iloc[watch.films]
        rows.append(
            {
                "setting": name,
                "steps": arguments.steps,
                "masked_error": error,
                **measured,
                "films": len(held_out),
                "patients": held_out["patient_id"].nunique(),
            }
        )
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in rows[-1].items()})
        with written_whole(arguments.out / "spark_settings.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    for patch, suffix in ((32, ""), (16, "_fine")):
        figure = draw_targets({target: painted[f"{target}_60{suffix}"] for target in ("raw", "patch")}, patch)
        theme.save(figure, arguments.out / f"targets_{patch}.png")


def trained(store: Store, folder: Path, steps: int, overrides: dict):
    """The watch and the method of a setting, after training it if that was not done before."""
    settings = {"training.duration": f"{steps} steps", "watch.every": "100 %", **overrides}
    parser = recipe_parser()
    arguments = ["--config", str(RECIPE), *(f"--{name}={value}" for name, value in settings.items())]
    recipe, text = settle(parser, parser.parse_args(arguments))
    run = RunFolder(folder)
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        pretrain(recipe, text, store, run, checkpoint=run.last_checkpoint if run.last_checkpoint.is_file() else None)
    method = build_method(recipe, restored=True)
    load_checkpoint(run.last_checkpoint, module=method, optimizer=make_optimizer(method, recipe.optimizer))
    films = np.flatnonzero(held_out_films(store, recipe))
    return ReconstructionWatch(store, films, recipe.views.size, 6, run), method


def measure(films: np.ndarray, predictions: np.ndarray, visible: np.ndarray, patch: int, raw_scale: float | None):
    """Numbers of a setting over all masked patches: films, predictions and visible (n, S, S)."""
    wanted, given, seen = (
        to_patches(torch.from_numpy(array)[:, None].float(), patch).flatten(0, 1)
        for array in (films, predictions, visible)
    )
    wanted, given = wanted[seen[:, 0] == 0], given[seen[:, 0] == 0]
    deviation = wanted.std(dim=1)
    # Patches that are all but black have no structure to find.
    structured = deviation > 0.01
    wanted, given, deviation = wanted[structured], given[structured], deviation[structured]
    centred = [values - values.mean(dim=1, keepdim=True) for values in (wanted, given)]
    correlation = torch.nn.functional.cosine_similarity(*centred, dim=1)
    contrast = given.std(dim=1) * raw_scale / deviation if raw_scale else given.std(dim=1)
    return {
        "correlation": correlation.mean().item(),
        "relative_contrast": contrast.mean().item(),
        "flat_contrast": contrast[deviation <= deviation.quantile(0.25)].mean().item(),
        "seam": seam_contrast(predictions, visible, patch),
        "patches": len(wanted),
    }


def draw_targets(painted: dict, patch: int):
    """Films, masks, and what both targets make of them."""
    chosen = range(6)
    films, _, visible = painted["patch"]
    rows = [[films[i] for i in chosen], [np.where(visible[i], films[i], np.nan) for i in chosen]]
    for target in ("raw", "patch"):
        _, predictions, _ = painted[target]
        rows.append(
            [np.where(visible[i], films[i], rescale_prediction(predictions[i], films[i], visible[i])) for i in chosen]
        )
    labels = ["original", "masked", "raw target", "patch target"]
    return film_grid(rows, f"Same films, masks and steps, patches of {patch}: raw and patch-normalised targets", labels)


if __name__ == "__main__":
    main()
