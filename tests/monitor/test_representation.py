"""What the monitor measures of a method, that looking leaves no trace, and that a collapse is named and stopped."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.commands.pretrain import train
from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store
from scarce_cxr.methods.dino import DINO, collapse_numbers, distillation_loss
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.methods.spark import Reconstruction
from scarce_cxr.monitor.measures import embedding_measures
from scarce_cxr.monitor.representation import RepresentationWatch, measure
from scarce_cxr.monitor.retrieval import evaluation_views, retrieval
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.recipe import Recipe, TrainingSettings, WatchSettings
from scarce_cxr.training.run_folder import RunFolder, read_looks
from scarce_cxr.views.plans import OneView

FILMS = np.arange(48)


class Pixels(Method):
    """Features are the pixels, projections ten of them, or, `blind`, all the same; it trains a useless weight."""

    def __init__(self, backbone: Backbone, blind: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.backbone = backbone.requires_grad_(False)
        backbone.forward = lambda images: images.flatten(1)
        self.blind = blind

    def forward(self, views) -> Step:
        return Step(self.weight.square().sum(), {})

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(features) if self.blind else features[:, :10]

    def check(self, size: int) -> None:
        """Takes any size."""


class Painter(Pixels):
    """Paints a flat grey behind its mask, the left half: it is looked at for that too."""

    patch = 16

    def reconstruct(self, images: torch.Tensor, draws) -> Reconstruction:
        visible = torch.ones_like(images, dtype=torch.bool)
        visible[..., :16] = False
        return Reconstruction(visible, torch.zeros_like(images), torch.tensor(1.0))


def small_dino(**settings) -> DINO:
    torch.manual_seed(0)
    return DINO(Backbone(BackboneSettings("test_resnet")), outputs=24, hidden=32, bottleneck=16, **settings).eval()


def test_numbers_are_those_of_the_pure_measures(small_store):
    store = Store.open(small_store)
    numbers = measure(Pixels(Backbone(BackboneSettings("test_resnet"))), store, FILMS, 32)
    first, _ = evaluation_views(store, FILMS, 32)
    wanted = embedding_measures(first.flatten(1))
    assert {name: numbers[f"feature_{name}"] for name in wanted} == wanted
    wanted = embedding_measures(first.flatten(1)[:, :10])
    assert {name: numbers[f"projection_{name}"] for name in wanted} == wanted
    patients = patients_of(store.table).astype(str)
    found = retrieval(*(view.flatten(1) for view in evaluation_views(store, FILMS, 32)), patients, films_per_draw=48)
    assert (numbers["retrieval"], numbers["retrieval_low"], numbers["retrieval_high"]) == found[:3]
    assert (numbers["held_out_films"], numbers["held_out_patients"], numbers["held_out_views"]) == (48, 24, 96)
    assert "held_out_matched_information" not in numbers


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_matched_information_is_that_of_the_loss_on_all_views_at_once(small_store, centering):
    store, method = Store.open(small_store), small_dino(centering=centering, teacher_temperature=0.02)
    numbers = measure(method, store, FILMS, 32, pairs=2)
    pairs = [evaluation_views(store, FILMS, 32, pair=pair) for pair in (0, 1)]
    crops = [torch.cat([pair[view] for pair in pairs]) for view in (0, 1)]
    with torch.no_grad():
        targets, logits = method.make_targets(method.teacher(crops)[0]), method.student(crops)[0]
    wanted = collapse_numbers(targets, distillation_loss(targets, logits))
    assert numbers["held_out_views"] == 192
    assert numbers["held_out_matched_information"] == pytest.approx(float(wanted["matched_information"]), abs=1e-4)
    assert numbers["held_out_mean_teacher_entropy"] == pytest.approx(float(wanted["mean_teacher_entropy"]), abs=1e-4)
    assert numbers["held_out_matched_information_low"] <= numbers["held_out_matched_information"]
    with torch.no_grad():
        plain = (method.teacher(crops)[0] / method.teacher_temperature).softmax(dim=-1).mean(dim=(0, 1))
    assert numbers["held_out_plain_entropy"] == pytest.approx(float(torch.special.entr(plain).sum()), abs=1e-4)


def test_looking_leaves_no_trace(small_store, tmp_path):
    method = small_dino().train()
    before = copy.deepcopy(method.state_dict())
    watch = RepresentationWatch(Store.open(small_store), FILMS, 32, WatchSettings(), RunFolder(tmp_path), warmup=1)
    watch.look(method, 0)
    after = method.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if torch.is_tensor(value))
    assert RunFolder(tmp_path).read_state()["verdict"]["name"] == "warming up"
    assert (tmp_path / "figures/collapse.png").is_file()


def run_pixels(store, folder, blind: bool, on_collapse: str, method=Pixels, films: int = 256):
    recipe = Recipe(
        method=partial(method, blind=blind),
        views=OneView(32),
        backbone=BackboneSettings("test_resnet"),
        training=TrainingSettings(
            8, duration=Duration(40, "steps"), warmup=Duration(2, "steps"), accelerator="cpu", precision="fp32"
        ),
        watch=WatchSettings(0.3, Duration(3, "steps"), films, on_collapse=on_collapse, price_per_hour=1.25),
    )
    folder.mkdir()
    (folder / "recipe.yaml").write_text("")
    return train(recipe, "", Store.open(store), RunFolder(folder))


def test_a_collapse_is_named_at_its_third_look_and_stops_the_run_only_if_asked(small_store, tmp_path):
    stopped = run_pixels(small_store, tmp_path / "stopped", blind=True, on_collapse="stop")
    assert stopped.exit_code == 3
    assert "one prototype" in stopped.notes[0]
    assert "after step 9 of 40" in stopped.notes[0]
    assert "at 1.25 an hour" in stopped.notes[1]
    state = RunFolder(tmp_path / "stopped").read_state()
    assert (state["state"], state["step"], state["verdict"]["since"]) == ("collapsed", 9, 3)
    assert [step for step, _ in read_looks(tmp_path / "stopped/metrics.csv")] == [0, 3, 6, 9]

    warned = run_pixels(small_store, tmp_path / "warned", blind=True, on_collapse="warn")
    state = RunFolder(tmp_path / "warned").read_state()
    assert (warned.exit_code, state["state"], state["verdict"]["name"]) == (0, "finished", "one prototype")

    healthy = run_pixels(small_store, tmp_path / "healthy", blind=False, on_collapse="stop")
    assert healthy.exit_code == 0
    assert RunFolder(tmp_path / "healthy").read_state()["verdict"]["name"] == "healthy"


def test_a_run_that_looks_at_a_single_film_is_summed_up_without_the_measures_that_need_more(small_store, tmp_path):
    result = run_pixels(small_store, tmp_path / "run", False, "stop", method=Painter, films=1)
    table = result.tables[0]
    assert (result.exit_code, table.columns) == (0, ["steps", "minutes", "loss", "masked error"])
    assert table.note.endswith("1 of them measured")


@pytest.mark.parametrize(("films", "verdict"), [(4, "not measured"), (15, "not measured"), (16, "healthy")])
def test_of_few_films_neither_rank_nor_spread_is_measured_and_no_collapse_is_seen(
    small_store, tmp_path, films, verdict
):
    watch = RepresentationWatch(
        Store.open(small_store), FILMS[::3][:films], 32, WatchSettings(), RunFolder(tmp_path), warmup=1
    )
    method = Pixels(Backbone(BackboneSettings("test_resnet")))
    for step in range(5):
        numbers = watch.look(method, step)
    assert watch.verdict.name == verdict
    assert ("feature_rank" in numbers, "projection_std_ratio" in numbers) == (films >= 16,) * 2
    assert (numbers["held_out_films"], "feature_cosine" in numbers, "feature_norm" in numbers) == (films, True, True)
