"""Labels as users have them: the store's own, or a file of theirs joined by image_id or original name."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.names import original_names
from scarce_cxr.images.sources.kinds import PICTURES
from scarce_cxr.images.store import COLUMNS, Store
from scarce_cxr.images.user_tables import read_table

# What is known of a film and a finding before the policies; the first four are the store's own values and null.
_CODES = {
    "positive": 1,
    "negative": 0,
    "uncertain": -1,
    "not mentioned": 2,
    "unreadable": 3,
    "contradicting": 4,
    "without a row": 5,
}
_WORDS = {
    **dict.fromkeys(("1", "1.0", "yes", "true", "positive"), _CODES["positive"]),
    **dict.fromkeys(("0", "0.0", "no", "false", "negative"), _CODES["negative"]),
    **dict.fromkeys(("-1", "-1.0", "uncertain"), _CODES["uncertain"]),
    **dict.fromkeys(("", "nan", "na", "null"), _CODES["not mentioned"]),
}
_NO_FINDING = ("no finding", "no findings")
_SUFFIXES = (*PICTURES, ".dcm", ".dicom")
_POLICIES = {"leave_out": np.nan, "positive": 1.0, "negative": 0.0}


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a store's n films.

    Attributes:
        table: (n, findings) floats in the store's order: 1, 0, nan (left out).
        counts: how many films of each kind, by finding, before the policies: positive, negative, uncertain, not
            mentioned, unreadable, contradicting, without a row.
        notes: what the user should know, e.g. how many rows of the file match no film.
        normal: (n,) bool, films that show nothing: "No Finding" where that is said, otherwise every finding 0.
        abnormal: (n,) bool, films that show at least one finding. This and `normal` look at all findings that the store
            or the file knows, not only at those of the table.
    """

    table: pd.DataFrame
    counts: pd.DataFrame
    notes: list[str]
    normal: np.ndarray
    abnormal: np.ndarray

    @property
    def findings(self) -> list[str]:
        """Names of the table's columns."""
        return list(self.table)


def read_labels(
    store: Store,
    findings: Sequence[str] | None = None,
    *,
    file: Path | None = None,
    id_column: str | None = None,
    uncertain: Literal["leave_out", "positive", "negative"] = "leave_out",
    unmentioned: Literal["leave_out", "negative"] = "leave_out",
) -> Labels:
    """Reads the labels of a store's films, from its table or from a file.

    A file is a CSV table (comma, semicolon or tab) with one row a film. Its films are found by image_id or, through the
    store's private folder, by original path, file name or name without suffix, whichever fits the most rows. Values are
    1, 0, -1 (uncertain), nothing, or the words yes, no, true, false, positive, negative, uncertain.

    Args:
        store: the films.
        findings: names of findings; None takes all but "No Finding". In a file: every column in which more than half of
            what is written is a label.
        file: the table; None takes the store's own labels.
        id_column: its column that names the film; None takes the one that fits the most rows.
        uncertain: what -1 becomes.
        unmentioned: what an empty cell becomes. A film without a row stays without a label under either policy.

    Raises:
        ScarceError: there are no labels, a finding or column is unknown, the file is no table, no row fits a film, or a
            policy is unknown.
    """
    _check_policy("uncertain", uncertain, tuple(_POLICIES))
    _check_policy("unmentioned", unmentioned, ("leave_out", "negative"))
    if file is None:
        codes, notes = _read_store(store), []
        where = str(store.path)
    else:
        codes, notes = _read_file(store, Path(file), id_column, findings or ())
        where = str(file)
    chosen = list(findings) if findings else [name for name in codes if not _is_no_finding(name)]
    _check_known("finding", chosen, list(codes), where)
    values = {**_CODES, "uncertain": _POLICIES[uncertain], "not mentioned": _POLICIES[unmentioned]}
    values |= dict.fromkeys(("unreadable", "contradicting", "without a row"), np.nan)
    floats = codes.replace({_CODES[kind]: value for kind, value in values.items()}).astype(float)
    counts = pd.DataFrame({kind: (codes[chosen] == code).sum() for kind, code in _CODES.items()})
    normal, abnormal = _judge(floats)
    for kind, policy in (("uncertain", uncertain), ("not mentioned", unmentioned)):
        total = int(counts[kind].sum())
        if total:
            notes.append(f"{total:,} labels {kind}: " + ("left out" if policy == "leave_out" else f"taken as {policy}"))
    if sum(not _is_no_finding(name) for name in codes) == 1:
        notes.append("one finding is known: a film without it counts as normal")
    return Labels(floats[chosen].reset_index(drop=True), counts, notes, normal, abnormal)


