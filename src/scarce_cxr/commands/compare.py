"""`scarce compare`: what trials show."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    import pandas as pd

    from scarce_cxr.evaluation.summary import Cell
    from scarce_cxr.evaluation.trials import Evidence

# Longer lists of learning curves show the mean of the findings alone; the file has all.
_MOST_ROWS = 16

_METHODS = """\
- AUROC: mean over draws. Interval: over patients and draws, by shrunken logit-DeLong with fewer than 200 patients of
  either class, by logit-DeLong with more. A patient's films count as one observation of each class.
- Mean over findings: from the findings' own intervals and how they vary together, as they share patients (MOVER). It is
  a mean of these findings, and says nothing of others. Findings that fewer than 5 test patients have are left out.
- AUPRC: average precision, interval by shrunken logit-bootstrap. It depends on the share of positives beside it.
- Sensitivity and specificity: on the test films, at the cut that has 90 % specificity on the tuning films. Their
  intervals (Wilson, by patients and draws) hold for these cuts.
- Brier score, excess (mean probability less the share of positives) and calibration error (10 bins): after a line from
  score to log-odds was fitted on the tuning films. Perfect probabilities too have a calibration error with few films:
  theirs stands beside it.
- p against chance: labels exchanged among patients with equally many films; one-sided; of these very fits on these
  patients, not corrected. An interval has fresh draws in it, and may well hold 0.5 where this p is small.
- Differences: of the draws that both starts have, on the same patients; p after Holm counts all rows of its table.
- Labels needed: a power law through the mean AUROC at each number of shots; over draws, for these test patients.
"""


class _Frames(NamedTuple):
    """Every table, in numbers."""

    means: "pd.DataFrame"
    findings: "pd.DataFrame"
    mean_differences: "pd.DataFrame"
    differences: "pd.DataFrame"
    labels_needed: "pd.DataFrame"
    empty_cells: "pd.DataFrame"


def compare(
    trials: list[str],
    findings: list[str] | None = None,
    shots: list[str] | None = None,
    how: list[Literal["probe", "prototype", "neighbours", "finetune"]] | None = None,
    baseline: str | None = None,
    target: float = 0.8,
    out: Path | None = None,
    replicates: int = 2000,
    seed: int = 0,
    jobs: int = 1,
) -> Result:
    """Says what trials show: starts side by side with intervals, paired differences, labels needed, and figures.

    Everything goes into compare.md, the numbers also into a CSV table each.

    Args:
        trials: Folders of trials, of one protocol.
        findings: Which; by default all.
        shots: Which; by default all.
        how: Ways of fitting; by default all.
        baseline: The start that all others are compared with; by default a random one, else the first.
        target: AUROC, to say how many labels would reach it.
        out: Folder for the files; by default compare in the first folder of trials.
        replicates: Of every bootstrap and permutation.
        seed: Of the same.
        jobs: Processes; -1 takes every core.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.summary import cells_of, choose_baseline, warnings_of
    from scarce_cxr.evaluation.trials import read_evidence

    if not trials:
        raise ScarceError("at least one folder of trials", "none", "scarce compare TRIALS")
    if not 0.5 < target < 1:
        raise ScarceError("a target between 0.5 and 1", f"{target}", "e.g. --target 0.8")
    if replicates < 100:
        raise ScarceError("at least 100 replicates", f"{replicates}", "--replicates 2000")
    evidence = _choose(read_evidence([Path(folder) for folder in trials]), findings, shots, how)
    cells = cells_of(evidence)
    if not cells:
        reasons = ", ".join(evidence.table["missing"].dropna().unique()[:3])
        raise ScarceError("trials with scores", f"empty cells alone ({reasons})", "probe other findings or fewer shots")
    starts = list(dict.fromkeys(evidence.table["start"]))
    if baseline is not None and baseline not in starts:
        raise ScarceError(f"a start among {', '.join(starts)}", baseline, "name it with --baseline")
    baseline = choose_baseline(evidence, baseline)
    frames = _compute(evidence, cells, baseline, target, replicates, seed, jobs)
    warnings = warnings_of(evidence, cells, frames.findings)
    mark = evidence.mark
    folder = out or Path(trials[0]) / "compare"
    figures = _draw(frames, starts, baseline, mark, folder)
    _write_numbers(frames, mark, folder)
    shown = [_marked(table, mark) for table in _digest(frames, baseline)]
    page = _write_page(frames, evidence, baseline, warnings, mark, figures, folder)
    notes = [f"! {warning}" for warning in warnings]
    notes.append(f"With a run's other pictures on one page: scarce report RUN --trials {' '.join(map(str, trials))}")
    notes.append("Research use only: not a medical device.")
    return Result(shown, [("page", page), *figures, ("numbers, a CSV table each", folder)], notes)


