"""A plan's numbers are those of the method itself, of torchvision, of published counts, or worked out by hand."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.commands.recipes import NIH_FILMS, recipe_name, recipes_folder
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.barlow_twins import BarlowTwins
from scarce_cxr.methods.method import Method, Step
from scarce_cxr.methods.moco import MoCo
from scarce_cxr.methods.spark import SparK
from scarce_cxr.training import planning
from scarce_cxr.training.automatic import read_resolved
from scarce_cxr.training.checkpoint import save_checkpoint
from scarce_cxr.training.durations import Duration
from scarce_cxr.training.memory import build_shapes, measure_memory
from scarce_cxr.training.optimizer import OptimizerSettings, make_optimizer
from scarce_cxr.training.planning import Cost, Device, Events, Footprint, Growth
from scarce_cxr.training.recipe import Recipe, TrainingSettings, WatchSettings
from scarce_cxr.views.augment import Augmentation
from scarce_cxr.views.plans import OneView, TwoViews

REFERENCES = sorted((recipes_folder() / "reference").glob("*.yaml"))


def small(method, backbone: str, views) -> Recipe:
    return Recipe(method, views=views, backbone=BackboneSettings(backbone))


BARLOW = small(partial(BarlowTwins, projector_widths=(64, 64)), "resnet18", TwoViews(64))
MOCO = small(partial(MoCo, width=16, queue=32, bn_splits=2), "resnet50", TwoViews(64))


class Encoding(Method):
    """Asks nothing but the encoder."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, views) -> Step:
        return Step(self.backbone(views.crops[0]).float().square().mean(), {})


def bytes_kept(recipe: Recipe, films: int, bf16: bool) -> int:
    """What autograd keeps of a step, counted without the code under test."""
    torch.manual_seed(0)
    method = planning.build_to_measure(recipe)
    views = planning.make_random_views(recipe, films)
    alive, sizes = [], {}

    def pack(tensor):
        alive.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = method(views).loss
    for tensor in (*method.parameters(), *method.buffers()):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    del loss
    return sum(sizes.values())


@pytest.mark.parametrize("path", REFERENCES, ids=recipe_name)
def test_parameters_of_the_reference_recipes_are_those_of_torchvision_and_of_the_method(path):
    recipe = read_resolved(path, NIH_FILMS)
    method = build_shapes(recipe)
    memory = measure_memory(method, recipe.optimizer)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, recipe.backbone.name)()
    classifier = sum(p.numel() for p in theirs.fc.parameters())
    # One channel instead of three.
    backbone = sum(p.numel() for p in theirs.parameters()) - classifier - 2 * 64 * 7 * 7
    assert memory.backbone == backbone
    followed = recipe_name(path).removeprefix("reference/") in ("moco", "dino_first", "dino_last")
    assert memory.teacher == (backbone + memory.heads if followed else 0)
    assert memory.backbone + memory.heads + memory.teacher == sum(p.numel() for p in method.parameters())


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("recipe", [BARLOW, pytest.param(MOCO, marks=pytest.mark.slow)], ids=["resnet18", "resnet50"])
def test_what_is_kept_at_other_batches_lies_on_the_line(recipe, checkpointing, bf16):
    recipe = planning.with_checkpointing(recipe, checkpointing)
    kept = planning.measure_kept(planning.build_to_measure(recipe), recipe, bf16=bf16)
    for films in (8, 12):
        assert kept.saved.of(films) == pytest.approx(bytes_kept(recipe, films, bf16), rel=0.02)


def test_the_smallest_batches_are_those_that_the_method_takes():
    recipe = small(partial(MoCo, width=8, queue=32, bn_splits=4), "test_resnet", TwoViews(32))
    method = planning.build_to_measure(recipe)
    # Four parts of two films, and of three.
    assert planning.measure_kept(method, recipe, bf16=False).batches == (8, 12)
    with pytest.raises(ScarceError, match="divides into parts"):
        planning.measure_kept(method, recipe, bf16=False, batches=(2, 3))


