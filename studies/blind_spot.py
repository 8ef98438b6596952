"""Do contrastive features lose a small finding that masked reconstruction keeps?

    uv run python studies/blind_spot.py OUT [--patients 1500] [--steps 300] [--seeds 0 1]

Draws a phantom film of each patient with nothing, a nodule or fibrotic bands on it, a third of the films each, and
everything else as it is without them; small/spark and small/moco are trained on the films of one half of the patients
without labels, both on the same films at 96 pixels, for as many steps, and frozen. A probe then learns one finding
from films with it and with nothing of the same half, and is tested on the other half. What it reads (`readout`):

    stage 1 to stage 4     the map of ResNet-18 after that stage, averaged over the film; stage 4 is the usual vector
    place 1 to place 4     the same maps at the place where the finding is, or would be had the film one: not to be had
                           in practice, but it tells what averaging loses from what the features lack
    film, place            for `pixels`: all of them, and the 25 x 25 around that place. The latter shows that the
                           findings can be seen at this size
    film                   for `supervised`: a small network trained with all labels and places of the first half, which
                           shows that they can be found without being told where

Starts are `spark`, `moco` and `random`, the backbone of the same seed before training. A shot is so many films with the
finding and as many without, 20 draws; `all` is one. A run that is finished is not trained again, one that was stopped
goes on; a seed whose rows are in OUT/blind_spot.csv is left out. Of its rows

    against empty          `value` is the AUROC, mean of the draws, `low` and `high` its 95 % interval by patients; of
                           readout `retrieval` the share of films that are found again by a second view among 100,
                           which shows that a backbone has learned something
    against a start        the paired difference in AUROC, `start` less `against`, its interval and its p value

studies/blind_spot_figure.py draws films and rows.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import scarce_cxr as scarce
from scarce_cxr.evaluation.comparison import paired_difference
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.names import original_names
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.shots import draw_shots
from scarce_cxr.images.sources.folder import FolderSource
from scarce_cxr.images.splits import held_out, patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import measure_retrieval
from scarce_cxr.progress import bar
from scarce_cxr.training.pretrain import pretrain
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.training.run_folder import RunFolder
from scarce_cxr.views.plans import Normalization, plain_view

RECIPES = Path(__file__).parents[1] / "recipes/small"
METHODS = ("spark", "moco")
FINDINGS = ("Nodule", "Fibrosis")
# Phantoms' findings are as faint as real ones; at 96 pixels they are to be small, not faint.
CONTRAST = 2.0
SEED, STORED, SIZE = 8, 128, 96
TESTED = 0.5
SHOTS, DRAWS = ("10", "50", "100", "all"), 20
REACH = 12
SUPERVISED_STEPS = 300
VALUES = ("value", "low", "high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    out, steps = arguments.out, arguments.steps
    films = make_films(out / "films", arguments.patients)
    store = make_store(out, films)
    films = films.set_index("path").loc[original_names(store.path)[store.table["image_id"]]].reset_index()
    table = out / "blind_spot.csv"
    rows = pd.read_csv(table, keep_default_na=False).to_dict("records") if table.is_file() else []
    blocks = [("pixels", 0, 0), *(("", seed, steps) for seed in arguments.seeds), ("supervised", 0, SUPERVISED_STEPS)]
    for start, seed, trained in blocks:
        by_name = start or METHODS[0]
        if any((row["start"], row["seed"], row["steps"]) == (by_name, seed, trained) for row in rows):
            continue
        made = by_hand(store, films, start) if start else by_starts(store, films, out, trained, seed)
        rows += [{"seed": seed, "steps": trained, **row} for row in made]
        with written_whole(table) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)


def make_films(folder: Path, patients: int) -> pd.DataFrame:
    """Draws the films, unless they are there: (n,) rows of path, patient, labels, and places in shares of the side.

    On films with nothing both findings' places are known; on films with one, label and place of the other are empty.
    Patients whose film would cut a finding off are left out.
    """
    if not (folder / "films.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        with bar("drawing films", patients) as advance:
            for patient in range(1, patients + 1):
                plain = draw_film(SEED, patient, 0, STORED, findings=()).pixels
                shown = (None, *FINDINGS)[patient % 3]
                asked = [shown] if shown else FINDINGS
                with_finding = {name: draw_film(SEED, patient, 0, STORED, findings=[name]) for name in asked}
                advance(1)
                if not all(film.boxes for film in with_finding.values()):
                    continue
                row = {"path": f"{patient:05d}.png", "patient": f"{patient:05d}"}
                for name, film in with_finding.items():
                    box = film.boxes[0]
                    row[name] = int(shown == name)
                    row[f"{name}_x"] = round((box.left + box.width / 2) / STORED, 4)
                    row[f"{name}_y"] = round((box.top + box.height / 2) / STORED, 4)
                    row[f"{name}_side"] = round(max(box.width, box.height) / STORED, 4)
                rows.append(row)
                pixels = plain + CONTRAST * (with_finding[shown].pixels - plain) if shown else plain
                Image.fromarray(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)).save(folder / row["path"])
        with written_whole(folder / "films.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    return pd.read_csv(folder / "films.csv", dtype={"patient": str})


def make_store(out: Path, films: pd.DataFrame) -> Store:
    """The films as a store; a key that is no secret gives patients the same names, and halves, every time."""
    (out / "key").write_text("00" * 16)
    source = FolderSource(
        out / "films", csv=out / "films/films.csv", patient_column="patient", label_columns=list(FINDINGS)
    )
    prepare(source, out / "store", size=STORED, jobs=1, key_file=out / "key")
    return Store.open(out / "store")


def by_starts(store: Store, films: pd.DataFrame, out: Path, steps: int, seed: int) -> Iterator[dict]:
    """Rows of a seed: the methods' and the random backbone's AUROC, and their paired differences."""
    starts = {name: train(store, out / f"{name}-{steps}-{seed}", name, steps, seed) for name in METHODS}
    starts["random"] = "random:resnet18"
    backbones = {name: scarce.load_backbone(str(start), size=SIZE, seed=seed) for name, start in starts.items()}
    for name, backbone in backbones.items():
        known = measure_retrieval(store, np.flatnonzero(held_out(store.table, TESTED)), backbone, SIZE)
        empty = dict.fromkeys(("finding", "shot", "against", "p", "positives"), "")
        measured = {what: round(float(getattr(known, what)), 4) for what in ("low", "high")}
        measured |= {"value": round(known.top1, 4), "draws": known.draws, "test_patients": known.patients}
        yield empty | {"readout": "retrieval", "start": name} | measured
    for finding in FINDINGS:
        task = Task(store, films, finding)
        read = {name: read_maps(store, task, backbone) for name, backbone in backbones.items()}
        for readout in next(iter(read.values())):
            for shot in SHOTS:
                scores = {name: task.probe(features[readout], shot) for name, features in read.items()}
                common = {"finding": finding, "readout": readout, "shot": shot}
                for name in starts:
                    yield common | task.score(scores[name], name)
                for first, second in combinations(starts, 2):
                    yield common | task.compare(scores[first], scores[second], first, second)


def by_hand(store: Store, films: pd.DataFrame, start: str) -> Iterator[dict]:
    """Rows of the pixels, or of the network that was trained with labels."""
    found = supervise(store, films) if start == "supervised" else None
    for finding in FINDINGS:
        task = Task(store, films, finding)
        if found is not None:
            scores = found[None, task.rows[~task.train], FINDINGS.index(finding)]
            yield {"finding": finding, "readout": "film", "shot": "all"} | task.score(scores, start)
            continue
        for readout, features in read_pixels(store, task).items():
            for shot in SHOTS:
                yield {"finding": finding, "readout": readout, "shot": shot} | task.score(
                    task.probe(features, shot), start
                )


def train(store: Store, folder: Path, name: str, steps: int, seed: int) -> Path:
    """The run's folder, after training it if that was not done before."""
    parser = recipe_parser()
    options = [f"--seed={seed}", f"--training.duration={steps} steps", f"--views.init_args.size={SIZE}"]
    options += [f"--watch.held_out={TESTED}", "--watch.every=100 %"]
    recipe, text = settle(parser, parser.parse_args(["--config", str(RECIPES / f"{name}.yaml"), *options]))
    run = RunFolder(folder)
    if run.read_state().get("state") != "finished":
        run.path.mkdir(parents=True, exist_ok=True)
        pretrain(recipe, text, store, run, checkpoint=run.last_checkpoint if run.last_checkpoint.is_file() else None)
    return folder


