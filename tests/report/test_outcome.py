"""What is said of a run is what its trials show, and nothing is said of a run that was not tried."""

import numpy as np
import pytest
from tests.evaluation.made_up import make_films, make_trials
from tests.report.shown import EVIL, make_trials_of

from scarce_cxr.evaluation.comparison import in_digits
from scarce_cxr.evaluation.scores import auroc
from scarce_cxr.evaluation.summary import cells_of, difference_table, mean_difference_table
from scarce_cxr.evaluation.trials import Trials, read_evidence
from scarce_cxr.report.fewshot import read_few_shot
from scarce_cxr.report.outcome import find_outcome
from scarce_cxr.report.runs import read_runs


@pytest.fixture(scope="module")
def shown(run, other_run):
    return read_runs([run, other_run])


@pytest.fixture(scope="module")
def better(better_trials):
    return read_few_shot([better_trials])


def test_the_sentence_has_the_numbers_of_the_trials_at_the_most_labels_short_of_all(shown, better, better_trials):
    """The means by hand from the scores, the interval and p as `scarce compare` has them, of two findings."""
    said = find_outcome(shown[0], better.outcomes)
    read = Trials(better_trials)
    ours, theirs = (
        np.mean(
            [
                auroc(read.scores(start, "probe", finding, "20")[1], read.test_films(finding).labels).mean()
                for finding in (EVIL, "Mass")
            ]
        )
        for start in ("mine", "random")
    )
    cells = cells_of(read_evidence([better_trials]))
    rows = mean_difference_table(cells, difference_table(cells, "random"), "random").set_index("shot")
    row = rows.loc["20"]
    assert row["difference"] == pytest.approx(ours - theirs)
    assert row["p_holm"] < 0.05
    told = in_digits(ours - theirs, row["low"], row["high"])
    assert said.words == (
        f"better than random with 20 positive patients to learn from: mean AUROC {ours:.2f} against {theirs:.2f},"
        f" difference {told}, p after Holm below 0.001; probe, 2 findings, 6 draws, 75 test patients"
    )
    assert said.short == f"{told} at 20"


def test_no_more_is_said_than_holm_allows(run, shown, tmp_path):
    """Equal starts are not told apart, and a worse one is called worse."""
    for auc, told in ((0.6, "not told from random"), (0.35, "worse than random")):
        few_shot = read_few_shot([make_trials_of(run, tmp_path / str(auc), auc)])
        assert find_outcome(shown[0], few_shot.outcomes).words.startswith(f"{told} with 20 positive patients")


def test_a_mean_over_more_findings_goes_before_more_labels(run, shown, tmp_path):
    shots = {EVIL: ("5", "20"), "Mass": ("5",)}
    few_shot = read_few_shot([make_trials_of(run, tmp_path / "trials", 0.8, shots=shots)])
    assert "with 5 positive patients" in find_outcome(shown[0], few_shot.outcomes).words


def test_a_run_that_was_not_tried_has_no_outcome(shown, better, trials):
    assert find_outcome(shown[1], better.outcomes) is None
    assert find_outcome(shown[0], read_few_shot([trials]).outcomes) is None


def test_the_baseline_itself_was_tried_but_is_compared_with_nothing(run, shown, tmp_path):
    few_shot = read_few_shot([make_trials_of(run, tmp_path / "trials", 0.8, other="moco")])
    assert find_outcome(shown[0], few_shot.outcomes).words is None


def test_the_best_backbone_is_named_where_that_one_was_tried(run, other_run, shown, better, tmp_path):
    """A copy of a run whose best backbone is the one that was tried."""
    import shutil

    copied = shutil.copytree(other_run, tmp_path / "copied")
    for suffix in (".safetensors", ".json"):
        shutil.copy(run / f"backbone-last{suffix}", copied / f"backbone-best{suffix}")
    found = find_outcome(read_runs([copied])[0], better.outcomes)
    assert found.which == ":best"
    assert found.words == find_outcome(shown[0], better.outcomes).words


def test_trials_with_all_labels_alone_are_told_so(tmp_path):
    films = {"Mass": make_films("Mass", 30, 120)}
    truth = {(start, "probe", "Mass", "all"): of for start, of in (("moco", 0.8), ("random", 0.6))}
    few_shot = read_few_shot([make_trials(tmp_path / "trials", truth, films).folder])
    words = {outcome.words for outcome in few_shot.outcomes.values()}
    assert any("with all labels (60 positive films)" in told for told in words - {None})
