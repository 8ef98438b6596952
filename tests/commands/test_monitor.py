"""`scarce monitor` shows what runs measured of themselves, and measures plain backbones the same way."""

import json
import math
import re
import shutil
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from scarce_cxr import cli
from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.commands.monitor import _COLUMNS, _say_end, _table, monitor
from scarce_cxr.commands.plateau import plateau
from scarce_cxr.commands.pretrain import parse
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.splits import held_out, patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.methods.method import Method
from scarce_cxr.monitor.representation import RepresentationWatch
from scarce_cxr.monitor.retrieval import encode_in_batches, evaluation_views, retrieval
from scarce_cxr.monitor.watchers import make_watchers
from scarce_cxr.results import Result
from scarce_cxr.training.checkpoint import save_backbone
from scarce_cxr.training.recipe import Recipe, TrainingSettings, WatchSettings
from scarce_cxr.training.run_folder import Metrics, RunFolder
from scarce_cxr.views.plans import OneView

BEHIND = {"held_out_films": 200, "held_out_patients": 120, "retrieval_among": 100}


@pytest.fixture
def run(tmp_path):
    """A run of twenty looks whose retrieval rises from 0.05."""
    folder = RunFolder(tmp_path / "first")
    folder.path.mkdir()
    verdict = {"name": "healthy", "since": 10, "looks": 19, "reason": "no collapse in 19 looks", "advice": []}
    folder.write_state(state="finished", step=190, total=190, verdict=verdict)
    metrics = Metrics(folder.metrics)
    for number in range(20):
        found = 0.05 + number / 100
        numbers = {"retrieval": found, "retrieval_low": found - 0.02, "retrieval_high": found + 0.02}
        metrics.write("watch", 10 * number, 0, {**numbers, "feature_rank": 100.0 - number, **BEHIND})
    return folder


def test_the_first_look_and_the_last_ones_stand_in_the_table_with_what_is_behind_them(run):
    result = monitor([str(run.path)])
    looks, verdicts = result.tables
    assert looks.columns == ["step", "found", "rank"]
    assert [row[0] for row in looks.rows] == [0, *range(90, 191, 10)]
    assert looks.rows[0][1:] == [0.05, 100.0]
    assert looks.rows[-1][1:] == [0.24, 81.0]
    assert "200 held-out films of 120 patients" in looks.note
    assert "0.220 to 0.260" in looks.note
    assert verdicts.rows[0][:3] == ["first", "healthy", 10]
    assert dict(result.files)["figure"].is_file()


def test_a_run_that_has_ended_is_followed_to_its_end_at_once(run):
    assert monitor([str(run.path)], follow=True).tables[0].rows


@pytest.fixture
def quick(monkeypatch):
    """Followers look every hundredth of a second, and wait for a fifth."""
    monkeypatch.setattr("scarce_cxr.commands.monitor._EVERY", 0.01)
    monkeypatch.setattr("scarce_cxr.commands.monitor._PATIENCE", 0.2)


@pytest.mark.parametrize(("state", "word"), [("running", "killed"), ("stopped", "stopped")])
def test_of_a_followed_run_that_ended_too_early_it_is_said_how_and_what_resumes_it(run, quick, state, word):
    run.write_state(state=state, step=50)
    began = time.monotonic()
    note = monitor([str(run.path)], follow=True).notes[-1]
    assert time.monotonic() - began > 0.2
    assert f"{word}, with step 50 of 190 saved" in note
    assert f"scarce resume {run.path}" in note


def test_a_killed_run_that_is_taken_up_again_is_followed_to_its_end(run, quick, monkeypatch):
    monkeypatch.setattr("scarce_cxr.commands.monitor._PATIENCE", 5)
    run.write_state(state="running")

    def train():
        with run.locked():
            time.sleep(0.1)
        time.sleep(0.2)  # Killed.
        with run.locked():
            time.sleep(0.1)
            Metrics(run.metrics, resume_at=190).write("watch", 200, 0, {"retrieval": 0.5, "feature_rank": 80.0})
            run.write_state(state="finished")

    trainer = threading.Thread(target=train)
    trainer.start()
    result = monitor([str(run.path)], follow=True)
    trainer.join()
    assert result.tables[0].rows[-1][0] == 200
    assert not result.notes


