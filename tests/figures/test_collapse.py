"""The monitor's panels show every run whole."""

import numpy as np
import pytest

from scarce_cxr.figures.collapse import collapse_figure

BEHIND = {"held_out_films": 20, "held_out_patients": 12}


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


@pytest.mark.parametrize("order", [("many", "few"), ("few", "many")])
def test_the_ceilings_of_runs_with_different_numbers_of_outputs_are_all_in_sight(order):
    looks = {
        name: [(step, {"held_out_mean_teacher_entropy": 0.99 * np.log(k), "ln_outputs": np.log(k)}) for step in (0, 9)]
        for name, k in (("many", 4096), ("few", 256))
    }
    panel = panels(collapse_figure({name: looks[name] for name in order}, ""))["entropy of the mean film, nats"]
    assert panel.get_ylim()[1] > np.log(4096)
    ceilings = {line.get_ydata()[0] for line in panel.get_lines() if line.get_linestyle() == ":"}
    assert ceilings == {np.log(4096), np.log(256)}


def test_the_std_of_features_has_a_panel():
    panel = panels(collapse_figure({"run": [(0, {"feature_std": 0.1}), (5, {"feature_std": 0.2})]}, ""))[
        "std, features"
    ]
    assert panel.get_lines()[0].get_ydata().tolist() == [0.1, 0.2]


def test_what_stands_behind_a_figure_is_said_as_it_is_given_and_by_default_as_looks_tell_it():
    looks = {"run": [(0, {"feature_std": 0.1} | BEHIND)]}
    assert "20 held-out films of 12 patients" in collapse_figure(looks, "").texts[-1].get_text()
    assert collapse_figure(looks, "", ["20 films of 12 patients"]).texts[-1].get_text().startswith("20 films")


def test_a_diverged_run_is_drawn():
    nan = dict.fromkeys(
        ("retrieval", "retrieval_low", "retrieval_high", "feature_std", "held_out_mean_teacher_entropy"), np.nan
    )
    collapse_figure({"run": [(0, nan | BEHIND | {"ln_outputs": 5.5})]}, "").canvas.draw()
