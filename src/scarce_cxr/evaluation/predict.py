"""Scores of single files by an exported model: probabilities, decisions, warnings, and where a score comes from."""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from scarce_cxr.errors import ScarceError
from scarce_cxr.evaluation.film_model import Facts, FilmModel, FilmSettings, Model
from scarce_cxr.evaluation.gradcam import Cam, grad_cam
from scarce_cxr.evaluation.guard import warn_of
from scarce_cxr.images.archives import Member, is_archive
from scarce_cxr.images.atomic import written_whole
from scarce_cxr.images.decode import Skipped, decode, quantise, resize, scale
from scarce_cxr.images.parallel import map_chunks
from scarce_cxr.images.sources.records import list_files
from scarce_cxr.progress import bar

# Films that are read and go through the network at once.
_BATCH = 32


class Prediction(NamedTuple):
    """What a model says of one file.

    Attributes:
        name: the file.
        film: (size, size) as the model took it; None if it was skipped.
        probabilities: (findings,) calibrated, in (0, 1).
        warnings: why it may not be a film of the kind that the model was made for.
        skipped: why there is no film, or "".
    """

    name: str
    film: np.ndarray | None
    probabilities: np.ndarray | None
    warnings: list[str]
    skipped: str = ""


def list_inputs(paths: Sequence[Path]) -> tuple[dict[str, Path | Member], list[tuple[str, str]]]:
    """Files by name: those named, and all in the folders and archives named.

    Returns:
        The files, and (name, reason) of what must not be read in archives.

    Raises:
        ScarceError: nothing of that name.
    """
    found: dict[str, Path | Member] = {}
    refused = []
    for path in map(Path, paths):
        if path.is_file() and not is_archive(path.name):
            found[str(path)] = path
            continue
        files = list_files(path)
        found |= {str(path / name): file for name, file in files.items()}
        refused += [(str(path / name), reason) for name, reason in files.refused]
    return found, refused


def read_film(path: Path | Member, film: FilmSettings) -> np.ndarray | str:
    """A file as a store of these settings would hold it, (size, size), or the reason why not."""
    try:
        pixels, _ = resize(scale(decode(path, voi=film.voi)), film.size, film.fit)
    except Skipped as skipped:
        return skipped.reason
    except MemoryError:
        return "not enough memory"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return quantise(pixels, film.bits)


def predict(model: Model, files: dict[str, Path | Member], jobs: int = 1) -> Iterator[Prediction]:
    """Scores files, 32 at a time.

    Args:
        model: with probes.
        files: by name, see `list_inputs`.
        jobs: how many are read at a time, as joblib counts; with more than 1 a decoder may crash on a file.

    Yields:
        One prediction a file, in order.

    Raises:
        ScarceError: the model has no probe.
    """
    if not model.facts.probes:
        got = f"{model.facts.name}, a backbone alone"
        raise ScarceError("a model with a probe", got, "export with --store STORE --finding FINDING")
    names = list(files)
    chunks = [names[first : first + _BATCH] for first in range(0, len(names), _BATCH)]
    read = partial(_read_films, film=model.facts.film)
    outcomes = map_chunks(read, [[files[name] for name in chunk] for chunk in chunks], jobs)
    with bar("scoring", len(names), "files") as advance:
        for chunk, films in zip(chunks, outcomes, strict=True):
            yield from _predict_batch(model, chunk, films)
            advance(len(chunk))


def explain_film(film_model: FilmModel, film: np.ndarray) -> list[Cam]:
    """Grad-CAM of a film (size, size) for every finding, of the calibrated log-odds.

    Raises:
        ScarceError: the backbone's stages are no maps.
    """
    with torch.no_grad():
        view = film_model.view(torch.from_numpy(film[None, None]))
    return [grad_cam(film_model.backbone, head, view) for head in _heads(film_model)]


def write_predictions(path: Path, predictions: Sequence[Prediction], facts: Facts) -> None:
    """A CSV table, one row a file and finding: film, finding, probability, threshold, decision, warnings, skipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["film", "finding", "probability", "threshold", "decision", "warnings", "skipped"])
        for prediction in predictions:
            warnings = "; ".join(prediction.warnings)
            if prediction.probabilities is None:
                table.writerow([prediction.name, "", "", "", "", warnings, prediction.skipped])
                continue
            for probe, probability in zip(facts.probes, prediction.probabilities, strict=True):
                numbers = [f"{probability:.6f}", f"{probe.threshold:.6f}", decide(probability, probe.threshold)]
                table.writerow([prediction.name, probe.finding, *numbers, warnings, ""])


def decide(probability: float, threshold: float) -> str:
    """positive above the threshold, else negative."""
    return "positive" if probability > threshold else "negative"


def _read_films(paths: Sequence[Path | Member], film: FilmSettings) -> list[np.ndarray | str]:
    return [read_film(path, film) for path in paths]


def _predict_batch(
    model: Model, names: Sequence[str], films: Sequence[np.ndarray | str | None]
) -> Iterator[Prediction]:
    readable = [film for film in films if isinstance(film, np.ndarray)]
    scored = iter(())
    if readable:
        pixels = np.stack(readable)
        output = model.run(pixels)
        warnings = warn_of(pixels, output.distances, model.facts.guard)
        scored = iter(zip(readable, output.probabilities, warnings, strict=True))
    for name, film in zip(names, films, strict=True):
        if isinstance(film, np.ndarray):
            yield Prediction(name, *next(scored))
        else:
            yield Prediction(name, None, None, [], film or "the decoder crashed")


def _heads(film_model: FilmModel) -> list[nn.Linear]:
    """One layer (B, features) -> (B, 1) a finding."""
    heads = []
    for weight, bias in zip(film_model.head.weight, film_model.head.bias, strict=True):
        head = nn.Linear(len(weight), 1)
        head.load_state_dict({"weight": weight.detach()[None], "bias": bias.detach()[None]})
        heads.append(head)
    return heads
