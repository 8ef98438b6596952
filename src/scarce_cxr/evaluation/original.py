"""The original few-shot protocol, replayed so that its published tables can be compared with. It is not advised.

What is known of it: a finding was validated on as many negatives as positives, 2 to 13 of each, all other negatives
being thrown away; negatives were normal films; films with labels of devices and surgery were left out; 50 shots were
silently as many as there were; the probe was `LogisticRegressionCV(Cs=[0.01, 0.1, 1, 10, 100], cv=min(5, n),
max_iter=1000)` on frozen features; and the standard deviation over draws, which share films, stood as an error bar.

Its code is not at hand. What is not known is settled here: n counts the films of the rarer class; with one of each, a
plain LogisticRegression takes its place; features are standardised inside the draw; shots are films, not patients;
train and validation are the sides of our split, so that no patient is on both; the negatives of the validation are
drawn once a finding. Two things are ours: a cap is said, and a 95 % interval by patients and draws stands beside the
standard deviation.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.comparison import in_digits, warning
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.probe import STRENGTHS, LabelledFilms
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.images.labels import Labels, normals
from scarce_cxr.images.shots import Missing, Shots, draw_shots
from scarce_cxr.images.sources.lists import read_lists
from scarce_cxr.images.sources.padchest import LISTS
from scarce_cxr.results import Table
from scarce_cxr.views.draws import Draws

if TYPE_CHECKING:
    from scarce_cxr.evaluation.fewshot import Cells, Task
    from scarce_cxr.evaluation.trials import Trials

MARK = "ORIGINAL PROTOCOL"

_FOLDS, _ITERATIONS = 5, 1000
# The smallest validation that the original has a number for.
_FEWEST_POSITIVES = 2
# What collections other than PadChest call such films: CheXpert and MIMIC. NIH labels none.
_ELSEWHERE = ("Support Devices",)


def excluded_labels(file: Path | None = None) -> list[str]:
    """Names of the labels whose films are left out.

    Args:
        file: a changed copy of `images/sources/padchest.yaml`, of which the list `excluded` counts; None: that list
            itself, and what other collections call the same.

    Raises:
        ScarceError: the file is no such list.
    """
    names = read_lists(LISTS if file is None else file, ("excluded", "unreadable", "broken"))["excluded"]
    return [*names, *(_ELSEWHERE if file is None else ())]


def original_tasks(
    tasks: Mapping[str, "Task"], labels: Labels, excluded: Sequence[str], seed: int = 0
) -> tuple[dict[str, "Task"], list[str]]:
    """The tasks as the original set them: without films of excluded labels, with normal negatives, validation balanced.

    Args:
        tasks: by finding, of n films.
        labels: of all that is known of the n films.
        excluded: names of labels whose films are left out; they are no findings either.
        seed: another seed validates on other negatives.

    Returns:
        The tasks, nothing set aside to tune on, and notes on what was left out.

    Raises:
        ScarceError: no finding is left.
    """
    unwanted = {name.casefold() for name in excluded}
    present = [name for name in labels.findings if name.casefold() in unwanted]
    dropped = (labels.table[present] == 1).any(axis=1).to_numpy()
    if present:
        notes = [f"{MARK}: {dropped.sum():,} films are left out for their labels {', '.join(present)}"]
    else:
        notes = [f"{MARK}: none of the {len(unwanted)} excluded labels is known here, so no film is left out for one"]
    normal = normals(labels)
    made = {}
    for finding, task in tasks.items():
        if finding.casefold() in unwanted:
            continue
        positive = task.test.labels == 1
        kept = ~dropped[task.test.rows]
        positives = np.flatnonzero(positive & kept)
        others = np.flatnonzero(~positive & kept & task.test.normal)
        order = np.argsort(Draws(seed, 0, task.test.rows[others]).uniform(f"validation {finding}")[:, 0])
        chosen = np.sort(np.concatenate([positives, others[order][: len(positives)]]))
        nothing = task.tune._replace(rows=task.tune.rows[:0], labels=task.tune.labels[:0])
        test = type(task.test)(*(part[chosen] for part in task.test))
        made[finding] = task._replace(train=task.train & ~dropped, negatives=normal, tune=nothing, test=test)
    if not made:
        raise ScarceError(
            "a finding that is not excluded", ", ".join(tasks), "ask for another, or shorten the list with --exclude"
        )
    return made, notes


def original_cells(task: "Task", shots: Sequence[str], draws: int, seed: int = 0) -> tuple["Cells", list[str]]:
    """The draws of every shot, as large as asked for or as there are films, and notes on those that are smaller.

    Args:
        task: of `original_tasks`.
        shots: numbers of positive films, or "all".
        draws: how many of each; "all" has one.
        seed: another seed draws others.
    """
    present = task.train & (task.labels == 1)
    absent = task.train & (task.labels == 0) & task.negatives & ~np.isin(task.patients, task.patients[present])
    most = int(min(present.sum(), absent.sum()))
    tested = int(task.test.labels.sum())
    if tested < _FEWEST_POSITIVES or tested == len(task.test.labels):
        reason = f"{tested} positive and {len(task.test.labels) - tested} normal films to validate on"
        return dict.fromkeys(shots, Missing(f"{reason}, {_FEWEST_POSITIVES} and 1 needed")), []
    cells: Cells = {}
    notes = []
    for shot in shots:
        taken = shot if shot == "all" else str(min(int(shot), most))
        made = [_drawn(task, taken, draw, seed) for draw in range(1 if shot == "all" else draws)] if most else []
        lacking = next((drawn for drawn in made if isinstance(drawn, Missing)), None)
        cells[shot] = made if made and not lacking else lacking or Missing("no positive film, or no normal one")
        if most and taken != shot:
            notes.append(f"{MARK}: {shot} shots of {task.finding} are {taken}, as there are no more")
    return cells, notes


def original_scores(features: np.ndarray, draws: Sequence[LabelledFilms], rows: np.ndarray) -> np.ndarray:
    """Log-odds by scikit-learn's cross-validated logistic regression, one draw after the other.

    Args:
        features: (n, d).
        draws: D draws of rows of the table; each has films of both classes.
        rows: (m,) rows of the films to score.

    Returns:
        (D, m) float64.
    """
    with warnings.catch_warnings():
        # Changes of scikit-learn's defaults are announced at every fit, and 1,000 steps had to do.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.stack(
            [
                _model(draw.labels).fit(features[draw.rows], draw.labels).decision_function(features[rows])
                for draw in draws
            ]
        )


def original_table(trials: "Trials", starts: Mapping[str, str], tasks: Mapping[str, "Task"], cells) -> Table:
    """AUROC as the original told it, mean +- standard deviation over draws, with our 95 % interval beside it.

    Args:
        trials: where scores are.
        starts: name of each start by its key there.
        tasks, cells: by finding.
    """
    rows: list[list[str | None]] = []
    few = 0
    for finding, of in cells.items():
        test = tasks[finding].test
        few += warning(test.labels, test.patients) is not None
        shown = [finding, f"{int(test.labels.sum())} of {len(test.labels)}"]
        for shot, drawn in of.items():
            taken = None if isinstance(drawn, Missing) or shot == "all" else str(drawn[0].positives)
            asked = shot if taken in (None, shot) else f"{shot} (there are {taken})"
            for key, name in starts.items():
                _, scores = trials.scores(key, "probe", finding, shot)
                told = _told(scores, test.labels, test.patients) if len(scores) else [None, None]
                rows.append([*shown, asked, name, *told])
                shown, asked = ["", ""], ""
    note = "Balanced test, normal negatives, std over draws that share films: to compare with its tables only. "
    note += "95 %: our interval by patients and draws, on the same films; empty: too few films"
    note += f"; {few} of {len(cells)} findings have under 5 positive test patients: little can be told" if few else ""
    columns = ["finding", "test", "shots", "start", "mean ± std", "95 %"]
    return Table(f"{MARK}: AUROC of probes", columns, rows, note)


def _told(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> list[str]:
    values = auroc(scores, labels)
    interval = auroc_interval(scores, labels, patients)
    return [f"{values.mean():.3f} ± {values.std():.3f}", in_digits(float(values.mean()), interval.low, interval.high)]


def _drawn(task: "Task", shot: str, draw: int, seed: int) -> Shots | Missing:
    return draw_shots(
        task.labels,
        task.patients,
        task.train,
        shot,
        draw,
        finding=task.finding,
        seed=seed,
        negatives=task.negatives,
        one_film_per_patient=False,
    )


def _model(labels: np.ndarray) -> Pipeline:
    rarer = int(min(labels.sum(), len(labels) - labels.sum()))
    if rarer < 2:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    folds = min(_FOLDS, rarer)
    return make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=list(STRENGTHS), cv=folds, max_iter=_ITERATIONS, scoring="accuracy"),
    )
