"""Colours, fonts and sizes of every figure; how a figure is made, a film shown, and a file saved."""

import os
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PAPER = "#ffffff"

# Okabe and Ito's colours, told apart by colour-blind readers too; yellow is left out, as it is lost on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")

# Films are read on a dark ground: a bright one closes the pupil and hides the lungs' faint detail.
LIGHTBOX = "#0e1116"
LIGHTBOX_INK = "#e8ecf2"
LIGHTBOX_QUIET = "#98a2b3"
LIGHTBOX_ACCENT = "#f2b65a"

# What was not seen is blue, as no grey could be told from a film's own.
_FILM_COLORS = colormaps["gray"].with_extremes(bad="#2f4858")

FONT = ["DejaVu Sans", "sans-serif"]
TITLE_POINTS, SMALL_POINTS = 13.0, 7.5
DOTS_PER_INCH = 160

DISCLAIMER = "Research use only"


def figure(width: float, height: float, ground: str = PAPER) -> Figure:
    """An empty figure, free of pyplot's global state; its subplots make room for their own labels.

    Args:
        width, height: in inches.
        ground: colour behind everything.
    """
    made = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=ground, layout="constrained")
    FigureCanvasAgg(made)
    return made


def show_film(axes: Axes, film: np.ndarray) -> None:
    """Shows a film without ticks or frame; the axes keep their title and label.

    Args:
        axes: where.
        film: (H, W) in [0, 1], 0 black and 1 white; NaN stands for what was not seen.
    """
    axes.imshow(film, cmap=_FILM_COLORS, vmin=0, vmax=1, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def save(made: Figure, path: Path) -> Path:
    """Writes a figure in the format of the path's suffix; the file is either whole or not there. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        made.savefig(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
