"""What a recipe leaves `auto` becomes a number, by the rule of the method or of the optimizer that it belongs to."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from jsonargparse import Namespace

from scarce_cxr.errors import ScarceError
from scarce_cxr.methods.method import AUTO, Facts, Rule
from scarce_cxr.training.optimizer import scaled_rate
from scarce_cxr.training.recipe import Recipe, TrainingSettings, recipe_parser, settle


@dataclass(frozen=True)
class Choice:
    """What a setting became.

    Attributes:
        setting: its name, as it can be typed on the command line.
        value: what stands in the settled recipe: six digits of what the rule says.
        reason: the rule's.
    """

    setting: str
    value: float
    reason: str


def resolve(config: Namespace, films: int) -> list[Choice]:
    """Puts numbers in the place of every `auto` of the method and of the learning rate.

    Args:
        config: a parsed recipe, before it is built; it is changed.
        films: number of films to train on.

    Returns:
        One choice for each `auto`, the method's first.

    Raises:
        ScarceError: there is no rule for a setting, or the batch, run or warm-up does not suit the films.
    """
    training = TrainingSettings(**vars(config.training))
    facts = Facts(films, training.batch_size, training.check(films)[0])
    choices = []
    for key, rule in _rules(config).items():
        value, reason = rule(facts)
        config[key] = float(f"{value:.6g}") if isinstance(value, float) else value
        choices.append(Choice(key.replace(".init_args", ""), config[key], reason))
        if key == "optimizer.lr":
            # It is in the rate now, and beside a number it would be refused.
            config.optimizer.base_lr = None
    return choices


def read_resolved(path: Path, films: int) -> Recipe:
    """The recipe in a YAML file, resolved for a number of films where there is no store to count them."""
    parser = recipe_parser()
    config = parser.parse_args(["--config", str(path)])
    resolve(config, films)
    return settle(parser, config)[0]


def _rules(config: Namespace) -> dict[str, Rule]:
    """The rule of each setting that is `auto`, by its key in the configuration."""
    rules = {}
    # A method may also be a function of the backbone, or a class without settings: neither has any of these.
    method = config.method if isinstance(config.method, Namespace) else Namespace()
    for name, value in vars(method.get("init_args", Namespace())).items():
        if value != AUTO:
            continue
        module, _, kind = method.class_path.rpartition(".")
        known = getattr(import_module(module), kind).automatic
        if name not in known:
            raise ScarceError(
                f"a value for method.{name}",
                f"{AUTO}, for which {kind} has no rule",
                f"give one; it has rules for {', '.join(known) or 'nothing'}",
            )
        rules[f"method.init_args.{name}"] = known[name]
    if config.optimizer.lr == AUTO:
        rules["optimizer.lr"] = scaled_rate(config.optimizer.name, config.optimizer.base_lr)
    return rules
