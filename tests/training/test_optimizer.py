"""Weight decay leaves biases and norms alone unless it is told otherwise."""

import pytest
import timm
import torch

from scarce_cxr.training.optimizer import OptimizerSettings, make_optimizer, parameter_groups


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
