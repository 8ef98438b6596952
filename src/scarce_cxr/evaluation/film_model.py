"""A model that takes films as a store holds them: preprocessing, backbone, probes and guard, and its facts.

An exported model is one of: a folder with `config.json` and `model.safetensors` (the backbone, as timm reads it),
`scarce.json` (the facts) and, where probes are fitted, `scarce.safetensors` (their weights and the guard's); a `.pt2`
file of torch.export or an `.onnx` file, with the facts inside.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from scarce_cxr.backbones.backbone import Backbone, BackboneSettings
from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.guard import Guard, GuardFacts
from scarce_cxr.images.decode import Fit, Voi

FACTS = "scarce.json"
"""Name of the facts: a file of a folder, and what they are kept as inside a file."""
WEIGHTS, EXTRA_WEIGHTS = "model.safetensors", "scarce.safetensors"

_FORMAT, _VERSION = "scarce-model", 1

Pixels = Literal["float32", "uint8"]


@dataclass(frozen=True)
class FilmSettings:
    """How a file becomes the square film that a model takes: the settings of the store that it was made for.

    Attributes:
        size: side of the film in pixels.
        fit: how an oblong film becomes a square, see `images.decode.resize`.
        bits: to which it is rounded.
        voi: how the values of a DICOM film are scaled.
    """

    size: int
    fit: Fit = "crop"
    bits: Literal[8, 16] = 8
    voi: Voi = "window"


@dataclass(frozen=True)
class ProbeFacts:
    """One finding's probe: what it learned from, and what it reached on patients that it had not seen.

    Attributes:
        finding: its name.
        shot: how many patients with the finding it was fitted on, or all.
        threshold: the probability above which a film counts as positive: 90 % specificity on the tuning films.
        train_films, train_positives, train_patients: that it was fitted on.
        tune_films, tune_positives: that calibrated it and chose the threshold.
        test_films, test_positives, test_patients: that the rest was measured on.
        auroc, sensitivity, specificity: each with its 95 % interval over patients: estimate, low, high.
        brier, calibration_error: of the probabilities.
        slope: of the calibrating line; not above 0 where the probe's order of the tuning films is no better than
            chance.
    """

    finding: str
    shot: str
    threshold: float
    train_films: int
    train_positives: int
    train_patients: int
    tune_films: int
    tune_positives: int
    test_films: int
    test_positives: int
    test_patients: int
    auroc: tuple[float, float, float]
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    brier: float
    calibration_error: float
    slope: float


@dataclass(frozen=True)
class Facts:
    """What stands beside a model's weights.

    Attributes:
        name: how the start was shown.
        kind: ssl, imagenet, file or random.
        method: class name of the method that pretrained it, if known.
        pretraining_films: how many films it was pretrained on, if known.
        architecture: the timm model.
        fingerprint: 16 hex digits of the backbone's weights.
        features: length of the feature vector.
        image_size: side in pixels at which the backbone sees films.
        mean, std: with which it sees pixels, in [0, 1].
        film: how a file becomes the film that goes in.
        pixels: type of what goes into the graph: float32 in [0, 1], or uint8.
        store: fingerprint of the store that probes and guard were fitted on, if any.
        test_films_seen: how many test films the backbone was pretrained on, without their labels; None: not known.
        probes: in the order of the outputs.
        guard: None where there are no probes, or too few films.
    """

    name: str
    kind: str
    method: str | None
    pretraining_films: int | None
    architecture: str
    fingerprint: str
    features: int
    image_size: int
    mean: float
    std: float
    film: FilmSettings
    pixels: Pixels = "float32"
    store: str | None = None
    test_films_seen: int | None = None
    probes: tuple[ProbeFacts, ...] = ()
    guard: GuardFacts | None = None

    def to_json(self) -> str:
        """The facts as a text that `read_facts` reads."""
        content = {"format": _FORMAT, "version": _VERSION, "research_use_only": True, **asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


class Output(NamedTuple):
    """What a model gives for B films.

    Attributes:
        features: (B, features) float32.
        probabilities: (B, findings) calibrated, in (0, 1); None without probes.
        distances: (B,) how far from the films that the guard was fitted on; None without a guard.
    """

    features: np.ndarray
    probabilities: np.ndarray | None = None
    distances: np.ndarray | None = None


class Model(NamedTuple):
    """An exported model, read again.

    Attributes:
        facts: what stands beside its weights.
        run: from films (B, size, size) as `images.decode.quantise` gives them to their output.
        film_model: the module, for what needs gradients; None where a file holds a finished graph.
    """

    facts: Facts
    run: Callable[[np.ndarray], Output]
    film_model: "FilmModel | None" = None


class FilmModel(nn.Module):
    """The whole graph: films to features, and to probabilities and distances where probes and a guard are there.

    Args:
        backbone: in evaluation mode.
        facts: of the model; without probes there is no head, without a guard no distance.
    """

    def __init__(self, backbone: Backbone, facts: Facts) -> None:
        super().__init__()
        self.facts, self.backbone = facts, backbone
        self.register_buffer(
            "squash", torch.from_numpy(squash_weights(facts.film.size, facts.image_size)), persistent=False
        )
        self.head = nn.Linear(facts.features, len(facts.probes)) if facts.probes else None
        self.guard = Guard(facts.features, facts.guard.axes) if facts.guard else None
        self.eval()

    def view(self, films: torch.Tensor) -> torch.Tensor:
        """What the backbone sees: films (B, 1, size, size) -> (B, 1, image_size, image_size), normalised.

        As `views.plans.plain_view`, in products of matrices, which every runtime knows.
        """
        if not films.is_floating_point():
            films = films.float() / torch.iinfo(films.dtype).max
        return (self.squash @ films @ self.squash.mT - self.facts.mean) / self.facts.std

    def forward(self, films: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Films (B, 1, size, size), float in [0, 1] or whole numbers, -> `Output`'s tensors, as many as there are."""
        features = self.backbone(self.view(films))
        if self.head is None:
            return (features,)
        found = (features, torch.sigmoid(self.head(features)))
        return found if self.guard is None else (*found, self.guard(features))

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> Output:
        """`Model.run` of this module."""
        return Output(*(tensor.numpy() for tensor in self(torch.from_numpy(as_input(pixels, self.facts.pixels)))))

    def extra_state(self) -> dict[str, torch.Tensor]:
        """Weights of everything but the backbone, by name."""
        return {name: of for name, of in self.state_dict().items() if not name.startswith("backbone.")}


