"""BYOL's loss against lightly's; the method and its two switches by their properties."""

import pytest
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.methods.byol import BYOL, prediction_error

SMALL = {"hidden": 16, "width": 8}


def make_method(name: str = "test_resnet", **settings) -> BYOL:
    torch.manual_seed(0)
    return BYOL(Backbone(BackboneSettings(name)), **{**SMALL, **settings})


def test_loss_agrees_with_lightly_on_random_inputs():
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    first, second = torch.randn(2, 16, 8)
    torch.testing.assert_close(
        prediction_error(first, second), 2 + 2 * lightly.NegativeCosineSimilarity()(first, second)
    )


def test_loss_is_the_squared_distance_of_unit_vectors():
    first, second = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert prediction_error(first, second).item() == pytest.approx(2)
    assert prediction_error(first, -first).item() == pytest.approx(4)


def test_both_views_predict_each_other(make_views):
    method, views = make_method().eval(), make_views(32, 32)
    loss, numbers = method(views)
    online = [method.predictor(method.projector(method.backbone(crop))) for crop in views.crops]
    targets = [method.teacher(crop) for crop in views.crops]
    expected = prediction_error(online[0], targets[1]) + prediction_error(online[1], targets[0])
    assert torch.allclose(loss, expected)
    assert numbers["similarity"].item() == pytest.approx(1 - loss.item() / 4, rel=1e-5)


def test_the_target_follows_along_the_cosine_and_never_has_a_gradient(make_views):
    method = make_method(momentum=0.9)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    before = method.teacher.module[1][0].weight.clone()
    method(make_views(32, 32)).loss.backward()
    optimizer.step()
    method.after_step(0.5)
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    expected = 0.95 * before + 0.05 * method.projector[0].weight
    assert torch.allclose(method.teacher.module[1][0].weight, expected, atol=1e-6)


def test_without_a_predictor_the_projection_itself_is_compared(make_views):
    method = make_method(predictor=False)
    assert not list(method.predictor.parameters())
    method(make_views(32, 32)).loss.backward()
    assert method.projector[0].weight.grad is not None


def test_without_the_stopped_gradient_it_flows_through_the_targets(make_views):
    method, views = make_method(stop_gradient=False), make_views(32, 32)
    assert method.teacher is None
    first, second = (method.projector(method.backbone(crop)) for crop in views.crops)
    expected = prediction_error(method.predictor(first), second) + prediction_error(method.predictor(second), first)
    (gradient,) = torch.autograd.grad(expected, method.projector[0].weight)
    method(views).loss.backward()
    torch.testing.assert_close(method.projector[0].weight.grad, gradient, rtol=1e-3, atol=1e-6)
    method.after_step(0.5)


@pytest.mark.parametrize("settings", [{}, {"predictor": False, "stop_gradient": False}])
def test_gradient_checkpointing_changes_nothing(check_checkpointing, make_views, settings):
    check_checkpointing(lambda backbone: BYOL(backbone, **SMALL, **settings), make_views(64, 64))


def test_a_transformer_is_accepted(make_views):
    method = make_method("test_vit")
    method.check(32)
    method(make_views(32, 32, count=4)).loss.backward()


def test_a_norm_behind_the_projector_takes_away_what_all_films_have_in_common():
    method = make_method(projection_norm=True)
    features = 100 + torch.randn(64, method.backbone.features, generator=torch.Generator().manual_seed(0))
    projections = method.project(features)
    assert torch.allclose(projections.mean(dim=0), torch.zeros(8), atol=1e-5)
    assert torch.allclose(projections.var(dim=0, correction=0), torch.ones(8), atol=1e-3)
