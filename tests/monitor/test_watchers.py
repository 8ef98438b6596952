"""What every run draws: frames where its views were cut, curves of what its method names."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scarce_cxr.commands.pretrain import parse
from scarce_cxr.images.store import Store
from scarce_cxr.monitor import watchers
from scarce_cxr.monitor.watchers import draw_curves, draw_views, find_corners, make_watchers, steps_drawn
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.pretrain import pretrain
from scarce_cxr.training.recipe import Recipe, TrainingSettings, WatchSettings
from scarce_cxr.training.run_folder import Metrics, RunFolder
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.draws import Draws
from scarce_cxr.views.plans import MultiCrop, Normalization, OneView, Plan, TwoViews

# Pixels stay as they are, so that a view of a ramp says where it was cut.
TURNED = Augmentation(crop=(0.3, 0.9), flip=0.5, rotation=25)
WIDE, NARROW = Augmentation(crop=(0.8, 1.0), flip=0.5), Augmentation(crop=(0.1, 0.2), rotation=45)
PLANS = [
    OneView(48, TURNED),
    TwoViews(48, TURNED, NARROW),
    MultiCrop(48, 24, 3, TURNED, WIDE, NARROW),
    MultiCrop(48, local_crops=0, global_augmentation=NARROW),
]


@pytest.fixture
def drawn(monkeypatch):
    """What draw_views and draw_curves hand to their figures, which are not painted."""
    handed = []
    monkeypatch.setattr(watchers, "views_panel", lambda *given: handed.append(given))
    monkeypatch.setattr(watchers, "run_curves", lambda *given: handed.append(given))
    monkeypatch.setattr(watchers.theme, "save", lambda figure, path: path)
    return handed


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
def test_corners_lie_where_views_of_a_ramp_say_that_they_were_cut(plan):
    side, draws = 100, Draws(3, 5, np.arange(6))
    ramp = np.linspace(0, 65535, side).round().astype(np.uint16)
    across, down = (torch.from_numpy(np.tile(film, (6, 1, 1))) for film in np.meshgrid(ramp, ramp))
    views = [plan(films, draws, Normalization(0, 1)).crops for films in (across, down)]
    corners = find_corners(plan, draws)
    assert len(corners) == len(views[0])
    for x, y, box in zip(*views, corners, strict=True):
        # A ramp's value v is of the pixel v (side - 1), whose centre lies at (2 pixel + 1) / side - 1.
        seen = np.stack([(2 * view[:, 0].numpy() * (side - 1) + 1) / side - 1 for view in (x, y)], axis=-1)
        size = x.shape[-1]
        share = (np.arange(size) + 0.5) / size
        right, below = box[:, 1] - box[:, 0], box[:, 3] - box[:, 0]
        said = (
            box[:, 0, None, None] + share[:, None] * right[:, None, None] + share[:, None, None] * below[:, None, None]
        )
        inside = (np.abs(said) < 0.95).all(axis=-1)
        assert inside.mean() > 0.5
        assert np.abs(seen - said)[inside].max() < 1e-3
        assert np.allclose(box[:, 2], box[:, 0] + right + below)


def test_of_a_plan_of_ones_own_nobody_knows_the_corners(small_store, drawn):
    class Own(Plan):
        size = 16

        def __call__(self, pixels, draws, normalization):
            return OneView(16)(pixels, draws, normalization)

    assert find_corners(Own(), Draws(0, 0, np.arange(2))) == []
    draw_views(Recipe(method=None, views=Own()), Store.open(small_store), None)
    assert not any(group.corners for group in drawn[0][1])


def test_several_sizes_are_drawn_once_in_groups_and_one_size_several_times(small_store, drawn):
    store = Store.open(small_store)
    draw_views(Recipe(method=None, views=PLANS[2], seed=7), store, None)
    films, (large, small), _ = drawn[0]
    assert films.shape[1:] == (64, 64)
    assert [large.heading, small.heading] == ["global crops of 48 pixels", "local crops of 24 pixels"]
    assert [view.shape[1:] for view in (*large.views, *small.views)] == 2 * [(48, 48)] + 3 * [(24, 24)]
    # They are the plan's own views, in [0, 1], of the films beside them.
    pixels = torch.from_numpy((films * 255).round().astype(np.uint8))
    crops = PLANS[2](pixels, Draws(7, 0, np.arange(len(films))), Normalization(0, 1)).crops
    corners = find_corners(PLANS[2], Draws(7, 0, np.arange(len(films))))
    for view, crop in zip((*large.views, *small.views), crops, strict=True):
        assert np.allclose(view, crop[:, 0].numpy(), atol=1e-6)
    assert all(map(np.array_equal, (*large.corners, *small.corners), corners))

    draw_views(Recipe(method=None, views=PLANS[1]), store, None)
    groups = drawn[1][1]
    assert len(groups) > 1
    assert len({group.heading for group in groups}) == len(groups)
    assert {len(group.views) for group in groups} == {2}
    assert not np.array_equal(groups[0].views[0], groups[1].views[0])


def test_curves_show_what_a_method_names_and_nothing_of_the_machine(small_store, tmp_path, drawn):
    settings = ["--backbone.name=test_resnet", "--training.batch_size=8", "--training.accelerator=cpu"]
    settings += ["--training.duration=2 steps", "--training.log_every=1 steps"]
    folder = RunFolder(tmp_path)
    parsed = parse(["--config", "small/barlow_twins", *settings, f"--store={small_store}", f"--run={tmp_path}"])
    pretrain(parsed.recipe, parsed.text, parsed.store, folder)
    draw_curves(folder)
    loss, rate, held_out, numbers, _ = drawn[0]
    assert list(numbers) == ["gradient_norm", "on_diagonal", "off_diagonal"]
    assert [steps for steps, _ in (loss, rate, held_out, *numbers.values())] == [[1, 2], [1, 2], [], *3 * [[1, 2]]]
    weighed = np.array(numbers["on_diagonal"][1]) + 0.005 * np.array(numbers["off_diagonal"][1])
    assert weighed == pytest.approx(loss[1], rel=1e-5)


def test_before_the_first_step_there_are_no_curves(tmp_path, drawn):
    Metrics(tmp_path / "metrics.csv").write("watch", 0, 0, {"held_out_error": 1.0})
    assert draw_curves(RunFolder(tmp_path)) is None
    assert drawn == []


def test_of_few_looks_all_are_drawn_and_of_many_two_dozen_evenly_apart():
    assert steps_drawn(12, 5) == {0, 5, 10, 12}
    assert steps_drawn(12, 0) == {0, 12}
    drawn = sorted(steps_drawn(87_400, 874))
    assert len(drawn) == 24
    assert (drawn[0], drawn[-1]) == (0, 87_400)
    assert all(step % 874 == 0 for step in drawn)
    assert {(after - before) // 874 for before, after in pairwise(drawn)} == {4, 5}


@pytest.mark.parametrize(
    ("patients", "films", "said"),
    [
        (12, 256, None),
        (12, 4, "4 of 24 held-out films (patients: 12): below 16 ... raise watch.films"),
        (3, 256, "6 of 6 held-out films (patients: 3): below 16 ... raise watch.held_out"),
        (0, 256, "0 of 0 held-out films (patients: 0): below 16 ... raise watch.held_out"),
    ],
)
def test_a_run_that_looks_at_too_few_films_to_see_a_collapse_is_warned_of_it(
    small_store, tmp_path, caplog, patients, films, said
):
    store = Store.open(small_store)
    training = TrainingSettings(8, duration=Duration(3, "steps"), warmup=Duration(1, "steps"))
    recipe = Recipe(method=None, views=OneView(32), training=training, watch=WatchSettings(films=films))
    owners = store.table["patient_id"]
    held_out = np.flatnonzero(owners.isin(owners.unique()[:patients]))
    make_watchers(None, store, held_out, recipe, RunFolder(tmp_path))
    assert len(caplog.messages) == (said is not None)
    for part in said.split(" ... ") if said else ():
        assert part in caplog.text