def test_the_largest_stage_of_a_resnet_counted_by_hand():
    recipe = small(Encoding, "resnet18", OneView(64))
    plain = planning.measure_kept(planning.build_to_measure(recipe), recipe, bf16=False)
    # Maps of 64 channels at stride 4, two blocks: what their two convolutions give to the norms, and what becomes of
    # it in place; and the stage's input, which the pooling before has not kept.
    assert plain.stage.each == pytest.approx((2 * 4 + 1) * 64 * 16 * 16 * 4)
    recipe = planning.with_checkpointing(recipe, True)
    checkpointed = planning.measure_kept(planning.build_to_measure(recipe), recipe, bf16=False)
    assert planning.recomputed(plain, checkpointed) == plain.stage
    assert checkpointed.saved.each + plain.stage.each < plain.saved.each


def test_where_stages_are_not_called_all_that_was_let_go_counts():
    recipe = small(partial(SparK, execution="masked", decoder_width=32), "resnet18", OneView(64))
    kept = []
    for on in (False, True):
        made = planning.with_checkpointing(recipe, on)
        kept.append(planning.measure_kept(planning.build_to_measure(made), made, bf16=False))
    plain, checkpointed = kept
    assert plain.stage is None
    assert checkpointed.saved.of(8) + planning.recomputed(*kept).of(8) == pytest.approx(plain.saved.of(8))


@pytest.mark.parametrize(("noise", "tensors"), [(0.0, 2), (0.1, 4)])
def test_clean_views_are_counted_where_they_are_others(noise, tensors):
    recipe = small(Encoding, "test_resnet", TwoViews(32, Augmentation(noise=noise)))
    kept = planning.measure_kept(planning.build_to_measure(recipe), recipe, bf16=False)
    assert kept.views == Growth(0, tensors * 32 * 32 * 4)


def test_a_footprint_counts_what_stands_and_what_grows():
    memory = measure_memory(build_shapes(MOCO), OptimizerSettings("adamw"))
    of = planning.footprint(memory, planning.Kept((4, 6), Growth(100, 10), None, Growth(0, 1)), Growth(50, 5))
    trained = 4 * (memory.backbone + memory.heads)
    statistics = 4 * memory.statistics
    # Weights, gradients, two averages, the teacher; a queue of 32 vectors of length 16.
    assert of.of(8) == 5 * trained + 4 * 32 * 16 + statistics + planning.RESERVE + 150 + 8 * 16
    assert of.multiple == 2


def test_the_largest_batch_by_hand():
    of = Footprint({"weights": 10}, {"kept": Growth(5, 1), "views": Growth(0, 1)}, multiple=4)
    assert of.largest_batch(40) == 12
    assert of.of(12) <= 40 < of.of(16)
    assert of.largest_batch(38) == 8
    assert of.largest_batch(10) == 0


@pytest.mark.parametrize(
    ("share", "largest", "multiple", "parts"), [(64, 64, 1, 1), (64, 20, 4, 4), (60, 25, 1, 3), (60, 7, 8, None)]
)
def test_micro_batches_are_equal_and_fit(share, largest, multiple, parts):
    assert planning.fitting_accumulation(share, largest, multiple) == parts


def test_a_resnet18_takes_the_published_operations():
    with torch.no_grad():
        backbone = Backbone(BackboneSettings("resnet18"))
        counted = planning.count_flops(lambda: backbone(torch.zeros(1, 1, 224, 224)))
    # 1.814 billion multiplications with their sums at three channels, the classifier among them.
    two_channels, classifier = 112 * 112 * 64 * 7 * 7 * 2, 512 * 1000
    assert counted / 2 + two_channels + classifier == pytest.approx(1.814e9, rel=0.005)


def test_a_product_forward_and_backward_by_hand():
    layer, images = nn.Linear(3, 5), torch.ones(7, 3)
    assert planning.count_flops(lambda: layer(images)) == 2 * 3 * 5 * 7
    # The weights have a gradient, the images none.
    assert planning.count_flops(lambda: layer(images).sum().backward()) == 2 * (2 * 3 * 5 * 7)


