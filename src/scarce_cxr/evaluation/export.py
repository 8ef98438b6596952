"""A start made into a model for use elsewhere, or with `scarce predict`; tried before it is handed out.

The formats: `timm`, a folder that timm.create_model("local-dir:...") loads; `hf`, the same with a model card, as a
model hub wants it; `pt2` (torch.export) and `onnx`, single files with the preprocessing inside the graph.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from scipy.special import expit

from scarce_cxr.backbones.backbone import Backbone
from scarce_cxr.backbones.embed import embed, embed_pixels
from scarce_cxr.backbones.starts import Start, load_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.card import write_card
from scarce_cxr.evaluation.fewshot import SPECIFICITY, Task, draw_cells, measure_scores, seen_without_labels
from scarce_cxr.evaluation.film_model import (
    EXTRA_WEIGHTS,
    FACTS,
    WEIGHTS,
    Facts,
    FilmModel,
    FilmSettings,
    Output,
    Pixels,
    ProbeFacts,
    as_input,
    read_model,
)
from scarce_cxr.evaluation.gradcam import linear_head
from scarce_cxr.evaluation.guard import Guard, GuardFacts, distances_of, fit_guard, warn_of
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.means import rate_interval
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.evaluation.scores import calibrate, cut_at
from scarce_cxr.images.decode import quantise, resize, scale
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.shots import Missing, Shots
from scarce_cxr.images.splits import evenly
from scarce_cxr.images.store import Store
from scarce_cxr.training.run_folder import RunFolder
from scarce_cxr.views.plans import Normalization, plain_view

Format = Literal["timm", "hf", "pt2", "onnx"]

TOLERANCE = 1e-4
"""Largest difference between an export and what it was made of; relative where the largest value is above 1."""
PARITY_FILMS = 32

# Films of the test split that the guard is tried on, at most.
_TRIED = 1000


@dataclass(frozen=True)
class FittedFinding:
    """A probe of one finding as it is exported: calibrated, on features as the backbone gives them.

    Attributes:
        facts: what it learned from and reached.
        weight, bias: (d,) and a number, to log-odds.
        probabilities: (n,) of all the store's films, in float64.
    """

    facts: ProbeFacts
    weight: np.ndarray
    bias: float
    probabilities: np.ndarray


class Reference(NamedTuple):
    """Films, and what an export must give for them, computed without it.

    Attributes:
        films: (32, size, size) as stored.
        expected: their output; what is None is not compared.
    """

    films: np.ndarray
    expected: Output


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: the folder or file.
        facts: of the model.
        differences: largest absolute difference from the reference, by what was compared.
    """

    path: Path
    facts: Facts
    differences: dict[str, float]


class Parts(NamedTuple):
    """What an export is put together from.

    Attributes:
        start: the start.
        film_model: its graph, with probes and guard if there are any.
        reference: what it is tried on.
        notes: what the user should know.
    """

    start: Start
    film_model: FilmModel
    reference: Reference
    notes: list[str]


def describe(
    start: Start, backbone: Backbone, store: Store | None, pixels: Pixels = "float32"
) -> tuple[Facts, list[str]]:
    """Facts of a start without probes, and what is assumed in them.

    Raises:
        ScarceError: how the start sees pixels is not known.
    """
    mean, std = (start.mean, start.std) if start.mean is not None or store is None else (store.mean, store.std)
    if mean is None or std is None:
        got = f"neither known of {start.name}"
        raise ScarceError("a mean and a standard deviation of pixels", got, "add --store STORE")
    film, notes = (film_settings(store), []) if store else _film_settings_of_run(start)
    facts = Facts(
        name=start.name,
        kind=start.kind,
        method=start.method,
        pretraining_films=_pretraining_films(start),
        architecture=backbone.model.pretrained_cfg["architecture"],
        fingerprint=start.fingerprint,
        features=_width(backbone, start.size),
        image_size=start.size,
        mean=mean,
        std=std,
        film=film,
        pixels=pixels,
        store=store.fingerprint if store else None,
    )
    return facts, notes


def film_settings(store: Store) -> FilmSettings:
    """How a store made films of files."""
    known = store.settings
    return FilmSettings(store.size, known["fit"], known["bits"], known.get("voi", "window"))


