"""Trials on disk: one Parquet table of fits, and the test films that all of them were scored on."""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole

# One row a fit, or a cell that stayed empty: then `missing` says why, and there are no scores.
SCHEMA = pa.schema(
    {
        "start": "string",
        "start_kind": "string",
        "start_fingerprint": "string",
        "how": "string",
        "finding": "string",
        "shot": "string",
        "draw": "int32",
        "seed": "int64",
        "missing": "string",
        "films": "int32",
        "positives": "int32",
        "negatives": "int32",
        "patients": "int32",
        "test_films": "int32",
        "test_positives": "int32",
        "test_negatives": "int32",
        "test_patients": "int32",
        "prevalence": "float64",
        "auroc": "float64",
        "auroc_normals": "float64",
        "auroc_other_findings": "float64",
        "auprc": "float64",
        "sensitivity": "float64",
        "specificity": "float64",
        "cut": "float64",
        "brier": "float64",
        "calibration_error": "float64",
        "calibration_slope": "float64",
        "calibration_offset": "float64",
        "strength": "float64",
        "seconds": "float64",
        "scores": pa.list_(pa.float32()),
    }
)
_TEST_SCHEMA = pa.schema(
    {"finding": "string", "row": "int64", "image_id": "string", "patient": "string", "label": "int8", "normal": "bool"}
)
_KEY = ("start_fingerprint", "how", "finding", "shot", "draw")
# Of protocol.json: what belongs to one way of fitting, as a second one may come later.
_SETTINGS = "settings"


class TestFilms(NamedTuple):
    """The films on which a finding is scored.

    Attributes:
        rows: (n,) of the store's table.
        labels: (n,) 1 and 0.
        patients: (n,) strings.
        normal: (n,) bool: films without any finding.
    """

    __test__ = False

    rows: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    normal: np.ndarray


