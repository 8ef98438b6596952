"""Draws and lists what studies/dino_factors.py found.

    uv run python studies/dino_factors_figure.py FIGURE [--csv studies/results/dino_factors.csv] [--steps 200]

A row a setting, a dot a seed, with its 95 % interval by patients: matched information on the left, films found again on
the right. Prints the same as a table for a page.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from dino_factors import FROM_OURS, FROM_PLATEAU
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scarce_cxr.figures import theme

RESULTS = Path(__file__).parent / "results/dino_factors.csv"
GROUPS = (("from the plateau", FROM_PLATEAU, theme.COLORS[1]), ("from ours", FROM_OURS, theme.COLORS[0]))
PANELS = (("matched", "matched information, nats", (-0.2, 1.6)), ("retrieval", "found again of 100 films", (0, 0.4)))
TEXT = {"family": theme.FONT, "size": 8.5}
QUIET = "#6b7480"
# Of a random backbone and of raw pixels, on the same films and views.
CHANCE = {"retrieval": 0.064}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    found = pd.read_csv(arguments.csv)
    found = found[found["steps"] == arguments.steps]
    theme.save(draw(found), arguments.figure)
    print(as_table(found))


def ordered(found: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(setting, how it is shown, colour), the two recipes first in their groups and the others by what they reach."""
    rows = []
    for title, settings, color in GROUPS:
        base, *_ = settings
        reached = found[found["setting"].isin(settings)].groupby("setting")["matched"].mean()
        others = reached.drop(base, errors="ignore").sort_values(ascending=False).index
        rows.append((base, f"{base}: {title}", color))
        rows += [(name, name.removeprefix(base).strip(), color) for name in others]
    return rows


def draw(found: pd.DataFrame) -> Figure:
    """Both measures of all settings."""
    rows = ordered(found)
    figure = theme.figure(8.2, 0.24 * len(rows) + 1.2)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes, (name, label, limits) in zip((left, right), PANELS, strict=True):
        _draw_measure(axes, found, rows, name)
        axes.set_xlim(limits)
        axes.set_xlabel(label, **TEXT)
        if name in CHANCE:
            axes.axvline(CHANCE[name], color=QUIET, linewidth=0.8, linestyle=":")
    left.axvline(0, color=QUIET, linewidth=0.8, linestyle=":")
    left.set_yticks(range(len(rows)), [shown for _, shown, _ in rows], **TEXT)
    bases = {base for base, *_ in (settings for _, settings, _ in GROUPS)}
    for tick, (name, _, color) in zip(left.get_yticklabels(), rows, strict=True):
        tick.set_color(color)
        tick.set_fontweight("bold" if name in bases else "normal")
    left.invert_yaxis()
    films, patients = found["films"].iloc[0], found["patients"].iloc[0]
    figure.suptitle(
        f"{films} held-out films of {patients} patients; a dot a seed, 95 % intervals by patients. {theme.DISCLAIMER}",
        family=theme.FONT, size=theme.SMALL_POINTS, color=QUIET,
    )  # fmt: skip
    return figure


def _draw_measure(axes: Axes, found: pd.DataFrame, rows: list[tuple[str, str, str]], name: str) -> None:
    for place, (setting, _, color) in enumerate(rows):
        seeds = found[found["setting"] == setting]
        places = place + 0.16 * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
        low, high = seeds[name] - seeds[f"{name}_low"], seeds[f"{name}_high"] - seeds[name]
        axes.errorbar(seeds[name], places, xerr=[low, high], fmt="o", color=color, markersize=4, elinewidth=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", color="#e6e9ee", linewidth=0.8)
    axes.set_axisbelow(True)


def as_table(found: pd.DataFrame) -> str:
    """The settings in the figure's order as a Markdown table; means over seeds, their number beside them."""
    lines = [
        "| setting | seeds | loss | matched information | H(mean t) | without balancing | found again | verdict |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for setting, shown, _ in ordered(found):
        seeds = found[found["setting"] == setting]
        mean = seeds.mean(numeric_only=True)
        interval = f" ({mean['matched_low']:.2f} to {mean['matched_high']:.2f})" if len(seeds) == 1 else ""
        verdicts = ", ".join(seeds["verdict"].unique())
        lines.append(
            f"| {shown} | {len(seeds)} | {mean['loss']:.2f} | {mean['matched']:.2f}{interval} "
            f"| {mean['mean_entropy']:.2f} | {mean['plain_entropy']:.2f} | {mean['retrieval']:.0%} | {verdicts} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
