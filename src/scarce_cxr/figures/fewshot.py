"""What a few labels buy, drawn: AUROC by shots, on average and finding by finding, and how far starts lie apart."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator, NullLocator

from scarce_cxr.figures import theme

# Inches and points; in a column of 700 pixels the figure is seen at seven eighths of its size.
_WIDTH, _POINTS, _SMALL_POINTS = 5.0, 9.0, 8.0
_QUIET = "#6b7480"
# Way of fitting -> line and marker.
_STYLES = {
    "probe": ("solid", "o"),
    "finetune": ((0, (4, 2)), "s"),
    "prototype": ((0, (1, 1.5)), "^"),
    "neighbours": ((0, (4, 1.5, 1, 1.5)), "D"),
}
# On the axis of shots, as factors: how far neighbours lie apart, all of them together at most, and how far `all` keeps
# from the last number.
_DODGE, _MOST_DODGE, _APART = 1.12, 1.5, 2.2
_CHANCE = 0.5
_LEGEND_COLUMNS = 3
# Points from the ticks' labels to the next line.
_BELOW = 11
_SURE = 0.05


def start_colors(starts: Sequence[str], baseline: str) -> dict[str, str]:
    """A colour for every start, the same in all figures: black for the baseline, then the theme's."""
    others = [start for start in starts if start != baseline]
    colors = {start: theme.COLORS[number % (len(theme.COLORS) - 1)] for number, start in enumerate(others)}
    return {start: colors.get(start, theme.COLORS[-1]) for start in starts}


def means_figure(means: pd.DataFrame, colors: Mapping[str, str], mark: str = "") -> Figure:
    """Mean AUROC over findings by shots, with 95 % intervals.

    Shots stand on a logarithmic axis. `all` stands apart, at the mean of its true numbers of positives, and no line
    leads there: it has all negatives too. Nor does a line join means of different findings.

    Args:
        means: rows of how, shot, start, names, findings, positives_low, positives_high, auroc, auroc_low, auroc_high.
        colors: of every start.
        mark: words to stand in the title, e.g. of another protocol.
    """
    figure = theme.figure(_WIDTH, 3.7)
    counts = means["findings"]
    low, high = int(counts.min()), int(counts.max())
    of = f"{high} finding{'s' * (high > 1)}" if low == high else f"{low} to {high} findings"
    _head(figure, f"AUROC by shots, mean of {of}", mark)
    axes = figure.add_subplot()
    shots = _shots(means)
    every = _every(means, shots)
    _draw_by_shot(axes, means, colors, every)
    places = _label_shots(axes, shots, every, _every_words(means))
    if low < high:
        _write_below(axes, places, means.drop_duplicates("shot").set_index("shot")["findings"])
    axes.set_ylim(*_range(means))
    axes.set_ylabel("AUROC", fontsize=_POINTS)
    axes.set_xlabel(
        "positive patients to learn from, and as many without it",
        fontsize=_POINTS,
        labelpad=4 + _BELOW * (low < high),
    )
    _foot(figure, "bars: 95 % over patients and draws", _handles(means, colors))
    return figure


