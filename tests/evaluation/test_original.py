"""The original protocol comes out as it is told: balanced, capped, normal negatives, scikit-learn's fit; and marked."""

import json
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from tests.evaluation.planted import make_store

from scarce_cxr.commands.probe import probe
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.fewshot import make_tasks
from scarce_cxr.evaluation.original import (
    MARK,
    excluded_labels,
    original_cells,
    original_scores,
    original_tasks,
)
from scarce_cxr.evaluation.trials import read_evidence
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.shots import Missing, Shots
from scarce_cxr.images.sources.padchest import LISTS
from scarce_cxr.images.splits import split


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("planted") / "store")


@pytest.fixture(scope="module")
def asked(store):
    labels = read_labels(store)
    return labels, make_tasks(store, labels, split(store.table))


def test_validation_is_balanced_of_normal_negatives_and_films_of_excluded_labels_are_gone(store, asked):
    labels, tasks = asked
    made, notes = original_tasks(tasks, labels, ["support devices", "pacemaker"])
    # What is excluded is no finding.
    assert set(made) == {"Effusion", "Mass"}
    device = store.table["Support Devices"].to_numpy() == 1
    assert f"{device.sum()} films are left out for their labels Support Devices" in notes[0]
    test = made["Effusion"].test
    ill = tasks["Effusion"].test
    assert test.labels.sum() == ((ill.labels == 1) & ~device[ill.rows]).sum()
    assert (test.labels == 0).sum() == test.labels.sum()
    assert not device[test.rows].any()
    assert labels.normal[test.rows[test.labels == 0]].all()
    assert set(test.rows) < set(ill.rows)
    np.testing.assert_array_equal(test.patients, tasks["Effusion"].patients[test.rows])
    assert not made["Effusion"].train[device].any()
    assert len(made["Effusion"].tune.rows) == 0
    other, _ = original_tasks(tasks, labels, ["support devices"], seed=1)
    assert set(other["Effusion"].test.rows) != set(test.rows)


def test_without_excluded_labels_in_the_store_it_is_said(asked):
    labels, tasks = asked
    _, notes = original_tasks(tasks, labels, ["pacemaker"])
    assert "none of the 1 excluded labels is known here" in notes[0]
    with pytest.raises(ScarceError, match="not excluded"):
        original_tasks({"Mass": tasks["Mass"]}, labels, ["Mass"])


def test_shots_are_capped_at_the_films_there_are_and_that_is_said(asked):
    labels, tasks = asked
    task = original_tasks(tasks, labels, ["Support Devices"])[0]["Mass"]
    films = int((task.train & (task.labels == 1)).sum())
    assert 5 < films < 50
    cells, notes = original_cells(task, ["1", "5", "50"], 4)
    assert [len(of) for of in cells.values()] == [4, 4, 4]
    assert [of[0].positives for of in cells.values()] == [1, 5, films]
    assert notes == [f"{MARK}: 50 shots of Mass are {films}, as there are no more"]
    for of in cells.values():
        for drawn in of:
            assert drawn.negatives == drawn.positives
            assert labels.normal[drawn.rows[drawn.labels == 0]].all()
            assert task.train[drawn.rows].all()
    # All there are is the same draw again and again, which is how a deviation of 0.000 comes about.
    assert len({tuple(sorted(drawn.rows[drawn.labels == 1])) for drawn in cells["50"]}) == 1


def test_fewer_than_two_positives_to_validate_on_are_refused(asked):
    labels, tasks = asked
    task = original_tasks(tasks, labels, [])[0]["Effusion"]
    one = np.r_[np.flatnonzero(task.test.labels == 1)[:1], np.flatnonzero(task.test.labels == 0)[:3]]
    task = task._replace(test=type(task.test)(*(part[one] for part in task.test)))
    cells, _ = original_cells(task, ["1", "5"], 3)
    assert all(isinstance(cell, Missing) for cell in cells.values())
    assert "1 positive and 3 normal" in cells["1"].reason


@pytest.mark.parametrize("each", [1, 2, 7])
def test_scores_are_those_of_scikit_learns_loop_on_features_standardised_by_hand(each):
    generator = np.random.default_rng(each)
    features = generator.normal(size=(60, 8)) * generator.uniform(0.1, 9, 8) + 4
    rows = generator.permutation(40)[: 2 * each]
    draw = Shots(rows, np.repeat([1, 0], each).astype(np.int8), each, each, 2 * each)
    asked = np.arange(40, 60)
    mean, std = features[rows].mean(axis=0), features[rows].std(axis=0)
    scaled = (features - mean) / std
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = LogisticRegression(max_iter=1000)
        if each > 1:
            model = LogisticRegressionCV(Cs=[0.01, 0.1, 1, 10, 100], cv=min(5, each), max_iter=1000)
        expected = model.fit(scaled[rows], draw.labels).decision_function(scaled[asked])
    np.testing.assert_allclose(original_scores(features, [draw, draw], asked), [expected, expected], atol=1e-6)


def test_the_exclusion_list_is_padchests_and_may_be_changed(tmp_path):
    names = excluded_labels()
    assert {"pacemaker", "sternotomy", "Support Devices"} <= set(names)
    assert "pneumonia" not in names
    copied = tmp_path / "mine.yaml"
    copied.write_text(LISTS.read_text("utf-8").replace("    - pacemaker\n", ""), "utf-8")
    assert set(names) - set(excluded_labels(copied)) == {"pacemaker", "Support Devices"}


def test_the_command_marks_its_trials_and_its_table_and_reports_what_scikit_learn_reports(store, tmp_path):
    result = probe(
        ["test_resnet"], store.path, tmp_path, ["Effusion"], ["2", "200"], draws=3, size=32, protocol="original"
    )
    (table,) = result.tables
    assert table.title.startswith(MARK)
    assert any("200 shots of Effusion are" in note for note in result.notes)
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert protocol["protocol"] == "original"
    evidence = read_evidence([tmp_path])
    assert evidence.protocol["protocol"] == "original"
    test = evidence.films["Effusion"]
    assert test.labels.sum() * 2 == len(test.labels)
    few = evidence.table[evidence.table["shot"] == "2"]
    values = [roc_auc_score(test.labels, scores) for scores in few["scores"]]
    assert table.rows[0][4] == f"{np.mean(values):.3f} ± {np.std(values):.3f}"
    assert "there are" in table.rows[1][2]
    with pytest.raises(ScarceError, match="protocol"):
        probe(["test_resnet"], store.path, tmp_path, ["Effusion"], ["2"], draws=3, size=32)
    with pytest.raises(ScarceError, match="normal"):
        probe(["test_resnet"], store.path, tmp_path, also=["prototype"], protocol="original")
    with pytest.raises(ScarceError, match="--exclude"):
        probe(["test_resnet"], store.path, tmp_path, exclude=LISTS)
