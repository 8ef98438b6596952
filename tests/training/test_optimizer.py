"""Weight decay leaves biases and norms alone unless it is told otherwise; rates follow the batch by their rules."""

import pytest
import timm
import torch

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import Facts
from scarce_cxr.training.optimizer import OptimizerSettings, make_optimizer, parameter_groups, scaled_rate


def test_groups_agree_with_timms():
    model = timm.create_model("resnet18", in_chans=1)
    ours = parameter_groups(model, 0.05, decay_everything=False)
    theirs = timm.optim.param_groups_weight_decay(model, 0.05)
    for weight_decay in (0.05, 0.0):
        mine, reference = (
            {id(p) for group in groups if group["weight_decay"] == weight_decay for p in group["params"]}
            for groups in (ours, theirs)
        )
        assert mine == reference


def test_everything_decays_on_request():
    model = timm.create_model("resnet18", in_chans=1)
    (group,) = parameter_groups(model, 0.05, decay_everything=True)
    assert len(group["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "lamb"])
def test_every_optimizer_goes_downhill(name):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    inputs = torch.randn(64, 4)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])
    optimizer = make_optimizer(model, OptimizerSettings(name, lr=1.0 if name == "lars" else 0.05, weight_decay=0.0))
    losses = []
    for _ in range(60):
        loss = ((model(inputs) - targets) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def rate(name: str, batch_size: int, base_lr: float | None = None) -> float:
    return scaled_rate(name, base_lr)(Facts(films=100_000, batch_size=batch_size, steps=1000)).value


@pytest.mark.parametrize(
    ("name", "batch_size", "published"),
    [
        ("sgd", 256, 0.03),  # MoCo v2
        ("lars", 2048, 1.6),  # Barlow Twins' rate of weights, 0.2 x 2048 / 256
        ("adamw", 256, 5e-4),  # DINO
        ("lamb", 256, 2e-4),  # SparK
    ],
)
def test_rates_at_a_papers_batch_are_the_papers(name, batch_size, published):
    assert rate(name, batch_size) == pytest.approx(published)


@pytest.mark.parametrize(("name", "factor"), [("sgd", 4), ("lars", 4), ("adamw", 2), ("lamb", 2)])
@pytest.mark.parametrize("batch_size", [8, 96, 4096])
def test_four_times_the_batch_takes_four_times_the_rate_or_its_root(name, factor, batch_size):
    assert rate(name, 4 * batch_size) == pytest.approx(factor * rate(name, batch_size))
    assert rate(name, 4 * batch_size, base_lr=0.7) == pytest.approx(factor * rate(name, batch_size, base_lr=0.7))
    assert rate(name, 256, base_lr=0.7) == pytest.approx(0.7)


def test_a_base_rate_beside_a_rate_is_refused():
    with pytest.raises(ScarceError, match=r"optimizer\.lr = 0\.1 and optimizer\.base_lr = 0\.2"):
        OptimizerSettings(lr=0.1, base_lr=0.2)


def test_a_rate_that_nobody_resolved_is_refused():
    with pytest.raises(ScarceError, match=r"a number for optimizer\.lr"):
        make_optimizer(torch.nn.Linear(1, 1), OptimizerSettings(lr="auto"))
