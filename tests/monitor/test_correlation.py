"""Barlow Twins' correlation of held-out films, drawn without leaving a trace."""

import copy

import numpy as np
import torch

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.images.store import Store
from scarce_cxr.methods.barlow_twins import BarlowTwins
from scarce_cxr.monitor import correlation
from scarce_cxr.monitor.correlation import CorrelationWatch
from scarce_cxr.monitor.retrieval import evaluation_views
from scarce_cxr.training.run_folder import RunFolder


def test_the_matrix_is_numpys_own_correlation_of_the_projections(small_store, tmp_path, monkeypatch):
    torch.manual_seed(0)
    method = BarlowTwins(Backbone(BackboneSettings("test_resnet")), (32, 32, 16)).train()
    # Far from the little that batch norm adds to a variance.
    torch.nn.init.normal_(method.projector[-1].weight, std=100.0)
    before = copy.deepcopy(method.state_dict())
    drawn = {}
    paint = correlation.correlation_figure
    monkeypatch.setattr(correlation, "correlation_figure", lambda *given: drawn.setdefault("", given) and paint(*given))
    store, films = Store.open(small_store), np.arange(40)
    watch = CorrelationWatch(store, films, 32, RunFolder(tmp_path))
    assert watch.look(method, 7) == {}
    matrix, count, title = drawn[""]
    method.eval()
    with torch.no_grad():
        views = [method.projector(method.backbone(view)) for view in evaluation_views(store, films, 32)]
    wanted = np.corrcoef(views[0].numpy().T, views[1].numpy().T)[:16, 16:]
    np.testing.assert_allclose(matrix, wanted, atol=1e-4)
    assert count == 40
    assert "Step 7" in title
    assert (tmp_path / "figures/correlation.png").is_file()
    assert all(
        torch.equal(value, before[name]) for name, value in method.state_dict().items() if torch.is_tensor(value)
    )
