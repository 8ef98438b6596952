"""Tasks, draws and fits of a small store come out as worked by hand and as scikit-learn has them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from scarce_cxr.backbones.backbone import BackboneSettings
from scarce_cxr.backbones.starts import Start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.fewshot import (
    check_asked,
    draw_cells,
    fit_finetuned,
    fit_frozen,
    make_tasks,
    measure_scores,
    seen_without_labels,
    start_key,
)
from scarce_cxr.evaluation.finetune import FinetuneSettings
from scarce_cxr.evaluation.probe import fit_probes, score_probes, standardise
from scarce_cxr.evaluation.trials import TestFilms, Trials
from scarce_cxr.images.labels import Labels
from scarce_cxr.images.prepare import prepare
from scarce_cxr.images.shots import Missing
from scarce_cxr.images.sources import FolderSource
from scarce_cxr.images.splits import held_out
from scarce_cxr.images.store import Store
from scarce_cxr.training.run_folder import RunFolder

START = Start("moco", "ssl", "runs/moco", BackboneSettings("test_resnet"), 32, fingerprint="f" * 16)
PROTOCOL = {"seed": 0}


def small(films: int = 60, seed: int = 0) -> tuple[SimpleNamespace, Labels, np.ndarray]:
    """A store of 60 films of 30 patients, whose first finding is known of all and whose second of half the films."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(films)], "patient_id": [f"p{n // 2}" for n in range(films)]}
    )
    first = (np.arange(films) % 3 == 0).astype(float)
    second = np.where(np.arange(films) % 2 == 0, (generator.uniform(size=films) < 0.5).astype(float), np.nan)
    values = pd.DataFrame({"Effusion": first, "Mass": second})
    abnormal = (values == 1).any(axis=1).to_numpy()
    labels = Labels(values, pd.DataFrame(), [], ~abnormal, abnormal)
    split = np.repeat(["train", "tune", "test"], [films // 3] * 3)
    return SimpleNamespace(table=table), labels, split


def test_a_task_has_the_labelled_films_of_each_side_and_all_their_negatives():
    store, labels, split = small()
    tasks = make_tasks(store, labels, split)
    effusion, mass = tasks["Effusion"], tasks["Mass"]
    assert effusion.test.rows.tolist() == list(range(40, 60))
    assert effusion.test.labels.sum() == 6
    assert effusion.tune.rows.tolist() == list(range(20, 40))
    # Of every second film it is not known whether it has a mass.
    assert mass.test.rows.tolist() == list(range(40, 60, 2))
    assert effusion.test.patients.tolist() == [f"p{row // 2}" for row in range(40, 60)]
    np.testing.assert_array_equal(effusion.test.normal, labels.normal[40:60])
    assert effusion.train.sum() == 20
    assert effusion.negatives is None


def test_draws_take_only_the_negatives_that_are_allowed():
    store, labels, split = small()
    task = make_tasks(store, labels, split, "normals")["Effusion"]
    drawn = draw_cells(task, ["2"], 5)["2"]
    for draw in drawn:
        chosen = draw.rows[draw.labels == 0]
        assert labels.normal[chosen].all()
        assert (split[draw.rows] == "train").all()
        assert (task.labels[draw.rows] == draw.labels).all()
    assert len({tuple(draw.rows) for draw in drawn}) > 1


def test_a_shot_for_which_patients_lack_is_empty_with_its_reason_and_the_others_are_not():
    store, labels, split = small()
    cells = draw_cells(make_tasks(store, labels, split)["Effusion"], ["1", "50", "all"], 3)
    assert [len(cells["1"]), len(cells["all"])] == [3, 1]
    assert isinstance(cells["50"], Missing)
    assert "50 needed" in cells["50"].reason
    assert cells["all"][0].rows.size == 20


def test_without_a_positive_to_test_on_nothing_is_fitted():
    store, labels, split = small()
    labels.table.loc[split == "test", "Effusion"] = 0.0
    cells = draw_cells(make_tasks(store, labels, split)["Effusion"], ["1", "5"], 3)
    assert [cell.reason for cell in cells.values()] == ["no positive film in the test split"] * 2


def test_a_direction_that_is_the_label_is_found_from_every_draw(tmp_path):
    store, labels, split = small()
    tasks = make_tasks(store, labels, split)
    # A film's only number is near 1 with an effusion and near -1 without: two films are enough to order all others.
    noise = np.random.default_rng(0).normal(size=(60, 1)) * 0.01
    features = (noise + 2 * tasks["Effusion"].labels[:, None] - 1).astype(np.float32)
    trials = Trials(tmp_path, PROTOCOL)
    cells = {"Effusion": draw_cells(tasks["Effusion"], ["1", "3", "9", "all"], 4)}
    only = {"Effusion": tasks["Effusion"]}
    fit_frozen(trials, START, features, only, cells, ("probe", "prototype", "neighbours"))
    table = trials.table
    done = table[table["missing"].isna()]
    assert (done["auroc"] == 1).all()
    assert len(done) == 3 * (4 + 4 + 1)
    assert done[done["shot"] == "3"][
        ["films", "positives", "negatives", "patients"]
    ].drop_duplicates().values.tolist() == [[6, 3, 3, 6]]
    assert done["test_positives"].unique().tolist() == [6]
    assert table[table["shot"] == "9"]["missing"].notna().all()
    assert np.isnan(done[done["how"] == "prototype"]["strength"]).all()


def test_rows_hold_what_the_probes_say_and_what_is_there_is_not_fitted_again(tmp_path, monkeypatch):
    store, labels, split = small()
    tasks = make_tasks(store, labels, split)
    features = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    cells = {name: draw_cells(task, ["2", "all"], 3) for name, task in tasks.items()}
    trials = Trials(tmp_path, PROTOCOL)
    fit_frozen(trials, START, features, tasks, cells)
    draws, scores = trials.scores("moco", "probe", "Effusion", "2")
    scaled = standardise(features, split == "train")
    probes = fit_probes(scaled, cells["Effusion"]["2"], patients=tasks["Effusion"].patients)
    np.testing.assert_allclose(scores, score_probes(scaled[40:60], probes), rtol=1e-5)
    assert draws.tolist() == [0, 1, 2]
    monkeypatch.setattr("scarce_cxr.evaluation.fewshot.fit_probes", lambda *args, **more: pytest.fail("fitted again"))
    fit_frozen(Trials(tmp_path, PROTOCOL), START, features, tasks, cells)


@pytest.fixture
def told() -> tuple:
    """Scores of 3 draws on 40 tuning and 60 test films, and what is told of them."""
    generator = np.random.default_rng(2)
    tune_labels, labels = (generator.permutation(np.arange(count) % 4 == 0).astype(int) for count in (40, 60))
    tune, scores = (generator.normal(size=(3, len(of))) + of for of in (tune_labels, labels))
    normal = (labels == 0) & (generator.uniform(size=60) < 0.5)
    test = TestFilms(np.arange(60), labels, np.array([f"p{n // 2}" for n in range(60)]), normal)
    return tune, tune_labels, scores, test, measure_scores(tune, tune_labels, scores, test)


def test_what_is_told_of_scores_is_scikit_learns(told):
    tune, tune_labels, scores, test, rows = told
    for draw, row in enumerate(rows):
        assert row["auroc"] == pytest.approx(roc_auc_score(test.labels, scores[draw]))
        assert row["auprc"] == pytest.approx(average_precision_score(test.labels, scores[draw]))
        for name, kept in (("normals", test.normal), ("other_findings", ~test.normal)):
            chosen = (test.labels == 1) | kept
            assert row[f"auroc_{name}"] == pytest.approx(roc_auc_score(test.labels[chosen], scores[draw][chosen]))
        odds = row["calibration_slope"] * scores[draw] + row["calibration_offset"]
        probabilities = 1 / (1 + np.exp(-odds))
        assert row["brier"] == pytest.approx(brier_score_loss(test.labels, probabilities))
        shares, means = calibration_curve(test.labels, probabilities, n_bins=10)
        filled = np.histogram(probabilities, np.linspace(0, 1, 11))[0]
        expected = np.abs(shares - means) @ filled[filled > 0] / 60
        assert row["calibration_error"] == pytest.approx(expected)
        above = scores[draw] > row["cut"]
        assert row["sensitivity"] == pytest.approx(above[test.labels == 1].mean())
        assert row["specificity"] == pytest.approx(1 - above[test.labels == 0].mean())
        # Of 30 tuning negatives, 27 are at or below the cut.
        assert (tune[draw][tune_labels == 0] <= row["cut"]).sum() == 27


def test_counts_stand_beside_scores(told):
    row = told[-1][0]
    assert (row["test_films"], row["test_positives"], row["test_negatives"], row["test_patients"]) == (60, 15, 45, 30)
    assert row["prevalence"] == 0.25


def test_without_a_positive_to_tune_on_nothing_is_said_that_needs_one(told):
    tune, tune_labels, scores, test, _ = told
    row = measure_scores(tune, np.zeros_like(tune_labels), scores, test)[0]
    assert "auroc" in row
    assert not {"sensitivity", "brier", "cut", "calibration_error"} & set(row)


def test_the_same_weights_at_another_size_are_another_start():
    keys = {start_key(start) for start in (START, replace(START, size=64), replace(START, mean=0.5, std=0.25))}
    assert len(keys) == 3
    assert start_key(replace(START, name="other")) == start_key(START)


def test_test_films_that_pretraining_saw_are_counted():
    names = [str(n) for n in range(400)]
    table = pd.DataFrame({"image_id": names, "sha256": names})
    table["patient_id"] = [f"p{n // 2}" for n in range(400)]
    store = SimpleNamespace(table=table, fingerprint="s")
    split = np.where(held_out(table, 0.2), "test", "train")

    def seen(share: float, fingerprint: str = "s", kind: str = "ssl") -> int | None:
        settings = SimpleNamespace(weights=Path("nowhere/backbone-last.safetensors"))
        start = SimpleNamespace(kind=kind, store_fingerprint=fingerprint, held_out=share, settings=settings)
        return seen_without_labels(start, store, split)

    assert seen(0.2) == seen(0.5) == 0
    assert seen(0.1) == (held_out(table, 0.2) & ~held_out(table, 0.1)).sum() > 0
    assert seen(0.2, "other") is None
    assert seen(0.2, kind="random") is None


def test_films_and_patients_are_known_again_in_the_store_of_a_run(tmp_path):
    """Of 12 patients' pairs of films, the first film of each is pretrained on in another store; one is a test film."""
    films = tmp_path / "films"
    films.mkdir()
    for n in range(24):
        pixels = np.random.default_rng(n).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(pixels).save(films / f"p{n // 2:02d}_{n % 2}.png")
    (tmp_path / "key").write_text("5c" * 32)

    def store(name: str, pattern: str, key_file: Path | None) -> Store:
        chosen = tmp_path / f"{name}-films"
        chosen.mkdir()
        for film in films.glob(pattern):
            (chosen / film.name).write_bytes(film.read_bytes())
        source = FolderSource(chosen, patient_pattern=r"(p\d+)_")
        return prepare(source, tmp_path / name, size=32, jobs=1, key_file=key_file).store

    tested = store("tested", "*.png", tmp_path / "key")
    split = np.full(24, "test")
    for name, key_file, expected in (("one-key", tmp_path / "key", 24), ("keys-apart", None, 12)):
        trained = store(name, "*_0.png", key_file)
        run = tmp_path / f"run-{name}"
        RunFolder(run).path.mkdir()
        RunFolder(run).write_state(store=f"../{name}")
        settings = BackboneSettings(weights=run / "backbone-last.safetensors")
        start = replace(START, kind="ssl", settings=settings, held_out=0.0, store_fingerprint=trained.fingerprint)
        assert seen_without_labels(start, tested, split) == expected
        assert seen_without_labels(replace(start, store_fingerprint="changed since"), tested, split) is None


def test_shots_are_numbers_or_all():
    check_asked(["1", "50", "all"], ["1"], 1)
    for shots, draws in ((["0"], 1), (["five"], 1), (["1"], 0)):
        with pytest.raises(ScarceError, match=r"shots above 0|1 draw"):
            check_asked(shots, ["1"], draws)


def test_fine_tuning_keeps_each_trial_and_goes_on_where_it_was(small_store, tmp_path, monkeypatch):
    store = Store.open(small_store)
    _, labels, split = small(len(store))
    tasks = {"Effusion": make_tasks(store, labels, split)["Effusion"]}
    cells = {"Effusion": draw_cells(tasks["Effusion"], ["2", "50"], 2)}
    settings = FinetuneSettings(epochs=1, looks=1)
    trials, start = Trials(tmp_path, PROTOCOL), replace(START, fingerprint="")
    fit_finetuned(trials, store, start, tasks, cells, settings)
    table = Trials(tmp_path, PROTOCOL).table
    assert table["how"].unique().tolist() == ["finetune"]
    assert table["missing"].notna().tolist() == [False, False, True]
    assert len(table["scores"][0]) == len(tasks["Effusion"].test.rows)
    assert table["auroc"][0] == pytest.approx(roc_auc_score(tasks["Effusion"].test.labels, table["scores"][0]))
    monkeypatch.setattr("scarce_cxr.evaluation.fewshot.finetune_trial", lambda *args, **more: pytest.fail("again"))
    fit_finetuned(trials, store, start, tasks, cells, settings)
    with pytest.raises(ScarceError, match="epochs 1 there, 2 now"):
        fit_finetuned(trials, store, start, tasks, cells, FinetuneSettings(epochs=2, looks=1))