def test_runs_whose_folders_have_one_name_are_told_apart(run, tmp_path):
    other = RunFolder(shutil.copytree(run.path, tmp_path / "other" / "first"))
    Metrics(other.metrics, resume_at=100)
    result = monitor([str(run.path), str(other.path)], out=tmp_path / "both.png")
    names = [f"{tmp_path.name}/first", "other/first"]
    assert [table.title for table in result.tables] == [*names, "Verdicts"]
    assert [row[0] for row in result.tables[-1].rows] == names
    assert [table.rows[-1][0] for table in result.tables[:2]] == [190, 100]
    with pytest.raises(ScarceError, match="each once"):
        monitor([str(run.path), f"{run.path}/../first"])


def test_a_figure_of_several_runs_leaves_the_first_ones_own_alone(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = dict(monitor([str(run.path)]).files)["figure"]
    assert own == run.figures / "collapse.png"
    before = own.read_bytes()
    shutil.copytree(run.path, tmp_path / "second")
    both = dict(monitor([str(run.path), "second"]).files)["figure"]
    assert both.resolve() == tmp_path / "collapse.png"
    assert own.read_bytes() == before


def test_a_diverged_run_is_told_in_valid_json(run, capsys):
    numbers = {"retrieval": math.nan, "retrieval_low": math.nan, "retrieval_high": math.nan, "feature_rank": math.inf}
    Metrics(run.metrics, resume_at=190).write("watch", 200, 0, {**numbers, **BEHIND})
    assert cli.main(["monitor", str(run.path), "--json"]) == 0

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    rows = json.loads(capsys.readouterr().out, parse_constant=refuse)["tables"]["first"]
    assert rows[-1] == {"step": 200, "found": None, "rank": None}


def test_all_numbers_of_a_run_with_a_head_and_features_std_fit_into_80_signs():
    numbers = dict.fromkeys(_COLUMNS.values(), 0.012345) | {"held_out_matched_information": -0.0023456}
    numbers |= {"feature_rank": 255.4, "projection_rank": 99.94, "projection_std_ratio": 0.0012345}
    del numbers["held_out_error"]
    table = _table("run", [(40_000, numbers)], "")
    assert "std" in table.columns
    console = Console(width=80)
    drawn = cli._draw(table)
    with console.capture() as captured:
        console.print(drawn)
    # A word or number that does not fit is broken.
    for whole in ("40000", "-0.0024", "255", "99.9", "0.012", "0.0012", "matched", "entropy", "cosine", "spread"):
        assert f" {whole} " in captured.get()


def test_losses_of_several_runs_are_drawn_beside_the_figure(run, tmp_path):
    second = RunFolder(tmp_path / "second")
    second.path.mkdir()
    second.write_state(state="running", step=10, total=190)
    for number, folder in enumerate((run, second)):
        metrics = Metrics(folder.metrics, resume_at=190)
        metrics.write("step", 10, 0, {"loss": 5.0 + number})
        metrics.write("step", 20, 0, {"loss": 4.0 + number})
    assert set(dict(monitor([str(run.path)], out=tmp_path / "one.png").files)) == {"figure"}
    files = dict(monitor([str(run.path), str(second.path)], out=tmp_path / "both.png").files)
    assert files["losses"] == tmp_path / "both-losses.png"
    assert files["losses"].is_file()
    assert _say_end(run, [(190, {"retrieval": 0.244, "held_out_error": 0.5})]) == "healthy; masked error 0.50"
    assert _say_end(run, [(190, {"retrieval": 0.244})]) == "healthy; 24 % found again"
    assert _say_end(second, []) == "no verdict"


def test_a_plain_backbone_is_measured_on_held_out_patients(small_store, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("scarce_cxr.monitor.representation._FILMS_PER_DRAW", 5)
    result = monitor(["test_resnet"], store=small_store, size=32, out=tmp_path / "collapse.png")
    store = Store.open(small_store)
    films = np.flatnonzero(held_out(store.table, 0.2))
    torch.manual_seed(0)
    backbone = Backbone(BackboneSettings("test_resnet")).eval()
    views = [encode_in_batches(backbone, view) for view in evaluation_views(store, films, 32)]
    found = retrieval(*views, patients_of(store.table.iloc[films]).astype(str), films_per_draw=5)
    assert result.tables[0].rows[0][1] == pytest.approx(found.top1, abs=5e-4)
    with pytest.raises(ScarceError, match="--store"):
        monitor(["test_resnet"])


@pytest.fixture
def measured(monkeypatch):
    """Which films and side are measured; nothing is computed."""
    seen = []

    def measure(method, store, films, size):
        seen.append((films.tolist(), size))
        numbers = dict.fromkeys(("feature_rank", "retrieval_among", "retrieval_low", "retrieval_high"), 1.0)
        return numbers | {"held_out_films": len(films), "held_out_patients": 1}

    monkeypatch.setattr("scarce_cxr.monitor.representation.measure", measure)
    return seen


@pytest.mark.parametrize(
    ("method", "share", "measured_share", "words"),
    [
        ("MoCo", 0.15, 0.15, r"\d+ held-out films of"),
        ("MoCo", 0.5, 0.2, r"\d+ held-out films of"),
        (None, 0.15, 0.2, r"\d+ films of .* backbone may have been trained on"),
    ],
)
def test_a_backbone_is_measured_on_no_film_that_it_was_trained_on_or_it_is_said(
    small_store, tmp_path, measured, method, share, measured_share, words
):
    store = Store.open(small_store)
    facts = {"architecture": "test_resnet", "image_size": 32, "mean": store.mean, "std": store.std}
    facts |= {"store": store.fingerprint, "recipe": f"watch: {{held_out: {share}}}"} | (
        {"method": method} if method else {}
    )
    file = tmp_path / "backbone.safetensors"
    save_backbone(file, Backbone(BackboneSettings("test_resnet")), facts)
    result = monitor([str(file)], store=small_store, out=tmp_path / "collapse.png")
    assert measured == [(np.flatnonzero(held_out(store.table, measured_share)).tolist(), 32)]
    assert re.match(words, result.tables[0].note)


def test_a_store_without_films_that_a_backbone_was_not_trained_on_is_refused(small_store, tmp_path, measured):
    store = Store.open(small_store)
    facts = {"architecture": "test_resnet", "method": "MoCo", "store": store.fingerprint}
    file = tmp_path / "backbone.safetensors"
    save_backbone(file, Backbone(BackboneSettings("test_resnet")), facts | {"recipe": "watch: {held_out: 0.0}"})
    with pytest.raises(ScarceError, match="at least two held-out films"):
        monitor([str(file)], store=small_store, size=32)
    assert not measured


def test_a_backbone_beside_a_run_is_measured_on_the_films_of_the_runs_own_watchers(
    run, small_store, tmp_path, measured
):
    store = Store.open(small_store)
    watch = WatchSettings(held_out=0.6, films=16)
    recipe = Recipe(Method, OneView(size=32), training=TrainingSettings(batch_size=4), watch=watch)
    films = np.flatnonzero(held_out(store.table, 0.6))
    watchers = make_watchers(Method(), store, films, recipe, run)
    looked_at = next(watcher.films for watcher in watchers if isinstance(watcher, RepresentationWatch))
    assert len(looked_at) == 16 < len(films)
    run.recipe.write_text("watch: {held_out: 0.6, films: 16}\nviews: {init_args: {size: 32}}\n")
    monitor([str(run.path), "test_resnet"], store=small_store, out=tmp_path / "collapse.png")
    assert measured == [(looked_at.tolist(), 32)]


def test_without_a_run_at_most_256_films_are_measured(small_store, tmp_path, measured, monkeypatch):
    monkeypatch.setattr("scarce_cxr.images.splits.held_out", lambda table, share: np.ones(len(table), dtype=bool))
    monkeypatch.setattr("scarce_cxr.training.recipe.WatchSettings.films", 7)
    monitor(["test_resnet"], store=small_store, size=32, out=tmp_path / "collapse.png")
    assert [len(films) for films, _ in measured] == [7]


def test_only_one_run_can_be_followed(run):
    with pytest.raises(ScarceError, match="one run"):
        monitor([str(run.path), str(run.path)], follow=True)


@pytest.mark.slow
def test_the_plateau_runs_both_recipes_and_does_not_run_what_is_finished_again(small_store, tmp_path, monkeypatch):
    # To paint the figures of two runs and write their pages would take most of the time.
    monkeypatch.setattr("scarce_cxr.figures.theme.save", lambda figure, path: path.touch() or path)
    monkeypatch.setattr("scarce_cxr.commands.pretrain.write_page", lambda folder, _: folder.path / "report.html")
    first = plateau(small_store, tmp_path, steps=3, batch_size=8)
    assert [row[:2] for row in first.tables[0].rows] == [["plateau", 3], ["dino", 3]]
    assert dict(first.files)["side by side"] == tmp_path / "plateau.png"
    assert all(path.is_file() for _, path in first.files)
    stamps = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("last.ckpt"))]
    again = plateau(small_store, tmp_path, steps=3, batch_size=8)
    assert again.tables[0].rows == first.tables[0].rows
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("last.ckpt"))] == stamps


