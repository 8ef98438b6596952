"""`scarce plan` says what the method, the arithmetic and the trial say, and what would fit does fit."""

import json
import subprocess
import sys

import pytest

from scarce_cxr.cli import main
from scarce_cxr.commands.plan import parse
from scarce_cxr.training.pretrain import build_method

SMALL = ["--backbone.name=test_resnet", "--views.size=32", "--training.batch_size=8", "--method.queue=32"]
KNOWN = {"measured", "computed", "assumed"}


@pytest.fixture
def plan(small_store, capsys):
    """Plans a small MoCo with options; returns its tables, rows by their first column."""

    def run(*options: str) -> dict[str, dict[str, dict]]:
        assert main(["plan", "small/moco", f"--store={small_store}", *SMALL, *options, "--json"]) == 0
        tables = json.loads(capsys.readouterr().out)["tables"]
        return {title: {next(iter(row.values())): row for row in rows} for title, rows in tables.items()}

    return run


def test_by_the_table_of_devices(plan, small_store):
    tables = plan("--gpu", "L4", "--price=1.25", "--budget=300")
    recipe = parse(["small/moco", f"--store={small_store}", *SMALL]).recipe
    method = build_method(recipe)
    assert tables["Parameters"]["all"]["parameters"] == sum(p.numel() for p in method.parameters())
    for title, rows in tables.items():
        if title != "Does it fit?":
            assert {row["known"] for row in rows.values()} <= KNOWN, title
    memory = tables["Memory of a step"]
    assert memory["all"]["GiB"] == pytest.approx(sum(row["GiB"] for name, row in memory.items() if name != "all"))
    assert memory["kept for backward"]["known"] == "measured"
    time = {name: row["value"] for name, row in tables["Time and money"].items()}
    # 400 steps of 8 films, at a tenth of 121 TFLOPS.
    hours = 400 * 8 * time["arithmetic"] * 1e9 / (0.1 * 121e12) / 3600
    assert time["time"] == pytest.approx(hours)
    assert time["money"] == pytest.approx(1.25 * hours)
    assert time["energy"] == pytest.approx(0.072 * hours)
    assert [row["fits"] for row in tables["Does it fit?"].values()] == ["yes", "yes"]
    assert tables["Does it fit?"]["memory"]["limit"] == 22


def test_what_would_fit_does(plan):
    options = ["--gpu=l4", "--price=1000000", "--training.batch_size=16"]
    tables = plan(*options)
    money, films = tables["Time and money"]["money"]["value"], tables["Largest batch"]["off"]["MiB a film"] / 1024
    # Half of the money; memory for a few films less than a batch.
    options += [f"--budget={money / 2}", f"--memory={tables['Memory of a step']['all']['GiB'] - 3 * films}"]
    fits = plan(*options)["Does it fit?"]
    assert {name: row["fits"] for name, row in fits.items()} == {"memory": "no", "budget": "no"}
    # 36 films to train on are 2 steps an epoch.
    duration = fits["budget"]["what would"].removeprefix('--training.duration "').removesuffix('"')
    assert duration == "100 epochs"
    accumulate = next(way for way in fits["memory"]["what would"].split(", or ") if "accumulate" in way)
    fits = plan(*options, f"--training.duration={duration}", "=".join(accumulate.split()))["Does it fit?"]
    assert {name: row["fits"] for name, row in fits.items()} == {"memory": "yes", "budget": "yes"}


def test_by_a_trial(plan):
    tables = plan("--trial=3", "--watch.films=4", "--watch.panel=2", "--budget=1")
    rows = tables["Time and money"]
    assert rows["time"]["known"] == "measured"
    training = 400 * 8 / rows["speed"]["value"] / 3600
    assert rows["time"]["value"] == pytest.approx(training + rows["looks"]["value"] + rows["saving"]["value"])
    assert tables["Does it fit?"]["budget"]["what would"] == "not known: give --price"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (["--store=x"], "a recipe as the first word"),
        (["small/mocha", "--store=x"], "small/moco"),
        (["small/moco"], "store"),
        (["small/moco", "--store=x"], "no folder x"),
        (["small/moco", "--store=STORE", "--gpu=l5"], "a100"),
        (["small/moco", "--store=STORE", "--budget=-1"], "--budget of at least 0"),
        (["small/moco", "--store=STORE", "--bugdet=1"], "did you mean budget?"),
    ],
)
def test_mistakes_cost_one_line(mistake, words, small_store, capsys):
    assert main(["plan", *(option.replace("STORE", str(small_store)) for option in mistake)]) == 2
    assert words in capsys.readouterr().err


def test_it_waits_with_its_imports():
    code = (
        "import sys, scarce_cxr.commands.plan;"
        "print([name for name in ('torch', 'numpy', 'matplotlib', 'jsonargparse') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