def _choose(
    evidence: "Evidence", findings: list[str] | None, shots: list[str] | None, how: Sequence[str] | None
) -> "Evidence":
    """What was asked for."""
    from scarce_cxr.errors import ScarceError

    table = evidence.table
    for column, asked in (("finding", findings), ("shot", shots), ("how", how)):
        known = list(dict.fromkeys(evidence.table[column]))
        if unknown := [name for name in asked or () if name not in known]:
            raise ScarceError(f"{column} among {', '.join(known)}", ", ".join(unknown), "choose what was tried")
        table = table[table[column].isin(asked or known)]
    return evidence._replace(table=table.reset_index(drop=True))


def _compute(
    evidence: "Evidence", cells: "Sequence[Cell]", baseline: str, target: float, replicates: int, seed: int, jobs: int
) -> _Frames:
    from scarce_cxr.evaluation.summary import (
        difference_table,
        empty_table,
        finding_table,
        labels_table,
        mean_difference_table,
        mean_table,
    )
    from scarce_cxr.progress import bar

    others = sum(cell.start != baseline for cell in cells)
    with bar("comparing", len(cells) + others, "cells") as advance:
        of_findings = finding_table(cells, replicates, seed, jobs, advance)
        differences = difference_table(cells, baseline, replicates, seed, jobs, advance)
    return _Frames(
        mean_table(cells),
        of_findings,
        mean_difference_table(cells, differences, baseline),
        differences,
        labels_table(cells, target, seed),
        empty_table(evidence),
    )


def _draw(frames: _Frames, starts: Sequence[str], baseline: str, mark: str, folder: Path) -> list[tuple[str, Path]]:
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.fewshot import findings_figure, forest_figure, means_figure, start_colors

    colors = start_colors(starts, baseline)
    drawn = []
    if len(frames.means):
        drawn.append(
            ("mean AUROC by shots", theme.save(means_figure(frames.means, colors, mark), folder / "means.png"))
        )
    figure = findings_figure(frames.findings, colors, mark)
    drawn.append(("every finding", theme.save(figure, folder / "findings.png")))
    for how in _ways(frames.differences):
        means = frames.mean_differences
        means = means[means["how"] == how] if len(means) else means
        of = frames.differences[frames.differences["how"] == how]
        figure = forest_figure(of, means, colors, baseline, mark)
        drawn.append((f"differences, {how}", theme.save(figure, folder / f"differences-{how}.png")))
    return drawn


def _write_numbers(frames: _Frames, mark: str, folder: Path) -> None:
    """A CSV table each, with all digits."""
    from scarce_cxr.images.atomic import written_whole

    for name, frame in frames._asdict().items():
        path = folder / f"{name.replace('_', '-')}.csv"
        with written_whole(path) as temporary:
            (frame.assign(protocol=mark) if mark else frame).to_csv(temporary, index=False)


def _marked(table: Table, mark: str) -> Table:
    return Table(f"{table.title}: {mark}", table.columns, table.rows, table.note) if mark else table


