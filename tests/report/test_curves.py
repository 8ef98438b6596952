"""Curves hold the metrics' own numbers, thinned, and a table says the same."""

from pathlib import Path

import numpy as np
import pytest

from scarce_cxr.report.curves import draw_curves, draw_numbers, thin
from scarce_cxr.report.runs import ShownRun, read_runs
from scarce_cxr.training.run_folder import RunFolder


def made(rows: list[dict]) -> ShownRun:
    rows = [{name: str(value) for name, value in row.items()} for row in rows]
    return ShownRun("long", RunFolder(Path("long")), {}, rows, "", None, None)


def test_panels_are_those_that_have_numbers_and_parts_of_the_loss_come_first(run):
    runs = read_runs([run])
    assert [drawn.panel.key for drawn in draw_curves(runs)] == ["loss", "lr", "rank", "retrieval", "error"]
    assert [drawn.panel.heading for drawn in draw_numbers(runs)][:2] == ["part", "grad norm"]


def test_the_figure_and_the_table_say_what_was_measured(run):
    (error,) = [drawn for drawn in draw_curves(read_runs([run])) if drawn.panel.key == "error"]
    (line,) = error.figure["data"]
    assert (line["x"], line["y"]) == ([0, 10, 20], [1.01, 0.6, 0.4])
    assert line["meta"] == {"color": 0, "run": 0}
    # A quarter and three quarters of the way between three looks fall upon the nearest, half-way upon the even one.
    said = ["1.01 (step 0)", "1.01 (step 0)", "0.6 (step 10)", "0.4 (step 20)", "0.4 (step 20)"]
    assert error.table.rows == [["a <run>", *said]]


def test_an_interval_is_a_ground_around_the_line(run):
    (found,) = [drawn for drawn in draw_curves(read_runs([run])) if drawn.panel.key == "retrieval"]
    band, line = found.figure["data"]
    assert band["x"] == [0, 10, 20, 20, 10, 0]
    assert band["y"] == [0.1, 0.1, 0.1, 0.4, 0.4, 0.4]
    assert band["meta"]["band"]
    assert line["y"] == [0.2, 0.2, 0.2]


def test_a_long_run_is_thinned_to_its_ends_and_what_is_no_number_breaks_the_line():
    rows = [{"kind": "step", "step": step, "loss": 1.0, "lr": step} for step in range(5000)]
    rows[-1]["lr"] = np.nan
    loss, rate = draw_curves([made(rows)])
    points, line = loss.figure["data"]
    assert len(points["x"]) == len(line["x"]) == 500
    assert (line["x"][0], line["x"][-1]) == (0, 4999)
    assert line["y"] == pytest.approx([1.0] * 500)
    assert rate.figure["data"][0]["y"][-1] is None


@pytest.mark.parametrize(("sizes", "axis"), [((1, 10), None), ((1, 11), "log"), ((11, 1), "log"), ((0, 11), None)])
def test_losses_of_different_sizes_have_a_logarithmic_axis_unless_one_is_not_positive(sizes, axis):
    runs = [made([{"kind": "step", "step": step, "loss": size} for step in range(5)]) for size in sizes]
    (loss,) = draw_curves(runs)
    assert loss.figure["layout"]["yaxis"].get("type") == axis


def test_thinning_keeps_the_ends():
    assert thin(3).tolist() == [0, 1, 2]
    assert thin(5, 3).tolist() == [0, 2, 4]
    assert thin(1).tolist() == [0]
