"""Draws what studies/blind_spot.py found.

    uv run python studies/blind_spot_figure.py OUT [--csv studies/results/blind_spot.csv]

OUT/blind-spot.png: two patients' films without and with each finding, and below them the AUROC of every start at 100
shots by what the probe reads, a line a seed. OUT/blind-spot-films.png: films of the store as networks see them.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from blind_spot import CONTRAST, FINDINGS, SEED, SIZE, STORED, make_films, views_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image

from scarce_cxr.figures import theme
from scarce_cxr.figures.pictures import contact_sheet
from scarce_cxr.images.names import original_names
from scarce_cxr.images.phantoms import draw_film
from scarce_cxr.images.store import Store

PATIENTS, SHOT = (3, 4), "100"
LINES = {
    "stage 4": "film's mean,\nstage 4",
    "stage 3": "film's mean,\nstage 3",
    "place 4": "at the place,\nstage 4",
    "place 3": "at the place,\nstage 3",
    "place 2": "at the place,\nstage 2",
    "place 1": "at the place,\nstage 1",
    "place": "at the place,\npixels",
    "film": "network shown\nthe places",
}
COLORS = {"spark": theme.COLORS[0], "moco": theme.COLORS[1], "random": theme.COLORS[2], "other": theme.COLORS[-1]}
TEXT = {"family": theme.FONT, "size": 9}
QUIET = "#6b7480"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    theme.save(draw_films(Store.open(out / "store"), make_films(out / "films", 0)), out / "blind-spot-films.png")
    theme.save(draw_found(pd.read_csv(arguments.csv or out / "blind_spot.csv")), out / "blind-spot.png")


def draw_films(store: Store, films: pd.DataFrame, count: int = 15) -> Figure:
    """Films at the size of the views, a third with nothing, and where each finding lies in pixels."""
    films = films.set_index("path").loc[original_names(store.path)[store.table["image_id"]]].reset_index()
    kinds = [films[FINDINGS[0]].eq(0), *(films[name].eq(1) for name in FINDINGS)]
    rows = np.stack([np.flatnonzero(kind)[: count // 3] for kind in kinds], axis=1).ravel()
    pixels = views_of(store, rows)[:, 0].numpy() * store.std + store.mean
    captions = []
    for film in films.iloc[rows].to_dict("records"):
        shown = next((name for name in FINDINGS if film[name] == 1), None)
        x, y, side = (SIZE * film.get(f"{shown}_{what}", 0) for what in ("x", "y", "side"))
        captions.append(f"{shown}, {side:.0f} pixels\nat {x:.0f}, {y:.0f}" if shown else "nothing")
    return contact_sheet(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8), captions, f"Phantom films at {SIZE} pixels")


def draw_found(rows: pd.DataFrame) -> Figure:
    """Films above, AUROCs below."""
    figure = theme.figure(7, 9.2)
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.8, 5.4))
    upper.set_facecolor(theme.LIGHTBOX)
    for axes, finding in zip(upper.subplots(2, 4), FINDINGS, strict=True):
        for pair, patient in enumerate(PATIENTS):
            plain, found = (draw_film(SEED, patient, 0, STORED, findings=names) for names in ((), [finding]))
            planted = plain.pixels + CONTRAST * (found.pixels - plain.pixels)
            for panel, film in zip(axes[2 * pair : 2 * pair + 2], (plain.pixels, planted), strict=True):
                theme.show_film(panel, np.asarray(Image.fromarray(film).resize((SIZE, SIZE), Image.Resampling.BOX)))
            box, scale = found.boxes[0], SIZE / STORED
            centre = (scale * (box.left + box.width / 2), scale * (box.top + box.height / 2))
            radius = scale * max(box.width, box.height) / 2 + 3
            axes[2 * pair + 1].add_patch(Circle(centre, radius, fill=False, color=theme.LIGHTBOX_ACCENT, linewidth=1.2))
        for panel, word in zip(axes, ("without", "with") * len(PATIENTS), strict=True):
            panel.set_title(f"{word} {finding.lower()}", color=theme.LIGHTBOX_INK, **TEXT)
    panels = lower.subplots(1, 2, sharey=True)
    for panel, finding in zip(panels, FINDINGS, strict=True):
        draw_panel(panel, rows[(rows["finding"] == finding) & rows["against"].isna()])
        panel.set_title(finding, loc="left", weight="bold", **TEXT)
    panels[0].set_yticks(range(len(LINES)), LINES.values(), **TEXT)
    panels[0].invert_yaxis()
    words = ("SparK", "MoCo", "random", "no pretraining")
    handles = [
        panels[0].plot([], [], "o-", color=color, label=word)[0]
        for word, color in zip(words, COLORS.values(), strict=True)
    ]
    lower.legend(handles=handles, loc="outside lower center", ncols=len(COLORS), frameon=False, prop=TEXT)
    return figure


def draw_panel(panel: Axes, rows: pd.DataFrame) -> None:
    """One finding's AUROCs with their intervals, by what is read."""
    order = {start: place for place, start in enumerate(COLORS)}
    for line, readout in enumerate(LINES):
        shot = "all" if readout == "film" else SHOT
        of = rows[
            rows["readout"].eq(readout) & rows["shot"].eq(shot) & ~(rows["start"].eq("pixels") & (readout == "film"))
        ]
        of = of.sort_values("start", key=lambda starts: starts.map(order), kind="stable")
        for place, row in enumerate(of.to_dict("records")):
            y = line + (place - (len(of) - 1) / 2) * min(0.2, 0.75 / len(of))
            color = COLORS.get(row["start"], COLORS["other"])
            panel.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
            panel.plot(row["value"], y, "o", color=color, markersize=4)
    for line in range(1, len(LINES)):
        panel.axhline(line - 0.5, color="#e3e6ea", linewidth=0.8, zorder=0)
    panel.axvline(0.5, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    panel.set_xlim(0.42, 1.01)
    panel.set_xlabel("AUROC, 95 % interval", **TEXT)
    panel.tick_params(axis="x", labelsize=8)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


if __name__ == "__main__":
    main()
