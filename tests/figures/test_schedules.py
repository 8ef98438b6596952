"""The figure shows every recipe, those too that lie over each other."""

import numpy as np

from scarce_cxr.figures.schedules import Schedule, schedules_figure
from scarce_cxr.figures.theme import save

EPOCHS = np.linspace(0.1, 10, 100)
FALLING = 1e-3 * (1 - EPOCHS / 10)


def draw(*schedules: Schedule):
    """The lines of the left panel and of the right one, and the legend's words."""
    figure = schedules_figure(schedules)
    left, right = (axes.get_lines() for axes in figure.axes)
    return left, right, [text.get_text() for text in figure.legends[0].get_texts()]


def test_rates_on_the_left_shapes_on_the_right_peaks_in_the_legend():
    schedules = [Schedule("slow", EPOCHS, FALLING), Schedule("fast", 20 * EPOCHS, 50 * FALLING)]
    left, right, words = draw(*schedules)
    for line, schedule in zip(left, schedules, strict=True):
        assert np.array_equal(line.get_ydata(), schedule.rates)
        assert np.array_equal(line.get_xdata(), schedule.epochs)
    for line in right:
        assert (line.get_xdata()[-1], line.get_ydata().max()) == (1, 1)
    assert words == ["slow: peak 0.00099, 10 epochs", "fast: peak 0.0495, 200 epochs"]


def test_only_curves_that_lie_over_each_other_are_dashed():
    other = Schedule("other", EPOCHS, FALLING**2)
    scaled = Schedule("scaled", 20 * EPOCHS, 50 * FALLING)
    left, right, _ = draw(Schedule("one", EPOCHS, FALLING), Schedule("same", EPOCHS, FALLING), other, scaled)
    assert [line.get_linestyle() for line in left] == ["-", "--", "-", "-"]
    assert [line.get_linestyle() for line in right] == ["-", "--", "-", "--"]
    assert len({line.get_color() for line in left}) == 4


def test_it_is_small_enough_for_a_document(tmp_path):
    schedules = [Schedule(f"recipe {n}", EPOCHS, (n + 1) * FALLING) for n in range(5)]
    assert 0 < save(schedules_figure(schedules), tmp_path / "schedules.png").stat().st_size < 300_000