class Task:
    """One finding: m films with it or with nothing, by `rows` of the store; `train` (m,) bool says which half."""

    def __init__(self, store: Store, films: pd.DataFrame, finding: str) -> None:
        self.finding, self.rows = finding, np.flatnonzero(films[finding].notna())
        chosen = films.iloc[self.rows]
        self.labels = chosen[finding].to_numpy(dtype=float)
        self.places = torch.tensor(chosen[[f"{finding}_x", f"{finding}_y"]].to_numpy(), dtype=torch.float32)
        self.patients = patients_of(store.table)[self.rows].astype(str)
        self.train = ~held_out(store.table, TESTED)[self.rows]

    def probe(self, features: np.ndarray, shot: str) -> np.ndarray:
        """Scores (D, tested) of the draws' probes on features (m, d)."""
        features = standardise(features, self.train)
        draws = [
            draw_shots(self.labels, self.patients, self.train, shot, draw, finding=self.finding)
            for draw in range(1 if shot == "all" else DRAWS)
        ]
        return score_probes(features[~self.train], fit_probes(features, draws, patients=self.patients))

    def score(self, scores: np.ndarray, start: str) -> dict:
        tested = self.labels[~self.train], self.patients[~self.train]
        interval = auroc_interval(scores, *tested)
        return self._row(start, "", len(scores), auroc(scores, tested[0]).mean(), interval.low, interval.high, "")

    def compare(self, first: np.ndarray, second: np.ndarray, start: str, against: str) -> dict:
        found = paired_difference(first, second, self.labels[~self.train], self.patients[~self.train])
        return self._row(start, against, len(first), found.estimate, found.low, found.high, round(found.p, 4))

    def _row(self, start: str, against: str, draws: int, value: float, low: float, high: float, p: float | str) -> dict:
        counts = {"positives": int(self.labels[~self.train].sum()), "test_patients": int((~self.train).sum())}
        measured = {name: round(float(number), 4) for name, number in zip(VALUES, (value, low, high), strict=True)}
        return {"start": start, "against": against, "draws": draws, **measured, "p": p, **counts}