def backbone_parts(start: Start, store: Store | None = None, pixels: Pixels = "float32") -> Parts:
    """A backbone alone, to be tried on films of the store, or on phantoms."""
    backbone = load_start(start)
    facts, notes = describe(start, backbone, store, pixels)
    films = phantom_films(facts.film) if store is None else store.pixels(evenly(len(store), PARITY_FILMS))
    reference = Reference(films, Output(embed_pixels(backbone, start, films, facts.mean, facts.std)))
    return Parts(start, FilmModel(backbone, facts), reference, notes)


def probed_parts(
    start: Start,
    store: Store,
    tasks: Sequence[Task],
    split: np.ndarray,
    *,
    shot: str = "all",
    seed: int = 0,
    device: str = "cpu",
    pixels: Pixels = "float32",
) -> Parts:
    """A backbone with a calibrated probe for every finding, and a guard.

    Args:
        start: the backbone's.
        store: the films.
        tasks: the findings.
        split: (n,) train, tune or test.
        shot: a number of patients with the finding to fit on, or all.
        seed: of draws and folds.
        device: where features are computed.
        pixels: what the graph takes.

    Raises:
        ScarceError: no finding has enough films.
    """
    backbone = load_start(start)
    facts, notes = describe(start, backbone, store, pixels)
    features = embed(store, start, device=device).array
    fitted, missing = fit_findings(features, tasks, shot, seed)
    notes += [f"left out: {name}: {reason}" for name, reason in missing.items()]
    if not fitted:
        raise ScarceError("a finding with films to fit, tune and test on", "; ".join(notes), "choose another finding")
    for of in fitted:
        if of.facts.slope <= 0:
            notes.append(f"{of.facts.finding}: on the tuning films the probe ranks no better than chance")
    train = np.flatnonzero(split == "train")
    guarded = fit_guard(features[train], tasks[0].patients[train])
    if guarded is None:
        notes.append("too few patients for a guard: films that are no chest films are told by their looks alone")
    else:
        guard, guard_facts = guarded
        guarded = guard, _try_guard(store, features, np.flatnonzero(split == "test"), guard, guard_facts)
    facts = replace(
        facts,
        test_films_seen=seen_without_labels(start, store, split),
        probes=tuple(of.facts for of in fitted),
        guard=guarded and guarded[1],
    )
    film_model = FilmModel(backbone, facts)
    with torch.no_grad():
        film_model.head.weight.copy_(torch.from_numpy(np.stack([of.weight for of in fitted])))
        film_model.head.bias.copy_(torch.tensor([of.bias for of in fitted]))
    if guarded is not None:
        film_model.guard.load_state_dict(guarded[0].state_dict())
    rows = evenly(len(store), PARITY_FILMS)
    expected = Output(
        embed_pixels(backbone, start, store.pixels(rows), facts.mean, facts.std),
        np.stack([of.probabilities[rows] for of in fitted], axis=1),
        distances_of(guarded[0], features[rows]) if guarded else None,
    )
    return Parts(start, film_model, Reference(store.pixels(rows), expected), notes)


def fit_findings(
    features: np.ndarray, tasks: Sequence[Task], shot: str = "all", seed: int = 0
) -> tuple[list[FittedFinding], dict[str, str]]:
    """Fits the probes that `scarce probe` fits on the first draw of a shot, and calibrates them on the tuning films.

    Args:
        features: (n, d) of all films, as the backbone gave them.
        tasks: the findings.
        shot: a number of patients with the finding, or all.
        seed: of draws and folds.

    Returns:
        The probes, and findings that have too few films, with the reason.
    """
    drawn: dict[str, Shots] = {}
    missing: dict[str, str] = {}
    for task in tasks:
        draws = draw_cells(task, [shot], 1, seed)[shot]
        if isinstance(draws, Missing):
            missing[task.finding] = draws.reason
        elif not 0 < task.tune.labels.sum() < len(task.tune.labels):
            missing[task.finding] = "the tuning films are not of both classes"
        else:
            drawn[task.finding] = draws[0]
    if not drawn:
        return [], missing
    shown = standardise(features, tasks[0].train)
    probes = fit_probes(shown, list(drawn.values()), patients=tasks[0].patients, seed=seed)
    scores = score_probes(shown, probes)
    of_name = {task.finding: task for task in tasks}
    train = np.flatnonzero(tasks[0].train)
    fitted = []
    for number, (name, shots) in enumerate(drawn.items()):
        head = linear_head(probes.weights[number], probes.bias[number], features, train)
        weight, bias = head.weight[0].detach().double().numpy(), head.bias.item()
        fitted.append(_calibrated(of_name[name], shot, shots, weight, bias, scores[number]))
    return fitted, missing


