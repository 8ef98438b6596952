"""What the tests of pages share: a store, runs and trials with markup for names, and a browser."""

import pytest
from tests.report.shown import make_run, make_shown_trials, make_store, make_trials_of


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("shown") / "store")


@pytest.fixture(scope="session")
def run(store, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("first") / "a <run>", store)


@pytest.fixture(scope="session")
def other_run(store, tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("second") / "other", store, width=16, drawn=False, verdict="no image information"
    )


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    return make_shown_trials(tmp_path_factory.mktemp("trials"))


@pytest.fixture(scope="session")
def better_trials(run, tmp_path_factory):
    """Of `run`, which does better than random weights by far."""
    return make_trials_of(run, tmp_path_factory.mktemp("better") / "trials", 0.85)
