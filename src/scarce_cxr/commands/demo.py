"""`scarce demo`: the whole way on phantom films."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def demo(out: Path = Path("scarce-demo"), films: int = 600, seed: int = 0) -> Result:
    """Goes the whole way in a few minutes: draws phantom films, prepares a store, pretrains a small SparK, paints.

    What is already there is not made again; a demo that was stopped goes on.

    Args:
        out: Folder for everything.
        films: Number of phantom films.
        seed: Another seed draws other patients.
    """
    from scarce_cxr.commands.phantom import phantom
    from scarce_cxr.commands.prepare import prepare
    from scarce_cxr.commands.pretrain import parse, run
    from scarce_cxr.commands.reconstruct import reconstruct
    from scarce_cxr.commands.resume import resume
    from scarce_cxr.commands.show import show
    from scarce_cxr.report.page import write_page
    from scarce_cxr.training.run_folder import RunFolder

    phantoms, store, run_path = out / "phantoms", out / "store", out / "run"
    # The table of labels is written last, so where it is, the films are.
    if not (phantoms / "Data_Entry_2017.csv").is_file():
        phantom(phantoms, images=films, seed=seed, size=192)
    prepared = prepare(phantoms, store, size=128)
    sheet = show(store, out / "contact-sheet.png", films=20)
    if RunFolder(run_path).read_state():
        trained = resume(run_path)
    else:
        trained = run(parse(["--config", "small/demo", "--store", str(store), "--run", str(run_path)]))
    if trained.exit_code:
        trained.notes = [f"Stopped; everything is saved. Go on with: scarce demo --out {out}"]
        return trained
    painted = reconstruct(run_path)
    page = write_page(RunFolder(run_path), store)
    tables = [_without_empty_rows(prepared.tables[0]), *trained.tables, *painted.tables]
    files = [("page with everything", page), *painted.files, *sheet.files, *trained.files]
    notes = ["\nYour own films: scarce prepare FOLDER STORE --kind folder; then scarce pretrain --config small/spark"]
    return Result(tables, files, notes)


def _without_empty_rows(table: Table) -> Table:
    """Leaves out what there was none of: a demo has no bad files."""
    return Table(table.title, table.columns, [row for row in table.rows if row[1] not in (0, None)], table.note)
