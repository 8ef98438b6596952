"""Does the monitor name a collapse that was provoked, and how soon?

    uv run python studies/provoked_collapses.py STORE OUT [--steps 120] [--settings NAME ...]

Each setting takes away from a small recipe what keeps it from collapse, from the first step on, and looks every ten
steps. OUT/provoked_collapses.csv has a row a setting: the verdict expected and given, the step of its first look
(`since`) and the step at which it was given (`named`), with the measures that led to it. A run that is finished is not
trained again.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.verdict import Look, judge
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.training.pretrain import held_out_films, pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder, read_looks

RECIPES = Path(__file__).parents[1] / "recipes/small"
SETTINGS = {
    "BYOL without predictor and stop-gradient": (
        "byol",
        {"method.predictor": False, "method.stop_gradient": False, "method.projection_norm": False},
        "one prototype",
    ),
    # The norm takes away what all projections have in common, so that no point is left to fall into.
    "BYOL without predictor, its norm kept": (
        "byol",
        {"method.predictor": False, "method.stop_gradient": False},
        "dimensional collapse",
    ),
    "DINO without centring, teacher 0.001": (
        "dino",
        {"method.centering": "mean", "method.center_momentum": 1.0, "method.teacher_temperature": 0.001},
        "one prototype",
    ),
    "Barlow Twins with lambda 0": ("barlow_twins", {"method.off_diagonal_weight": 0.0}, "dimensional collapse"),
    "MoCo without negatives": (
        "moco",
        # A queue of one key at a high temperature: nothing but the positive pulls.
        {
            "method.queue": 1,
            "method.temperature": 10.0,
            "method.variance_weight": 0.0,
            "method.covariance_weight": 0.0,
        },
        "dimensional collapse",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    store, table = Store.open(arguments.store), arguments.out / "provoked_collapses.csv"
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for name in arguments.settings:
        if name in {row["setting"] for row in rows}:
            continue
        rows.append(one(store, arguments.out, name, arguments.steps))
        print(rows[-1])
        with written_whole(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


def one(store: Store, out: Path, name: str, steps: int) -> dict:
    """Trains one setting and finds the look at which the verdict was given."""
    base, overrides, expected = SETTINGS[name]
    overrides = {**overrides, "training.duration": f"{steps} steps", "watch.every": "10 steps"}
    recipes = recipe_parser()
    options = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]
    recipe, text = settle(recipes, recipes.parse_args(["--config", str(RECIPES / f"{base}.yaml"), *options]))
    run = RunFolder(out / name.replace(" ", "_").replace(",", ""))
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        last = run.last_checkpoint
        pretrain(recipe, text, store, run, checkpoint=last if last.is_file() else None, make_watchers=make_watchers)
    looks = [Look(step, numbers) for step, numbers in read_looks(run.metrics)]
    _, warmup = recipe.training.check(int((~held_out_films(store, recipe)).sum()))
    named = next((n for n in range(1, len(looks) + 1) if judge(looks[:n], warmup).is_collapse), None)
    verdict = judge(looks[:named], warmup)
    last = looks[-1].numbers
    return {
        "setting": name,
        "steps": steps,
        "expected": expected,
        "verdict": verdict.name,
        "since": verdict.since,
        "named": looks[named - 1].step if named else None,
        "because": verdict.reason,
        "films": int(last["held_out_films"]),
        "patients": int(last["held_out_patients"]),
        **{
            key: round(last[key], 4)
            for key in ("feature_rank", "projection_rank", "projection_std_ratio", "retrieval")
            if key in last
        },
        "mean_entropy": round(last.get("held_out_mean_teacher_entropy", float("nan")), 4),
    }


if __name__ == "__main__":
    main()
