"""`scarce report`: one page of a run, or of several side by side."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def report(
    runs: list[str],
    trials: list[Path] | None = None,
    out: Path | None = None,
    redact: bool = False,
    store: Path | None = None,
    films: int = 800,
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Writes one HTML page of a run, or of several side by side, that holds everything inside and opens offline.

    Verdict and what to do, curves, reconstructions, views, a map of films by their features with nearest neighbours,
    what a few labels buy, time, memory and cost, recipes and their differences, data, model card.

    Args:
        runs: Folders of runs, finished or running.
        trials: Folders of trials (scarce probe, scarce finetune), of one protocol.
        out: The page; by default report.html in the run's folder, or here for several runs.
        redact: Leave out every film: pictures, small pictures, identifiers.
        store: Where the store is now, if it has moved.
        films: How many films to map, at most; 0 maps none.
        seed: Another seed maps other films.
        device: Where features are computed.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.report.page import write_report
    from scarce_cxr.report.runs import read_runs

    if not runs:
        raise ScarceError("at least one run", "none", "scarce report RUN [RUN ...]")
    if films < 0:
        raise ScarceError("films to map, or 0 for none", f"--films {films}", "e.g. --films 800")
    shown = read_runs([Path(run) for run in runs], store)
    maps, notes = [], []
    if films:
        from scarce_cxr.report.films import map_films

        maps, notes = map_films(shown, films=films, redact=redact, seed=seed, device=device)
    few_shot = None
    if trials:
        from scarce_cxr.report.fewshot import read_few_shot

        few_shot = read_few_shot(trials)
        if few_shot is None:
            notes.append("the trials have no scores: all their cells are empty")
    page = write_report(
        shown,
        out or _default(shown[0].folder.path if len(shown) == 1 else Path(), redact),
        maps=maps,
        few_shot=few_shot,
        folders=trials or [],
        notes=notes,
        redact=redact,
    )
    mapped = sum(len(film_map.colorings[0].codes) for film_map in maps)
    row = [len(shown), mapped, len(few_shot.figures) if few_shot else 0, round(page.stat().st_size / 1e6, 1)]
    table = Table("Report", ["runs", "films mapped", "few-shot curves", "MB"], [row])
    return Result([table], [("page", page)], [f"! {note}" for note in notes])


def _default(folder: Path, redact: bool) -> Path:
    """A copy without films never takes the place of the page with them."""
    return folder / ("report-redacted.html" if redact else "report.html")
