"""`scarce compare` says of trials, end to end, what direct computation says of their scores."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.evaluation.made_up import make_films, make_trials

from scarce_cxr.cli import main
from scarce_cxr.commands.compare import compare
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.comparison import in_digits
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.scores import auroc

FILMS = {"Effusion": make_films("Effusion", 40, 160), "Hernia": make_films("Hernia", 3, 197)}
TRUTH = {
    **{("moco", "probe", "Effusion", shot): 0.85 for shot in ("5", "10", "all")},
    **{("random", "probe", "Effusion", shot): 0.65 for shot in ("5", "10", "all")},
    ("moco", "probe", "Hernia", "5"): 0.8,
    ("random", "probe", "Hernia", "5"): 0.6,
    ("moco", "finetune", "Effusion", "5"): 0.9,
    ("random", "finetune", "Effusion", "5"): 0.7,
}
MISSING = {(start, "probe", "Hernia", "10"): "7 patients with the finding, 10 needed" for start in ("moco", "random")}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return make_trials(tmp_path_factory.mktemp("trials"), TRUTH, FILMS, draws=6, missing=MISSING)


@pytest.fixture(scope="module")
def result(trials):
    return compare([str(trials.folder)], replicates=200)


def test_numbers_in_the_tables_are_those_of_the_scores(trials, result):
    table = {table.title: table for table in result.tables}["Every finding, probe"]
    assert table.columns == ["finding", "test", "shots", "moco", "random"]
    rows = {tuple(row[:3]): row[3:] for row in table.rows}
    for start, said in zip(("moco", "random"), rows["Effusion", "40/200", "10"], strict=True):
        _, scores = trials.scores(start, "probe", "Effusion", "10")
        films = trials.test_films("Effusion")
        interval = auroc_interval(scores, films.labels, films.patients)
        assert said == in_digits(auroc(scores, films.labels).mean(), interval.low, interval.high)
    assert "100 test patients and 6 draws" in table.note
    assert ("Effusion", "40/200", "all: 60") in rows


def test_the_files_hold_all_digits_and_the_same_numbers(trials, result):
    folder = dict(result.files)["numbers, a CSV table each"]
    findings = pd.read_csv(folder / "findings.csv", dtype={"shot": str})
    row = findings.query("start == 'moco' and how == 'finetune'").iloc[0]
    _, scores = trials.scores("moco", "finetune", "Effusion", "5")
    assert row["auroc"] == pytest.approx(auroc(scores, FILMS["Effusion"].labels).mean())
    differences = pd.read_csv(folder / "differences.csv", dtype={"shot": str})
    assert set(differences["start"]) == {"moco"}
    assert set(differences["baseline"]) == {"random"}
    sure = differences.query("finding == 'Effusion'")
    assert ((sure["low"] < 0.2) & (sure["high"] > 0.2) & (sure["p_holm"] < 0.05)).all()
    assert {path.name for path in folder.iterdir()} == {
        "compare.md",
        "means.csv",
        "findings.csv",
        "mean-differences.csv",
        "differences.csv",
        "labels-needed.csv",
        "empty-cells.csv",
        "means.png",
        "findings.png",
        "differences-probe.png",
        "differences-finetune.png",
    }


def test_empty_cells_and_warnings_are_told(result):
    empty = {table.title: table for table in result.tables}["Cells that stayed empty"]
    assert empty.rows == [["Hernia", "10", "probe", "7 patients with the finding, 10 needed"]]
    assert any("Hernia: only 3 test patients have it" in note for note in result.notes)
    assert "Research use only" in result.notes[-1]


def test_the_page_has_everything(result):
    page = dict(result.files)["page"]
    text = page.read_text("utf-8")
    for words in (
        "Research use only",
        "## Before you believe it",
        "only 3 test patients have it",
        "## Mean of findings",
        "## Against random",
        "### Effusion",
        "### Hernia",
        "7 patients with the finding, 10 needed",
        "random (baseline)",
        "(means.png)",
        "(differences-finetune.png)",
        "- seed: 0",
    ):
        assert words in text
    assert "original protocol" not in text
    # Every table is one: all its lines have as many cells.
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_another_protocol_is_marked_on_everything(tmp_path):
    truth = {key: auc for key, auc in TRUTH.items() if key[1:] == ("probe", "Effusion", "5")}
    make_trials(tmp_path, truth, FILMS, draws=4, protocol={"protocol": "original"})
    result = compare([str(tmp_path)], replicates=100)
    mark = "original protocol (balanced test; see docs)"
    assert all(mark in table.title for table in result.tables)
    text = dict(result.files)["page"].read_text("utf-8")
    titles = [line for line in text.splitlines() if line.startswith("**") and "Research" not in line]
    assert sum(mark in line for line in titles) == len(titles) - 1  # the starts are no result
    assert set(pd.read_csv(tmp_path / "compare" / "means.csv")["protocol"]) == {mark}


def test_what_is_asked_for_is_shown_and_nothing_else(trials, tmp_path):
    result = compare(
        [str(trials.folder)],
        findings=["Effusion"],
        shots=["5"],
        how=["probe"],
        baseline="moco",
        out=tmp_path,
        replicates=100,
    )
    findings = pd.read_csv(tmp_path / "findings.csv")
    assert findings[["how", "finding", "shot"]].drop_duplicates().values.tolist() == [["probe", "Effusion", 5]]
    assert set(pd.read_csv(tmp_path / "differences.csv")["start"]) == {"random"}
    assert not any("Hernia" in note for note in result.notes)


def test_several_folders_are_compared_and_of_two_protocols_refused(trials, tmp_path):
    imagenet = {("imagenet", *key[1:]): 0.75 for key in TRUTH if key[0] == "moco" and key[1] == "probe"}
    make_trials(tmp_path / "more", imagenet, FILMS, draws=6)
    both = compare([str(trials.folder), str(tmp_path / "more")], out=tmp_path / "out", how=["probe"], replicates=100)
    assert both.tables[0].columns == ["shots", "findings", "moco", "random", "imagenet"]
    make_trials(tmp_path / "other", imagenet, FILMS, protocol={"uncertain": "positive"})
    with pytest.raises(ScarceError, match=r"uncertain None in .*'positive' in"):
        compare([str(trials.folder), str(tmp_path / "other")])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"findings": ["Effusoin"]}, "finding among Effusion, Hernia"),
        ({"baseline": "spark"}, "a start among moco, random"),
        ({"target": 0.4}, "between 0.5 and 1"),
        ({"replicates": 5}, "100 replicates"),
        ({"findings": ["Hernia"], "shots": ["10"]}, "7 patients with the finding"),
    ],
)
def test_what_cannot_be_answered_is_refused(trials, options, words):
    with pytest.raises(ScarceError, match=words):
        compare([str(trials.folder)], **options)


def test_one_start_alone_has_its_tables_and_no_differences(tmp_path):
    make_trials(tmp_path, {("moco", "probe", "Effusion", "5"): 0.8}, FILMS, draws=4)
    result = compare([str(tmp_path)], replicates=100)
    assert not any("Against" in table.title for table in result.tables)
    assert not list(tmp_path.glob("compare/differences*.png"))


def test_it_answers_on_the_command_line(trials, tmp_path, capsys):
    arguments = [str(trials.folder), "--findings", "Effusion", "--shots", "5", "--how", "probe", "--replicates", "100"]
    assert main(["compare", *arguments, "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert np.isclose(pd.read_csv(tmp_path / "means.csv")["findings"], 1).all()
    assert "Mean of findings, probe" in said["tables"]
