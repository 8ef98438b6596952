"""Common names for the collections' findings, by a mapping that users may change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.sources.lists import digest, read_yaml
from scarce_cxr.images.sources.records import Listing, Source
from scarce_cxr.images.store import COLUMNS

NAMES = Path(__file__).with_name("common_names.yaml")


class CommonNames:
    """A source whose findings bear common names.

    Args:
        source: whose findings are renamed.
        names: a changed copy of `common_names.yaml`.

    Raises:
        ScarceError: the file holds something else, or a name that is taken by another column of the table.
    """

    def __init__(self, source: Source, names: Path | None = None) -> None:
        self._source = source
        self._mapping = _read_mapping(NAMES if names is None else names, source.name)
        self.name = source.name
        self.patients_of = getattr(source, "patients_of", source.name)

    def settings(self) -> dict[str, Any]:
        return {**self._source.settings(), "names": digest(self._mapping)}

    def read(self, pseudonym: Callable[[str], str]) -> Listing:
        """Lists the source's films; a finding that several of its own stand for is the worst of them."""
        listing = self._source.read(pseudonym)
        own = {finding: self._mapping.get(finding, [finding]) for finding in listing.findings}
        members: dict[str, list[str]] = {}
        for finding, names in own.items():
            for name in names:
                members.setdefault(name, []).append(finding)
        records = [
            replace(
                record,
                findings=merge(record.findings, members),
                boxes=tuple(
                    replace(box, finding=name) for box in record.boxes for name in own.get(box.finding, [box.finding])
                ),
            )
            for record in listing.records
        ]
        renamed = sum(names != [finding] for finding, names in own.items())
        notes = [*listing.notes, f"{renamed} of {len(own)} findings bear common names"]
        return replace(listing, records=records, findings=list(members), notes=notes)


def merge(findings: Mapping[str, int], members: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The labels of common findings.

    Args:
        findings: 1, 0 or -1 of a source's own findings; what is not mentioned is missing.
        members: the own findings that each common one stands for.

    Returns:
        1 if any member is 1, otherwise -1 if any is -1, otherwise 0 if all are 0; missing otherwise.
    """
    merged = {}
    for name, own in members.items():
        values = [findings.get(finding) for finding in own]
        if 1 in values:
            merged[name] = 1
        elif -1 in values:
            merged[name] = -1
        elif None not in values:
            merged[name] = 0
    return merged


def _read_mapping(path: Path, source: str) -> dict[str, list[str]]:
    mapping = {}
    for own, common in (read_yaml(path).get(source) or {}).items():
        names = common if isinstance(common, list) else [common]
        if not names or not all(isinstance(name, str) and name for name in [own, *names]):
            raise ScarceError(
                f"names as the common ones of {own} in {path}", repr(common)[:80], 'put it in quotes ("1")'
            )
        taken = [name for name in names if name in COLUMNS]
        if taken:
            raise ScarceError(
                f"names other than the table's own columns in {path}", f"{taken[0]} for {own}", "choose another"
            )
        mapping[own] = names
    return mapping