def _digest(frames: _Frames, baseline: str) -> list[Table]:
    """The tables for a terminal."""
    tables = []
    for how in _ways(frames.means):
        tables.append(_means(frames.means[frames.means["how"] == how]))
    for how in _ways(frames.findings):
        tables.append(_aurocs(frames.findings[frames.findings["how"] == how]))
    if len(frames.mean_differences):
        tables.append(_mean_differences(frames.mean_differences, frames.differences, baseline))
    labels = frames.labels_needed
    if len(labels) > _MOST_ROWS:
        from scarce_cxr.evaluation.summary import MEAN

        means = labels[labels["finding"] == MEAN]
        labels = means if len(means) else labels
    if len(labels):
        tables.append(_labels(labels))
    if len(frames.empty_cells):
        tables.append(_empty(frames.empty_cells))
    return tables


def _means(means: "pd.DataFrame") -> Table:
    """Rows of one way of fitting."""
    starts, rows = _in_order(means["start"]), []
    for _, of in means.groupby("shot", sort=False):
        by_start = of.set_index("start")
        first = of.iloc[0]
        rows.append(
            [_shot_words(first), int(first["findings"]), *(_number(by_start, start, "auroc") for start in starts)]
        )
    note = f"AUROC, {_tested(means)}; 95 % intervals over patients and draws"
    if means["names"].nunique() > 1:
        note += "; means of different findings do not compare"
    columns = ["shots", "findings", *starts]
    return Table(f"Mean of findings, {means['how'].iloc[0]}", columns, rows, note)


def _aurocs(findings: "pd.DataFrame") -> Table:
    """Rows of one way of fitting."""
    starts, rows = _in_order(findings["start"]), []
    for (finding, _), of in findings.groupby(["finding", "shot"], sort=False):
        by_start, first = of.set_index("start"), of.iloc[0]
        named = [finding, f"{first['test_positives']}/{first['test_films']}"]
        rows.append([*named, _shot_words(first), *(_number(by_start, start, "auroc") for start in starts)])
    patients, draws = findings["test_patients"].max(), findings["draws"].max()
    note = f"AUROC of up to {patients:,} test patients and {draws} draws, 95 % intervals; test: positive films of all"
    columns = ["finding", "test", "shots", *starts]
    return Table(f"Every finding, {findings['how'].iloc[0]}", columns, rows, note)


def _mean_differences(means: "pd.DataFrame", differences: "pd.DataFrame", baseline: str) -> Table:
    rows = [
        [
            row.how,
            row.shot,
            row.start,
            _text(row.difference, row.low, row.high, signed=True),
            _p(row.p_holm),
            row.better,
            row.worse,
            row.findings - row.better - row.worse,
        ]
        for row in means.itertuples()
    ]
    note = f"AUROC less that of {baseline}, same patients and draws; p after Holm for {len(means)} rows; "
    note += f"findings: Holm for {len(differences)} comparisons"
    columns = ["how", "shots", "start", "mean difference", "p", "better", "worse", "open"]
    return Table(f"Against {baseline}, mean of findings", columns, rows, note)


def _differences(differences: "pd.DataFrame", baseline: str) -> Table:
    """Sorted, the largest first."""
    rows = [
        [
            row.how,
            row.shot,
            row.finding,
            row.start,
            _text(row.difference, row.low, row.high, signed=True),
            _p(row.p),
            _p(row.p_holm),
            row.draws,
        ]
        for row in differences.sort_values("difference", ascending=False, kind="stable").itertuples()
    ]
    columns = ["how", "shots", "finding", "start", "difference", "p", "p after Holm", "draws"]
    note = f"AUROC less that of {baseline}; Holm's correction for these {len(rows)} comparisons"
    return Table(f"Against {baseline}, finding by finding", columns, rows, note)


def _labels(labels: "pd.DataFrame") -> Table:
    rows = [
        [row.how, row.start, row.finding, _needed(row), *(_whole(value) for value in (row.there, row.more))]
        for row in labels.itertuples()
    ]
    target = labels["target"].iloc[0]
    columns = ["how", "start", "finding", "positives needed", "there", "more"]
    note = "power law over shots, 95 % over draws; there: positive films to learn from; more: needed beyond them"
    return Table(f"Labels for an AUROC of {target:g}", columns, rows, note)


