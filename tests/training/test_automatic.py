"""`auto` becomes what the rules say: by hand, by their properties, and in a run's folder."""

import json
import logging
import math
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import yaml

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.cli import main
from scarce_cxr.commands.recipes import find_recipe
from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.byol import BYOL
from scarce_cxr.methods.dino import DINO
from scarce_cxr.methods.method import Chosen, Facts, Method
from scarce_cxr.methods.moco import MoCo
from scarce_cxr.methods.parts.teacher import momentum_at
from scarce_cxr.training.automatic import read_resolved, resolve
from scarce_cxr.training.recipe import recipe_parser, settle
from scarce_cxr.views.draws import epoch_order

DOCUMENT = Path(__file__).parents[2] / "docs/reference/automatic-settings.md"
AUTOMATIC = ["moco", "dino", "byol", "barlow_twins"]
LONG = 10**6


class Remembering(Method):
    """A fifth method, with a rule of its own for one of its two settings."""

    automatic: ClassVar = {"memory": lambda facts: Chosen(facts.films // 4 + facts.steps, "because")}

    def __init__(self, backbone: Backbone, memory: int | Literal["auto"] = 3, other: int | Literal["auto"] = 5) -> None:
        super().__init__()
        self.backbone, self.memory, self.other = backbone, memory, other


class Plain(Method):
    """A method without settings."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone


def make_plain(backbone: Backbone) -> Method:
    return Plain(backbone)


def value(method: type[Method], setting: str, films: int = 100_000, batch_size: int = 256, steps: int = LONG):
    return method.automatic[setting](Facts(films, batch_size, steps)).value


def parse(*arguments: str):
    return recipe_parser().parse_args(list(arguments))


@pytest.mark.parametrize(
    ("films", "batch_size", "queue"),
    [
        (109_918, 256, 32_768),  # half is 54,959
        (1_000_000, 256, 65_536),
        (986, 64, 256),  # half is 493
        (512, 64, 256),
        (511, 64, 128),
        (100, 48, 48),  # half is 50, the power of two in it 32
        (1, 1, 1),
    ],
)
def test_queues_worked_out_by_hand(films, batch_size, queue):
    assert value(MoCo, "queue", films, batch_size) == queue


def test_queues_are_powers_of_two_of_at_most_half_of_the_films_or_a_batch():
    films = np.unique(np.geomspace(64, 500_000, 300).astype(int)).tolist()
    queues = [value(MoCo, "queue", n, 64) for n in films]
    assert queues == sorted(queues)
    for n, queue in zip(films, queues, strict=True):
        assert queue.bit_count() == 1
        assert max(64, min(n / 2, 65_536) / 2) <= queue <= max(64, min(n / 2, 65_536))


def test_with_a_queue_of_half_of_the_films_one_query_in_eight_meets_its_own_key():
    films, batch = 512, 4
    queue = value(MoCo, "queue", films, batch)
    assert queue == films / 2
    seen = np.concatenate([epoch_order(0, epoch, films) for epoch in range(6)])
    meets = [seen[at] in seen[at // batch * batch - queue : at // batch * batch] for at in range(films, len(seen))]
    assert np.mean(meets) == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize(
    ("films", "outputs"),
    [(800, 256), (8_191, 256), (8_192, 512), (109_918, 4_096), (1_048_576, 65_536), (10**8, 65_536)],
)
def test_prototypes_worked_out_by_hand(films, outputs):
    assert value(DINO, "outputs", films) == outputs


def test_the_teachers_temperature_follows_from_radiographs_alone():
    assert {value(DINO, "teacher_temperature", films, batch) for films in (300, 10**6) for batch in (8, 256)} == {0.01}


@pytest.mark.parametrize(("method", "momentum", "batch"), [(MoCo, 0.999, 256), (DINO, 0.996, 512), (BYOL, 0.99, 256)])
def test_momenta_of_long_runs_average_over_as_many_films_at_any_batch(method, momentum, batch):
    assert value(method, "momentum", batch_size=batch) == pytest.approx(momentum)
    for factor in (1 / 16, 1 / 2, 3):
        # So many steps of the other batch see as many films, and keep as much of what was there before them.
        kept = value(method, "momentum", batch_size=int(factor * batch)) ** (1 / factor)
        assert kept == pytest.approx(momentum)
    assert value(method, "momentum", batch_size=2**20) == 0.9


@pytest.mark.parametrize("steps", [40, 41, 400, 12_345])
def test_in_short_runs_the_average_spans_a_quarter_and_leaves_the_random_start_behind(steps):
    momentum = value(MoCo, "momentum", batch_size=1, steps=steps)
    assert 1 / (1 - momentum) == pytest.approx(steps / 4)
    assert momentum**steps < math.exp(-4)
    cosine = [momentum_at((step + 1) / steps, momentum) for step in range(steps)]
    assert np.prod(cosine) == pytest.approx(math.exp(-2), rel=0.2)


@pytest.mark.parametrize("steps", [1, 3, 39])
def test_no_run_is_too_short_for_a_momentum(steps):
    assert value(BYOL, "momentum", steps=steps) == 0.9


@pytest.mark.parametrize("name", ["moco", "dino", "byol"])
def test_the_small_recipes_choices_by_hand_come_out_of_the_rules(name):
    """Of the 819 films that `held_out: 0.2` leaves of a thousand, at a batch of 64, in the recipe's steps."""
    config = parse("--config", str(find_recipe(f"small/{name}")))
    by_hand = {}
    for setting in config.method.init_args.__dict__.keys() & {"queue", "outputs", "teacher_temperature", "momentum"}:
        by_hand[f"method.{setting}"] = config.method.init_args[setting]
        config.method.init_args[setting] = "auto"
    assert {choice.setting: choice.value for choice in resolve(config, 819)} == by_hand


def test_a_fifth_method_brings_its_own_rule():
    # The plan is named as its default, an object, would not be written out.
    views = "--views=scarce_cxr.views.plans.OneView"
    config = parse(f"--method={__name__}.Remembering", "--method.memory=auto", "--training.duration=100 steps", views)
    (choice,) = resolve(config, 800)
    assert (choice.setting, choice.value, choice.reason) == ("method.memory", 300, "because")
    recipe, text = settle(recipe_parser(), config)
    built = recipe.method(Backbone(BackboneSettings("test_resnet")))
    assert (built.memory, built.other) == (300, 5)
    assert "memory: 300" in text


@pytest.mark.parametrize("name", ["Plain", "make_plain"])
def test_a_method_without_settings_has_nothing_to_resolve(name):
    (choice,) = resolve(parse(f"--method={__name__}.{name}", "--optimizer.lr=auto"), 800)
    assert (choice.setting, choice.value) == ("optimizer.lr", 5e-4)


def test_auto_without_a_rule_is_refused_by_name():
    config = parse(f"--method={__name__}.Remembering", "--method.other=auto")
    with pytest.raises(ScarceError, match=r"method\.other.*Remembering has no rule.*memory"):
        resolve(config, 800)


def test_a_base_rate_is_used_up():
    options = ["--optimizer.lr=auto", "--optimizer.base_lr=0.1", "--optimizer.name=sgd", "--training.batch_size=64"]
    config = parse("--config", str(find_recipe("small/moco")), *options)
    assert [choice.value for choice in resolve(config, 800)] == [0.025]
    recipe, _ = settle(recipe_parser(), config)
    assert (recipe.optimizer.lr, recipe.optimizer.base_lr) == (0.025, None)


def test_without_auto_nothing_is_chosen_and_nothing_changes():
    config = parse("--config", str(find_recipe("reference/moco")))
    before = config.clone()
    assert resolve(config, 100_000) == []
    assert config == before


@pytest.mark.parametrize(
    ("method", "setting"),
    [(MoCo, "queue"), (MoCo, "momentum"), (DINO, "outputs"), (DINO, "teacher_temperature"), (BYOL, "momentum")],
)
def test_a_method_is_not_built_while_a_setting_is_auto(method, setting):
    with pytest.raises(ScarceError, match=rf"a number for method\.{setting}"):
        method(Backbone(BackboneSettings("test_resnet")), **{setting: "auto"})


def pretrain(name: str, store: Path, run: Path, *more: str) -> int:
    """The exit code of `scarce pretrain` with a recipe that comes with the package, made small."""
    small = ["--training.batch_size=8", "--training.accelerator=cpu", "--views.size=32", "--backbone.name=test_resnet"]
    return main(["pretrain", f"--config={find_recipe(name)}", f"--store={store}", f"--run={run}", *small, *more])


def said(recipe: dict, setting: str):
    group, name = setting.split(".")
    return (recipe["method"]["init_args"] if group == "method" else recipe[group])[name]


@pytest.mark.parametrize("name", AUTOMATIC)
def test_a_dry_run_shows_what_the_settled_recipe_holds(small_store, tmp_path, capsys, name):
    small = {"dino": ["--views.local_size=16"], "byol": ["--method.hidden=8"]}.get(name, [])
    assert pretrain(name, small_store, tmp_path / "run", "--dry-run", "--json", *small) == 0
    content = json.loads(capsys.readouterr().out)
    recipe = yaml.safe_load(content["notes"][1])
    rows = content["tables"]["Chosen for this store"]
    asked = yaml.safe_load(find_recipe(name).read_text())
    wanted = {f"method.{key}" for key, given in asked["method"]["init_args"].items() if given == "auto"}
    assert {row["setting"] for row in rows} == wanted | {"optimizer.lr"}
    for row in rows:
        assert float(row["value"]) == said(recipe, row["setting"])
    assert "auto" not in [*recipe["method"]["init_args"].values(), *recipe["optimizer"].values()]


def test_a_run_shows_its_table_first_keeps_the_numbers_and_resumes(small_store, tmp_path, capsys, monkeypatch):
    # Pytest has handlers of its own there, beside which the command line would add none.
    monkeypatch.setattr(logging.root, "handlers", [])
    run = tmp_path / "run"
    more = ["--training.precision=fp32", "--training.save_every=2 steps", "--training.keep_every=2 steps"]
    more += ["--training.duration=4 steps", "--method.queue=11", "--method.bn_splits=4"]
    assert pretrain("moco", small_store, run, *more) == 0
    printed = capsys.readouterr()
    words = " ".join(printed.err.split())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    films = json.loads((run / "run.json").read_text())["films"]
    assert recipe["method"]["init_args"]["queue"] == 11
    assert "method.queue" not in words
    assert recipe["method"]["init_args"]["momentum"] == 0.9
    assert recipe["optimizer"]["lr"] == pytest.approx(0.03 * 8 / 256)
    assert f"{films} films to train on, batch of 8 over 1 process, 4 steps" in words
    assert "│ 0.0009375 │" in words
    assert "Chosen for this store" not in printed.out
    before = (run / "recipe.yaml").read_text()
    assert main(["resume", str(run), f"--checkpoint={run / 'checkpoints/step-0000002.ckpt'}"]) == 0
    assert (run / "recipe.yaml").read_text() == before
    assert "Chosen" not in capsys.readouterr().err


def test_commands_without_a_store_take_the_number_of_films(tmp_path, capsys):
    films = ["--films", "5000", "--json"]
    assert main(["schedules", "dino", f"--out={tmp_path / 'made.png'}", *films]) == 0
    (row,) = json.loads(capsys.readouterr().out)["tables"]["Schedules"]
    assert row["peak rate"] == pytest.approx(5e-4 * 0.5**0.5, rel=1e-5)
    assert main(["methods", "moco", "dino", *films]) == 0
    rows = {row[""]: row for row in json.loads(capsys.readouterr().out)["tables"]["MoCo v2 and DINO"]}
    assert rows["negatives"]["moco"].startswith("2,048 ")
    assert " 256 prototypes" in rows["what the loss compares"]["dino"]


@pytest.mark.parametrize("name", ["moco", "dino"])
def test_the_documents_example_is_what_the_rules_say(name):
    config = parse("--config", str(find_recipe(name)))
    choices = resolve(config, 986)
    text = DOCUMENT.read_text()
    assert f"986 films to train on, batch of {config.training.batch_size} over 1 process" in text
    for choice in choices:
        assert f"| {choice.setting} | {choice.value} | {choice.reason} |" in text


def test_a_recipe_read_for_a_number_of_films_holds_numbers():
    assert read_resolved(find_recipe("moco"), 100_000).optimizer.lr == pytest.approx(0.03)