def findings_figure(findings: pd.DataFrame, colors: Mapping[str, str], mark: str = "") -> Figure:
    """AUROC by shots in a panel for every finding, with 95 % intervals.

    Args:
        findings: rows of how, finding, shot, start, positives, test_positives, test_films, auroc, auroc_low,
            auroc_high.
        colors: of every start.
        mark: words to stand in the title.
    """
    names = list(dict.fromkeys(findings["finding"]))
    columns = min(len(names), 2)
    rows = math.ceil(len(names) / columns)
    figure = theme.figure(_WIDTH, 1.2 + rows * 1.6)
    _head(figure, "AUROC by shots and finding", mark)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    shots = _shots(findings)
    for panel, name in zip(panels, names, strict=False):
        of = findings[findings["finding"] == name]
        every = _every(of, shots)
        _draw_by_shot(panel, of.assign(names=name), colors, every)
        _label_shots(panel, shots, every, _every_words(of))
        tested = of.iloc[0]
        panel.set_title(name.replace("_", " "), loc="left", fontsize=_SMALL_POINTS, fontweight="bold", pad=11)
        behind = f"test: {tested['test_positives']:,} of {tested['test_films']:,} films"
        panel.text(0, 1.02, behind, transform=panel.transAxes, fontsize=theme.SMALL_POINTS, color=_QUIET)
    low, high = _range(findings)
    panels[0].set_ylim(low, high)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel in panels[0::columns]:
        panel.set_ylabel("AUROC", fontsize=_SMALL_POINTS)
    for panel in panels[: len(names)][-columns:]:
        panel.set_xlabel("positive patients to learn from", fontsize=_SMALL_POINTS)
    beyond = bool((findings["auroc_low"] < low).any() or (findings["auroc_high"] > high).any())
    words = "bars: 95 % over patients and draws" + "; some leave their panel" * beyond
    _foot(figure, words, _handles(findings, colors))
    return figure


def forest_figure(
    differences: pd.DataFrame, means: pd.DataFrame, colors: Mapping[str, str], baseline: str, mark: str = ""
) -> Figure:
    """Paired differences in AUROC from the baseline, a panel for every number of shots.

    Findings are sorted by their mean difference, in the same order in all panels; the mean of findings stands on top.
    A filled marker is a difference that Holm's correction leaves below 0.05.

    Args:
        differences: rows of one way of fitting: finding, shot, start, difference, low, high, p_holm.
        means: rows of shot, start, findings, difference, low, high, p_holm: of the mean over findings.
        colors: of every start.
        baseline: name of the start that is at 0.
        mark: words to stand in the title.
    """
    shots = sorted(differences["shot"].unique(), key=_place)
    order = differences.groupby("finding")["difference"].mean().sort_values(ascending=False, kind="stable").index
    several = len(means) > 0 and int(means["findings"].max()) > 1
    starts = [start for start in colors if start in set(differences["start"])]
    columns = min(len(shots), 3)
    rows = math.ceil(len(shots) / columns)
    lines = len(order) + several
    height = lines * max(0.2, 0.11 * len(starts) + 0.06)
    figure = theme.figure(_WIDTH, 1.35 + rows * (height + 0.42))
    _head(figure, f"{differences['how'].iloc[0].capitalize()}: difference in AUROC from {baseline}", mark)
    widest = _widest(differences)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, shot in zip(panels, shots, strict=False):
        panel.axvline(0, color=_QUIET, linewidth=0.9, zorder=1)
        for number, start in enumerate(starts):
            shift = (number - (len(starts) - 1) / 2) * 0.7 / max(len(starts), 2)
            of = differences[(differences["shot"] == shot) & (differences["start"] == start)]
            places = np.array([order.get_loc(name) for name in of["finding"]]) + several
            _draw_forest(panel, of, places + shift, colors[start], "o", widest)
            if several:
                mean = means[(means["shot"] == shot) & (means["start"] == start)]
                _draw_forest(panel, mean, np.full(len(mean), shift), colors[start], "D", widest)
        if several:
            panel.axhline(0.5, color=_QUIET, linewidth=0.6)
        panel.set_title("all labels" if shot == "all" else _count(shot), loc="left", fontsize=_SMALL_POINTS, pad=3)
        panel.set_yticks(range(lines), [*["mean of findings"] * several, *(name.replace("_", " ") for name in order)])
        panel.set_ylim(lines - 0.5, -0.5)
        panel.tick_params(labelsize=_SMALL_POINTS, length=2)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", alpha=0.25)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_xlim(-widest, widest)
        panel.xaxis.set_major_locator(MultipleLocator(_step(widest)))
        panel.xaxis.set_major_formatter(lambda value, _: "0" if abs(value) < 1e-9 else f"{value:+.2g}")
    for panel in panels[len(shots) :]:
        panel.set_axis_off()
    for panel in panels[: len(shots)][-columns:]:
        panel.tick_params(labelbottom=True)
    handles = [Line2D([], [], color=colors[start], marker="o", markersize=4, label=start) for start in starts]
    sure = {"color": _QUIET, "marker": "o", "markersize": 4, "linestyle": "none"}
    handles.append(Line2D([], [], **sure, label="filled: p < 0.05 after Holm"))
    _foot(figure, "same patients, same draws; bars: 95 %", handles)
    return figure