def test_checkpointing_recomputes_what_the_stages_did_forward():
    recipe = small(Encoding, "resnet18", OneView(64))
    stages, flops = 0, {}
    for on in (False, True):
        made = planning.with_checkpointing(recipe, on)
        method = planning.build_to_measure(made)
        flops[on] = planning.flops_of_a_film(method, made, bf16=False, films=2)
        assert all(parameter.grad is None for parameter in method.parameters())
    with torch.no_grad():
        model = Backbone(recipe.backbone).model
        x = torch.zeros(1, 64, 16, 16)
        stages = planning.count_flops(lambda: model.layer4(model.layer3(model.layer2(model.layer1(x)))))
    # No stage is recomputed beyond its last convolution, which nothing waits for.
    assert flops[True] - flops[False] == pytest.approx(stages, rel=0.2)


def test_events_by_hand():
    steps = partial(Duration, unit="steps")
    training = TrainingSettings(
        batch_size=8, duration=steps(100), warmup=steps(0), save_every=steps(30), keep_every=Duration(25, "%")
    )
    recipe = Recipe(Encoding, training=training, watch=WatchSettings(every=steps(40)))
    # Looks at 0, 40, 80, 100; saved at 25, 30, 50, 60, 75, 90, 100; kept at 25, 50, 75, 100.
    assert planning.count_events(recipe, films=80) == Events(steps=100, looks=4, saves=7, kept=4)
    recipe = replace(recipe, training=replace(training, keep_every=steps(0)))
    assert planning.count_events(recipe, films=80) == Events(steps=100, looks=4, saves=4, kept=0)
    # Every 1,000 of 2,000 steps; 50 and 100 steps after the start and after the warm-up of 300.
    early = replace(training, duration=steps(2000), warmup=steps(300))
    recipe = replace(recipe, training=early, watch=replace(recipe.watch, every=steps(1000)))
    assert planning.count_events(recipe, films=80).looks == 1 + 2 + 4


def test_money_and_energy_by_hand():
    cost = Cost(hours=10, devices=2, price=1.25, watts=72)
    assert (cost.money, cost.kilowatt_hours) == (25, 1.44)
    assert Cost(10).money is None
    assert Cost(10).kilowatt_hours is None
    # 1,000 steps for 400: three quarters of them for 300.
    assert planning.affordable_steps(1000, 400, 300) == 750


def test_the_speed_of_a_device_by_hand():
    device = Device(bf16=100, fp32=50, utilisation=0.2, memory=22, watts=72, price=1)
    assert device.films_per_second(1e9, bf16=True) == pytest.approx(20_000)
    assert device.films_per_second(1e9, bf16=False) == pytest.approx(10_000)


def test_the_table_of_devices(tmp_path):
    devices = planning.read_devices()
    assert devices["l4"].memory == 22
    for device in devices.values():
        assert 0 < device.utilisation < 1
        assert device.bf16 is None or device.bf16 > device.fp32
    assert planning.find_device("L4") == devices["l4"]
    with pytest.raises(ScarceError, match="--gpu l5"):
        planning.find_device("l5")
    (tmp_path / "devices.yaml").write_text("mine: {bf16: 1}\n")
    with pytest.raises(ScarceError, match="mine"):
        planning.read_devices(tmp_path / "devices.yaml")


def test_bf16_is_the_recipes_or_the_devices():
    t4, l4 = planning.find_device("t4"), planning.find_device("l4")
    assert not planning.takes_bf16(TrainingSettings(), t4)
    assert planning.takes_bf16(TrainingSettings(), l4)
    assert not planning.takes_bf16(TrainingSettings(precision="fp32"), l4)


def test_a_checkpoint_is_as_large_as_planned(tmp_path):
    method = MoCo(Backbone(BackboneSettings("resnet18")), width=16, queue=1000)
    settings = OptimizerSettings("adamw")
    optimizer = make_optimizer(method, settings)
    for parameter in method.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    save_checkpoint(tmp_path / "last.ckpt", module=method, optimizer=optimizer, counters={})
    planned = planning.checkpoint_bytes(method, measure_memory(method, settings))
    assert (tmp_path / "last.ckpt").stat().st_size == pytest.approx(planned, rel=0.01)
    assert planning.folder_bytes(tmp_path) == (tmp_path / "last.ckpt").stat().st_size
