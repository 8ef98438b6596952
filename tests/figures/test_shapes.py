"""A drawn network names every map's shape, in a row of its stride, and no words cover others."""

import itertools

import pytest

from scarce_cxr.figures import theme
from scarce_cxr.figures.shapes import Network, shapes_figure

ENCODER = [(256, 56), (512, 28), (1024, 14), (2048, 7)]
BRIDGES = [(768, 7), (384, 14), (192, 28), (96, 56)]
DECODER = [(384, 14), (192, 28), (96, 56), (48, 112), (24, 224), (1, 224)]
LARGE = Network("large", 224, ENCODER, BRIDGES, DECODER)
WITHOUT_SKIPS = Network(
    "small", 64, [(64, 16), (512, 2)], [(8, 2)], [(8, 4), (8, 8), (8, 16), (8, 32), (8, 64), (1, 64)]
)


@pytest.fixture(scope="module")
def figure():
    made = shapes_figure([LARGE, WITHOUT_SKIPS])
    made.draw_without_rendering()
    return made


def test_every_map_is_named_where_its_resolution_is(figure):
    placed = [(text.get_text(), text.get_position()) for text in figure.axes[0].texts if text.get_text()]
    down = {words: y for words, (x, y) in placed if x == 0}
    names = ["film 1 x 224 x 224", "256 x 56 x 56", "512 x 28 x 28", "1024 x 14 x 14", "2048 x 7 x 7"]
    assert down == dict(zip(names, [0, 3, 4, 5, 6], strict=True))
    up = {words: y for words, (x, y) in placed if x == 1}
    assert up["768 x 7 x 7"] == 6
    assert [up[f"{channels} x {side} x {side}"] for channels, side in DECODER[:-1]] == [5, 4, 3, 2, 1]
    assert up["painting 1 x 224 x 224"] == 0
    assert sorted(words for words, (x, _) in placed if x < 0) == ["1", "1/16", "1/2", "1/32", "1/4", "1/8"]


def test_a_bridge_is_drawn_for_every_map_that_the_decoder_is_given(figure):
    between = [[t.get_text() for t in axes.texts if t.get_position()[0] == 0.5] for axes in figure.axes]
    assert between == [["768 x 7 x 7", "384 x 14 x 14", "192 x 28 x 28", "96 x 56 x 56"], ["8 x 2 x 2"]]


def test_words_stay_inside_the_figure_and_cover_no_others(figure):
    renderer = figure.canvas.get_renderer()
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text()] + list(figure.texts)
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert theme.DISCLAIMER in {text.get_text() for text in figure.texts}