def _draw_by_shot(axes: Axes, table: pd.DataFrame, colors: Mapping[str, str], every: float) -> None:
    axes.axhline(_CHANCE, color=_QUIET, linewidth=0.8, linestyle=":", zorder=1)
    lines = list(table.groupby(["how", "start"], sort=False))
    lines.sort(key=lambda item: (list(colors).index(item[0][1]), list(_STYLES).index(item[0][0])))
    dodge = min(_DODGE, _MOST_DODGE ** (1 / max(len(lines) - 1, 1)))
    for number, ((how, start), of) in enumerate(lines):
        style, marker = _STYLES[how]
        of = of.sort_values("shot", key=lambda column: column.map(_place))
        places = np.array([every if shot == "all" else float(shot) for shot in of["shot"]])
        places *= dodge ** (number - (len(lines) - 1) / 2)
        gaps = np.abs(of[["auroc_low", "auroc_high"]].to_numpy().T - of["auroc"].to_numpy())
        for _, part in of.assign(place=places)[of["shot"] != "all"].groupby("names", sort=False):
            axes.plot(part["place"], part["auroc"], color=colors[start], linestyle=style, linewidth=1.2, zorder=3)
        face = colors[start] if how == "probe" else "white"
        axes.errorbar(
            places,
            of["auroc"],
            gaps,
            color=colors[start],
            linestyle="none",
            elinewidth=0.8,
            alpha=0.9,
            marker=marker,
            markersize=3.6,
            markerfacecolor=face,
            markeredgewidth=0.9,
            zorder=4,
        )
    axes.set_xscale("log")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_forest(panel: Axes, rows: pd.DataFrame, places: np.ndarray, color: str, marker: str, widest: float) -> None:
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    panel.hlines(places, low.clip(-widest), high.clip(None, widest), color=color, linewidth=1.1, zorder=2)
    for beyond, edge, caret in ((low < -widest, -widest, "<"), (high > widest, widest, ">")):
        panel.scatter(np.full(beyond.sum(), edge), places[beyond], s=9, marker=caret, color=color, clip_on=False)
    faces = [color if p < _SURE else "white" for p in rows["p_holm"]]
    panel.scatter(rows["difference"], places, s=15, marker=marker, c=faces, edgecolors=color, linewidths=1, zorder=3)


def _label_shots(axes: Axes, shots: Sequence[str], every: float, all_words: str) -> dict[str, float]:
    """Marks the shots on the axis; their places."""
    places = {shot: every if shot == "all" else float(shot) for shot in shots}
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(places.values()), [all_words if shot == "all" else shot for shot in shots])
    axes.tick_params(labelsize=_SMALL_POINTS, length=2.5)
    axes.set_xlim(min(places.values()) / 1.5, max(places.values()) * 1.8)
    axes.yaxis.set_major_locator(MultipleLocator(0.1))
    numbers = [place for shot, place in places.items() if shot != "all"]
    if "all" in shots and numbers:
        axes.axvline(math.sqrt(max(numbers) * every), color=_QUIET, linewidth=0.6, alpha=0.5)
    return places


def _write_below(axes: Axes, places: Mapping[str, float], counts: Mapping[str, int]) -> None:
    """How many findings a mean is of, under its shot."""
    style = {"textcoords": "offset points", "va": "top", "fontsize": theme.SMALL_POINTS, "color": _QUIET}
    axes.annotate("findings:", (0, 0), (-4, -6 - _BELOW), xycoords="axes fraction", ha="right", **style)
    for shot, place in places.items():
        at = axes.get_xaxis_transform()
        axes.annotate(str(counts[shot]), (place, 0), (0, -6 - _BELOW), xycoords=at, ha="center", **style)


