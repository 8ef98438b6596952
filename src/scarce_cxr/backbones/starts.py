"""What a backbone begins from: a run, a file, published weights, or nothing."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import yaml

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError

_ARCHITECTURE, _SIZE = "resnet50", 224
# The two that a run writes.
_BACKBONES = ("backbone-last", "backbone-best")


@dataclass(frozen=True)
class Start:
    """A backbone that can be loaded, and how it wants its films.

    Attributes:
        name: how it is shown; no two of a comparison have the same.
        kind: "ssl" (a run's), "imagenet" (published weights), "file" or "random".
        source: what was typed.
        settings: of the backbone.
        size: side of its films in pixels.
        mean, std: with which it sees pixels, in [0, 1]: those that it was pretrained on, or the first run's beside it;
            None: those of the store that it is used on.
        seed: of random weights.
        fingerprint: 16 hex digits that name its weights.
        method: class name of the method that pretrained it, if it is a run's.
        store_fingerprint: of the store that it was pretrained on, if it is a run's.
        held_out: share of that store's patients that it was not pretrained on, if it is a run's.
    """

    name: str
    kind: Literal["ssl", "imagenet", "file", "random"]
    source: str
    settings: BackboneSettings
    size: int
    mean: float | None = None
    std: float | None = None
    seed: int = 0
    fingerprint: str = ""
    method: str | None = None
    store_fingerprint: str | None = None
    held_out: float | None = None


def parse_starts(texts: Sequence[str], *, size: int | None = None, seed: int = 0) -> list[Start]:
    """Reads what users type for a comparison of starts.

    Each is one of: a run's folder, or RUN:best for its best backbone; a file of a ResNet-50 or, as NAME:FILE, of
    another architecture (the JSON that a run writes beside its backbones says so by itself); pretrained:NAME; and
    random:NAME or a timm name alone, for random weights. A label may stand in front: moco=runs/moco.

    So that all see the same pixels, what a start does not say by itself is the first run's: the size, mean and standard
    deviation of its films; and the architecture, where `random` or `pretrained` stands alone.

    Args:
        texts: what was typed.
        size: side of the films in pixels for starts that name none; None: the first run's, or 224.
        seed: of random weights.

    Returns:
        The starts in the same order, each under a name of its own.

    Raises:
        ScarceError: nothing of that name, a file that does not fit, or two starts of one name.
    """
    labelled = [_label(text) for text in texts]
    described = [_describe(source) for _, source in labelled]
    first = next((facts for facts in described if facts), {})
    others = {"architecture": _ARCHITECTURE, "image_size": _SIZE, "mean": None, "std": None, **first}
    if size is not None:
        others["image_size"] = size
    starts = [
        _parse(label, source, facts, others, seed) for (label, source), facts in zip(labelled, described, strict=True)
    ]
    names = [start.name for start in starts]
    if repeated := {name for name in names if names.count(name) > 1}:
        got = f"{', '.join(sorted(repeated))} more than once"
        raise ScarceError("starts of different names", got, "put a label in front: first=runs/a second=runs/b")
    return [replace(start, fingerprint=fingerprint_of(load_start(start))) for start in starts]


def parse_start(text: str, *, size: int | None = None, seed: int = 0) -> Start:
    """`parse_starts` of one."""
    return parse_starts([text], size=size, seed=seed)[0]


def load_start(start: Start) -> Backbone:
    """The backbone with its weights, in evaluation mode. Random weights are those of the start's seed, always.

    Raises:
        ScarceError: the weights are missing, damaged, of another architecture, or no longer those of the fingerprint.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start.seed)
        backbone = _build(start.settings).eval()
    # A run that still trains writes its last backbone anew.
    if start.fingerprint and (found := fingerprint_of(backbone)) != start.fingerprint:
        raise ScarceError(
            f"the weights {start.fingerprint} of {start.name}",
            f"{found}: they have changed since",
            "wait until the run has ended, or copy its backbone away, and type the command again",
        )
    return backbone