def export_model(parts: Parts, to: Format, out: Path) -> Exported:
    """Writes an export under another name, tries it, and gives it its own name: what is there was tried.

    Args:
        parts: what it is put together from.
        to: the format.
        out: a folder (timm, hf) or a file (pt2, onnx), whose suffix is added where it lacks.

    Raises:
        ScarceError: something of that name is there, a package is missing, or the export gives other numbers.
    """
    out = Path(out)
    if to in ("pt2", "onnx") and out.suffix != f".{to}":
        out = out.with_name(f"{out.name}.{to}")
    if out.exists():
        raise ScarceError("a name that is free", f"{out}, which is there", "choose another, or remove it")
    write = {"timm": _write_timm, "hf": _write_hf, "pt2": _write_pt2, "onnx": _write_onnx}[to]
    with _work_folder(out) as folder:
        made = folder / out.name
        write(parts.film_model, made)
        differences = compare(made, parts)
        made.replace(out)
    return Exported(out, parts.film_model.facts, differences)


def compare(path: Path, parts: Parts) -> dict[str, float]:
    """Largest absolute difference of an export's output on the reference's films, by what is compared.

    Features of a folder are also those that timm alone gives.

    Raises:
        ScarceError: one is larger than `TOLERANCE` times the largest value, or 1 if that is larger.
    """
    films, expected = parts.reference
    found = {"": read_model(path).run(films)}
    if path.is_dir():
        found[" by timm alone"] = Output(_timm_features(path, films, parts.film_model.facts))
    differences = {}
    for by, output in found.items():
        for name, ours, theirs in zip(Output._fields, expected, output, strict=True):
            if ours is None or theirs is None:
                continue
            difference = float(np.abs(ours - theirs).max())
            differences[name + by] = difference
            if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
                got = f"{name}{by} that differ by {difference:.2g} on {len(films)} films"
                raise ScarceError(f"an export within {TOLERANCE:g} of the backbone", got, "take another format")
    return differences


def phantom_films(film: FilmSettings, count: int = PARITY_FILMS) -> np.ndarray:
    """(count, size, size) phantoms' films as a store would hold them."""
    drawn = (draw_film(0, patient, 0, max(film.size, 32)).pixels for patient in range(count))
    return np.stack([quantise(resize(scale(pixels), film.size)[0], film.bits) for pixels in drawn])


def _calibrated(
    task: Task, shot: str, shots: Shots, weight: np.ndarray, bias: float, scores: np.ndarray
) -> FittedFinding:
    """Calibrates a probe of weights (d,) whose scores (n,) of all films are known, and measures it."""
    tune, test = task.tune, task.test
    line = calibrate(scores[tune.rows], tune.labels)
    slope, offset = float(line.slope[0]), float(line.offset[0])
    odds = slope * scores + offset
    cut = float(cut_at(SPECIFICITY, odds[tune.rows], tune.labels)[0])
    told = measure_scores(odds[None, tune.rows], tune.labels, odds[None, test.rows], test)[0]
    interval = auroc_interval(odds[test.rows], test.labels, test.patients)
    above, positive = odds[None, test.rows] > cut, test.labels == 1
    rates = [
        rate_interval(right[:, chosen], test.patients[chosen])
        for right, chosen in ((above, positive), (~above, ~positive))
    ]
    facts = ProbeFacts(
        finding=task.finding,
        shot=shot,
        threshold=float(expit(cut)),
        train_films=len(shots.rows),
        train_positives=int(shots.positives),
        train_patients=int(shots.patients),
        tune_films=len(tune.labels),
        tune_positives=int(tune.labels.sum()),
        test_films=told["test_films"],
        test_positives=told["test_positives"],
        test_patients=told["test_patients"],
        auroc=(told["auroc"], float(interval.low), float(interval.high)),
        sensitivity=(rates[0][0], rates[0][1].low, rates[0][1].high),
        specificity=(rates[1][0], rates[1][1].low, rates[1][1].high),
        brier=told["brier"],
        calibration_error=told["calibration_error"],
        slope=slope,
    )
    return FittedFinding(facts, slope * weight, slope * bias + offset, expit(odds))


