"""What trials say: starts side by side with intervals, paired differences and warnings. Frames in, frames out.

A cell is one start, way of fitting, finding and shot: up to D draws, all scored on the finding's n test films. Numbers
are means over the draws. Every table's rows come in the order of its cells.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from scarce_cxr.evaluation.comparison import FEW_POSITIVES, holm, paired_difference, permutation_p, warning
from scarce_cxr.evaluation.intervals import REPLICATES, Interval, auprc_interval, auroc_interval
from scarce_cxr.evaluation.learning_curve import FARTHEST, fit_curve, labels_needed
from scarce_cxr.evaluation.means import (
    Influence,
    auroc_influence,
    correlations,
    film_mean_interval,
    mean_interval,
    p_of,
    perfect_calibration_error,
    rate_interval,
)
from scarce_cxr.evaluation.scores import auprc, auroc, expected_calibration_error
from scarce_cxr.evaluation.trials import Evidence, TestFilms
from scarce_cxr.images.parallel import map_chunks

MEAN = "mean of findings"
HOWS = ("probe", "prototype", "neighbours", "finetune")
"""Ways of fitting, in the order in which they are shown."""

# A draw that takes more of the positive films than this is much like the others.
_MUCH_OF_THE_POOL = 0.5
_FEW_DRAWS = 5
# A bootstrap's p that fewer replicates than these stand for is not told from half of it.
_FEW_REPLICATES = 20

Advance = Callable[[int], None]


class Cell(NamedTuple):
    """The trials of one start, way of fitting, finding and shot.

    Attributes:
        start, how, finding, shot: which.
        draws: (D,) their numbers, rising.
        scores: (D, n) on the test films.
        films: the n test films.
        trials: D rows of the table of trials, in the same order, without their scores.
    """

    start: str
    how: str
    finding: str
    shot: str
    draws: np.ndarray
    scores: np.ndarray
    films: TestFilms
    trials: pd.DataFrame

    @property
    def aurocs(self) -> np.ndarray:
        """(D,)."""
        return auroc(self.scores, self.films.labels)

    @property
    def of_draws(self) -> "dict[int, np.ndarray]":
        """Scores (n,) by number of the draw."""
        return dict(zip(self.draws.tolist(), self.scores, strict=True))


class Pool(NamedTuple):
    """Labelled films of the train split."""

    positives: int
    negatives: int


def cells_of(evidence: Evidence) -> list[Cell]:
    """The cells that have scores, by way of fitting, finding, shot and start.

    Ways and shots are in their own order (`all` comes last), findings and starts in that of the trials.
    """
    table = evidence.table[evidence.table["missing"].isna()]
    cells = [
        Cell(
            *name,
            rows["draw"].to_numpy(),
            np.stack(rows["scores"].to_list()).astype(np.float64),
            evidence.films[name[2]],
            rows.drop(columns="scores"),
        )
        for name, rows in table.sort_values("draw", kind="stable").groupby(["start", "how", "finding", "shot"])
    ]
    starts, findings = (list(dict.fromkeys(evidence.table[column])) for column in ("start", "finding"))

    def place(cell: Cell) -> tuple:
        return HOWS.index(cell.how), findings.index(cell.finding), shot_place(cell.shot), starts.index(cell.start)

    return sorted(cells, key=place)


def shot_place(shot: str) -> float:
    """To order shots by: their number, `all` last."""
    return float("inf") if shot == "all" else float(shot)


def choose_baseline(evidence: Evidence, asked: str | None = None) -> str:
    """The start that all others are compared with: the one asked for, else a random one, else the first.

    Raises:
        KeyError: there is no start of the name asked for.
    """
    kinds = evidence.table.drop_duplicates("start").set_index("start")["start_kind"]
    if asked is not None:
        kinds.loc[asked]
        return asked
    random = kinds.index[kinds == "random"]
    return str(random[0] if len(random) else kinds.index[0])


def finding_table(
    cells: Sequence[Cell],
    replicates: int = REPLICATES,
    seed: int = 0,
    jobs: int = 1,
    advance: Advance = lambda n: None,
) -> pd.DataFrame:
    """One row a cell: what is behind it, and every score as three columns, NAME, NAME_low and NAME_high.

    Scores are auroc, auroc_normals and auroc_other_findings (the negatives apart), auprc, sensitivity and specificity
    (at the cut that has 90 % specificity on the tuning films), and, calibrated on the tuning films, brier and excess
    (mean probability less the share of positives); nan where films for it are lacking. calibration_error stands beside
    perfect_calibration_error, which perfect probabilities would have with so many films. `p` is the permutation value
    against chance of these very fits on these patients, not corrected for the number of cells; `exchanged` is how many
    of the patients it could exchange.

    Args:
        cells: what to tell.
        replicates: of bootstraps and permutations.
        seed: of the same.
        jobs: processes, as joblib counts them.
        advance: is called with 1 after every cell.
    """
    return pd.DataFrame(_all_rows(partial(_finding_rows, replicates=replicates, seed=seed), cells, jobs, advance))


def mean_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Mean AUROC over findings, one row a way of fitting, shot and start.

    All starts of a row's shot are averaged over the same findings: those that each of them has at this shot. Which
    these are is in the table, as a mean of other findings does not compare. Findings that fewer than `FEW_POSITIVES`
    test patients have are left out, unless all are such: they would add noise alone. The interval is over patients and
    draws; that findings share patients is in it (`means.mean_interval`).
    """
    rows, testable = [], testable_findings(cells)
    for how, shot, group in _by_shot(cells):
        for start, own in _comparable(group, testable).items():
            intervals = [auroc_interval(*_of(cell)) for cell in own]
            influences = [auroc_influence(*_of(cell)) for cell in own]
            found = _mean(influences, intervals)
            rows.append({"how": how, "shot": shot, "start": start, **_spread(own), **found})
    return pd.DataFrame(rows)


