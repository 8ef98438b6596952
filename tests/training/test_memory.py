"""Counts agree with counts by hand."""

import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.barlow_twins import BarlowTwins
from scarce_cxr.methods.byol import BYOL
from scarce_cxr.methods.dino import DINO
from scarce_cxr.methods.moco import MoCo
from scarce_cxr.methods.spark import SparK
from scarce_cxr.training.memory import Memory, averages_per_parameter, build_shapes, measure_memory
from scarce_cxr.training.optimizer import OptimizerSettings
from scarce_cxr.training.recipe import Recipe

# A ResNet-18 has 11,689,512 parameters: without its classifier, and with one channel instead of three,
RESNET18 = 11_689_512 - (512 * 1000 + 1000) - 64 * 2 * 7 * 7
# Norms: 1 of 64 channels, then 4 in each stage and from the second stage on 1 at the shortcut; mean and variance.
STATISTICS = 2 * (64 + 4 * 64 + 5 * 128 + 5 * 256 + 5 * 512)

MOCO_HEAD = (512 * 512 + 512) + (512 * 8 + 8)
DINO_HEAD = (512 * 32 + 32) + (32 * 32 + 32) + (32 * 4 + 4) + 16 * 4
BYOL_PROJECTOR = 512 * 32 + 2 * 32 + (32 * 8 + 8)
BYOL_PREDICTOR = 8 * 32 + 2 * 32 + (32 * 8 + 8)
# Two 3x3 convolutions, each with a norm.
JOIN, BEYOND = (16 * 8 * 9 + 16) + (8 * 8 * 9 + 16), 2 * (8 * 8 * 9 + 16)
SPARK_DECODER = (512 * 8 + 8) + (256 * 8 + 8) + (128 * 8 + 8) + (64 * 8 + 8) + 3 * JOIN + 2 * BEYOND + (8 + 1)


def measure(method, name: str = "adamw", **settings) -> Memory:
    with torch.device("meta"):
        built = method(Backbone(BackboneSettings("resnet18")), **settings)
    return measure_memory(built, OptimizerSettings(name))


def test_moco():
    head = MOCO_HEAD
    wanted = Memory(RESNET18, head, RESNET18 + head, {"queue.ring": 10 * 8}, STATISTICS, RESNET18 + head)
    assert measure(MoCo, "sgd", width=8, queue=10) == wanted
    assert wanted.beside_backbone == head + RESNET18 + head + 80 + STATISTICS


def test_dino_counts_the_student_as_the_backbone_that_is_trained():
    head = DINO_HEAD
    wanted = Memory(RESNET18, head, RESNET18 + head, {"center": 16}, STATISTICS, 2 * (RESNET18 + head))
    assert measure(DINO, outputs=16, hidden=32, bottleneck=4) == wanted
    assert measure(DINO, outputs=16, hidden=32, bottleneck=4, centering="sinkhorn").buffers == {}


def test_byol_with_and_without_its_teacher():
    heads, norm = BYOL_PROJECTOR + BYOL_PREDICTOR, 2 * 32
    trained = 2 * (RESNET18 + heads)
    settings = {"hidden": 32, "width": 8}
    wanted = Memory(RESNET18, heads, RESNET18 + BYOL_PROJECTOR, {}, STATISTICS + 3 * norm, trained)
    assert measure(BYOL, **settings) == wanted
    assert measure(BYOL, **settings, stop_gradient=False) == Memory(RESNET18, heads, 0, {}, 2 * norm, trained)


def test_barlow_twins_and_spark_keep_a_head_alone():
    projector = (512 * 16 + 32) + (16 * 16 + 32) + 16 * 16
    wanted = Memory(RESNET18, projector, 0, {}, 2 * 2 * 16, 2 * (RESNET18 + projector))
    assert measure(BarlowTwins, projector_widths=(16, 16, 16)) == wanted
    wanted = Memory(RESNET18, SPARK_DECODER, 0, {}, 5 * 2 * 2 * 8, 2 * (RESNET18 + SPARK_DECODER))
    assert measure(SparK, decoder_width=8) == wanted


def test_a_built_method_counts_as_its_shapes_do():
    settings = BackboneSettings("test_resnet")
    shapes = build_shapes(Recipe(MoCo, backbone=settings))
    assert {parameter.device.type for parameter in shapes.parameters()} == {"meta"}
    assert measure_memory(shapes, OptimizerSettings()) == measure_memory(MoCo(Backbone(settings)), OptimizerSettings())


def test_shapes_need_no_weights(tmp_path):
    build_shapes(Recipe(MoCo, backbone=BackboneSettings("test_resnet", weights=tmp_path / "not yet there")))
    build_shapes(Recipe(MoCo, backbone=BackboneSettings("resnet18", pretrained=True)))


@pytest.mark.parametrize(
    ("settings", "averages"),
    [
        (OptimizerSettings("adamw"), 2),
        (OptimizerSettings("lamb"), 2),
        (OptimizerSettings("sgd"), 1),
        (OptimizerSettings("lars"), 1),
        (OptimizerSettings("sgd", momentum=0.0), 0),
    ],
)
def test_what_an_optimizer_keeps(settings, averages):
    assert averages_per_parameter(settings) == averages
