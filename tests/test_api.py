"""The public names are there, cheap to ask for, and the same as what the commands use."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import scarce_cxr as scarce
from scarce_cxr.backbones.embed import embed
from scarce_cxr.backbones.starts import parse_start
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.estimator import FewShotProbe

START = "random:test_resnet"


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, scarce_cxr; print([m for m in ('torch', 'timm', 'numpy', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_listed_and_leads_somewhere():
    for name in ("open_store", "load_backbone", "embed", "FewShotProbe", "write_report"):
        assert name in dir(scarce)
        assert callable(getattr(scarce, name))
    assert scarce.FewShotProbe is FewShotProbe
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = scarce.embedd


def test_features_are_those_that_the_commands_use(small_store):
    store = scarce.open_store(small_store)
    expected = embed(store, parse_start(START, size=32)).array
    assert np.array_equal(scarce.embed(store, START, size=32), expected)
    assert np.array_equal(scarce.embed(str(small_store), parse_start(START, size=32)), expected)


def test_a_backbone_comes_ready_to_use_and_random_ones_by_their_seed():
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same, again, other = (scarce.load_backbone(START, seed=seed)(images) for seed in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.allclose(same, other)


def test_a_report_of_no_run_is_refused(tmp_path):
    with pytest.raises(ScarceError):
        scarce.write_report(tmp_path / "nowhere")
    with pytest.raises(ScarceError, match="at least one run"):
        scarce.write_report([])
