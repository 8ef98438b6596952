"""A panel of views keeps their proportions, and frames lie where the views were cut."""

import numpy as np
import pytest
from matplotlib.patches import Polygon

from scarce_cxr.figures import theme
from scarce_cxr.figures.views import Group, views_panel

GENERATOR = np.random.default_rng(0)
FILMS = GENERATOR.random((2, 40, 40))
# The whole film; its right half, flipped: what was on the right is the view's left.
WHOLE = np.tile([[-1, -1], [1, -1], [1, 1], [-1, 1]], (2, 1, 1))
FLIPPED = np.tile([[1, -1], [0, -1], [0, 1], [1, 1]], (2, 1, 1))
LARGE = Group("large", [GENERATOR.random((2, 56, 56))] * 2, [WHOLE, FLIPPED])
SMALL = Group("small", [GENERATOR.random((2, 24, 24))] * 5, [WHOLE / 2] * 5)


@pytest.fixture(scope="module")
def panel():
    return views_panel(FILMS, [LARGE, SMALL], "two films")


def boxes(figure) -> list:
    return [axes.get_window_extent() for axes in figure.axes]


def test_every_film_and_view_has_a_place_of_its_own_in_true_proportion(panel):
    assert len(panel.axes) == 2 * (1 + 2 + 5)
    for axes, box in zip(panel.axes, boxes(panel), strict=True):
        assert box.width == pytest.approx(box.height)
        assert not any(box.overlaps(other.get_window_extent()) for other in panel.axes if other is not axes)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= panel.bbox.width
        assert box.y1 <= panel.bbox.height
    sides = {len(axes.images[0].get_array()): box.width for axes, box in zip(panel.axes, boxes(panel), strict=True)}
    assert sides[24] / sides[56] == pytest.approx(24 / 56)


def test_frames_are_in_pixels_of_the_film_and_in_their_groups_colour(panel):
    film, other = panel.axes[:2]
    assert np.array_equal(film.images[0].get_array(), FILMS[0])
    assert np.array_equal(other.images[0].get_array(), FILMS[1])
    frames = [patch for patch in film.patches if isinstance(patch, Polygon)]
    assert len(frames) == 7
    # Pixel centres are whole numbers: a film of 40 pixels reaches from -0.5 to 39.5, its middle is 19.5.
    assert frames[0].get_xy()[:4].tolist() == [[-0.5, -0.5], [39.5, -0.5], [39.5, 39.5], [-0.5, 39.5]]
    assert frames[1].get_xy()[:4].tolist() == [[39.5, -0.5], [19.5, -0.5], [19.5, 39.5], [39.5, 39.5]]
    colors = [frame.get_edgecolor() for frame in frames]
    assert len(set(colors[:2])) == len(set(colors[2:])) == 1
    assert colors[0] != colors[2]


def test_a_number_stands_at_the_views_upper_left_corner_on_view_and_frame(panel):
    film = panel.axes[0]
    numbers = {text.get_text(): np.array(text.get_position()) for text in film.texts}
    assert list(numbers) == [str(number) for number in range(1, 8)]
    assert (numbers["1"] < 6).all()
    # The flipped view's upper left corner is the film's upper right one.
    assert numbers["2"][0] > 34
    assert numbers["2"][1] < 6
    on_views = [text.get_text() for axes in panel.axes[2:] for text in axes.texts]
    assert sorted(on_views) == sorted(2 * list(numbers))


def test_numbers_of_frames_that_lie_over_each_other_are_told_apart(panel):
    places = np.array([text.get_position() for text in panel.axes[0].texts])
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    assert distances[~np.eye(len(places), dtype=bool)].min() > 0.05 * 40


def test_no_text_leaves_the_panel_and_no_heading_covers_another(panel):
    extents = [text.get_window_extent(panel.canvas.get_renderer()) for text in panel.texts]
    for box in extents:
        assert box.x0 >= 0
        assert box.x1 <= panel.bbox.width
        assert not any(box.overlaps(other) for other in extents if other is not box)
        assert not any(box.overlaps(other) for other in boxes(panel))


def test_where_nobody_knows_where_views_lie_there_are_no_frames():
    figure = views_panel(FILMS, [Group("views", [np.zeros((2, 8, 8))])], "two films")
    assert not figure.axes[0].patches
    assert not figure.axes[0].texts
    assert not any("frame" in text.get_text().lower() for text in figure.texts)


def test_it_is_dark_and_says_what_it_is_for(panel, tmp_path):
    assert panel.get_facecolor() == pytest.approx([14 / 255, 17 / 255, 22 / 255, 1])
    assert theme.DISCLAIMER in [text.get_text() for text in panel.texts]