def fingerprint_of(backbone: Backbone) -> str:
    """16 hex digits of a hash of all weights and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _build(settings: BackboneSettings) -> Backbone:
    try:
        return Backbone(settings)
    except ScarceError:
        raise
    except Exception as error:
        if not settings.pretrained and not settings.name.startswith("hf-hub:"):
            raise
        # timm and the hub have many ways of saying that weights are unknown or out of reach.
        said = (str(error).splitlines() or [""])[0]
        raise ScarceError(
            f"published weights of {settings.name}",
            f"{type(error).__name__}: {said}",
            "check the name; without a network, give a safetensors file as NAME:FILE",
        ) from error


def _label(text: str) -> tuple[str, str]:
    label, equals, source = text.partition("=")
    # A path may hold an equals sign of its own.
    paths = (text, text.rpartition(":")[0])
    if not equals or "/" in label or any(path and Path(path).exists() for path in paths):
        return "", text
    if not label or not source:
        raise ScarceError("a label and a start, as in moco=runs/moco", text, "write both, or the start alone")
    return label, source


def _weights_file(source: str) -> Path | None:
    """The safetensors file that a start names, if it names one."""
    folder, colon, which = source.rpartition(":")
    if colon and which in ("best", "last") and Path(folder).is_dir():
        return Path(folder) / f"backbone-{which}.safetensors"
    last = Path(source) / "backbone-last.safetensors"
    # A folder may happen to be called like a model.
    if last.is_file() or (Path(source).is_dir() and not _is_word(source)):
        return last
    # NAME:FILE; the file alone; or a file whose path has a colon of its own.
    for path in ([Path(which)] if colon else []) + [Path(source)]:
        if path.suffix == ".safetensors" or path.is_file():
            return path
    return None


def _is_word(source: str) -> bool:
    return source in ("random", "pretrained") or timm.is_model(source)


def _describe(source: str) -> dict[str, Any]:
    """What stands in the JSON beside a run's backbone; empty for everything else."""
    file = _weights_file(source)
    if file is None or not file.is_file():
        return {}
    path, of_run = file.with_suffix(".json"), file.stem in _BACKBONES
    if not path.is_file():
        if of_run and Path(source) != file and _named(source, file) is None:
            raise ScarceError("a JSON beside a run's weights", f"no {path}", "copy it again, or type NAME:FILE")
        return {}
    try:
        facts = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ScarceError("a JSON beside the weights", f"{path} ({error})", "copy it again") from None
    if not isinstance(facts, dict) or "architecture" not in facts:
        if of_run:
            raise ScarceError("a JSON that names the architecture", f"{path} without it", "copy it again from the run")
        # Some other program's.
        return {}
    wrong = [
        f"{name} = {json.dumps(facts[name])}"
        for name, fits in _FACTS.items()
        if name in facts and not fits(facts[name])
    ]
    if wrong:
        expected = "a timm name as architecture, a whole image_size, a mean in [0, 1] and a std above 0"
        raise ScarceError(expected, f"{', '.join(wrong)} in {path}", "copy it again from the run")
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What the JSON beside a run's backbone must be like.
_FACTS: dict[str, Callable[[Any], bool]] = {
    "architecture": lambda value: isinstance(value, str),
    "image_size": lambda value: type(value) is int and value > 0,
    "mean": lambda value: _is_number(value) and 0 <= value <= 1,
    "std": lambda value: _is_number(value) and value > 0,
}


def _named(source: str, file: Path) -> str | None:
    """The architecture that is typed before a file, as in NAME:FILE."""
    name, colon, path = source.rpartition(":")
    return name if colon and Path(path) == file else None


def _parse(label: str, source: str, facts: dict[str, Any], others: dict[str, Any], seed: int) -> Start:
    """One start. `facts` stand beside its weights; `others` hold where these say nothing."""
    normalized = facts if facts.keys() >= {"mean", "std"} else others
    seen = {
        "size": facts.get("image_size", others["image_size"]),
        "mean": normalized["mean"],
        "std": normalized["std"],
    }
    file = _weights_file(source)
    if file is not None:
        return _parse_file(label, source, file, facts, seen)
    kind, colon, name = source.partition(":")
    if kind == "pretrained":
        name = name or others["architecture"]
        settings = BackboneSettings(name, pretrained=True)
        return Start(label or f"pretrained {name}", "imagenet", source, settings, **seen)
    if kind == "random":
        name = name or others["architecture"]
    elif kind != "hf-hub" and (colon or "/" in source):
        raise ScarceError(
            "a run's folder, NAME:FILE, pretrained:NAME, random:NAME or a timm name",
            source,
            "check that the folder or file is there",
        )
    else:
        name = source
    return Start(label or f"random {name}", "random", source, BackboneSettings(name), **seen, seed=seed)


def _parse_file(label: str, source: str, file: Path, facts: dict[str, Any], seen: dict[str, Any]) -> Start:
    if not file.is_file():
        mends = {
            "backbone-best": "let the run come to a look after its first step, or take its last backbone",
            "backbone-last": "name the folder of a run that has saved once",
        }
        raise ScarceError("a run's folder, or a safetensors file", f"no {file}", mends.get(file.stem, "check the path"))
    named, architecture = _named(source, file), facts.get("architecture")
    # What stands behind timm's point names published weights of the same architecture.
    if named and architecture and named.partition(".")[0] != architecture.partition(".")[0]:
        got = f"{named} typed, and {architecture} in {file.with_suffix('.json')}"
        raise ScarceError("one architecture", got, f"type {file} alone")
    # Last and best lie in the run's folder, whose name says more than theirs.
    run = file.stem in _BACKBONES and bool(facts)
    shown = file.resolve().parent.name if run else file.stem
    if file.stem == "backbone-best" and run:
        shown += " (best)"
    watch = (yaml.safe_load(facts.get("recipe") or "") or {}).get("watch") or {}
    return Start(
        name=label or shown,
        kind="ssl" if facts.get("method") else "file",
        source=source,
        settings=BackboneSettings(architecture or named or _ARCHITECTURE, weights=file),
        **seen,
        method=facts.get("method"),
        store_fingerprint=facts.get("store"),
        held_out=watch.get("held_out"),
    )
