"""`scarce report` writes where it is told, and never a redacted copy over the page."""

import json

import pytest
from tests.report.shown import make_run, make_store

from scarce_cxr.cli import main
from scarce_cxr.commands.report import report
from scarce_cxr.errors import ScarceError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return make_run(folder / "run", make_store(folder / "store"), drawn=False)


def test_pages_are_written_beside_the_run(run, capsys):
    assert main(["report", str(run), "--films", "30", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == {"page": str(run / "report.html")}
    assert told["tables"]["Report"][0]["films mapped"] == 30
    assert main(["report", str(run), "--films", "0", "--redact", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {"page": str(run / "report-redacted.html")}
    assert (run / "report.html").stat().st_size > (run / "report-redacted.html").stat().st_size


def test_what_cannot_be_shown_is_refused(run, tmp_path):
    with pytest.raises(ScarceError, match="at least one run"):
        report([])
    with pytest.raises(ScarceError, match="--films"):
        report([str(run)], films=-1)
    with pytest.raises(ScarceError, match="scarce pretrain"):
        report([str(tmp_path)])
