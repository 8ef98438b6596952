"""Tables of trials say what direct computation says, and what was made up is found again."""

import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.metrics import average_precision_score, roc_auc_score
from tests.evaluation.made_up import make_films, make_trials

from scarce_cxr.evaluation.comparison import paired_difference
from scarce_cxr.evaluation.intervals import auroc_interval
from scarce_cxr.evaluation.summary import (
    MEAN,
    cells_of,
    choose_baseline,
    difference_table,
    empty_table,
    finding_table,
    labels_table,
    mean_difference_table,
    mean_table,
    warnings_of,
)
from scarce_cxr.evaluation.trials import Evidence, Trials, read_evidence

TRUTH = {"Effusion": 0.8, "Mass": 0.7}
GAIN = {"moco": 0.1, "random": 0.0}
SHOTS = ("5", "20", "all")


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Trials:
    """Two findings, two starts, three shots; a third finding that three patients have is fitted at 5 shots alone."""
    films = {
        "Effusion": make_films("Effusion", 60, 240),
        "Mass": make_films("Mass", 40, 260),
        "Hernia": make_films("Hernia", 3, 297),
    }
    truth = {
        (start, "probe", finding, shot): auc + gain
        for start, gain in GAIN.items()
        for finding, auc in TRUTH.items()
        for shot in SHOTS
        if (finding, shot) != ("Mass", "20")
    }
    truth |= {(start, "probe", "Hernia", "5"): 0.7 for start in GAIN}
    missing = {(start, "probe", "Mass", "20"): "12 patients with the finding, 20 needed" for start in GAIN}
    return make_trials(tmp_path_factory.mktemp("trials"), truth, films, draws=6, missing=missing)


@pytest.fixture(scope="module")
def evidence(trials) -> Evidence:
    return read_evidence([trials.folder])


@pytest.fixture(scope="module")
def cells(evidence):
    return cells_of(evidence)


@pytest.fixture(scope="module")
def findings(cells) -> pd.DataFrame:
    return finding_table(cells, 200)


@pytest.fixture(scope="module")
def differences(cells) -> pd.DataFrame:
    return difference_table(cells, "random", 200)


