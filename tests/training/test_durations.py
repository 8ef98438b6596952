"""Durations carry their unit."""

import pytest

from scarce_cxr.errors import ScarceError
from scarce_cxr.training.durations import Duration


@pytest.mark.parametrize(
    ("text", "steps"),
    [("300 steps", 300), ("1 step", 1), ("10 epochs", 1230), ("0.5 epochs", 62), ("10 %", 100), ("0.01%", 1)],
)
def test_durations_in_steps(text, steps):
    assert Duration.parse(text).steps(steps_per_epoch=123, total=1000) == steps


@pytest.mark.parametrize("text", ["10", "ten epochs", "10 days", "-3 steps", "", "5 epochs 3"])
def test_a_duration_without_a_known_unit_is_refused(text):
    with pytest.raises(ScarceError, match="unit"):
        Duration.parse(text)


def test_a_run_cannot_last_a_share_of_itself():
    with pytest.raises(ScarceError, match="share of itself"):
        Duration.parse("10 %").steps(steps_per_epoch=5)


@pytest.mark.parametrize("text", ["10 epochs", "300 steps", "2.5 %"])
def test_a_duration_reads_back_as_it_is_written(text):
    assert str(Duration.parse(text)) == text
    assert Duration.parse(str(Duration.parse(text))) == Duration.parse(text)
