"""What trials say, as curves over the number of labels with intervals, and the same in tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from scarce_cxr.evaluation.comparison import in_digits
from scarce_cxr.evaluation.summary import (
    MEAN,
    cells_of,
    choose_baseline,
    finding_table,
    mean_table,
    shot_place,
    warnings_of,
)
from scarce_cxr.evaluation.trials import read_evidence
from scarce_cxr.figures import theme
from scarce_cxr.figures.fewshot import start_colors
from scarce_cxr.report import plots
from scarce_cxr.report.outcome import Outcome, tell_outcomes
from scarce_cxr.results import Table

# For `finding_table`: AUROC has intervals of its own, and what these are drawn for is not on the page.
_REPLICATES = 200
_DASHES = {"probe": "solid", "prototype": "dot", "neighbours": "dashdot", "finetune": "dash"}
_SYMBOLS = {"probe": "circle", "prototype": "square", "neighbours": "triangle-up", "finetune": "diamond"}
# How far starts stand apart on the axis of shots, where the next shot is at 1.
_APART = 0.07


class FewShot(NamedTuple):
    """Trials, as a page shows them.

    Attributes:
        figures: name of a finding, or of their mean -> figure and table; the mean first.
        warnings: what must be known before the numbers are believed.
        behind: how many films and patients they were tested on.
        outcomes: what is said of each start against the baseline, by the start's fingerprint.
    """

    figures: dict[str, tuple[plots.Figure, Table]]
    warnings: list[str]
    behind: str
    outcomes: dict[str, Outcome]


def read_few_shot(folders: Sequence[Path]) -> FewShot | None:
    """Sums up the trials in some folders, of one protocol; None if all their cells are empty.

    Raises:
        ScarceError: there are no trials, or their protocols differ.
    """
    evidence = read_evidence(folders)
    cells = cells_of(evidence)
    if not cells:
        return None
    findings, means = finding_table(cells, _REPLICATES), mean_table(cells)
    starts = list(dict.fromkeys(evidence.table["start"]))
    baseline = choose_baseline(evidence)
    colors = start_colors(starts, baseline)
    numbers = {start: theme.COLORS.index(color) for start, color in colors.items()}
    several = findings["finding"].nunique() > 1
    tables = {MEAN: means.assign(finding=MEAN)} if several else {}
    tables |= dict(list(findings.assign(names=findings["finding"]).groupby("finding", sort=False)))
    figures = {name: (_draw(table, numbers), _table(name, table, evidence.mark)) for name, table in tables.items()}
    patients = findings["test_patients"].max()
    behind = f"By the {evidence.mark}. " if evidence.mark else ""
    behind += (
        f"Tested on films of {patients:,} patients that no fit has seen; up to {findings['draws'].max()} draws of the "
        "labelled films; bars are 95 % intervals over patients and draws. Lines join means of the same findings, and "
        "stop before all labels, which have many more films without the finding."
    )
    outcomes = tell_outcomes(evidence, cells, means, baseline)
    return FewShot(figures, warnings_of(evidence, cells, findings), behind, outcomes)


def _draw(table: pd.DataFrame, colors: dict[str, int]) -> plots.Figure:
    figure = plots.make_figure("positive patients to learn from", "AUROC", height=400)
    shots = sorted(table["shot"].unique(), key=shot_place)
    figure.update_xaxes(
        tickvals=list(range(len(shots))),
        ticktext=shots,
        showgrid=False,
        zeroline=False,
    )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0})
    figure.add_hline(0.5, line={"width": 1, "dash": "dot", "color": "gray"})
    lines = list(table.groupby(["how", "start"], sort=False))
    several = table["how"].nunique() > 1
    for number, ((how, start), of) in enumerate(lines):
        of = of.assign(place=of["shot"].map(shots.index)).sort_values("place")
        x, rows = [], []
        names = None
        for _, row in of.iterrows():
            # No line leads to all labels, which have all negatives too, nor joins means of different findings.
            if rows and (row["shot"] == "all" or row["names"] != names):
                x.append(None)
                rows.append(None)
            x.append(row["place"] + _APART * (number - (len(lines) - 1) / 2))
            rows.append(row)
            names = row["names"]
        plots.add_line(
            figure,
            x,
            [row["auroc"] if row is not None else None for row in rows],
            color=colors[start],
            name=f"{start}, {how}" if several else start,
            mode="lines+markers",
            line={"width": 2, "dash": _DASHES[how]},
            marker={"size": 8, "symbol": _SYMBOLS[how]},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["auroc_high"] - row["auroc"] if row is not None else 0 for row in rows],
                "arrayminus": [row["auroc"] - row["auroc_low"] if row is not None else 0 for row in rows],
                "thickness": 1.2,
                "width": 3,
            },
            text=[_told(row) if row is not None else "" for row in rows],
            hovertemplate="%{text}",
        )
    return plots.plain(figure)


def _table(name: str, table: pd.DataFrame, mark: str) -> Table:
    shots = sorted(table["shot"].unique(), key=shot_place)
    rows = []
    for (how, start), of in table.groupby(["how", "start"], sort=False):
        by_shot = of.set_index("shot")
        told = [_told(by_shot.loc[shot]) if shot in by_shot.index else None for shot in shots]
        rows.append([start, how, *told])
    words = f"AUROC of {name.replace('_', ' ')}, with 95 % interval" + (f"; {mark}" if mark else "")
    return Table(words, ["start", "how", *(_words(table, shot) for shot in shots)], rows)


def _words(table: pd.DataFrame, shot: str) -> str:
    if shot != "all":
        return shot
    of = table[table["shot"] == "all"].iloc[0]
    low, high = (int(of.get(f"positives_{end}", of.get("positives"))) for end in ("low", "high"))
    return f"all: {low:,}" if low == high else f"all: {low:,} to {high:,}"


def _told(row: pd.Series) -> str:
    return in_digits(row["auroc"], row["auroc_low"], row["auroc_high"])