def _shots(table: pd.DataFrame) -> list[str]:
    return sorted(table["shot"].unique(), key=_place)


def _place(shot: str) -> float:
    return math.inf if shot == "all" else float(shot)


def _every(table: pd.DataFrame, shots: Sequence[str]) -> float:
    """Where `all` stands: at its true number of positives (several: their geometric mean), but apart from the rest."""
    numbers = [float(shot) for shot in shots if shot != "all"]
    least = _APART * max(numbers) if numbers else 1.0
    known = _of_all(table)
    return max(least, float(np.exp(np.mean(np.log(known))))) if known else least


def _every_words(table: pd.DataFrame) -> str:
    known = _of_all(table)
    if not known:
        return "all"
    low, high = min(known), max(known)
    return f"all: {low:,}" if low == high else f"all: {low:,} to {high:,}"


def _of_all(table: pd.DataFrame) -> list[int]:
    names = [name for name in ("positives", "positives_low", "positives_high") if name in table]
    return [int(value) for name in names for value in table.loc[table["shot"] == "all", name]]


def _widest(differences: pd.DataFrame) -> float:
    """Where the axis of differences ends: all points lie on it, and nine of ten intervals."""
    ends = differences[["low", "high"]].abs().max(axis=1)
    return 1.05 * max(float(ends.quantile(0.9)), 1.1 * float(differences["difference"].abs().max()), 0.01)


def _step(widest: float) -> float:
    """Between ticks: so that there are three or five."""
    return next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if widest / step < 2.2 or step == 0.5)


def _count(shot: str) -> str:
    return f"{shot} positive patient{'s' * (shot != '1')}"


def _head(figure: Figure, title: str, mark: str) -> None:
    words = f"{title}\n{mark}" if mark else title
    figure.suptitle(words, x=0.01, ha="left", fontsize=10.5, fontweight="bold", family=theme.FONT)


def _foot(figure: Figure, words: str, handles: Sequence[Line2D]) -> None:
    """The legend, and under it what bars are."""
    height, line = figure.get_figheight(), 0.19
    rows = math.ceil(len(handles) / _LEGEND_COLUMNS)
    below = (0.24 + line * rows) / height
    figure.get_layout_engine().set(rect=(0, below, 1, 1 - below))
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 0.15 / height),
        ncols=_LEGEND_COLUMNS,
        frameon=False,
        fontsize=_SMALL_POINTS,
        borderaxespad=0,
    )
    style = {"size": theme.SMALL_POINTS, "color": _QUIET}
    figure.text(0.01, 0.03 / height, words, **style)
    figure.text(0.995, 0.03 / height, theme.DISCLAIMER, ha="right", **style)


def _handles(table: pd.DataFrame, colors: Mapping[str, str]) -> list[Line2D]:
    shown, hows = set(table["start"]), [how for how in _STYLES if how in set(table["how"])]
    handles = [
        Line2D([], [], color=color, linewidth=2.2, label=name) for name, color in colors.items() if name in shown
    ]
    for how in hows if len(hows) > 1 else []:
        style, marker = _STYLES[how]
        face = _QUIET if how == "probe" else "white"
        line = {"color": _QUIET, "linestyle": style, "marker": marker, "markersize": 4, "markerfacecolor": face}
        handles.append(Line2D([], [], **line, label=how))
    return handles


def _range(table: pd.DataFrame) -> tuple[float, float]:
    """Of the axis of AUROC: all points and chance are on it, and bars as far as they are of use."""
    points, low, high = table["auroc"], table["auroc_low"].min(), table["auroc_high"].max()
    return max(low - 0.02, min(points.min() - 0.05, 0.42)), min(high + 0.02, max(points.max() + 0.1, 0.9), 1.01)