def difference_table(
    cells: Sequence[Cell],
    baseline: str,
    replicates: int = REPLICATES,
    seed: int = 0,
    jobs: int = 1,
    advance: Advance = lambda n: None,
) -> pd.DataFrame:
    """AUROC of every start less the baseline's, on the same patients and the draws that both have; one row a cell.

    `p_holm` is corrected for all rows of the table. A bootstrap's p cannot fall below 2 / (replicates + 1), which Holm
    multiplies by the number of rows: small ones are told by Student's t from the interval instead (`means.p_of`).

    Args:
        cells: of all starts.
        baseline: the start to compare with.
        replicates, seed, jobs, advance: as for `finding_table`.
    """
    work = partial(_difference_rows, replicates=replicates, seed=seed)
    table = pd.DataFrame(_all_rows(work, _pairs(cells, baseline), jobs, advance))
    return table.assign(p_holm=holm(table["p"].to_numpy())) if len(table) else table


def mean_difference_table(cells: Sequence[Cell], differences: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of means over findings, one row a way of fitting, shot and start that is not the baseline.

    With each mean: over how many findings, in how many of them the start is better or worse by Holm's p below 0.05. Its
    own `p_holm` is corrected for all rows of this table.
    """
    if not len(differences):
        return pd.DataFrame()
    known = differences.set_index(["how", "shot", "start", "finding"])
    rows, testable = [], testable_findings(cells)
    for how, shot, group in _by_shot(cells):
        by_start = _comparable(group, testable)
        for start, own in by_start.items():
            if start == baseline or baseline not in by_start:
                continue
            influences = []
            for cell, other in zip(own, by_start[baseline], strict=True):
                ours, theirs = (auroc_influence(scores, *_of(cell)[1:]) for scores in _same_draws(cell, other))
                influences.append(ours - theirs)
            of = known.loc[[(how, shot, start, cell.finding) for cell in own]]
            found = _mean(
                influences, [Interval(low, high, "") for low, high in zip(of["low"], of["high"], strict=True)]
            )
            sure = of["p_holm"] < 0.05
            rows.append(
                {
                    "how": how,
                    "shot": shot,
                    "start": start,
                    "baseline": baseline,
                    **_spread(own),
                    "difference": found["auroc"],
                    "low": found["auroc_low"],
                    "high": found["auroc_high"],
                    "p": p_of(found["auroc"], found["auroc_low"], found["auroc_high"], min(map(_freedom, own))),
                    "better": int((sure & (of["difference"] > 0)).sum()),
                    "worse": int((sure & (of["difference"] < 0)).sum()),
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy())) if len(table) else table


def labels_table(cells: Sequence[Cell], target: float, seed: int = 0) -> pd.DataFrame:
    """How many positive patients reach a mean AUROC, by learning curve: of all findings together, then of each.

    `there` is how many positive films the train split has (from `all`; None where that was not tried), and `more` how
    many the estimate asks for beyond them.
    """
    rows = []
    numbered, testable = [cell for cell in cells if cell.shot != "all"], testable_findings(cells)
    there = {(cell.how, cell.start, cell.finding): cell for cell in cells if cell.shot == "all"}
    for (how, start), group in _grouped(numbered, lambda cell: (cell.how, cell.start)):
        shots = sorted({cell.shot for cell in group}, key=shot_place)
        by_finding = dict(_grouped(group, lambda cell: cell.finding))
        curves = {finding: _by_draw(of, shots) for finding, of in by_finding.items()}
        whole = {
            finding: curve
            for finding, curve in curves.items()
            if finding in testable and not np.isnan(curve).all(axis=1).any()
        }
        if len(whole) > 1 and len({curve.shape for curve in whole.values()}) == 1:
            curves = {MEAN: np.mean(list(whole.values()), axis=0), **curves}
        for finding, curve in curves.items():
            cell = there.get((how, start, finding))
            row = {"how": how, "start": start, "finding": finding, "target": target}
            row["names"] = ", ".join(whole) if finding == MEAN else finding
            row["there"] = int(cell.trials["positives"].iloc[0]) if cell else None
            rows.append({**row, **_needed(shots, curve, target, seed, row["there"])})
    return pd.DataFrame(rows)


def empty_table(evidence: Evidence) -> pd.DataFrame:
    """Cells without trials: finding, shot, why, and the ways of fitting that were tried."""
    missing = evidence.table[evidence.table["missing"].notna()]
    rows = [
        {"finding": finding, "shot": shot, "reason": reason, "how": ", ".join(dict.fromkeys(of["how"]))}
        for (finding, shot, reason), of in missing.groupby(["finding", "shot", "missing"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["finding", "shot", "reason", "how"])


def warnings_of(evidence: Evidence, cells: Sequence[Cell], findings: pd.DataFrame) -> list[str]:
    """What must be known before any of the numbers is believed.

    Args:
        evidence: where the cells are from.
        cells: what is shown.
        findings: their `finding_table`.
    """
    said = []
    if evidence.protocol.get("patients") == "unknown":
        said.append("patients are unknown: films of one may be in training and test, and intervals count films")
    for finding, of in _grouped(cells, lambda cell: cell.finding):
        if few := warning(of[0].films.labels, of[0].films.patients):
            said.append(f"{finding}: {few}")
        negatives = of[0].films.labels == 0
        if of[0].films.normal[negatives].all():
            said.append(f"{finding}: all test films without it are normal: against other findings it would do worse")
        if all(cell.trials["cut"].isna().all() for cell in of):
            said.append(f"{finding}: the tuning films lack positives: no sensitivity and no calibration")
        exchanged, patients = findings.loc[findings["finding"] == finding, ["exchanged", "test_patients"]].iloc[0]
        if exchanged < patients / 2:
            said.append(
                f"{finding}: the test against chance could exchange the labels of {exchanged:,} of {patients:,}"
                " patients only, and sees little"
            )
    return [*said, *_of_starts(evidence, cells), *_of_draws(cells)]


def testable_findings(cells: Sequence[Cell]) -> list[str]:
    """Findings that at least `FEW_POSITIVES` test patients have; all, if none has so many."""
    films = {cell.finding: cell.films for cell in cells}
    enough = [finding for finding, of in films.items() if len(np.unique(of.patients[of.labels == 1])) >= FEW_POSITIVES]
    return enough or list(films)


def pool_of(cells: Sequence[Cell]) -> dict[str, Pool]:
    """Labelled films of the train split by finding, where `all` was tried."""
    return {
        cell.finding: Pool(*(int(cell.trials[column].iloc[0]) for column in ("positives", "negatives")))
        for cell in cells
        if cell.shot == "all"
    }


def _of_starts(evidence: Evidence, cells: Sequence[Cell]) -> list[str]:
    shown = list(dict.fromkeys(cell.start for cell in cells))
    facts = {start: evidence.starts.get(start, {}) for start in shown}
    said = []
    for start, of in facts.items():
        if seen := of.get("test_films_seen"):
            said.append(f"{start} was pretrained on {seen:,} of the test films, without their labels")
        elif of.get("kind") == "ssl" and seen is None:
            said.append(f"{start} was pretrained on another store: whether it saw test films there is not known")
    for name, words in (("architecture", "in architecture"), ("image_size", "in the size of their films")):
        values = {start: of[name] for start, of in facts.items() if of.get(name)}
        if len(set(values.values())) > 1:
            named = ", ".join(f"{start}: {value}" for start, value in values.items())
            said.append(f"starts differ {words} too ({named}): a difference is not the pretraining's alone")
    return said


def _of_draws(cells: Sequence[Cell]) -> list[str]:
    said = []
    pools = pool_of(cells)
    much: dict[str, list[str]] = {}
    for (finding, shot), of in _grouped(cells, lambda cell: (cell.finding, cell.shot)):
        if shot != "all" and finding in pools and int(shot) > _MUCH_OF_THE_POOL * pools[finding].positives:
            much.setdefault(finding, []).append(shot)
        for how, ours in _grouped(of, lambda cell: cell.how):
            counts = {cell.start: len(cell.draws) for cell in ours}
            if len(set(counts.values())) > 1:
                named = ", ".join(f"{start} {count}" for start, count in counts.items())
                said.append(f"{finding}, {how} at {shot}: draws differ ({named}); differences use those in common")
    for finding, shots in much.items():
        said.append(
            f"{finding}: a draw of {' or '.join(shots)} takes most of the {pools[finding].positives} positive films"
            " there are; draws are alike, and intervals say little of other films"
        )
    few = [cell for cell in cells if cell.shot != "all" and len(cell.draws) < _FEW_DRAWS]
    for how, of in _grouped(few, lambda cell: cell.how):
        least = min(len(cell.draws) for cell in of)
        said.append(f"{how}: no more than {least} draw{'s' * (least > 1)} in some cells: what draws do is hardly known")
    return said


def _all_rows(
    work: Callable[[Sequence[Any]], list[dict[str, Any]]], items: Sequence[Any], jobs: int, advance: Advance
) -> list[dict[str, Any]]:
    rows = []
    for found in map_chunks(work, [[item] for item in items], jobs):
        rows += found
        advance(1)
    return rows


def _finding_rows(cells: Sequence[Cell], replicates: int, seed: int) -> list[dict[str, Any]]:
    return [{**_named(cell), **_behind(cell), **_scores(cell, replicates, seed)} for cell in cells]


def _difference_rows(pairs: Sequence[tuple[Cell, Cell]], replicates: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for cell, other in pairs:
        ours, theirs = _same_draws(cell, other)
        found = paired_difference(ours, theirs, *_of(cell)[1:], replicates=replicates, seed=seed)
        row = {**_named(cell), "baseline": other.start, "draws": len(ours), **found._asdict()}
        if found.p * (replicates + 1) < _FEW_REPLICATES:
            row["p"] = p_of(*found[:3], _freedom(cell))
        rows.append({"difference" if name == "estimate" else name: value for name, value in row.items()})
    return rows


def _freedom(cell: Cell) -> int:
    """Degrees of freedom: patients of the rarer class less one."""
    labels, patients = _of(cell)[1:]
    return max(min(len(np.unique(patients[labels == side])) for side in (0, 1)) - 1, 1)


def _scores(cell: Cell, replicates: int, seed: int) -> dict[str, Any]:
    scores, labels, patients = _of(cell)
    positive = labels == 1
    chance = permutation_p(scores, labels, patients, replicates, seed)
    interval = auroc_interval(scores, labels, patients)
    found = {"auroc": (float(cell.aurocs.mean()), interval)}
    for name, chosen in (("normals", cell.films.normal), ("other_findings", ~cell.films.normal)):
        of = positive | (chosen & ~positive)
        if (labels[of] == 0).any():
            part = scores[:, of], labels[of]
            found[f"auroc_{name}"] = float(auroc(*part).mean()), auroc_interval(*part, patients[of])
    precision = float(auprc(scores, labels).mean())
    found["auprc"] = precision, auprc_interval(scores, labels, patients, replicates, seed)
    alone = {"calibration_error": np.nan, "perfect_calibration_error": np.nan}
    cuts = cell.trials["cut"].to_numpy(dtype=np.float64)
    if not np.isnan(cuts).any():
        above = scores > cuts[:, None]
        found["sensitivity"] = rate_interval(above[:, positive], patients[positive])
        found["specificity"] = rate_interval(~above[:, ~positive], patients[~positive])
        slopes, offsets = (
            cell.trials[f"calibration_{name}"].to_numpy(dtype=np.float64)[:, None] for name in ("slope", "offset")
        )
        probabilities = expit(slopes * scores + offsets)
        found["brier"] = film_mean_interval(np.square(probabilities - labels), patients)
        found["excess"] = film_mean_interval(probabilities - labels, patients)
        alone["calibration_error"] = expected_calibration_error(probabilities, labels).mean()
        alone["perfect_calibration_error"] = perfect_calibration_error(probabilities).mean()
    row: dict[str, Any] = {name: float(value) for name, value in alone.items()}
    for name in _SCORES:
        value, of = found.get(name, (np.nan, Interval(np.nan, np.nan, "")))
        row |= {name: value, f"{name}_low": min(of.low, value), f"{name}_high": max(of.high, value)}
    return {**row, "method": interval.method, "p": chance.p, "exchanged": chance.exchanged}


_SCORES = (
    "auroc",
    "auroc_normals",
    "auroc_other_findings",
    "auprc",
    "sensitivity",
    "specificity",
    "brier",
    "excess",
)


def _named(cell: Cell) -> dict[str, str]:
    return {"how": cell.how, "finding": cell.finding, "shot": cell.shot, "start": cell.start}


def _of(cell: Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels, patients: what every score takes."""
    return cell.scores, cell.films.labels, cell.films.patients


def _behind(cell: Cell) -> dict[str, Any]:
    """True numbers. Draws of one shot have equally many films each."""
    labels, patients = cell.films.labels, cell.films.patients
    learned = {name: int(cell.trials[name].iloc[0]) for name in ("films", "positives", "negatives", "patients")}
    return {
        "draws": len(cell.draws),
        **learned,
        "test_films": len(labels),
        "test_positives": int((labels == 1).sum()),
        "test_positive_patients": len(np.unique(patients[labels == 1])),
        "test_normals": int((cell.films.normal & (labels == 0)).sum()),
        "test_negatives": int((labels == 0).sum()),
        "test_patients": len(np.unique(patients)),
        "prevalence": float((labels == 1).mean()),
    }


def _spread(cells: Sequence[Cell]) -> dict[str, Any]:
    """What is behind a mean over findings."""
    draws, positives, test = (
        [len(cell.draws) for cell in cells],
        [int(cell.trials["positives"].iloc[0]) for cell in cells],
        [int((cell.films.labels == 1).sum()) for cell in cells],
    )
    patients = np.unique(np.concatenate([cell.films.patients for cell in cells]))
    return {
        "findings": len(cells),
        "names": ", ".join(cell.finding for cell in cells),
        "draws": min(draws),
        "positives_low": min(positives),
        "positives_high": max(positives),
        "test_positives_low": min(test),
        "test_positives_high": max(test),
        "test_patients": len(patients),
    }


def _mean(influences: Sequence[Influence], intervals: Sequence[Interval]) -> dict[str, float]:
    estimates = np.array([influence.estimates.mean() for influence in influences])
    # A mean's last digit may fall outside of an interval that ends at it.
    ends = np.array([(min(of.low, own), max(of.high, own)) for of, own in zip(intervals, estimates, strict=True)])
    found = mean_interval(estimates, ends, correlations(influences))
    return {"auroc": float(estimates.mean()), "auroc_low": max(found.low, -1.0), "auroc_high": min(found.high, 1.0)}


def _grouped(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[tuple[Any, list[Cell]]]:
    """In the order in which keys first come."""
    groups: dict[Any, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.items())


def _by_shot(cells: Sequence[Cell]) -> list[tuple[str, str, list[Cell]]]:
    groups = _grouped(cells, lambda cell: (cell.how, cell.shot))
    groups.sort(key=lambda item: (HOWS.index(item[0][0]), shot_place(item[0][1])))
    return [(how, shot, group) for (how, shot), group in groups]


def _comparable(cells: Sequence[Cell], findings: Sequence[str]) -> dict[str, list[Cell]]:
    """Cells of one shot by start: of those findings that every start has."""
    by_start = dict(_grouped(cells, lambda cell: cell.start))
    common = set(findings).intersection(*({cell.finding for cell in own} for own in by_start.values()))
    return {
        start: kept for start, own in by_start.items() if (kept := [cell for cell in own if cell.finding in common])
    }


def _pairs(cells: Sequence[Cell], baseline: str) -> list[tuple[Cell, Cell]]:
    """Cells of other starts, each with the baseline's of the same way, finding and shot; both have draws in common."""
    of = {(cell.how, cell.finding, cell.shot): cell for cell in cells if cell.start == baseline}
    pairs = [(cell, of.get((cell.how, cell.finding, cell.shot))) for cell in cells if cell.start != baseline]
    return [(cell, other) for cell, other in pairs if other and np.isin(cell.draws, other.draws).any()]


def _same_draws(cell: Cell, other: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Scores (D, n) of both on the draws that both have."""
    return tuple(of.scores[np.isin(of.draws, with_.draws)] for of, with_ in ((cell, other), (other, cell)))


def _by_draw(cells: Sequence[Cell], shots: Sequence[str]) -> np.ndarray:
    """AUROCs (S, D) by shot and number of the draw; nan where there is none."""
    found = np.full((len(shots), 1 + max(int(cell.draws.max()) for cell in cells)), np.nan)
    for cell in cells:
        found[shots.index(cell.shot), cell.draws] = cell.aurocs
    return found


def _needed(shots: Sequence[str], curve: np.ndarray, target: float, seed: int, there: int | None) -> dict[str, Any]:
    fitted = fit_curve(np.array([int(shot) for shot in shots]), curve, seed=seed)
    if fitted is None:
        words = "a curve needs four shots with two draws or more"
        numbers = dict.fromkeys(("needed", "low", "high", "least", "more", "ceiling"), np.nan)
        return {**numbers, "told": False, "words": words}
    found = labels_needed(fitted, target)
    numbers = {
        "needed": found.estimate,
        "low": found.low,
        "high": found.high,
        # As far as these shots can see.
        "least": min(found.low, FARTHEST * float(fitted.shots[-1])),
        "more": max(found.estimate - there, 0) if there is not None and found.told else np.nan,
        "ceiling": fitted.ceiling,
    }
    return {**numbers, "told": found.told, "words": found.words}