def _needed(row: Any) -> str:
    if row.needed == float("inf"):
        return f"none: levels off at {row.ceiling:.2f}"
    if row.told:
        return f"{_rounded(row.needed)} ({_rounded(row.low)} to {_rounded(row.high)})"
    return f"not told: {_rounded(row.least)} or more" if row.least == row.least else "not told: fewer than 4 shots"


def _empty(empty: "pd.DataFrame") -> Table:
    rows = empty[["finding", "shot", "how", "reason"]].to_numpy().tolist()
    return Table("Cells that stayed empty", ["finding", "shots", "how", "because"], rows)


def _finding_tables(findings: "pd.DataFrame") -> list[Table]:
    """One finding, in all its numbers."""
    first = findings.iloc[0]
    with_it = (
        f"{first['test_positives']:,} of {first['test_positive_patients']:,} (prevalence {first['prevalence']:.3g})"
    )
    test = (
        f"test: {first['test_films']:,} films of {first['test_patients']:,} patients; with it {with_it};"
        f" {first['test_normals']:,} of {first['test_negatives']:,} without it normal"
    )
    named = [[row.how, row.shot, row.start] for row in findings.itertuples()]

    def table(title: str, behind: Iterable[list[Any]], scores: Mapping[str, str], note: str = "") -> Table:
        cells = [[_score(row, score) for score in scores.values()] for _, row in findings.iterrows()]
        rows = [[*name, *more, *told] for name, more, told in zip(named, behind, cells, strict=True)]
        return Table(title, ["how", "shots", "start", *extra, *scores], rows, note)

    extra = ["draws", "films", "positives", "negatives", "patients"]
    learned = findings[extra].to_numpy().tolist()
    ranking = {"AUROC": "auroc", "normals": "auroc_normals", "other findings": "auroc_other_findings", "AUPRC": "auprc"}
    tables = [
        table("Ranking", learned, ranking, f"{test}; normals, other findings: AUROC against these negatives alone")
    ]
    extra = ["p", "calibration error"]
    cut = {"sensitivity": "sensitivity", "specificity": "specificity", "Brier": "brier", "excess": "excess"}
    behind = [[_p(row.p), _calibration(row)] for row in findings.itertuples()]
    return [*tables, table("Against chance, at a cut, and calibrated", behind, cut)]


def _calibration(row: Any) -> str | None:
    if row.calibration_error != row.calibration_error:
        return None
    return f"{row.calibration_error:.2f} (perfect: {row.perfect_calibration_error:.2f})"


def _write_page(
    frames: _Frames,
    evidence: "Evidence",
    baseline: str,
    warnings: Sequence[str],
    mark: str,
    figures: Sequence[tuple[str, Path]],
    folder: Path,
) -> Path:
    from scarce_cxr.images.atomic import written_whole

    pictures = {path.stem: f"![{what}]({path.name})" for what, path in figures}
    parts = ["# What a few labels buy", f"**{mark}**" if mark else "", "**Research use only: not a medical device.**"]
    if warnings:
        parts += ["## Before you believe it", "\n".join(f"- {warning}" for warning in warnings)]
    parts += ["## Protocol", _lines(evidence.protocol), _markdown(_starts(evidence, baseline))]

    def add(heading: str, picture: str, tables: Iterable[Table]) -> None:
        shown = [_markdown(_marked(table, mark)) for table in tables]
        if shown:
            parts.extend([f"## {heading}", *([pictures[picture]] if picture in pictures else []), *shown])

    add("Mean of findings", "means", [_means(of) for of in _split(frames.means)])
    if len(frames.differences):
        means = [_mean_differences(frames.mean_differences, frames.differences, baseline)]
        add(f"Against {baseline}", "", means if len(frames.mean_differences) else [])
        parts += [picture for name, picture in pictures.items() if name.startswith("differences-")]
        parts.append(_markdown(_marked(_differences(frames.differences, baseline), mark)))
    if len(frames.labels_needed):
        add("How many more labels", "", [_labels(frames.labels_needed)])
    if len(frames.empty_cells):
        add("Empty cells", "", [_empty(frames.empty_cells)])
    parts += ["## Finding by finding", pictures["findings"]]
    for finding, of in frames.findings.groupby("finding", sort=False):
        parts += [f"### {finding}", *(_markdown(_marked(table, mark)) for table in _finding_tables(of))]
    parts += ["## How the numbers are made", _METHODS, "Research use only."]
    path = folder / "compare.md"
    with written_whole(path) as temporary:
        temporary.write_text("\n\n".join(part.rstrip() for part in parts if part) + "\n", "utf-8")
    return path


