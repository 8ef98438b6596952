"""The page's few-shot curves are the trials' own numbers."""

import numpy as np
import pytest
from tests.evaluation.made_up import make_films, make_trials
from tests.report.shown import EVIL

from scarce_cxr.evaluation.comparison import in_digits
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.evaluation.trials import Trials
from scarce_cxr.report.fewshot import read_few_shot


@pytest.fixture(scope="module")
def shown(trials):
    return read_few_shot([trials])


def test_the_mean_comes_first_and_every_finding_has_a_curve(shown):
    assert list(shown.figures) == ["mean of findings", EVIL, "Mass"]
    assert any("draw" in warning for warning in shown.warnings)


def test_points_and_bars_are_the_aurocs_and_intervals_of_the_scores(shown, trials):
    figure, table = shown.figures["Mass"]
    line = next(trace for trace in figure["data"] if trace["name"] == "random")
    read = Trials(trials)
    films = read.test_films("Mass")
    for place, shot in ((0, "1"), (1, "5"), (3, "all")):
        _, scores = read.scores("random", "probe", "Mass", shot)
        interval = auroc_interval(scores, films.labels, films.patients)
        mean = auroc(scores, films.labels).mean()
        assert line["y"][place] == pytest.approx(mean)
        assert line["error_y"]["array"][place] == pytest.approx(interval.high - mean)
        assert line["error_y"]["arrayminus"][place] == pytest.approx(mean - interval.low)
        assert line["text"][place] == in_digits(mean, interval.low, interval.high)
    # No line leads to all labels.
    assert line["y"][2] is None
    row = next(row for row in table.rows if row[0] == "random")
    assert row[2:] == [words for words in line["text"] if words]
    assert table.columns[-1] == "all: 60"


def test_starts_stand_beside_each_other(shown):
    figure, _ = shown.figures["Mass"]
    first, second = (np.array(trace["x"][:2], dtype=float) for trace in figure["data"])
    assert np.abs(first - second) == pytest.approx(0.07)
    assert {trace["name"] for trace in figure["data"]} == {"&lt;u&gt;moco&lt;/u&gt;", "random"}


def test_another_protocol_is_marked_wherever_its_numbers_stand(shown, tmp_path):
    truth = {("moco", "probe", "Effusion", "5"): 0.8, ("random", "probe", "Effusion", "5"): 0.6}
    make_trials(
        tmp_path, truth, {"Effusion": make_films("Effusion", 40, 160)}, draws=4, protocol={"protocol": "original"}
    )
    marked = read_few_shot([tmp_path])
    mark = "original protocol (balanced test; see docs)"
    assert marked.behind.startswith(f"By the {mark}. Tested on")
    assert all(table.title.endswith(mark) for _, table in marked.figures.values())
    assert [mark in outcome.words for outcome in marked.outcomes.values() if outcome.words] == [True]
    assert "protocol" not in shown.behind + "".join(table.title for _, table in shown.figures.values())
