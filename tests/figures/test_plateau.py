"""The plateau's figure shows the loss beside what it hides."""

import numpy as np
import pytest

from scarce_cxr.figures.plateau import plateau_figure

LN_K = float(np.log(256))


@pytest.fixture
def figure():
    """Of two runs; the second one is three times as long."""
    batches, looks = {}, {}
    for run, (name, length) in enumerate((("plateau", 20), ("ours", 60))):
        steps = list(range(10, length + 1, 10))
        numbers = {"loss": 4.5 + run, "teacher_entropy": 2.5 + run, "mean_teacher_entropy": 5.0}
        batches[name] = {number: (steps, [value] * len(steps)) for number, value in numbers.items()}
        look = {"held_out_matched_information": run, "retrieval": 0.1, "feature_rank": 9.0, "feature_cosine": 0.5}
        looks[name] = [
            (step, look | {"ln_outputs": LN_K, "held_out_films": 7, "held_out_patients": 5}) for step in steps
        ]
    return plateau_figure(batches, looks, {"plateau": "no image information", "ours": "healthy"})


def test_each_run_has_loss_and_both_entropies_under_the_ceiling(figure):
    for number, (axes, title) in enumerate(
        zip(figure.axes, ("plateau: no image information", "ours: healthy"), strict=False)
    ):
        assert axes.get_title(loc="left") == title
        drawn = {line.get_label(): line.get_ydata()[0] for line in axes.get_lines()}
        assert drawn == {"loss": 4.5 + number, "H(t)": 2.5 + number, "H(mean t)": 5.0, "ceiling, ln K": LN_K}
        assert axes.get_ylim()[1] > LN_K


def test_matched_information_is_the_area_under_the_mean_entropy_and_none_where_the_loss_lies_above(figure):
    plateau, ours = (axes.collections[0].get_datalim(axes.transData) for axes in figure.axes[:2])
    assert (plateau.y0, plateau.y1) == (4.5, 5.0)
    assert not np.isfinite(ours.height)


def test_measures_of_held_out_films_have_a_panel_each_with_both_runs_over_the_same_steps(figure):
    titles = [axes.get_title(loc="left") for axes in figure.axes[2:]]
    assert titles == [
        *("matched information, nats", "share of films found again", "effective rank, features"),
        "mean cosine, features",
    ]
    for axes in figure.axes[2:]:
        assert [len(line.get_xdata()) for line in axes.get_lines()[:2]] == [2, 6]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert "7 held-out films of 5 patients" in figure.texts[-1].get_text()