def squash_weights(side: int, size: int) -> np.ndarray:
    """What each of `size` pixels takes of a film's `side` pixels along an axis in `views.plans.plain_view`.

    The mean of evenly spaced bilinear samples, as many as leave no film pixel out; beyond the film is black.

    Returns:
        (size, side) float32.
    """
    factor = max(1, int(np.ceil(side / size - 1e-9)))
    places = (np.arange(factor * size) + 0.5) * side / (factor * size) - 0.5
    nearness = np.clip(1 - np.abs(places[:, None] - np.arange(side)), 0, None)
    return nearness.reshape(size, factor, side).mean(axis=1).astype(np.float32)


def as_input(pixels: np.ndarray, kind: Pixels) -> np.ndarray:
    """Films (B, H, W) uint8 or uint16 -> (B, 1, H, W) of the type that a graph takes."""
    if pixels.dtype == kind:
        return pixels[:, None]
    if kind == "uint8":
        raise ScarceError("films of 8 bits", f"{pixels.dtype}", "export with --pixels float32")
    return pixels[:, None].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def read_facts(text: str, place: Path) -> Facts:
    """Facts from their JSON.

    Args:
        text: the JSON.
        place: where it stands, to name it in an error.

    Raises:
        ScarceError: it is none, or of another version.
    """
    try:
        content = json.loads(text)
        if content.pop("format") != _FORMAT or content.pop("version") != _VERSION:
            raise ValueError("another format or version")
        content.pop("research_use_only", None)
        probes = tuple(ProbeFacts(**_as_tuples(probe)) for probe in content.pop("probes"))
        guard = content.pop("guard")
        film = FilmSettings(**content.pop("film"))
        return Facts(**content, film=film, probes=probes, guard=GuardFacts(**guard) if guard else None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"{place} ({type(error).__name__}: {error})"
        raise ScarceError("a model that scarce export wrote", got, "export it again with this scarce") from None


def read_model(path: Path) -> Model:
    """Reads an exported model: a folder, a .pt2 file or an .onnx file.

    A .pt2 file is read by torch.export.load: open only those that you trust.

    Raises:
        ScarceError: it is missing, damaged or no exported model, or what reads it is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ScarceError("an exported model", f"nothing at {path}", "make it with scarce export")
    readers = {".pt2": _read_pt2, ".onnx": _read_onnx}
    if path.suffix not in readers:
        raise ScarceError("a folder, a .pt2 file or an .onnx file", str(path), "make it with scarce export")
    return readers[path.suffix](path)


def _read_folder(folder: Path) -> Model:
    described = folder / FACTS
    if not described.is_file():
        raise ScarceError("an exported model's folder", f"{folder} without {FACTS}", "make it with scarce export")
    facts = read_facts(described.read_text("utf-8"), described)
    backbone = Backbone(BackboneSettings(facts.architecture, weights=folder / WEIGHTS))
    film_model = FilmModel(backbone, facts)
    if facts.probes:
        try:
            missing = film_model.load_state_dict(load_file(folder / EXTRA_WEIGHTS), strict=False).missing_keys
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ScarceError(f"the weights of {folder}", str(error), "copy the folder again") from None
        if lacking := [name for name in missing if not name.startswith("backbone.")]:
            raise ScarceError(f"the weights of {folder}", f"none of {', '.join(lacking)}", "copy the folder again")
    return Model(facts, film_model.run, film_model)


def _read_pt2(path: Path) -> Model:
    inside = {FACTS: ""}
    try:
        program = torch.export.load(path, extra_files=inside)
    except Exception as error:
        # Damaged archives are met with errors of every kind.
        raise ScarceError("a file of torch.export", f"{path} ({type(error).__name__})", "export it again") from None
    facts, module = read_facts(inside[FACTS], path), program.module()

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> Output:
        return Output(*(tensor.numpy() for tensor in module(torch.from_numpy(as_input(pixels, facts.pixels)))))

    return Model(facts, run)


def _read_onnx(path: Path) -> Model:
    try:
        import onnxruntime
    except ImportError:
        raise ScarceError("ONNX Runtime", "it is not installed", 'pip install "scarce-cxr[export]"') from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ScarceError("an ONNX file", f"{path} ({type(error).__name__})", "export it again") from None
    facts = read_facts(session.get_modelmeta().custom_metadata_map.get(FACTS, ""), path)

    def run(pixels: np.ndarray) -> Output:
        return Output(*session.run(None, {"films": as_input(pixels, facts.pixels)}))

    return Model(facts, run)


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
