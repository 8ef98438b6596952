"""What the page says of runs in words and tables is what their files say."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from scarce_cxr.report import facts
from scarce_cxr.report.outcome import Outcome
from scarce_cxr.report.runs import read_runs
from scarce_cxr.training.memory import BYTES
from scarce_cxr.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def runs(run, other_run):
    return read_runs([run, other_run])


def test_the_headline_has_verdict_advice_and_cost(runs):
    good, bad = map(facts.headline, runs)
    assert (good.mark, bad.mark) == ("good", "bad")
    assert bad.advice == ["<i>less</i>"]
    assert not bad.commands
    numbers = {words: number for number, words in good.facts}
    # Two hours at 1.5 an hour.
    assert numbers["cost so far, at 1.5 an hour of a device"] == "3.00"
    assert numbers["found among 12 (10 % to 40 %)"] == "20 %"
    assert numbers["masked error; 1: only the mean"] == "0.400"


@pytest.fixture
def healthy(runs):
    return replace(runs[0], state={**runs[0].state, "verdict": {"name": "healthy", "reason": "", "advice": []}})


def test_where_there_is_no_advice_the_next_command_can_be_pasted(healthy, run, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["scarce", "probe", str(run), "random", "--store", str(store.path.resolve()), "--out", "trials"]
    assert [shlex.split(line) for line in facts.headline(healthy).advice] == [words, ["scarce", "compare", "trials"]]
    monkeypatch.chdir(run.parent)
    stopped = replace(healthy, state={**healthy.state, "state": "stopped"})
    assert facts.headline(stopped).advice == ["scarce resume 'a <run>'"]
    typed = replace(stopped, folder=RunFolder(Path("../here")))
    assert facts.headline(typed).advice == ["scarce resume ../here"]


def test_what_trials_have_answered_is_not_asked_again(healthy, run, store, monkeypatch):
    monkeypatch.chdir(run.parent)
    outcome = Outcome("not told from random", "0.0 (-0.1 to 0.1) at 5", "Lung opacity", False)
    head, where = facts.headline(healthy, outcome), store.path.resolve()
    asked = ["random", "--store", str(where), "--finding", "Lung opacity"]
    explained, exported = map(shlex.split, head.advice)
    assert explained == ["scarce", "explain", "a <run>", *asked, "--out", "a <run>/figures"]
    assert exported == ["scarce", "export", "a <run>", "a <run>/export", *asked[1:]]
    assert head.few_labels == "not told from random"
    best = facts.headline(healthy, outcome._replace(which=":best", own_labels=True))
    assert shlex.split(best.advice[0])[2] == "a <run>:best"
    assert "--labels TABLE" in best.advice[1]
    assert best.few_labels.endswith("of the best backbone, not the last")


def test_only_a_healthy_verdict_is_told_to_say_little(runs):
    good, bad = map(facts.headline, runs)
    assert good.caption == "no collapse; says nothing of how useful the features are"
    assert bad.caption is None
    assert good.few_labels is None


def test_runs_side_by_side_have_what_trials_say_where_there_are_any(runs):
    told = facts.comparison_table(runs, [Outcome("so", "0.1 (0.0 to 0.2) at 5", "Mass", False), None])
    assert told.columns[-1] == "few labels"
    assert [row[-1] for row in told.rows] == ["0.1 (0.0 to 0.2) at 5", None]
    assert "few labels" not in facts.comparison_table(runs, [None, None]).columns


def test_settings_that_differ_are_told_from_those_that_only_some_have(runs):
    first = replace(runs[0], text="method: {init_args: {patch: 8, same: 1}}\nseed: 0\nlr: 0.30000000000000004\n")
    second = replace(runs[1], text="method: {init_args: {patch: 16, same: 1, own: [1, true]}}\nseed: 0\nlr: 0.3\n")
    differ, partial = facts.recipe_differences([first, second])
    assert differ.rows == [["method.patch", "8", "16"], ["lr", "0.3", "0.3"]]
    assert partial.rows == [["method.own", None, "1, true"]]
    assert differ.note == "2 of 5 settings; 2 are alike in all runs"


def test_time_counts_epochs_by_films(runs):
    table = facts.time_table(runs[:1])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    # 20 steps of 8 films, of 48.
    assert row["epochs"] == "3.3"
    assert row["time"] == "2.0 hours"
    assert row["cost so far"] == "3.00"


def test_memory_is_that_of_the_built_method(runs):
    from scarce_cxr.training.pretrain import build_method

    table = facts.memory_table(runs[:1])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    method = build_method(runs[0].recipe)
    weights = sum(parameter.numel() for parameter in method.parameters()) * BYTES / 2**20
    assert float(row["gradients"]) == pytest.approx(weights, abs=0.06)
    assert facts.memory_table([replace(runs[0], recipe=None)]) is None


def test_warnings_name_what_weakens_the_numbers(runs):
    said = facts.warnings_of(runs)
    assert "a <run>: measured on 12 held-out films only: small differences are chance" in said
    assert any(words.startswith("other: the monitor calls it no image information") for words in said)
    moved = replace(runs[0], state={**runs[0].state, "fingerprint": "else", "state": "stopped"}, notes=("gone",))
    said = facts.warnings_of([moved, runs[1]])
    assert "a <run>: not finished: stopped at 20 of 20 steps" in said
    assert "a <run>: gone" in said
    assert any("different stores" in words for words in said)


def test_the_data_are_counted(store):
    films, findings = facts.data_tables(store)
    told = dict(films.rows)
    assert (told["films"], told["patients"], told["view AP"]) == ("60", "30", "30")
    assert findings.rows[0][1:] == ["20", "0", "60"]


def test_durations_have_the_unit_that_suits_them():
    assert [facts.duration(seconds) for seconds in (59, 120, 7199, 7200)] == [
        "59 seconds",
        "2 minutes",
        "120 minutes",
        "2.0 hours",
    ]