def views_of(store: Store, rows: np.ndarray) -> torch.Tensor:
    """Whole films as networks see them: (m,) -> (m, 1, SIZE, SIZE)."""
    return plain_view(torch.from_numpy(store.pixels(rows)), SIZE, Normalization(store.mean, store.std))


@torch.inference_mode()
def read_maps(store: Store, task: Task, backbone: nn.Module) -> dict[str, np.ndarray]:
    """Features (m, channels) by readout."""
    read: dict[str, list[torch.Tensor]] = {}
    for part in torch.arange(len(task.rows)).split(64):
        maps = backbone.maps(views_of(store, task.rows[part]))
        grid = (2 * task.places[part] - 1)[:, None, None]
        for stage, features in enumerate(maps, 1):
            at_place = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
            read.setdefault(f"stage {stage}", []).append(features.mean((2, 3)))
            read.setdefault(f"place {stage}", []).append(at_place.flatten(1))
    return {readout: torch.cat(parts).numpy() for readout, parts in read.items()}


def read_pixels(store: Store, task: Task) -> dict[str, np.ndarray]:
    """Pixels (m, d) by readout."""
    views = views_of(store, task.rows)
    padded = F.pad(views, (REACH, REACH, REACH, REACH), mode="replicate")[:, 0]
    corners = (task.places * SIZE).long().clamp(0, SIZE - 1).tolist()
    side = 2 * REACH + 1
    around = [film[y : y + side, x : x + side] for film, (x, y) in zip(padded, corners, strict=True)]
    return {"film": views.flatten(1).numpy(), "place": torch.stack(around).flatten(1).numpy()}


def supervise(store: Store, films: pd.DataFrame) -> np.ndarray:
    """Log-odds (n, findings) of a small network that was shown all labels and places of the first half."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for given, made in ((1, 24), (24, 48), (48, 64)):
        layers += [nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, len(FINDINGS), 1)]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    views, targets = views_of(store, np.arange(len(films))), mark_places(films, SIZE // 8)
    chosen = torch.from_numpy(np.flatnonzero(~held_out(store.table, TESTED)))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=SUPERVISED_STEPS)
    with bar("training with labels", SUPERVISED_STEPS) as advance:
        for _ in range(SUPERVISED_STEPS):
            batch = chosen[torch.randint(len(chosen), (64,))]
            flip = [3] if torch.rand(()) < 0.5 else []
            found = network(views[batch].flip(flip))
            loss = F.binary_cross_entropy_with_logits(found, targets[batch].flip(flip), pos_weight=torch.tensor(10.0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            advance(1)
    with torch.inference_mode():
        # A film is as suspicious as its most suspicious place.
        return torch.cat([network.eval()(part).amax((2, 3)) for part in views.split(64)]).numpy()


def mark_places(films: pd.DataFrame, cells: int) -> torch.Tensor:
    """(n, findings, cells, cells) with 1 where a film has the finding."""
    centres = (np.arange(cells) + 0.5) / cells
    marked = np.zeros((len(films), len(FINDINGS), cells, cells), np.float32)
    for number, name in enumerate(FINDINGS):
        x, y, side = (films[f"{name}_{what}"].to_numpy()[:, None, None] for what in ("x", "y", "side"))
        near = np.hypot(centres - x, centres[:, None] - y) <= np.maximum(side / 2, 0.75 / cells)
        marked[:, number] = near & films[name].eq(1).to_numpy()[:, None, None]
    return torch.from_numpy(marked)


if __name__ == "__main__":
    main()