def of(table: pd.DataFrame, **wanted) -> pd.Series:
    """The only row with these values."""
    rows = table[np.all([table[name] == value for name, value in wanted.items()], axis=0)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_cells_come_in_order_with_all_at_the_end(cells):
    shots = [(cell.finding, cell.shot, cell.start) for cell in cells]
    assert shots[:6] == [("Effusion", shot, start) for shot in SHOTS for start in GAIN]
    assert [cell.scores.shape for cell in cells[:5:2]] == [(6, 300), (6, 300), (1, 300)]


def test_scores_are_means_over_draws_as_scikit_learn_has_them(trials, findings):
    row = of(findings, finding="Mass", shot="5", start="moco")
    _, scores = trials.scores("moco", "probe", "Mass", "5")
    films = trials.test_films("Mass")
    assert row["auroc"] == pytest.approx(np.mean([roc_auc_score(films.labels, draw) for draw in scores]))
    assert row["auprc"] == pytest.approx(np.mean([average_precision_score(films.labels, draw) for draw in scores]))
    interval = auroc_interval(scores, films.labels, films.patients)
    assert (row["auroc_low"], row["auroc_high"]) == pytest.approx(interval[:2])
    chosen = (films.labels == 1) | films.normal
    apart = [roc_auc_score(films.labels[chosen], draw[chosen]) for draw in scores]
    assert row["auroc_normals"] == pytest.approx(np.mean(apart))
    table = trials.table
    own = table[(table["start"] == "moco") & (table["finding"] == "Mass") & (table["shot"] == "5")]
    for name in ("sensitivity", "specificity", "brier", "calibration_error"):
        assert row[name] == pytest.approx(own[name].mean(), abs=1e-6)
    for name in ("auroc", "auprc", "sensitivity", "specificity", "brier", "excess"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_what_was_made_up_lies_in_the_intervals(findings):
    for finding, auc in TRUTH.items():
        for start, gain in GAIN.items():
            row = of(findings, finding=finding, shot="5", start=start)
            assert row["auroc_low"] < auc + gain < row["auroc_high"]
            assert row["p"] < 0.01


def test_true_numbers_stand_behind_every_row(findings):
    row = of(findings, finding="Effusion", shot="all", start="random")
    assert (row["draws"], row["films"], row["positives"], row["negatives"]) == (1, 300, 60, 240)
    assert (row["test_films"], row["test_positives"], row["test_negatives"], row["test_patients"]) == (
        300,
        60,
        240,
        150,
    )
    assert row["prevalence"] == 0.2


def test_a_mean_is_of_findings_that_all_starts_have_and_enough_patients(cells):
    means = mean_table(cells)
    row = of(means, shot="5", start="moco")
    # Hernia has three test positives.
    assert row["names"] == "Effusion, Mass"
    aurocs = [cell.aurocs.mean() for cell in cells if cell.start == "moco" and cell.shot == "5"]
    assert row["auroc"] == pytest.approx(np.mean(aurocs[:2]))
    assert row["auroc_low"] < 0.85 < row["auroc_high"]
    assert of(means, shot="20", start="moco")["names"] == "Effusion"
    alone = of(finding_table([cell for cell in cells if cell.shot == "20"], 100), finding="Effusion", start="moco")
    same = of(means, shot="20", start="moco")
    assert (same["auroc_low"], same["auroc_high"]) == pytest.approx((alone["auroc_low"], alone["auroc_high"]))


def test_without_a_finding_that_five_patients_have_the_mean_is_of_all(cells):
    means = mean_table([cell for cell in cells if cell.finding == "Hernia"])
    assert means["names"].tolist() == ["Hernia", "Hernia"]


def test_a_start_that_lacks_a_finding_takes_it_from_everyones_mean(cells):
    fewer = [cell for cell in cells if (cell.start, cell.finding) != ("random", "Mass")]
    assert set(mean_table(fewer)["names"]) == {"Effusion"}


def test_the_mean_of_findings_is_narrower_than_findings_are(cells, findings):
    row = of(mean_table(cells), shot="5", start="moco")
    widths = [
        float(np.ptp(of(findings, finding=finding, shot="5", start="moco")[["auroc_low", "auroc_high"]]))
        for finding in TRUTH
    ]
    assert row["auroc_high"] - row["auroc_low"] < np.mean(widths)


def test_differences_are_paired_and_corrected_for_the_whole_table(trials, differences):
    row = of(differences, finding="Effusion", shot="5")
    films = trials.test_films("Effusion")
    ours, theirs = (trials.scores(start, "probe", "Effusion", "5")[1] for start in ("moco", "random"))
    direct = paired_difference(ours, theirs, films.labels, films.patients, replicates=200)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(direct[:3])
    assert row["low"] < 0.1 < row["high"]
    order = differences.sort_values("p")
    expected = np.maximum.accumulate(order["p"].to_numpy() * np.arange(len(order), 0, -1)).clip(max=1)
    np.testing.assert_allclose(order["p_holm"], expected)


def test_a_p_value_is_below_five_percent_where_its_interval_leaves_nothing_out(differences):
    excluded = (differences["low"] > 0) | (differences["high"] < 0)
    assert ((differences["p"] < 0.05) == excluded).all()
    assert 0 < excluded.sum() < len(excluded)
    # Far from 0, two hundred replicates alone could not say less than 0.01.
    assert differences["p"].min() < 0.001


def test_differences_use_draws_that_both_have(cells):
    short = [
        cell
        if cell.start == "random"
        else cell._replace(draws=cell.draws[1:], scores=cell.scores[1:], trials=cell.trials.iloc[1:])
        for cell in cells
        if cell.shot == "5"
    ]
    row = of(difference_table(short, "random", 100), finding="Effusion")
    assert row["draws"] == 5
    ours, theirs = (cell.aurocs for cell in short if cell.finding == "Effusion")
    assert row["difference"] == pytest.approx(ours.mean() - theirs[1:].mean())


def test_mean_differences_are_means_and_count_sure_findings(cells, differences):
    table = mean_difference_table(cells, differences, "random")
    assert table["start"].unique().tolist() == ["moco"]
    row = of(table, shot="5")
    some = differences[(differences["shot"] == "5") & (differences["finding"] != "Hernia")]
    assert row["difference"] == pytest.approx(some["difference"].mean())
    assert row["difference"] == pytest.approx(0.1, abs=0.06)
    assert row["low"] < row["difference"] < row["high"]
    assert row["better"] == (some["p_holm"] < 0.05).sum() == 2
    assert row["worse"] == 0


def test_the_same_scores_differ_by_nothing(cells):
    doubled = [cell for cell in cells if cell.start == "random" and cell.finding == "Effusion"]
    doubled += [cell._replace(start="copy") for cell in doubled]
    found = difference_table(doubled, "random", 100)
    assert (found[["difference", "low", "high"]] == 0).all(axis=None)
    assert (found["p_holm"] == 1).all()


def test_tables_are_the_same_in_several_processes(cells, findings):
    # Threads stand for processes, which take seconds to start; what goes to a process must be picklable.
    few = pickle.loads(pickle.dumps(cells[:2]))
    with parallel_config(backend="threading"):
        pd.testing.assert_frame_equal(finding_table(few, 200, jobs=2), findings.iloc[:2], check_dtype=False)


def test_a_random_start_is_the_baseline_unless_another_is_asked_for(evidence):
    assert choose_baseline(evidence) == "random"
    assert choose_baseline(evidence, "moco") == "moco"
    without = evidence._replace(table=evidence.table[evidence.table["start"] == "moco"])
    assert choose_baseline(without) == "moco"


def test_a_learning_curve_is_found_again(tmp_path):
    shots = ("1", "5", "10", "20", "50")
    # AUROC(k) = 0.9 - 0.3 / sqrt(k) reaches 0.85 with 36 positives.
    truth = {("moco", "probe", name, shot): 0.9 - 0.3 / int(shot) ** 0.5 for name in ("A", "B") for shot in shots}
    films = {name: make_films(name, 2000, 2000) for name in ("A", "B")}
    make_trials(tmp_path, {**truth, ("moco", "probe", "A", "all"): 0.88}, films, draws=6, pool=20)
    found = labels_table(cells_of(read_evidence([tmp_path])), 0.85)
    assert found["finding"].tolist() == [MEAN, "A", "B"]
    mean = found.iloc[0]
    assert mean["told"]
    assert mean["low"] <= mean["needed"] <= mean["high"]
    assert mean["needed"] == pytest.approx(36, rel=0.35)
    own = of(found, finding="A")
    assert own["there"] == 20
    assert own["more"] == pytest.approx(max(own["needed"] - 20, 0))
    assert np.isnan(of(found, finding="B")["there"])


def test_three_shots_make_no_curve(cells):
    found = labels_table(cells, 0.8)
    assert not found["told"].any()
    assert found["needed"].isna().all()


def test_empty_cells_come_with_their_reason(evidence):
    assert empty_table(evidence).to_dict("records") == [
        {"finding": "Mass", "shot": "20", "reason": "12 patients with the finding, 20 needed", "how": "probe"}
    ]


def test_warnings_name_what_weakens_the_numbers(evidence, cells, findings):
    starts = {
        "moco": {"kind": "ssl", "architecture": "resnet50", "image_size": 224, "test_films_seen": 17},
        "random": {"kind": "random", "architecture": "resnet18", "image_size": 224, "test_films_seen": None},
    }
    said = "\n".join(warnings_of(evidence._replace(starts=starts), cells, findings))
    assert "Hernia: only 3 test patients have it" in said
    assert "Effusion: only" not in said
    assert "moco was pretrained on 17 of the test films" in said
    assert "moco: resnet50, random: resnet18" in said
    assert "size of their films" not in said


def test_warnings_name_draws_that_share_most_films_and_draws_that_lack(evidence, cells, findings):
    odd = [
        cell._replace(draws=cell.draws[:2], scores=cell.scores[:2], trials=cell.trials.iloc[:2])
        if (cell.start, cell.finding, cell.shot) == ("moco", "Effusion", "20")
        else cell._replace(trials=cell.trials.assign(positives=30))
        if cell.shot == "all"
        else cell
        for cell in cells
    ]
    said = "\n".join(warnings_of(evidence, odd, findings))
    assert "Effusion: a draw of 20 takes most of the 30 positive films" in said
    assert "Effusion, probe at 20: draws differ (moco 2, random 6)" in said
    assert "probe: no more than 2 draws" in said
    assert "probe: no more than" not in "\n".join(warnings_of(evidence, cells, findings))


def test_a_test_against_normal_films_alone_is_warned_of(evidence, cells, findings):
    easy = [cell._replace(films=cell.films._replace(normal=cell.films.labels == 0)) for cell in cells]
    assert "Effusion: all test films without it are normal" in "\n".join(warnings_of(evidence, easy, findings))
    assert "are normal" not in "\n".join(warnings_of(evidence, cells, findings))


def test_a_run_of_another_store_and_unknown_patients_are_warned_of(evidence, cells, findings):
    starts = {"moco": {"kind": "ssl", "test_films_seen": None}}
    other = evidence._replace(starts=starts, protocol={"patients": "unknown"})
    said = "\n".join(warnings_of(other, cells, findings))
    assert "moco was pretrained on another store" in said
    assert "patients are unknown" in said
