"""What a few labels buy: every finding, shot and draw of a start, fitted, scored and put into the table of trials."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from scarce_cxr.backbones.embed import normalization_of
from scarce_cxr.backbones.starts import Start, load_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.finetune import Films, FinetuneSettings, finetune_trial, trial_seed
from scarce_cxr.evaluation.probe import (
    Probes,
    fit_probes,
    neighbour_scores,
    prototype_scores,
    score_probes,
    standardise,
)
from scarce_cxr.evaluation.scores import (
    auprc,
    auroc,
    brier,
    calibrate,
    expected_calibration_error,
    prevalence,
    sensitivity_at,
)
from scarce_cxr.evaluation.trials import TestFilms, Trials
from scarce_cxr.images.duplicates import patients_comparable
from scarce_cxr.images.labels import Labels, normals
from scarce_cxr.images.shots import Missing, Shots, draw_shots, negative_kinds
from scarce_cxr.images.splits import held_out, patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.progress import bar
from scarce_cxr.training.run_folder import RunFolder
from scarce_cxr.views.plans import Normalization

How = Literal["probe", "prototype", "neighbours", "finetune"]
Negatives = Literal["any", "normals", "other findings"]

# Of which the sensitivity is told, chosen on the films set aside for tuning.
SPECIFICITY = 0.9


class Task(NamedTuple):
    """One finding, and the films to train, tune and test it on.

    Attributes:
        finding: its name.
        labels: (n,) of all rows of the store: 1, 0, nan.
        patients: (n,) strings.
        train: (n,) bool: films that draws may take.
        negatives: (n,) bool: films that draws may take as negatives; None: all that are 0.
        tune: films for thresholds, calibration and the choice of a look.
        test: films to score, with all their negatives.
    """

    finding: str
    labels: np.ndarray
    patients: np.ndarray
    train: np.ndarray
    negatives: np.ndarray | None
    tune: Films
    test: TestFilms


Cells = dict[str, list[Shots] | Missing]
# Features (n, d), D draws and the rows of m films -> their scores (D, m).
Scorer = Callable[[np.ndarray, Sequence[Shots], np.ndarray], np.ndarray]


def make_tasks(store: Store, labels: Labels, split: np.ndarray, negatives: Negatives = "any") -> dict[str, Task]:
    """A task for every finding of the labels.

    Args:
        store: the store.
        labels: its films' labels.
        split: (n,) "train", "tune" or "test".
        negatives: which films without the finding draws may take: normal films, films with other findings, or any. The
            test always has them all.
    """
    patients = patients_of(store.table).astype(str)
    normal = normals(labels)
    tasks = {}
    for finding in labels.findings:
        known = labels.table[finding].to_numpy(dtype=float)
        labelled = ~np.isnan(known)
        tune, test = (np.flatnonzero(labelled & (split == side)) for side in ("tune", "test"))
        allowed = None if negatives == "any" else negative_kinds(labels, finding)[negatives]
        tasks[finding] = Task(
            finding,
            known,
            patients,
            split == "train",
            allowed,
            Films(tune, known[tune].astype(np.int8)),
            TestFilms(test, known[test].astype(np.int8), patients[test], normal[test]),
        )
    return tasks


def draw_cells(task: Task, shots: Sequence[str], draws: int, seed: int = 0) -> Cells:
    """The draws of every shot, the same whatever is fitted on them; a shot for which films are too few says so.

    Args:
        task: a finding.
        shots: numbers of positive patients, or "all".
        draws: how many draws of each shot; "all" has one.
        seed: another seed draws others.
    """
    cells: Cells = {}
    for shot in shots:
        made = []
        for draw in range(1 if shot == "all" else draws):
            drawn = draw_shots(
                task.labels,
                task.patients,
                task.train,
                shot,
                draw,
                finding=task.finding,
                seed=seed,
                negatives=task.negatives,
            )
            if isinstance(drawn, Missing):
                cells[shot] = drawn
                break
            made.append(drawn)
        else:
            cells[shot] = made
    for name, count in (("positive", task.test.labels.sum()), ("negative", (task.test.labels == 0).sum())):
        if not count:
            return dict.fromkeys(shots, Missing(f"no {name} film in the test split"))
    return cells


def fit_frozen(
    trials: Trials,
    start: Start,
    features: np.ndarray,
    tasks: Mapping[str, Task],
    cells: Mapping[str, Cells],
    hows: Sequence[How] = ("probe",),
    *,
    seed: int = 0,
    device: str = "cpu",
    scorer: Scorer | None = None,
) -> None:
    """Fits and scores everything that needs no more than features of frozen films, what is known already left out.

    Args:
        trials: where rows go.
        start: whose features they are.
        features: (n, d) of all films of the store.
        tasks, cells: by finding.
        hows: "probe", "prototype" or "neighbours".
        seed: of folds.
        device: where to fit.
        scorer: takes the place of our probe, as another protocol wants it.
    """
    train = next(iter(tasks.values())).train
    features = standardise(features, train)
    shots = dict.fromkeys(shot for of in cells.values() for shot in of)
    with bar(f"probing {start.name}", sum(len(of) for of in cells.values()) * len(hows), "cells") as advance:
        for how in hows:
            for shot in shots:
                rows, asked = [], []
                for task in tasks.values():
                    drawn = cells[task.finding][shot]
                    common = _common(start, how, task, shot, seed)
                    if isinstance(drawn, Missing):
                        rows.append({**common, "draw": 0, "missing": drawn.reason})
                    elif todo := [number for number in range(len(drawn)) if not _known(trials, common, number)]:
                        asked.append(_Asked(task, common, todo, [drawn[number] for number in todo]))
                # A shot's draws of all findings are fitted at once: it is one batch of equal systems.
                rows += _fit_together(features, how, asked, seed, device, scorer)
                trials.add(rows)
                advance(len(tasks))


class _Asked(NamedTuple):
    """Draws of a finding that are not fitted yet, and what their rows have in common."""

    task: Task
    common: dict[str, Any]
    numbers: list[int]
    draws: list[Shots]


def _fit_together(
    features: np.ndarray, how: How, asked: Sequence[_Asked], seed: int, device: str, scorer: Scorer | None
) -> list[dict[str, Any]]:
    if not asked:
        return []
    started = time.perf_counter()
    draws = [draw for one in asked for draw in one.draws]
    probes = None
    if how == "probe" and scorer is None:
        probes = fit_probes(features, draws, patients=asked[0].task.patients, seed=seed, device=device)
    rows: list[dict[str, Any]] = []
    for one in asked:
        both = np.concatenate([one.task.tune.rows, one.task.test.rows])
        strengths = np.full(len(one.draws), np.nan)
        if probes is not None:
            own = Probes(*(part[len(rows) : len(rows) + len(one.draws)] for part in probes))
            scores, strengths = score_probes(features[both], own), own.strength
        elif how == "probe":
            scores = scorer(features, one.draws, both)
        else:
            score = {"prototype": prototype_scores, "neighbours": neighbour_scores}[how]
            scores = score(features, one.draws, both, device=device)
        tune, test = np.split(scores, [len(one.task.tune.rows)], axis=1)
        told = measure_scores(tune, one.task.tune.labels, test, one.task.test)
        rows += [
            {**one.common, **_counts(draw), **numbers, "draw": number, "strength": float(strength)}
            for number, draw, strength, numbers in zip(one.numbers, one.draws, strengths, told, strict=True)
        ]
    seconds = (time.perf_counter() - started) / len(draws)
    return [{**row, "seconds": seconds} for row in rows]


def fit_finetuned(
    trials: Trials,
    store: Store,
    start: Start,
    tasks: Mapping[str, Task],
    cells: Mapping[str, Cells],
    settings: FinetuneSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Fine-tunes a start on every draw, one trial after the other; each is kept as soon as it is done.

    Raises:
        ScarceError: the trials hold fine-tuned ones of other settings.
    """
    trials.settle("finetune", _settings_of(settings))
    backbone = load_start(start)
    normalization = Normalization(*normalization_of(store, start))
    total = sum(1 if isinstance(drawn, Missing) else len(drawn) for of in cells.values() for drawn in of.values())
    with bar(f"fine-tuning {start.name}", total, "trials") as advance:
        for finding, task in tasks.items():
            for shot, drawn in cells[finding].items():
                common = _common(start, "finetune", task, shot, seed)
                if isinstance(drawn, Missing):
                    trials.add([{**common, "draw": 0, "missing": drawn.reason}])
                    advance(1)
                    continue
                for number, draw in enumerate(drawn):
                    if not _known(trials, common, number):
                        trial = finetune_trial(
                            store,
                            backbone,
                            draw,
                            task.tune,
                            task.test.rows,
                            size=start.size,
                            seed=trial_seed(finding, shot, number, seed),
                            normalization=normalization,
                            settings=settings,
                            method=start.method,
                            device=device,
                        )
                        told = measure_scores(trial.tune[None], task.tune.labels, trial.test[None], task.test)
                        row = {**common, **_counts(draw), **told[0], "draw": number, "seconds": trial.seconds}
                        trials.add([row])
                    advance(1)


