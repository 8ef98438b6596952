"""Maps colour points as the legend says, films carry their words, and nothing is cut off."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from scarce_cxr.figures import theme
from scarce_cxr.figures.embedding_map import Coloring, Picture, captioned_grid, map_figure

PLACES = np.random.default_rng(0).normal(size=(60, 2))
GROUPS = np.repeat(["AP", "PA", ""], [30, 20, 10])


def make_map(colorings):
    return map_figure([("PCA: 40 %, 20 % of variance", PLACES), ("t-SNE", -PLACES)], colorings, "moco: 60 films")


def test_every_point_has_the_colour_that_the_legend_gives_its_group():
    figure = make_map([Coloring("view", GROUPS), Coloring("finding", GROUPS, ("PA", "AP"))])
    panels = np.array(figure.axes).reshape(2, 3)
    for row, colors in zip(panels, ({"AP": 0, "PA": 1}, {"PA": 0, "AP": 1}), strict=True):
        words = [text.get_text() for text in row[0].get_legend().get_texts()]
        assert words == [f"{name} ({(name == GROUPS).sum()})" for name in colors] + ["not known (10)"]
        for axes, sign in zip(row[1:], (1, -1), strict=True):
            points = axes.collections[0]
            shown = {
                tuple(place): to_hex(color)
                for place, color in zip(points.get_offsets().data, points.get_facecolors(), strict=True)
            }
            for place, group in zip(sign * PLACES, GROUPS, strict=True):
                expected = theme.COLORS[colors[group]] if group else "#c9ced6"
                assert shown[tuple(place)] == expected


def test_small_groups_are_put_together_where_colours_do_not_suffice():
    groups = np.repeat([f"site {number}" for number in range(9)], [12, 11, 10, 9, 8, 4, 3, 2, 1])
    legend = make_map([Coloring("site", groups)]).axes[0].get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    assert words[-1] == "others (10)"
    assert len(words) == 6


def test_each_film_stands_above_its_words():
    film = np.random.default_rng(0).uniform(size=(20, 20))
    rows = [
        [Picture(film, "0.91 PA M", "Effusion", True), Picture(1 - film, "0.90", "normal")],
        [Picture(film, "above 97 %", "Pleural Thickening, Atelectasis, Consolidation, Infiltration, Cardiomegaly")],
    ]
    figure = captioned_grid(rows, "moco: nearest", column_labels=["test film", "1st"], foot="numbers: cosine")
    assert [np.array_equal(axes.images[0].get_array(), film) for axes in figure.axes] == [True, False, True]
    words = [text.get_text() for text in figure.texts]
    assert {"moco: nearest", "0.91 PA M", "Effusion", "normal", "1st", "numbers: cosine", theme.DISCLAIMER} <= set(
        words
    )
    assert any(word.endswith("…") for word in words)
    colors = {text.get_text(): text.get_color() for text in figure.texts}
    assert colors["Effusion"] == theme.LIGHTBOX_ACCENT
    assert colors["normal"] == theme.LIGHTBOX_QUIET


@pytest.mark.parametrize("columns", [1, 6])
def test_no_text_leaves_the_figure_or_covers_another_or_a_film(columns):
    picture = Picture(np.zeros((8, 8)), "below 100 %", "Pleural Thickening, Consolidation, Infiltration")
    labels = ["false positives", "false negatives"]
    title = "random resnet50: the worst errors on Pneumonia"
    foot = "shares: of the films with it (above), without it (below), that score lower or higher"
    grid = captioned_grid([[picture] * columns] * 2, title, row_labels=labels, foot=foot)
    renderer = grid.canvas.get_renderer()
    words = [text.get_window_extent(renderer) for text in grid.texts]
    pictures = [axes.get_window_extent(renderer) for axes in grid.axes]
    for number, box in enumerate(words):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= grid.bbox.width
        assert box.y1 <= grid.bbox.height
        others = words[:number] + words[number + 1 :] + pictures
        assert not any(box.overlaps(other) for other in others), grid.texts[number].get_text()


def test_a_legends_words_stay_beside_the_maps():
    words = "A probe tells site 0: AUROC 0.973 (0.951 to 0.988)"
    groups = np.repeat([f"hospital {number}" for number in range(6)], 10)
    figure = make_map([Coloring("site", groups, (), words, True)] * 2)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    panels = np.array(figure.axes).reshape(2, 3)
    for beside, first, _ in panels:
        legend = beside.get_legend().get_window_extent(renderer)
        told = beside.texts[1].get_window_extent(renderer)
        map_ = first.get_window_extent(renderer)
        assert max(legend.x1, told.x1) <= map_.x0
        assert told.y1 <= legend.y0 + 1
        assert told.y0 >= map_.y0 - 2
