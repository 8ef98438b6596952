"""A small store, runs on it and trials, all of whose names try to be markup."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.evaluation.made_up import make_films, make_trials

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.evaluation.fewshot import start_key
from scarce_cxr.evaluation.trials import Trials
from scarce_cxr.figures import theme
from scarce_cxr.figures.grid import film_grid
from scarce_cxr.images.store import Store
from scarce_cxr.images.writer import Plan, StoreWriter
from scarce_cxr.training.checkpoint import save_backbone
from scarce_cxr.training.run_folder import Metrics, RunFolder

EVIL = "<script>alert(1)</script>"
SIDE = 32
RECIPE = """\
seed: 0  # <tag>
method:
  class_path: scarce_cxr.methods.spark.SparK
  init_args: {patch: 16, decoder_width: %d, execution: dense}
views:
  class_path: scarce_cxr.views.plans.OneView
  init_args: {size: 32}
backbone: {name: test_resnet}
training: {batch_size: 8}
watch: {held_out: 0.2, price_per_hour: 1.5}
"""


def make_store(path: Path, patients: int = 30) -> Store:
    """Noise of two films a patient, every third patient with a bright square and the finding."""
    generator = np.random.default_rng(0)
    films, rows = [], []
    for patient in range(patients):
        for number in range(2):
            film = 110 + 40 * generator.standard_normal((SIDE, SIDE))
            film[8:20, 8:20] += 70 * (patient % 3 == 0)
            films.append(film)
            row = {"image_id": f"film-{patient:02d}-{number}<i>", "source": "here", "patient_id": f"p{patient:02d}"}
            row |= {"view": "AP" if patient % 2 else "PA", "sex": "F" if patient % 4 < 2 else "M"}
            rows.append({**row, EVIL: int(patient % 3 == 0)})
    settings = {"source": "here", "fit": "crop", "size": SIDE, "bits": 8, "shard_mib": 1}
    writer = StoreWriter(path, Plan(settings, [EVIL]))
    writer.write_shard(0, np.stack(films).clip(0, 255).astype(np.uint8), rows, [])
    return writer.finish()


def make_run(path: Path, store: Store, *, width: int = 8, drawn: bool = True, verdict: str = "healthy") -> Path:
    """A run of 20 steps whose masked error fell from 1.01 to 0.4."""
    path.mkdir(parents=True)
    run = RunFolder(path)
    said = {"name": verdict, "since": 0, "looks": 3, "measures": {}, "reason": "<b>so</b>", "advice": ["<i>less</i>"]}
    run.write_state(
        **{"state": "finished", "step": 20, "total": 20, "seconds": 7200.0, "films": 48, "held_out": 12},
        **{"method": "SparK", "store": str(store.path.resolve()), "fingerprint": store.fingerprint, "verdict": said},
    )
    run.recipe.write_text(RECIPE % width)
    metrics = Metrics(run.metrics)
    for step, error in ((0, 1.01), (10, 0.6), (20, 0.4)):
        if step:
            metrics.write("step", step, 0, {"loss": error + 0.1, "lr": 0.001, "grad_norm": 1.0, "part": error / 2})
        look = {"retrieval": 0.2, "retrieval_low": 0.1, "retrieval_high": 0.4, "retrieval_among": 12}
        metrics.write("watch", step, 0, {"held_out_error": error, "held_out_films": 12, "feature_rank": 5.0, **look})
        if drawn:
            film = np.full((8, 8), step / 40)
            theme.save(film_grid([[film]], f"Step {step}"), run.figures / f"reconstruction-{step:07d}.png")
    if drawn:
        theme.save(film_grid([[film]], "Grad-CAM"), run.figures / "grad-cam.png")
    facts = {"image_size": SIDE, "mean": store.mean, "std": store.std, "store": store.fingerprint, "method": "SparK"}
    save_backbone(run.backbone("last"), Backbone(BackboneSettings("test_resnet")), {**facts, "recipe": RECIPE % width})
    return path


def make_shown_trials(path: Path) -> Path:
    """Trials of two starts, one of which has markup for a name, on two findings."""
    films = {EVIL: make_films(EVIL, 30, 120), "Mass": make_films("Mass", 20, 130)}
    truth = {
        (start, "probe", finding, shot): auc
        for start, auc in (("<u>moco</u>", 0.8), ("random", 0.6))
        for finding in films
        for shot in ("1", "5", "all")
    }
    return make_trials(path, truth, films, draws=4).folder


def make_trials_of(
    run: Path, path: Path, auc: float, *, shots: Mapping[str, tuple[str, ...]] | None = None, other: str = "random"
) -> Path:
    """Trials of a run, at this true AUC, and of another start at 0.6.

    Args:
        run: whose last backbone they are of.
        path: their folder.
        auc: of the run, in every cell.
        shots: of each finding; by default 5, 20 and all of two.
        other: the start that the run is compared with.
    """
    shots = shots or dict.fromkeys((EVIL, "Mass"), ("5", "20", "all"))
    films = {finding: make_films(finding, 30, 120) for finding in shots}
    truth = {
        (start, "probe", finding, shot): of
        for start, of in (("mine", auc), (other, 0.6))
        for finding in films
        for shot in shots[finding]
    }
    made = make_trials(path.with_name(f"{path.name}-made"), truth, films, draws=6)
    table = made.table
    mine = table["start"] == "mine"
    table.loc[mine, "start_fingerprint"] = start_key(parse_start(str(run)))
    trials = Trials(path, made.protocol)
    trials.keep_test_films(films, [f"film{row}" for row in range(150)])
    trials.add(table.astype(object).where(table.notna(), None).to_dict("records"))
    return path
