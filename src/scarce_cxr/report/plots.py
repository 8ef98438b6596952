"""Plotly figures as plain values that a page's script colours: light or dark, and which runs are shown."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from scarce_cxr.figures import theme

# What the page's script puts in place of the theme's colours on a dark ground, in the same order.
DARK_COLORS = ("#5cb3ee", "#ff9757", "#33cfa0", "#e6a3ca", "#a5dcff", "#f5bd5c", "#f2f5f8")
# Hexadecimal: of what fills an interval, and of points that have a line through them.
FAINT, PALE = "2b", "66"

Figure = dict[str, Any]


def plain(figure: go.Figure) -> Figure:
    """The figure as plain lists, texts and numbers; what is no finite number becomes None."""
    return json.loads(figure.to_json())


def make_figure(x_title: str, y_title: str = "", *, height: int = 260) -> go.Figure:
    """An empty figure whose colours are left to the page."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 40, "r": 12, "t": 10, "b": 44},
        showlegend=False,
        hovermode="closest",
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 8}, automargin=True)
    figure.update_yaxes(title={"text": y_title, "standoff": 8}, automargin=True, nticks=6)
    return figure


def add_line(
    figure: go.Figure,
    x: Sequence[float],
    y: Sequence[float | None],
    *,
    color: int,
    name: str,
    run: int | None = None,
    **style: Any,
) -> None:
    """Adds a line or points.

    Args:
        figure: to this one.
        x, y: places; None breaks the line.
        color: number in the theme's colours.
        name: for the hover, as text: what looks like markup in it is shown, not obeyed.
        run: number of the run whose switch shows and hides it; None: always shown.
        style: of a Plotly scatter.
    """
    if style.get("hoverinfo") != "skip":
        style["hovertemplate"] = style.get("hovertemplate", "%{y:.4g} at %{x:,}") + "<extra>%{fullData.name}</extra>"
    # The script finds colours and runs by what stands in meta.
    meta = {"color": color % len(theme.COLORS), "run": run}
    figure.add_scatter(x=list(x), y=list(y), name=as_text(name), meta=meta, **style)


def add_band(
    figure: go.Figure, x: Sequence[float], low: Sequence[float], high: Sequence[float], *, color: int, run: int
) -> None:
    """Adds the ground between two lines, such as an interval."""
    meta = {"color": color % len(theme.COLORS), "run": run, "band": True}
    around = {
        "x": [*x, *reversed(x)],
        "y": [*low, *reversed(high)],
        "fill": "toself",
        "mode": "lines",
        "line": {"width": 0},
    }
    figure.add_scatter(**around, hoverinfo="skip", meta=meta)


def as_text(words: str) -> str:
    """Words for a figure. Plotly reads some tags: here they stay what they are, text."""
    return escape(words, quote=False)