def measure_scores(
    tune: np.ndarray, tune_labels: np.ndarray, scores: np.ndarray, test: TestFilms
) -> list[dict[str, Any]]:
    """What is told of each draw's scores: a row's numbers.

    Args:
        tune, tune_labels: (D, t) and (t,): threshold and calibration come from these films. They may lack a class:
            then nothing is said that needs them.
        scores: (D, n) of the test films.
        test: the test films.
    """
    labels, positive = test.labels, test.labels == 1
    told: dict[str, np.ndarray] = {"auroc": auroc(scores, labels), "auprc": auprc(scores, labels)}
    for name, negatives in (("normals", test.normal), ("other_findings", ~test.normal)):
        chosen = positive | (negatives & ~positive)
        if (labels[chosen] == 0).any():
            told[f"auroc_{name}"] = auroc(scores[:, chosen], labels[chosen])
    if 0 < tune_labels.sum() < len(tune_labels):
        at = sensitivity_at(SPECIFICITY, tune, tune_labels, scores, labels)
        line = calibrate(tune, tune_labels)
        probabilities = line(scores)
        told |= {"sensitivity": at.sensitivity, "specificity": at.specificity, "cut": at.cuts}
        told |= {"brier": brier(probabilities, labels)}
        told |= {"calibration_error": expected_calibration_error(probabilities, labels)}
        told |= {"calibration_slope": line.slope, "calibration_offset": line.offset}
    counts = {
        "test_films": len(labels),
        "test_positives": int(positive.sum()),
        "test_negatives": int((~positive).sum()),
        "test_patients": len(np.unique(test.patients)),
        "prevalence": prevalence(labels),
    }
    return [
        {**counts, **{name: float(values[draw]) for name, values in told.items()}, "scores": scores[draw]}
        for draw in range(len(scores))
    ]