class Trials:
    """A folder with `trials.parquet`, `test-films.parquet`, `protocol.json` and `starts.json`.

    A row is known by its start's weights, how it was fitted, finding, shot and draw; one that is there is not fitted
    again. Another protocol (store, labels, split, seed) needs another folder: trials of two would not compare. Several
    processes may add to one folder at once.

    Args:
        folder: made if it is missing.
        protocol: plain values that all trials share; None takes what is there.

    Raises:
        ScarceError: the folder holds trials of another protocol, or none at all where none are to be made.
    """

    def __init__(self, folder: Path, protocol: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        described = self.folder / "protocol.json"
        if described.is_file():
            self.protocol = _read_json(described)
            if protocol is not None and (other := differences(self.protocol, protocol, "there", "now")):
                raise ScarceError(
                    f"trials of one protocol in {self.folder}",
                    other,
                    "name another folder with --out, or delete this one",
                )
        elif protocol is None:
            raise ScarceError("a folder of trials", f"{self.folder} without protocol.json", "make it with scarce probe")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.protocol = protocol
            _write_json(described, protocol)
        self._rows: list[dict[str, Any]] = []
        self._known: set[tuple] = set()
        self._stamp: tuple | None = None
        self._read()

    @property
    def table(self) -> pd.DataFrame:
        """All rows, `SCHEMA`'s columns; `scores` (n,) float32 in the order of `test_films` of the finding, or None."""
        return pd.DataFrame(self._rows, columns=SCHEMA.names)

    @property
    def starts(self) -> dict[str, dict[str, Any]]:
        """What is known of each start, by fingerprint."""
        path = self.folder / "starts.json"
        return _read_json(path) if path.is_file() else {}

    def has(self, *, start_fingerprint: str, how: str, finding: str, shot: str, draw: int) -> bool:
        """Whether this trial was made."""
        return (start_fingerprint, how, finding, shot, draw) in self._known

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows, those that are known left out, and writes the table anew: whole, or not at all."""
        rows = list(rows)
        with self._alone():
            self._read()
            fresh = [row for row in rows if _key(row) not in self._known]
            if not fresh:
                return
            path = self.folder / "trials.parquet"
            with written_whole(path) as temporary:
                pq.write_table(pa.Table.from_pylist([*self._rows, *map(_with_array, fresh)], SCHEMA), temporary)
            self._hold(fresh)
            self._stamp = _stamp(path)

    def keep_starts(self, starts: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes what is known of starts, by fingerprint, beside what was known of others."""
        with self._alone():
            _write_json(self.folder / "starts.json", {**self.starts, **starts})

    def settle(self, how: str, settings: Mapping[str, Any]) -> None:
        """Keeps the settings of one way of fitting, which all its trials share.

        Raises:
            ScarceError: the folder has trials of this way with other settings.
        """
        path = self.folder / "protocol.json"
        with self._alone():
            self.protocol = _read_json(path)
            known = self.protocol.get(_SETTINGS, {})
            if how in known and (other := differences(known[how], settings, "there", "now")):
                raise ScarceError(
                    f"one {how} of the same settings in {self.folder}",
                    other,
                    "name another folder with --out, or delete this one",
                )
            if how not in known:
                self.protocol[_SETTINGS] = {**known, how: dict(settings)}
                _write_json(path, self.protocol)

    def keep_test_films(self, films: Mapping[str, TestFilms], image_ids: Sequence[str]) -> None:
        """Writes which films each finding is scored on. `image_ids`: of all rows of the store."""
        rows = [
            {
                "finding": finding,
                "row": int(row),
                "image_id": str(image_ids[row]),
                "patient": str(patient),
                "label": int(label),
                "normal": bool(normal),
            }
            for finding, test in films.items()
            for row, label, patient, normal in zip(*test, strict=True)
        ]
        path = self.folder / "test-films.parquet"
        with self._alone():
            known = pq.read_table(path).to_pylist() if path.is_file() else []
            rows = [row for row in known if row["finding"] not in films] + rows
            with written_whole(path) as temporary:
                pq.write_table(pa.Table.from_pylist(rows, _TEST_SCHEMA), temporary)

    def test_films(self, finding: str) -> TestFilms:
        """The films on which a finding was scored, in the order of its trials' scores."""
        path = self.folder / "test-films.parquet"
        table = pq.read_table(path, filters=[("finding", "=", finding)]).to_pandas()
        return TestFilms(
            table["row"].to_numpy(),
            table["label"].to_numpy(),
            table["patient"].to_numpy(dtype=object),
            table["normal"].to_numpy(dtype=bool),
        )

    def scores(self, start: str, how: str, finding: str, shot: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws' numbers (D,) in rising order, and their scores (D, n) on the finding's test films; (0, 0) for none.

        Args:
            start: its fingerprint, or its name. Of two starts of one name, the one that was added last.
            how, finding, shot: of the cell.
        """
        bearing = [row["start_fingerprint"] for row in self._rows if row["start"] == start]
        wanted = (bearing[-1] if bearing else start, how, finding, shot)
        chosen = [row for row in self._rows if _key(row)[:-1] == wanted and row["scores"] is not None]
        chosen.sort(key=lambda row: row["draw"])
        draws = np.array([row["draw"] for row in chosen], dtype=int)
        return draws, np.stack([row["scores"] for row in chosen]).astype(np.float64) if chosen else np.empty((0, 0))

    def _read(self) -> None:
        """Reads the table if there is one that is not known yet."""
        path = self.folder / "trials.parquet"
        if not path.is_file() or _stamp(path) == self._stamp:
            return
        stamp, table = _stamp(path), pq.read_table(path)
        scores = [row.values.to_numpy() if row.is_valid else None for row in table["scores"]]
        rows = table.drop_columns("scores").to_pylist()
        self._rows, self._known, self._stamp = [], set(), stamp
        self._hold({**row, "scores": of} for row, of in zip(rows, scores, strict=True))

    def _hold(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            self._rows.append(_with_array(row))
            self._known.add(_key(row))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Waits until no other process writes into the folder."""
        with (self.folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


class Evidence(NamedTuple):
    """The trials of one or more folders.

    Attributes:
        table: as `Trials.table`; names of starts are one to one with their fingerprints.
        films: test films by finding.
        starts: what is known of each start, by name.
        protocol: what all trials share.
    """

    table: pd.DataFrame
    films: dict[str, TestFilms]
    starts: dict[str, dict[str, Any]]
    protocol: dict[str, Any]

    @property
    def mark(self) -> str:
        """What must stand on everything that was not made by the protocol of this package; empty where it was."""
        protocol = self.protocol.get("protocol", "")
        return "original protocol (balanced test; see docs)" if protocol == "original" else str(protocol)


def read_evidence(folders: Sequence[Path]) -> Evidence:
    """Puts the trials of several folders together. A trial that is in several counts once.

    Raises:
        ScarceError: there is no trial, or the folders are of different protocols.
    """
    read = [Trials(folder) for folder in folders]
    first = read[0]
    for other in read[1:]:
        _refuse_other_protocol(first, other)
    tables = [trials.table.assign(folder=_short(trials.folder)) for trials in read]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise ScarceError(
            "trials", f"none in {', '.join(str(folder) for folder in folders)}", "make some: scarce probe"
        )
    table = pd.concat(tables, ignore_index=True).drop_duplicates(list(_KEY), ignore_index=True)
    names = _names_of_their_own(table)
    table = table.assign(start=table["start_fingerprint"].map(names)).drop(columns="folder")
    films = {}
    for trials in read:
        for finding in trials.table["finding"].unique():
            films.setdefault(finding, trials.test_films(finding))
    known = {fingerprint: facts for trials in reversed(read) for fingerprint, facts in trials.starts.items()}
    settings = {how: of for trials in read for how, of in trials.protocol.get(_SETTINGS, {}).items()}
    protocol = {**first.protocol, **({_SETTINGS: settings} if settings else {})}
    return Evidence(table, films, {name: known.get(key, {}) for key, name in names.items()}, protocol)


def differences(known: Mapping[str, Any], asked: Mapping[str, Any], here: str, there: str) -> str:
    """Where two protocols differ, in words; "" where they do not. Settings of ways of fitting are left aside."""
    # Through JSON, as what was read came: tuples have become lists.
    known, asked = (json.loads(json.dumps(dict(of))) for of in (known, asked))
    names = [name for name in {**known, **asked} if name != _SETTINGS and known.get(name) != asked.get(name)]
    return "; ".join(f"{name} {known.get(name)!r} {here}, {asked.get(name)!r} {there}" for name in names)


def _refuse_other_protocol(first: Trials, other: Trials) -> None:
    places = f"in {first.folder}", f"in {other.folder}"
    found = [differences(first.protocol, other.protocol, *places)]
    both = (trials.protocol.get(_SETTINGS, {}) for trials in (first, other))
    ours, theirs = both
    found += [differences(ours[how], theirs[how], *places) for how in ours if how in theirs]
    if any(found):
        raise ScarceError(
            "trials of one protocol", "; ".join(filter(None, found)), "compare them apart, or make them anew alike"
        )


def _names_of_their_own(table: pd.DataFrame) -> dict[str, str]:
    """Name of each start by fingerprint; of several that bear one name, the folder or the fingerprint is told too."""
    starts = table.drop_duplicates("start_fingerprint")
    names = {}
    for name, same in starts.groupby("start", sort=False):
        apart = same["folder"].is_unique
        for fingerprint, folder in zip(same["start_fingerprint"], same["folder"], strict=True):
            # Whole digits of the weights say no more than six; the size behind them may be what differs.
            short = fingerprint[:6] + fingerprint[16:]
            names[fingerprint] = name if len(same) == 1 else f"{name} ({folder if apart else short})"
    # In the order in which they were added.
    return {fingerprint: names[fingerprint] for fingerprint in starts["start_fingerprint"]}


def _short(folder: Path) -> str:
    return folder.resolve().name


def _key(row: Mapping[str, Any]) -> tuple:
    return tuple(row[name] for name in _KEY)


def _with_array(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its scores as an array: thousands of lists of numbers would take ten times the memory."""
    scores = row.get("scores")
    return {**row, "scores": None if scores is None else np.asarray(scores, dtype=np.float32)}


def _stamp(path: Path) -> tuple[int, int]:
    """Differs between two files that had the name in turn."""
    state = path.stat()
    return state.st_ino, state.st_mtime_ns


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
