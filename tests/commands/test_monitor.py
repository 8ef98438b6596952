"""`scarce monitor` shows what runs measured of themselves, and measures plain backbones the same way."""

import numpy as np
import pytest

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.commands.monitor import _say_end, monitor
from scarce_cxr.commands.plateau import plateau
from scarce_cxr.errors import ScarceError
from scarce_cxr.images.splits import held_out, patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.monitor.retrieval import encode_in_batches, evaluation_views, retrieval
from scarce_cxr.training.run_folder import Metrics, RunFolder

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
    assert dict(first.files)["figure"].is_file()
    stamps = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("last.ckpt"))]
    again = plateau(small_store, tmp_path, steps=3, batch_size=8)
    assert again.tables[0].rows == first.tables[0].rows
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("last.ckpt"))] == stamps