def start_key(start: Start) -> str:
    """What makes two starts the same to a trial: their weights, and how they see a film."""
    own = "" if start.mean is None or start.std is None else f"-{start.mean:.4f}-{start.std:.4f}"
    return f"{start.fingerprint}-{start.size}{own}"


def facts_of(start: Start, store: Store, split: np.ndarray) -> dict[str, Any]:
    """What is kept of a start beside its trials, and told where starts are compared."""
    return {
        "name": start.name,
        "kind": start.kind,
        "architecture": start.settings.name,
        "image_size": start.size,
        "method": start.method,
        "source": start.source,
        "test_films_seen": seen_without_labels(start, store, split),
    }


def seen_without_labels(start: Start, store: Store, split: np.ndarray) -> int | None:
    """How many test films a run was pretrained on, or on others of their patients; None where that is not known.

    A run sets aside patients by the same key as `split`: of one store, with at least the test's share, none was seen.
    In another store films are known again by their pixels as decoded, and patients where both have one key; copies
    with loss are not (`scarce check` finds them).
    """
    pretrained_on = _pretrained_on(start, store)
    if pretrained_on is None:
        return None
    seen = pretrained_on.table[~held_out(pretrained_on.table, start.held_out)]
    shared = store.table["sha256"].isin(seen["sha256"])
    if patients_comparable(store, pretrained_on):
        shared |= store.table["patient_id"].isin(seen["patient_id"].dropna())
    return int((shared & (split == "test")).sum())


def _pretrained_on(start: Start, store: Store) -> Store | None:
    """The store that a run was pretrained on: this one, or another one that lies where the run left it."""
    if start.kind != "ssl" or start.held_out is None or start.store_fingerprint is None:
        return None
    if start.store_fingerprint == store.fingerprint:
        return store
    run = start.settings.weights.parent
    place = RunFolder(run).read_state().get("store")
    try:
        other = Store.open(run / place) if place else None
    except ScarceError:
        return None
    return other if other is not None and other.fingerprint == start.store_fingerprint else None


def check_asked(shots: Iterable[str], known: Sequence[str], draws: int) -> None:
    """Raises ScarceError unless shots are numbers above 0 or "all", and there is at least one draw."""
    for shot in shots:
        if shot != "all" and not (shot.isdecimal() and int(shot) > 0):
            raise ScarceError("shots above 0, or all", shot, f"for instance --shots {' '.join(known)}")
    if draws < 1:
        raise ScarceError("at least 1 draw", f"{draws}", "--draws 20")


def _common(start: Start, how: str, task: Task, shot: str, seed: int) -> dict[str, Any]:
    return {
        "start": start.name,
        "start_kind": start.kind,
        "start_fingerprint": start_key(start),
        "how": how,
        "finding": task.finding,
        "shot": shot,
        "seed": seed,
    }


def _settings_of(settings: FinetuneSettings) -> dict[str, Any]:
    """Plain values of what decides over a fine-tuned trial."""
    return {
        name: value if isinstance(value, int | float | None) else repr(value) for name, value in vars(settings).items()
    }


def _counts(draw: Shots) -> dict[str, int]:
    return {
        "films": len(draw.rows),
        "positives": int(draw.positives),
        "negatives": int(draw.negatives),
        "patients": int(draw.patients),
    }


def _known(trials: Trials, common: dict[str, Any], draw: int) -> bool:
    key = {name: common[name] for name in ("start_fingerprint", "how", "finding", "shot")}
    return trials.has(**key, draw=draw)
