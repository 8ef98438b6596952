"""Curves show every number as it was logged, and can be read in a narrow column."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from scarce_cxr.figures.curves import losses_figure, run_curves, smooth

STEPS = list(range(1, 61))
NOISE = np.random.default_rng(0).normal(size=60)
LOSS = (STEPS, list(5 + 0.1 * NOISE))
RATE = (STEPS, [0.001 * min(step / 6, 1) for step in STEPS])
NOTHING = ([], [])
NUMBERS = {f"a_rather_long_name_{n}": (STEPS, list(10.0 ** (n - 3) * NOISE)) for n in range(6)}


@pytest.fixture(scope="module")
def figure():
    made = run_curves(LOSS, RATE, ([0, 30, 60], [6.0, 5.0, 4.5]), NUMBERS, "run")
    made.draw_without_rendering()
    return made


def lines(axes) -> list[tuple[list, list]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def test_every_number_has_a_panel_of_its_own_with_its_raw_points(figure):
    loss, _, *numbers = figure.axes
    assert [axes.get_title(loc="left") for axes in numbers] == [name.replace("_", " ") for name in NUMBERS]
    assert lines(loss)[0] == LOSS
    assert lines(loss)[-1] == ([0, 30, 60], [6.0, 5.0, 4.5])
    for axes, series in zip(numbers, NUMBERS.values(), strict=True):
        points, curve = axes.get_lines()[:2]
        assert (list(points.get_xdata()), list(points.get_ydata())) == series
        assert (points.get_linestyle(), points.get_marker()) == ("None", ".")
        assert curve.get_linestyle() == "-"
        assert curve.get_ydata().std() < 0.8 * np.std(series[1])


def test_the_learning_rate_is_drawn_as_it_is(figure):
    assert lines(figure.axes[1]) == [RATE]


def test_smoothing_keeps_constants_and_sums_and_spreads_a_peak_as_a_gaussian():
    assert smooth(np.full(7, 3.0)) == pytest.approx(3)
    assert smooth(NOISE).sum() == pytest.approx(NOISE.sum())
    # A sixth of the root of 144: neighbours at 2, one deviation away, have exp(-1/2) of the peak's weight.
    peak = smooth(np.eye(144)[70])
    assert peak[72] / peak[70] == pytest.approx(np.exp(-1 / 2))
    # Of independent noise a Gaussian of deviation s leaves 1 / sqrt(2 s sqrt(pi)): with s = 100 / 6, 0.13.
    assert smooth(np.random.default_rng(1).normal(size=10_000)).std() == pytest.approx(0.13, rel=0.1)


def test_what_is_not_finite_is_left_out_and_spoils_nothing():
    values = [float("nan"), *NOISE[:50], float("inf")]
    axes = run_curves(LOSS, RATE, NOTHING, {"spread": (list(range(52)), values)}, "run").axes[2]
    points, curve = lines(axes)[:2]
    assert points == (list(range(1, 51)), list(NOISE[:50]))
    assert np.isfinite(curve[1]).all()
    assert not lines(run_curves(LOSS, RATE, NOTHING, {"spread": ([1], [float("nan")])}, "run").axes[2])


def test_noise_around_a_number_that_stands_still_fills_no_panel():
    still = {"still": (STEPS, list(5.545 + 1e-5 * NOISE)), "moving": (STEPS, list(5.545 + 0.1 * NOISE))}
    *_, quiet, lively = (np.diff(axes.get_ylim())[0] for axes in run_curves(LOSS, RATE, NOTHING, still, "run").axes)
    assert quiet == pytest.approx(0.055, rel=0.01)
    assert lively == pytest.approx(1.1 * 0.1 * np.ptp(NOISE))


def test_zero_is_drawn_where_a_number_crosses_it():
    numbers = {"crossing": (STEPS, list(NOISE)), "above": (STEPS, list(NOISE + 10))}
    *_, crossing, above = run_curves(LOSS, RATE, NOTHING, numbers, "run").axes
    assert [0, 0] in [line[1] for line in lines(crossing)]
    assert [0, 0] not in [line[1] for line in lines(above)]


def test_in_a_column_of_eight_centimetres_words_are_five_points_high_and_cover_nothing(figure):
    scale = 8 / 2.54 / figure.get_figwidth()
    titles = [text for axes in figure.axes for text in axes.findobj(Text) if text.get_text() == axes.get_title("left")]
    assert len(titles) == len(figure.axes)
    ticks = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert min(text.get_fontsize() for text in titles + ticks) * scale >= 5
    renderer = figure.canvas.get_renderer()
    panels = [axes.get_window_extent(renderer) for axes in figure.axes]
    for title in titles:
        box = title.get_window_extent(renderer)
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(panel) for panel in panels)
    for one, other in pairwise(titles):
        assert not one.get_window_extent(renderer).overlaps(other.get_window_extent(renderer))


def test_losses_of_several_runs_have_a_panel_and_a_scale_each():
    losses = {"moco": LOSS, "barlow_twins": (STEPS, list(300 + 10 * NOISE)), "dino": LOSS, "spark": LOSS}
    figure = losses_figure(losses, {"moco": "healthy; 24 % found again"}, "losses", "177 films")
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == list(losses)
    assert [lines(axes)[0] for axes in shown] == list(losses.values())
    assert shown[1].get_ylim()[0] > 200 > shown[0].get_ylim()[1]
    assert [axes.get_xlabel() for axes in shown] == ["healthy; 24 % found again", "", "", ""]
    assert any("177 films" in text.get_text() for text in figure.texts)
