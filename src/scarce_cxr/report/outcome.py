"""What few labels say of a start against the baseline, in a sentence; and which of the starts a run is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.comparison import digits, in_digits
from scarce_cxr.evaluation.fewshot import start_key
from scarce_cxr.evaluation.summary import HOWS, Cell, difference_table, mean_difference_table, shot_place
from scarce_cxr.evaluation.trials import Evidence
from scarce_cxr.progress import bar
from scarce_cxr.report.runs import ShownRun

_SURE = 0.05
_BEHIND = {"findings": "finding", "draws": "draw", "test_patients": "test patient"}


class Outcome(NamedTuple):
    """Of one start.

    Attributes:
        words: what came out, how sure that is, and what is behind it; None if there is no start to compare it with.
        short: the difference alone, with its interval.
        finding: one that it was tried on.
        own_labels: whether labels came from a table beside the store.
        which: what stands behind the run's folder to name the start: "" or ":best".
    """

    words: str | None
    short: str | None
    finding: str
    own_labels: bool
    which: str = ""


def tell_outcomes(evidence: Evidence, cells: Sequence[Cell], means: pd.DataFrame, baseline: str) -> dict[str, Outcome]:
    """What is said of every start that has scores, by its fingerprint.

    The difference of means over findings is that of `scarce compare`, Holm's correction over all its rows included. Of
    its rows one is told: the first way of fitting, at the most labels, short of all, that the most findings have.

    Args:
        evidence: where the cells are from.
        cells: of all starts.
        means: their `mean_table`.
        baseline: the start to compare with.
    """
    with bar("comparing", sum(cell.start != baseline for cell in cells), "cells") as advance:
        found = difference_table(cells, baseline, advance=advance)
    differences = mean_difference_table(cells, found, baseline)
    fingerprints = dict(zip(evidence.table["start"], evidence.table["start_fingerprint"], strict=True))
    mark = f"; {evidence.mark}" if evidence.mark else ""
    own_labels = evidence.protocol.get("labels") != "the store's"
    outcomes = {}
    for start in dict.fromkeys(cell.start for cell in cells):
        words = short = None
        finding = next(cell.finding for cell in cells if cell.start == start)
        rows = differences[differences["start"] == start] if len(differences) else differences
        if len(rows):
            row = _choose(rows)
            words, short = _tell(row, means) + mark, f"{_interval(row)} at {row['shot']}"
        outcomes[fingerprints[start]] = Outcome(words, short, finding, own_labels)
    return outcomes


def find_outcome(run: ShownRun, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """That of a run's last backbone, else of its best one; None if neither is among the starts."""
    for which in ("", ":best"):
        try:
            start = parse_start(f"{run.folder.path}{which}")
        except (ScarceError, OSError):
            continue
        if outcome := outcomes.get(start_key(start)):
            return outcome._replace(which=which)
    return None


def _choose(rows: pd.DataFrame) -> pd.Series:
    how = min(rows["how"], key=HOWS.index)
    of = rows[rows["how"] == how]
    few = of[of["shot"] != "all"]
    few = few if len(few) else of
    common = few[few["findings"] == few["findings"].max()]
    return common.loc[common["shot"].map(shot_place).idxmax()]


def _tell(row: pd.Series, means: pd.DataFrame) -> str:
    told = "not told from"
    if row["p_holm"] < _SURE:
        told = "better than" if row["difference"] > 0 else "worse than"
    known = means.set_index(["how", "shot", "start"])
    both = [known.loc[(row["how"], row["shot"], start)] for start in (row["start"], row["baseline"])]
    decimals = min(digits(of["auroc_low"], of["auroc_high"]) for of in both)
    ours, theirs = (f"{of['auroc']:.{decimals}f}" for of in both)
    behind = ", ".join(_count(row[name], words) for name, words in _BEHIND.items())
    return (
        f"{told} {row['baseline']} {_labels(row)}: mean AUROC {ours} against {theirs}, difference {_interval(row)},"
        f" p after Holm {_p(row['p_holm'])}; {row['how']}, {behind}"
    )


def _labels(row: pd.Series) -> str:
    if row["shot"] != "all":
        return f"with {_count(row['shot'], 'positive patient')} to learn from"
    low, high = row["positives_low"], row["positives_high"]
    return f"with all labels ({f'{low:,}' if low == high else f'{low:,} to {high:,}'} positive films)"


def _count(number: int | str, what: str) -> str:
    return f"1 {what}" if int(number) == 1 else f"{int(number):,} {what}s"


def _interval(row: pd.Series) -> str:
    return in_digits(row["difference"], row["low"], row["high"])


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.2g}"
