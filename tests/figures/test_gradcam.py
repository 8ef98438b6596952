"""Maps are laid over films where they speak, on one scale a start, with scores, boxes and words that can be read."""

import numpy as np
import pytest

from scarce_cxr.figures import theme
from scarce_cxr.figures.gradcam import Box, Column, StageMap, gradcam_grid, stage_panel

FILMS = np.random.default_rng(0).uniform(0, 1, (3, 40, 40))


def some_maps(peaks: list[float]) -> np.ndarray:
    """A block in each film's corner, as strong as said."""
    maps = np.zeros((len(peaks), 40, 40))
    maps[:, 30:, 30:] = np.reshape(peaks, (-1, 1, 1))
    return maps


def make_grid(**settings):
    columns = [
        Column("moco", some_maps([4, 2, 0]), np.array([2.34, -0.5, 0.0])),
        Column("random", some_maps([0.01, 0.005, 0.0]), np.array([0.1, 0.2, 0.3])),
    ]
    return gradcam_grid(FILMS, columns, "Effusion", 1234, **settings)


def colors(axes) -> np.ndarray:
    """(H, W, 4) what is laid over the film, after the film and what dims it."""
    return np.asarray(axes.images[2].get_array())


def test_a_row_shows_the_film_alone_and_then_under_every_starts_map():
    pictures = np.array(make_grid().axes[:9]).reshape(3, 3)
    for film, row in zip(FILMS, pictures, strict=True):
        assert all(np.array_equal(axes.images[0].get_array(), film) for axes in row)
        assert [len(axes.images) for axes in row] == [1, 3, 3]


def test_colour_lies_where_the_map_is_and_the_scale_is_one_for_all_films_of_a_start():
    pictures = np.array(make_grid().axes[:9]).reshape(3, 3)
    strong, weak, none = (colors(axes)[..., 3] for axes in pictures[:, 1])
    assert strong[35, 35] == pytest.approx(2 * weak[35, 35])
    assert strong[35, 35] < 1
    assert strong[:30].max() == 0
    assert none.max() == 0
    # A start whose head is four hundred times as timid is drawn alike.
    assert np.allclose(colors(pictures[0, 2]), colors(pictures[0, 1]))


def test_scores_finding_numbers_and_disclaimer_are_written():
    figure = make_grid(names=["a", "b", "c"])
    words = [text.get_text() for text in figure.texts]
    assert "Effusion: where its score comes from, 3 of 1,234 films with it" in words
    assert {"moco", "random", "film", "a", "b", "c", theme.DISCLAIMER} <= set(words)
    assert [axes.texts[0].get_text() for axes in figure.axes[:9] if axes.texts][:2] == ["+2.3", "+0.1"]


def test_boxes_lie_around_the_pixels_that_they_name():
    figure = make_grid(boxes=[[Box(10, 4, 20, 8)], [], [Box(0, 0, 5, 5), Box(7, 7, 3, 3)]])
    pictures = np.array(figure.axes[:9]).reshape(3, 3)
    assert [[len(axes.patches) for axes in row] for row in pictures] == [[2] * 3, [0] * 3, [4] * 3]
    # A picture's first pixel reaches from -0.5 to 0.5.
    assert pictures[0, 1].patches[0].get_bbox().bounds == (9.5, 3.5, 20, 8)
    assert any("boxes" in text.get_text() for text in figure.texts)
    assert not any("boxes" in text.get_text() for text in make_grid().texts)


def test_every_stage_of_every_start_is_scaled_by_itself():
    rows = [
        (name, [StageMap("layer3", scale * some_maps([8.0])[0], "0.31"), StageMap("layer4", some_maps([0.1])[0])])
        for name, scale in (("moco", 1), ("random", 50))
    ]
    figure = stage_panel(FILMS[0], rows, "Effusion", boxes=[Box(1, 1, 5, 5)], notes="likeness")
    pictures = np.array(figure.axes[:6]).reshape(2, 3)
    assert all(np.allclose(colors(axes), colors(pictures[0, 1])) for axes in pictures[:, 1:].flat)
    assert pictures[0, 1].texts[0].get_text() == "0.31"
    words = " ".join(text.get_text() for text in figure.texts)
    assert "Effusion" in words
    assert "numbers: likeness" in words
    assert "layer4" in words


@pytest.mark.parametrize("starts", [1, 2, 4])
def test_no_text_leaves_the_figure_or_covers_another_or_a_film(starts):
    columns = [Column(f"start {n}", some_maps([4, 2, 0]), np.array([-12.3, 0, 0])) for n in range(starts)]
    grid = gradcam_grid(FILMS, columns, "Pleural thickening", 99, names=["f"] * 3, boxes=[[Box(1, 1, 5, 5)]] * 3)
    stages = [StageMap(f"layer{n}", some_maps([1])[0], "0.12") for n in range(starts)]
    panel = stage_panel(FILMS[0], [("moco", stages)], "Effusion", boxes=[Box(1, 1, 5, 5)], notes="likeness")
    for figure in (grid, panel):
        renderer = figure.canvas.get_renderer()
        words = [text.get_window_extent(renderer) for text in figure.texts]
        pictures = [axes.get_window_extent(renderer) for axes in figure.axes]
        for number, box in enumerate(words):
            assert min(box.x0, box.y0) >= 0
            assert box.x1 <= figure.bbox.width
            assert box.y1 <= figure.bbox.height
            others = words[:number] + words[number + 1 :] + pictures
            assert not any(box.overlaps(other) for other in others), figure.texts[number].get_text()


def test_maps_boxes_and_films_must_fit_together():
    with pytest.raises(ValueError, match="zip"):
        make_grid(boxes=[[]])
    with pytest.raises(ValueError, match="zip"):
        gradcam_grid(FILMS[:2], [Column("moco", some_maps([4, 2, 0]), np.zeros(3))], "Effusion", 3)
