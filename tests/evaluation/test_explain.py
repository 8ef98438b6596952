"""The probe that is looked into is the one that is scored elsewhere, and films to show are chosen without its help."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.evaluation.planted import make_store

from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.explain import Look, choose_films, fit_probe, look_into, one_a_patient
from scarce_cxr.evaluation.fewshot import Task, draw_cells, fit_frozen, make_tasks, start_key
from scarce_cxr.evaluation.gradcam import Randomised
from scarce_cxr.evaluation.trials import Trials
from scarce_cxr.images.labels import read_labels
from scarce_cxr.images.splits import split
from scarce_cxr.images.store import Store


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> tuple[Store, Task]:
    store = make_store(tmp_path_factory.mktemp("planted") / "store")
    return store, make_tasks(store, read_labels(store), split(store.table))["Effusion"]


def test_it_is_the_probe_that_scarce_probe_fits_on_the_same_draw(asked, tmp_path):
    store, task = asked
    start = parse_start("test_resnet", size=32)
    features = embed(store, start).array
    trials = Trials(tmp_path, {})
    fit_frozen(trials, start, features, {"Effusion": task}, {"Effusion": draw_cells(task, ["5", "all"], 3)})
    for shot, draw in (("5", 2), ("all", 0)):
        probe = fit_probe(features, task, shot, draw)
        _, scores = trials.scores(start_key(start), "probe", "Effusion", shot)
        np.testing.assert_allclose(probe.scores, scores[draw], rtol=1e-3, atol=1e-3)
        assert probe.auroc == pytest.approx(roc_auc_score(task.test.labels, probe.scores))
        assert probe.interval.low <= probe.auroc <= probe.interval.high
        assert len(probe.shots.rows) == (10 if shot == "5" else task.train.sum())


def test_a_draw_for_which_films_lack_is_refused_with_its_reason(asked):
    store, task = asked
    with pytest.raises(ScarceError, match="1,000 needed"):
        fit_probe(np.zeros((len(store), 3)), task, "1000")


def test_films_to_show_are_tested_have_the_finding_and_are_of_different_patients_those_with_boxes_first(asked):
    store, task = asked
    boxed = store.table["image_id"].isin(store.boxes["image_id"]).to_numpy()
    rows = choose_films(task, boxed, 4)
    assert set(rows) <= set(task.test.rows[task.test.labels == 1])
    assert len(set(task.patients[rows])) == len(rows) == 4
    known = len(set(task.patients[task.test.rows[boxed[task.test.rows]]]))
    assert boxed[rows].tolist() == [True] * known + [False] * (4 - known)
    assert 0 < known < 4
    assert set(choose_films(task, ~boxed, 4, seed=1)) != set(rows)
    assert len(choose_films(task, boxed, 999)) == len(set(task.test.patients[task.test.labels == 1]))


def test_one_film_a_patient_is_the_first_of_each_in_order():
    patients = np.array(["a", "a", "b", "c", "b"])
    assert one_a_patient(np.array([4, 1, 2, 0, 3]), patients, 9).tolist() == [4, 1, 3]
    assert one_a_patient(np.array([4, 1, 2, 0, 3]), patients, 2).tolist() == [4, 1]


def test_maps_are_of_the_films_asked_for_and_scores_those_of_the_probe(asked):
    store, task = asked
    rows = task.test.rows[[3, 0]]
    look = look_into(store, parse_start("test_resnet", size=64), task, rows)
    np.testing.assert_allclose(look.cam.scores, look.probe.scores[[3, 0]], atol=1e-3)
    assert [maps.shape for maps in look.cam.maps] == [(2, side, side) for side in (16, 8, 4, 2)]
    assert [check.random for check in look.checks] == ["all"] * 4
    # The last stage has 4 positions, too few for a check.
    assert look.stage == 2


def test_the_last_stage_is_drawn_where_no_stage_can_be_checked(asked):
    coarse = Randomised("layer", "all", 0.5, 0.5, 4, 2, 3)
    assert Look(None, None, None, [coarse, coarse]).stage == 1
    assert Look(None, None, None, [coarse._replace(positions=64), coarse]).stage == 0
