"""Figures leave colours to the page, and names stay text."""

import numpy as np

from scarce_cxr.figures import theme
from scarce_cxr.report import plots


def test_names_are_text_and_colours_are_numbers():
    figure = plots.make_figure("step")
    plots.add_line(figure, [1, 2], [np.nan, 0.5], color=len(theme.COLORS) + 1, name="<b>a</b> & %{x}", run=3)
    (line,) = plots.plain(figure)["data"]
    assert line["name"] == "&lt;b&gt;a&lt;/b&gt; &amp; %{x}"
    # Data are never part of a template.
    assert line["hovertemplate"] == "%{y:.4g} at %{x:,}<extra>%{fullData.name}</extra>"
    assert line["y"] == [None, 0.5]
    assert line["meta"] == {"color": 1, "run": 3}
    assert "color" not in line.get("line", {})


def test_there_is_a_dark_colour_for_every_light_one():
    assert len(plots.DARK_COLORS) == len(theme.COLORS)
