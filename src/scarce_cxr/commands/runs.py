"""`scarce runs`: what runs there are."""

from pathlib import Path

from scarce_cxr.results import Result, Table


def runs(folder: Path) -> Result:
    """Lists the runs in a folder: state, steps, hours.

    Args:
        folder: A folder of runs, at any depth; or a run.
    """
    from scarce_cxr.errors import ScarceError
    from scarce_cxr.training.run_folder import RunFolder

    if not folder.is_dir():
        raise ScarceError("a folder", str(folder), "check the path")
    rows = []
    for file in sorted(folder.rglob("run.json")):
        run = RunFolder(file.parent)
        state = run.read_state()
        word = state["state"]
        if word == "running" and not run.is_locked():
            word = "killed"
        name = str(file.parent.relative_to(folder))
        best, verdict = state.get("best", {}).get("value"), state.get("verdict", {}).get("name")
        hours = state["seconds"] / 3600
        rows.append([name, word, state["step"], state["total"], hours, state["films"], best, verdict])
    columns = ["run", "state", "steps saved", "of", "hours", "films", "best retrieval", "verdict"]
    killed = any(row[1] in ("killed", "stopped", "failed") for row in rows)
    return Result(
        [Table(f"Runs in {folder}", columns, rows, f"{len(rows)} runs")],
        notes=["\nGo on with one: scarce resume RUN"] if killed else [],
    )