def _try_guard(store: Store, features: np.ndarray, rows: np.ndarray, guard: Guard, facts: GuardFacts) -> GuardFacts:
    rows = rows[evenly(len(rows), _TRIED)]
    warned = 0
    for part in np.array_split(rows, -(-len(rows) // PARITY_FILMS)) if len(rows) else ():
        warned += sum(map(bool, warn_of(store.pixels(part), distances_of(guard, features[part]), facts)))
    return replace(facts, held_out_films=len(rows), held_out_warned=warned)


def _width(backbone: Backbone, size: int) -> int:
    """Length of the feature vector, which timm does not tell of every model."""
    with torch.inference_mode():
        return backbone(torch.zeros(1, 1, size, size)).shape[1]


def _film_settings_of_run(start: Start) -> tuple[FilmSettings, list[str]]:
    """Those of the run's own store, if it is still where it was."""
    if start.settings.weights is not None:
        folder = start.settings.weights.parent
        try:
            store = Store.open(folder / RunFolder(folder).read_state()["store"])
        except (KeyError, ScarceError):
            pass
        else:
            if store.fingerprint == start.store_fingerprint:
                return film_settings(store), []
    film = FilmSettings(start.size)
    words = f"how films were prepared is not known: {film.size} pixels and fit {film.fit} assumed (--store STORE tells)"
    return film, [words]


def _pretraining_films(start: Start) -> int | None:
    beside = start.settings.weights and start.settings.weights.with_suffix(".json")
    if start.kind != "ssl" or not beside or not beside.is_file():
        return None
    return json.loads(beside.read_text("utf-8")).get("films")


@contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that is gone afterwards."""
    folder = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_timm(film_model: FilmModel, folder: Path) -> None:
    folder.mkdir()
    model, facts = film_model.backbone.model, film_model.facts
    save_file({name: of.contiguous() for name, of in model.state_dict().items()}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(_timm_config(film_model), indent=2) + "\n", "utf-8")
    (folder / FACTS).write_text(facts.to_json(), "utf-8")
    if facts.probes:
        save_file({name: of.contiguous() for name, of in film_model.extra_state().items()}, folder / EXTRA_WEIGHTS)


def _write_hf(film_model: FilmModel, folder: Path) -> None:
    _write_timm(film_model, folder)
    (folder / "README.md").write_text(write_card(film_model.facts), "utf-8")


def _write_pt2(film_model: FilmModel, path: Path) -> None:
    torch.export.save(_traced(film_model), path, extra_files={FACTS: film_model.facts.to_json()})


def _write_onnx(film_model: FilmModel, path: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch.onnx is built on
    except ImportError as error:
        raise ScarceError("the packages of ONNX", str(error), 'pip install "scarce-cxr[export]"') from None
    names = list(Output._fields[: len(_outputs(film_model))])
    program = torch.onnx.export(
        _traced(film_model), input_names=["films"], output_names=names, dynamo=True, verbose=False
    )
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {FACTS: film_model.facts.to_json()})
    onnx.save(proto, path)


def _traced(film_model: FilmModel) -> torch.export.ExportedProgram:
    """The graph for any number of films."""
    with torch.no_grad():
        return torch.export.export(
            film_model, (_example(film_model),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )


def _example(film_model: FilmModel) -> torch.Tensor:
    facts = film_model.facts
    return torch.from_numpy(as_input(np.zeros((2, facts.film.size, facts.film.size), np.uint8), facts.pixels))


def _outputs(film_model: FilmModel) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        return film_model(_example(film_model))


def _timm_config(film_model: FilmModel) -> dict[str, Any]:
    """`config.json` as timm writes and reads it."""
    facts, model = film_model.facts, film_model.backbone.model
    known = model.pretrained_cfg
    # Transformers keep the positions that they were made with, and interpolate them for films of another size.
    words = {"img_size": list(known["input_size"][1:])} if known.get("fixed_input_size") else {}
    words |= {"dynamic_img_size": True} if getattr(model, "dynamic_img_size", False) else {}
    return {
        "architecture": facts.architecture,
        "num_classes": 0,
        "num_features": facts.features,
        "model_args": {"in_chans": 1, **words},
        "pretrained_cfg": {
            "input_size": [1, facts.image_size, facts.image_size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": [facts.mean],
            "std": [facts.std],
            "num_classes": 0,
            "first_conv": known.get("first_conv"),
            "classifier": known.get("classifier"),
        },
    }


@torch.inference_mode()
def _timm_features(folder: Path, films: np.ndarray, facts: Facts) -> np.ndarray:
    model = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True).eval()
    seen = Normalization(model.pretrained_cfg["mean"][0], model.pretrained_cfg["std"][0])
    return model(plain_view(torch.from_numpy(films), facts.image_size, seen)).numpy()
