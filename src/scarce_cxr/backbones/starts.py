"""What a backbone begins from: a run, a file, published weights, or nothing."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError

_ARCHITECTURE, _SIZE = "resnet50", 224


@dataclass(frozen=True)
class Start:
    """A backbone that can be loaded, and how it wants its films.

    Attributes:
        name: how it is shown; no two of a comparison have the same.
        kind: "ssl" (a run's), "imagenet" (published weights), "file" or "random".
        source: what was typed.
        settings: of the backbone.
        size: side of its films in pixels.
        mean, std: of the pixels that it was pretrained on, in [0, 1]; None: those of the store it is used on.
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
    random:NAME or a timm name alone, for random weights. `random` and `pretrained` alone have the first run's
    architecture. A label may stand in front: moco=runs/moco.

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
    architecture = first.get("architecture", _ARCHITECTURE)
    size = size or first.get("image_size", _SIZE)
    starts = [
        _parse(label, source, facts, architecture, size, seed)
        for (label, source), facts in zip(labelled, described, strict=True)
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
        ScarceError: the weights are missing, damaged, or of another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start.seed)
        return Backbone(start.settings).eval()


def fingerprint_of(backbone: Backbone) -> str:
    """16 hex digits of a hash of all weights and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _label(text: str) -> tuple[str, str]:
    label, equals, source = text.partition("=")
    # A path may hold an equals sign of its own.
    if not equals or Path(text).exists() or "/" in label:
        return "", text
    if not label or not source:
        raise ScarceError("a label and a start, as in moco=runs/moco", text, "write both, or the start alone")
    return label, source


def _weights_file(source: str) -> Path | None:
    """The safetensors file that a start names, if it names one."""
    folder, colon, which = source.rpartition(":")
    if colon and which in ("best", "last") and Path(folder).is_dir():
        return Path(folder) / f"backbone-{which}.safetensors"
    if Path(source).is_dir():
        return Path(source) / "backbone-last.safetensors"
    # NAME:FILE; the file alone; or a file whose path has a colon of its own.
    for path in ([Path(which)] if colon else []) + [Path(source)]:
        if path.suffix == ".safetensors" or path.is_file():
            return path
    return None


def _describe(source: str) -> dict[str, Any]:
    """What stands in the JSON beside a run's backbone; empty for everything else."""
    file = _weights_file(source)
    if file is None or not file.with_suffix(".json").is_file():
        return {}
    try:
        facts = json.loads(file.with_suffix(".json").read_text("utf-8"))
        return facts if isinstance(facts, dict) and "architecture" in facts else {}
    except ValueError as error:
        raise ScarceError(
            "a JSON beside the weights", f"{file.with_suffix('.json')} ({error})", "copy it again"
        ) from None


def _parse(label: str, source: str, facts: dict[str, Any], architecture: str, size: int, seed: int) -> Start:
    file = _weights_file(source)
    if file is not None:
        if not file.is_file():
            mend = (
                "let the run come to a look after its first step" if file.stem == "backbone-best" else "check the path"
            )
            raise ScarceError("a run's folder, or a safetensors file", f"no {file}", mend)
        named = source.rpartition(":")[0] if Path(source.rpartition(":")[2]) == file else ""
        # Last and best lie in the run's folder, whose name says more than theirs.
        run = file.stem in ("backbone-last", "backbone-best") and bool(facts)
        shown = file.resolve().parent.name if run else file.stem
        if file.stem == "backbone-best" and run:
            shown += " (best)"
        watch = (yaml.safe_load(facts.get("recipe") or "") or {}).get("watch") or {}
        return Start(
            name=label or shown,
            kind="ssl" if facts.get("method") else "file",
            source=source,
            settings=BackboneSettings(facts.get("architecture") or named or _ARCHITECTURE, weights=file),
            size=facts.get("image_size", size),
            mean=facts.get("mean"),
            std=facts.get("std"),
            method=facts.get("method"),
            store_fingerprint=facts.get("store"),
            held_out=watch.get("held_out"),
        )
    kind, colon, name = source.partition(":")
    if kind == "pretrained":
        name = name or architecture
        return Start(label or f"pretrained {name}", "imagenet", source, BackboneSettings(name, pretrained=True), size)
    if kind == "random":
        name = name or architecture
    elif colon and kind != "hf-hub":
        raise ScarceError(
            "a run's folder, NAME:FILE, pretrained:NAME, random:NAME or a timm name",
            source,
            "check that the folder or file is there",
        )
    else:
        name = source
    return Start(label or f"random {name}", "random", source, BackboneSettings(name), size, seed=seed)