@pytest.fixture
def finished(small_store, tmp_path):
    """A folder of both runs of the plateau as if they had been made with 200 steps, a batch of 8 and seed 0."""
    for recipe in ("plateau", "dino"):
        folder = RunFolder(tmp_path / "both" / recipe)
        folder.path.mkdir(parents=True)
        line = ["--config", f"small/{recipe}", "--store", str(small_store), "--run", str(folder.path)]
        line += ["--training.duration", "200 steps", "--training.batch_size", "8", "--training.warmup", "10 %"]
        folder.recipe.write_text(parse(line).text)
        folder.write_state(state="finished", step=200, total=200, fingerprint=Store.open(small_store).fingerprint)
    return tmp_path / "both"


def test_finished_runs_of_the_plateau_are_not_shown_for_other_settings(small_store, finished):
    with pytest.raises(ScarceError, match=r"steps 50, seed 9.*steps 200, seed 0.*--out"):
        plateau(small_store, finished, steps=50, batch_size=8, seed=9)
    with pytest.raises(ScarceError, match="no folder"):
        plateau(finished / "nowhere", finished, steps=200, batch_size=8)
    state = RunFolder(finished / "dino")
    state.write_state(fingerprint="0" * 64)
    with pytest.raises(ScarceError, match=r"store .*both/dino, made with store 000000000000"):
        plateau(small_store, finished, steps=200, batch_size=8)


def test_a_stopped_plateau_is_gone_on_with_as_it_was_asked_for(small_store, tmp_path, monkeypatch):
    monkeypatch.setattr("scarce_cxr.commands.pretrain.run", lambda parsed: Result(exit_code=143))
    stopped = plateau(small_store, tmp_path, steps=3, batch_size=8, seed=4)
    assert stopped.exit_code == 143
    asked = f"scarce plateau {small_store} --out {tmp_path} --steps 3 --batch_size 8 --seed 4"
    assert stopped.notes[-1].endswith(asked)