def normals(labels: Labels | Store) -> np.ndarray:
    """(n,) bool: films that show nothing, see `Labels.normal`; of a store, by its own labels."""
    return (read_labels(labels) if isinstance(labels, Store) else labels).normal


def _judge(floats: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Normal and abnormal films, (n,) bool each, from all known findings and "No Finding" where it is among them."""
    said = [name for name in floats if _is_no_finding(name)]
    real = floats.drop(columns=said)
    abnormal = (real == 1).any(axis=1).to_numpy()
    normal = (real == 0).all(axis=1).to_numpy() & (real.shape[1] > 0)
    for name in said:
        verdict = floats[name].to_numpy()
        normal = np.where(np.isnan(verdict), normal, verdict == 1)
    return normal & ~abnormal, abnormal


def _read_store(store: Store) -> pd.DataFrame:
    if not store.findings:
        raise ScarceError(
            "findings", f"the store {store.path} without any label", "give a file of labels, with a column for each"
        )
    return store.table[store.findings].fillna(_CODES["not mentioned"]).astype(np.int8)


def _read_file(
    store: Store, path: Path, id_column: str | None, findings: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Codes by finding, (n, findings) int8 in the store's order, and notes on how they came about."""
    rows = read_table(path)
    joined = _join(store, rows, path, id_column)
    others = [name for name in rows if name != joined.column]
    _check_known("finding", findings, others, str(path))
    codes = {name: _encode(rows[name]) for name in others}
    usable = [name for name, column in codes.items() if name in findings or _looks_like_labels(name, column)]
    if not usable:
        raise ScarceError(
            f"a column of labels (1, 0, -1 or nothing) in {path}",
            f"columns there: {', '.join(rows)}",
            "add one, named after the finding, or name the findings",
        )
    notes = [_describe_join(joined, path)]
    unused = [name for name in others if name not in usable]
    if unused:
        notes.append(f"columns that are no findings: {', '.join(unused)}")
    for film, what in ((_NONE, "match no film of the store"), (_SEVERAL, "match several films and are left out")):
        wrong = rows.loc[joined.films == film, joined.column]
        if len(wrong):
            notes.append(f"{len(wrong):,} rows {what}: {_examples(wrong)}")
    for name in usable:
        wrong = rows.loc[codes[name] == _CODES["unreadable"], name]
        if len(wrong):
            notes.append(f"{len(wrong):,} values of {name} are no labels and are left out: {_examples(wrong.unique())}")
    found = joined.films >= 0
    table = pd.DataFrame({name: _merge(joined.films[found], codes[name][found], len(store)) for name in usable})
    rowless = int((table[usable[0]] == _CODES["without a row"]).sum())
    if rowless:
        notes.append(f"{rowless:,} films have no row: their labels stay empty")
    contradicting = int((table == _CODES["contradicting"]).sum().sum())
    if contradicting:
        notes.append(f"{contradicting:,} labels contradict another row of the same film and are left out")
    return table, notes


def _encode(column: pd.Series) -> np.ndarray:
    """(m,) int8 codes of what the cells say."""
    return column.str.lower().map(_WORDS).fillna(_CODES["unreadable"]).to_numpy(dtype=np.int8)


def _looks_like_labels(name: str, codes: np.ndarray) -> bool:
    said = codes[codes != _CODES["not mentioned"]]
    return name.lower() not in COLUMNS and bool(len(said)) and (said != _CODES["unreadable"]).mean() > 0.5


def _merge(films: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """One code a film, (count,) int8: what its rows agree on, empty cells aside.

    Args:
        films: (m,) the film of each row.
        codes: (m,) what the row says.
        count: how many films there are.
    """
    says = codes != _CODES["not mentioned"]
    lowest, highest = np.full(count, np.iinfo(np.int8).max, np.int8), np.full(count, np.iinfo(np.int8).min, np.int8)
    np.minimum.at(lowest, films[says], codes[says])
    np.maximum.at(highest, films[says], codes[says])
    merged = np.full(count, _CODES["without a row"], np.int8)
    merged[films] = _CODES["not mentioned"]
    merged[lowest == highest] = lowest[lowest == highest]
    merged[lowest < highest] = _CODES["contradicting"]
    return merged


# In place of a film's row in the store.
_NONE, _SEVERAL = -1, -2


class _Join(NamedTuple):
    """How a file's rows were matched to films.

    Attributes:
        column: the file's column.
        kind: what of the films it holds.
        films: (m,) the film of each row, or why there is none.
    """

    column: str
    kind: str
    films: np.ndarray


def _join(store: Store, rows: pd.DataFrame, path: Path, id_column: str | None) -> _Join:
    """Finds the column, and the way to read it, that match the most rows to a film."""
    if id_column is not None:
        _check_known("column", [id_column], list(rows), str(path))
    ids = store.table["image_id"]
    names = original_names(store.path)
    known = {"image_ids": ids} if names is None else {"image_ids": ids, "original names": names.reindex(ids).fillna("")}
    best = None
    for kind, films in known.items():
        for without_suffix, read in ((False, _as_path), (True, _as_stem)):
            index = _Index(films, read)
            for column in rows if id_column is None else [id_column]:
                found = rows[column].map({text: index.find(text) for text in rows[column].unique()}).to_numpy()
                if best is None or (found >= 0).sum() > (best.films >= 0).sum():
                    best = _Join(column, kind + " without their suffix" * without_suffix, found)
    if not (best.films >= 0).any():
        column = id_column or rows.columns[0]
        private = "" if names is not None else "; original names are unknown without the store's private folder"
        raise ScarceError(
            f"a column of image_ids or original names of films in {path}",
            f"e.g. {rows[column].iloc[0]!r} in {column!r} for the film {known[kind].iloc[0]!r}{private}",
            "name the column that holds them, or check that the labels belong to this store",
        )
    return best


def _as_path(text: str) -> tuple[str, ...]:
    return PurePosixPath(text.replace("\\", "/")).parts


def _as_stem(text: str) -> tuple[str, ...]:
    # Only a picture's suffix goes: a DICOM identifier has points of its own.
    suffix = next((suffix for suffix in _SUFFIXES if text.lower().endswith(suffix)), "")
    return _as_path(text[: len(text) - len(suffix)])


class _Index:
    """Films by their paths' parts.

    Args:
        names: the films' paths, in the order of their rows.
        read: takes a path to parts.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], tuple[str, ...]]) -> None:
        self.read = read
        self.wholes: dict[tuple[str, ...], int] = {}
        self.ends: dict[tuple[str, ...], int] = {}
        for row, name in enumerate(names):
            parts = read(name)
            for known, keys in ((self.wholes, [parts]), (self.ends, _ends(parts))):
                for key in filter(None, keys):
                    known[key] = _SEVERAL if key in known else row

    def find(self, text: str) -> int:
        """The film whose path is this one, or ends in it, or is its end; otherwise why there is none."""
        parts = self.read(text)
        if parts in self.wholes:
            return self.wholes[parts]
        ends = [self.wholes[end] for end in _ends(parts) if end in self.wholes]
        found = {*ends, self.ends.get(parts, _NONE)} - {_NONE}
        return _SEVERAL if len(found) > 1 else found.pop() if found else _NONE


def _ends(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The parts, and what is left of them without the first, the first two, ..."""
    return [parts[start:] for start in range(len(parts))]


def _describe_join(joined: _Join, path: Path) -> str:
    matched = int((joined.films >= 0).sum())
    films = len(np.unique(joined.films[joined.films >= 0]))
    return (
        f"labels read from {path.name}: column {joined.column!r} matched to the films' {joined.kind},"
        f" {matched:,} of {len(joined.films):,} rows, {films:,} films"
    )


def _examples(values: Iterable[str]) -> str:
    return ", ".join(repr(value) for value in list(values)[:3])


def _is_no_finding(name: str) -> bool:
    return name.lower().replace("_", " ").replace("-", " ") in _NO_FINDING


def _check_policy(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ScarceError(f"{name}: {', '.join(known)}", f"{name} = {value!r}", "choose one of them")


def _check_known(what: str, names: Iterable[str], known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            lower = {other.lower(): other for other in reversed(known)}
            close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
            raise ScarceError(
                f"a {what} of {where}: {', '.join(known)}",
                repr(name),
                f"did you mean {lower[close[0]]!r}?" if close else "choose one of them",
            )
