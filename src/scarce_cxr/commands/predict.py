"""`scarce predict`: what an exported model says of single films."""

from pathlib import Path
from typing import TYPE_CHECKING

from scarce_cxr.results import Result, Table

if TYPE_CHECKING:
    from scarce_cxr.evaluation.film_model import Facts, FilmModel
    from scarce_cxr.evaluation.predict import Prediction

# Rows of the printed table.
_SHOWN = 40


def predict(
    model: Path, films: list[str], out: Path = Path("predictions.csv"), overlays: Path | None = None, jobs: int = 1
) -> Result:
    """Scores films by an exported model: calibrated probabilities, decisions, and warnings of unsuitable films.

    Files that are no films are skipped with a reason, and counted. Research use only.

    Args:
        model: What scarce export wrote with --finding: a folder, or a .pt2 or .onnx file.
        films: Pictures or DICOM files, folders or archives of them.
        out: The table, as CSV.
        overlays: A folder for pictures of where each score comes from; for models exported as folders.
        jobs: How many files are read at a time; -1 is one a core.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.evaluation.film_model import read_model
    from scarce_cxr.evaluation.predict import Prediction, list_inputs, write_predictions
    from scarce_cxr.evaluation.predict import predict as score

    if not films:
        raise ScarceError("films", "none", "scarce predict MODEL FILMS")
    read = read_model(model)
    if overlays is not None and read.film_model is None:
        raise ScarceError("a model exported as a folder, for overlays", str(model), "export it with --to timm")
    files, refused = list_inputs([Path(film) for film in films])
    if not files and not refused:
        raise ScarceError("files", f"none in {', '.join(films)}", "check the folder")
    predictions, drawn = [], 0
    for prediction in score(read, files, jobs):
        if overlays is not None and prediction.film is not None:
            drawn += 1
            _draw(read.film_model, read.facts, prediction, overlays, drawn)
        # The films themselves would fill the memory.
        predictions.append(prediction._replace(film=None))
    predictions += [Prediction(name, None, None, [], reason) for name, reason in refused]
    write_predictions(out, predictions, read.facts)
    names = _names_below(predictions)
    tables = [_table(predictions, names, read.facts, out)]
    if skipped := [[names[of.name], of.skipped] for of in predictions if of.skipped]:
        note = f"{len(skipped):,} files in all" + (f", the first {_SHOWN} shown" if len(skipped) > _SHOWN else "")
        tables.append(Table("Skipped", ["file", "why"], skipped[:_SHOWN], note))
    written = [("table", out)] + ([("overlays", overlays)] if drawn else [])
    scored = len(predictions) - len(skipped)
    return Result(tables, written, ["Research use only: not a medical device."], exit_code=0 if scored else 1)


def _table(predictions: "list[Prediction]", names: dict[str, str], facts: "Facts", out: Path) -> Table:
    from scarce_cxr.evaluation.predict import decide

    scored = [prediction for prediction in predictions if not prediction.skipped]
    rows = []
    for prediction in scored[:_SHOWN]:
        said = [
            f"{probability:.3f} {decide(probability, probe.threshold)}"
            for probe, probability in zip(facts.probes, prediction.probabilities, strict=True)
        ]
        rows.append([names[prediction.name], *said, _kinds(prediction)])
    warned = sum(bool(prediction.warnings) for prediction in scored)
    note = "Calibrated probabilities; positive above " + ", ".join(f"{probe.threshold:.3f}" for probe in facts.probes)
    note += f". {len(scored):,} films, {warned:,} with a warning; {len(predictions) - len(scored):,} files skipped."
    note += f" The first {_SHOWN} films; all are in {out}." * (len(scored) > _SHOWN)
    columns = ["film", *(probe.finding for probe in facts.probes), "warnings"]
    return Table(f"What {facts.name} says (research use only)", columns, rows, note)


def _names_below(predictions: "list[Prediction]") -> dict[str, str]:
    """Files' names below the folder that all lie in."""
    import os

    folder = os.path.commonpath([Path(prediction.name).absolute().parent for prediction in predictions])
    return {of.name: os.path.relpath(Path(of.name).absolute(), folder) for of in predictions}


def _kinds(prediction: "Prediction") -> str:
    return ", ".join(warning.partition(":")[0] for warning in prediction.warnings)


def _draw(film_model: "FilmModel", facts: "Facts", prediction: "Prediction", folder: Path, number: int) -> None:
    """A row a finding: the film, and the map of every stage on it."""
    import numpy as np

    from scarce_cxr.evaluation.gradcam import upsampled
    from scarce_cxr.evaluation.predict import explain_film
    from scarce_cxr.figures import theme
    from scarce_cxr.figures.gradcam import StageMap, stage_panel

    side = facts.film.size
    rows = []
    for probe, probability, cam in zip(
        facts.probes, prediction.probabilities, explain_film(film_model, prediction.film), strict=True
    ):
        stages = [
            StageMap(f"{name}, {maps.shape[1]} x {maps.shape[2]}", upsampled(maps, side)[0])
            for name, maps in zip(cam.stages, cam.maps, strict=True)
        ]
        rows.append((f"{probe.finding} {probability:.3f}", stages))
    film = prediction.film / np.iinfo(prediction.film.dtype).max
    name = Path(prediction.name)
    title = name.name + (f" ({_kinds(prediction)})" if prediction.warnings else "")
    figure = stage_panel(film, rows, title)
    theme.save(figure, folder / f"{number:04d}-{name.stem}.png")
