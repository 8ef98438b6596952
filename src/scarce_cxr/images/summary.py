"""What stands in a store, in numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scarce_cxr.images.splits import patients_of
from scarce_cxr.images.store import Store


class FindingCount(NamedTuple):
    """How often a finding is present (1), uncertain (-1) and mentioned at all, in films, and in how many patients."""

    finding: str
    present: int
    uncertain: int
    mentioned: int
    patients: int


@dataclass(frozen=True)
class Summary:
    """What a preparation has done.

    Attributes:
        store: the finished store.
        films: how many it holds.
        decoded: how many files this call opened; 0 where the store was finished before.
        skipped: how many files were left out, by reason.
        smaller: films with fewer pixels than the store's, which were enlarged.
        identical: films whose decoded pixels occur more than once.
        patients: how many; a film of an unknown patient counts as one.
        views: films by view.
        findings: counts by finding.
        megabytes: size of the store's folder.
        seconds: what this call took.
        notes: what the source had to say.
    """

    store: Store
    films: int
    decoded: int
    skipped: dict[str, int]
    smaller: int
    identical: int
    patients: int
    views: dict[str, int]
    findings: list[FindingCount]
    megabytes: float
    seconds: float
    notes: list[str]


def summarise(
    store: Store, skipped: Sequence[Mapping[str, str]], decoded: int, seconds: float, notes: Sequence[str]
) -> Summary:
    """Counts what a finished store holds and lacks.

    Args:
        store: the store.
        skipped: rows with `path` and `reason`; reasons that differ behind a colon count together.
        decoded, seconds, notes: as in `Summary`.
    """
    table = store.table
    return Summary(
        store=store,
        films=len(store),
        decoded=decoded,
        skipped=dict(Counter(row["reason"].split(":")[0] for row in skipped).most_common()),
        smaller=int((table[["crop_height", "crop_width"]].min(axis=1) < store.size).sum()),
        identical=int(table["sha256"].duplicated(keep=False).sum()),
        patients=len(set(patients_of(table))),
        views=table["view"].value_counts().to_dict(),
        findings=count_findings(store),
        megabytes=sum(path.stat().st_size for path in store.path.iterdir()) / 1e6,
        seconds=seconds,
        notes=list(notes),
    )


def count_findings(store: Store) -> list[FindingCount]:
    """Counts every finding of a store, in the order of its columns."""
    patients = patients_of(store.table)
    counts = []
    for finding in store.findings:
        labels = store.table[finding]
        present = labels.eq(1).fillna(False).to_numpy(dtype=bool)
        uncertain = int(labels.eq(-1).fillna(False).sum())
        mentioned = int(labels.notna().sum())
        counts.append(FindingCount(finding, int(present.sum()), uncertain, mentioned, len(set(patients[present]))))
    return counts
