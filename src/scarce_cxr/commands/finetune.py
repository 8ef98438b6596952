"""`scarce finetune`: what training on a few labelled films adds."""

from pathlib import Path

from scarce_cxr.commands.probe import Negatives, Uncertain, Unmentioned, ask, next_step, table_of
from scarce_cxr.results import Result


def finetune(
    starts: list[str],
    store: Path | None = None,
    out: Path = Path("scarce-trials"),
    findings: list[str] | None = None,
    shots: list[str] | None = None,
    draws: int = 5,
    labels: Path | None = None,
    id_column: str | None = None,
    uncertain: Uncertain = "leave_out",
    unmentioned: Unmentioned = "leave_out",
    negatives: Negatives = "any",
    test: float = 0.2,
    tune: float = 0.15,
    epochs: int = 100,
    head_lr: float = 1e-3,
    backbone_lr: float = 1e-4,
    layer_decay: float = 1.0,
    weight_decay: float = 0.01,
    first_stage: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Trains the later stages of each start and a head on a few labelled films, again and again, and tests it once.

    Films are drawn as for scarce probe: with the same OUT both stand side by side. A trial that is done is kept at once
    and not repeated, so that an interrupted command goes on where it was.

    Args:
        starts: What backbones begin from, as for scarce probe.
        store: The films; must be given.
        out: Folder of the trials.
        findings: Which; by default all that the labels have.
        shots: Numbers of positive patients, or all; by default 5 10 20.
        draws: Draws of each shot.
        labels: A CSV table of your own with a column that names the film; by default the store's labels.
        id_column: Its column that names the film; by default the one that fits.
        uncertain: What -1 counts as.
        unmentioned: What an empty label counts as.
        negatives: Which films without the finding draws may take; tests always have all.
        test: Share of the patients to test on.
        tune: Share of the others that the choice of a look, thresholds and calibration come from.
        epochs: Passes over a draw's films.
        head_lr: Learning rate of the head.
        backbone_lr: Learning rate of the backbone's last stage.
        layer_decay: Factor on the rate from each block to the one before it; 1 gives all the same.
        weight_decay: Strength of AdamW's weight decay.
        first_stage: First stage that is trained, counted from 0; by default 1, after SparK 2.
        size: Side in pixels for starts that name none; by default the first run's.
        seed: Another seed makes other draws.
        device: Where to train.
    """
    from scarce_cxr.evaluation.fewshot import fit_finetuned
    from scarce_cxr.evaluation.finetune import FinetuneSettings

    settings = FinetuneSettings(
        epochs=epochs,
        head_lr=head_lr,
        backbone_lr=backbone_lr,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        first_stage=first_stage,
    )
    question = ask(
        starts,
        store,
        out,
        findings,
        shots or ["5", "10", "20"],
        draws,
        labels,
        id_column,
        uncertain,
        unmentioned,
        negatives,
        test,
        tune,
        size,
        seed,
    )
    for start in question.starts:
        fit_finetuned(
            question.trials, question.store, start, question.tasks, question.cells, settings, seed=seed, device=device
        )
    return Result(
        [table_of(question, "finetune")], [("trials", out / "trials.parquet")], [*question.notes, next_step(out)]
    )