def _starts(evidence: "Evidence", baseline: str) -> Table:
    names = ("kind", "architecture", "image_size", "method", "source")
    rows = []
    for start in _in_order(evidence.table["start"]):
        facts = evidence.starts.get(start, {})
        weights = evidence.table.loc[evidence.table["start"] == start, "start_fingerprint"].iloc[0]
        shown = f"{start} (baseline)" if start == baseline else start
        rows.append([shown, *(facts.get(name) for name in names), weights[:16]])
    return Table("Starts", ["start", *(name.replace("_", " ") for name in names), "weights"], rows)


def _lines(values: Mapping[str, Any]) -> str:
    """A list, with the settings of every way of fitting on one line."""
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    plain |= {
        how: ", ".join(f"{name} {value}" for name, value in of.items())
        for nested in values.values()
        if isinstance(nested, dict)
        for how, of in nested.items()
    }
    return "\n".join(f"- {name}: {value}" for name, value in plain.items())


def _markdown(table: Table) -> str:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join("" if cell is None else str(cell).replace("|", "\\|") for cell in cells) + " |"

    rows = [line(table.columns), "|" + "---|" * len(table.columns), *map(line, table.rows)]
    return "\n\n".join(part for part in (f"**{table.title}**", "\n".join(rows), table.note) if part)


def _ways(frame: "pd.DataFrame") -> list[str]:
    return _in_order(frame["how"]) if len(frame) else []


def _split(frame: "pd.DataFrame") -> "list[pd.DataFrame]":
    return [frame[frame["how"] == how] for how in _ways(frame)]


def _in_order(column: "pd.Series") -> list[str]:
    return list(dict.fromkeys(column))


def _tested(means: "pd.DataFrame") -> str:
    positives = (int(means["test_positives_low"].min()), int(means["test_positives_high"].max()))
    films = f"{positives[0]:,} to {positives[1]:,}" if positives[0] < positives[1] else f"{positives[0]:,}"
    draws = int(means["draws"].max())
    return f"{means['test_patients'].max():,} test patients, {films} positive films a finding, up to {draws} draws"


def _shot_words(row: "pd.Series") -> str:
    """The shot, with its true number of positives where that is another one: "5", "all: 63", "50: 38"."""
    low, high = (int(row.get(f"positives_{end}", row.get("positives"))) for end in ("low", "high"))
    if str(low) == str(high) == row["shot"]:
        return row["shot"]
    return f"{row['shot']}: {low:,}" if low == high else f"{row['shot']}: {low:,} to {high:,}"


def _number(by_start: "pd.DataFrame", start: str, name: str) -> str | None:
    return _score(by_start.loc[start], name) if start in by_start.index else None


def _score(row: "pd.Series", name: str) -> str | None:
    return _text(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _text(value: float, low: float, high: float, signed: bool = False) -> str | None:
    """In the digits that the interval supports; None for nan."""
    from scarce_cxr.evaluation.comparison import in_digits

    if value != value:
        return None
    told = in_digits(value, low, high)
    return f"+{told}" if signed and value > 0 and not told.startswith("0 ") else told


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _whole(value: float | None) -> int | None:
    return None if value is None or not abs(value) < float("inf") else round(value)


def _rounded(value: float) -> str:
    """Two digits and no more: no curve knows a third."""
    return f"{float(f'{value:.2g}'):,.0f}"
