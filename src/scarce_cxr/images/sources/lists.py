"""What users may choose of a source: one of several words, or a changed copy of a list that the package ships."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scarce_cxr.errors import ScarceError


def choose(setting: str, value: str, words: Sequence[str]) -> None:
    """Refuses a setting that is none of its words.

    Raises:
        ScarceError: it is none of them.
    """
    if value not in words:
        raise ScarceError(f"{setting}: {', '.join(words)}", f"{setting} = {value}", "choose one of them")


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds a mapping.

    Raises:
        ScarceError: it is missing, is no YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScarceError(
            f"a YAML file {path}", str(error).replace("\n", " "), "mend it, or copy the shipped one"
        ) from None
    if not isinstance(content, dict):
        raise ScarceError(f"names and lists in {path}", type(content).__name__, "copy the shipped file and change it")
    return content


def read_lists(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Reads a YAML file of lists of texts; a list may be divided into named groups, which are joined.

    Args:
        path: the file.
        names: the lists that it may have; those that it lacks are empty.

    Raises:
        ScarceError: another name stands there, or something that is no list of texts.
    """
    content = read_yaml(path)
    unknown = sorted(str(name) for name in content if name not in names)
    if unknown:
        raise ScarceError(f"the lists {', '.join(names)} in {path}", f"also {', '.join(unknown)}", "remove it")
    return {name: _texts(path, name, content.get(name) or []) for name in names}


def digest(content: Mapping[str, Any]) -> str:
    """16 hex digits that change with the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _texts(path: Path, name: str, content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for group in content.values() for text in _texts(path, name, group or [])]
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise ScarceError(f"a list of texts as {name} in {path}", repr(content)[:80], 'put the others in quotes ("1")')
    return content
