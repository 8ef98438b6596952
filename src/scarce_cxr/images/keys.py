"""The user's private key, and the pseudonyms that it makes of names and numbers."""

import hashlib
import re
import secrets
from pathlib import Path

from scarce_cxr.errors import ScarceError
from scarce_cxr.images.atomic import written_whole


def pseudonym(key: str, *parts: str) -> str:
    """Names a patient, study or file without telling which: 16 hex digits of a keyed BLAKE2b.

    Args:
        key: hex digits of the secret; whoever lacks it cannot find an identifier by trying all of them.
        parts: e.g. the source's name, what is named ("patient") and the source's own identifier.
    """
    return keyed_digest(key, *parts)[:16]


def keyed_digest(key: str, *parts: str) -> str:
    """64 hex digits of a BLAKE2b over the parts, keyed with up to 64 bytes of hex digits `key`."""
    digest = hashlib.blake2b(key=bytes.fromhex(key), digest_size=32)
    for part in parts:
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def private_folder(store: Path) -> Path:
    """The folder beside a store, NAME.private, that must not leave with it."""
    # Made absolute, as a relative path may end without a name (".").
    absolute = Path(store).absolute()
    return absolute.with_name(absolute.name + ".private")


def choose_key(private: Path, key_file: Path | None = None) -> str:
    """The key of a private folder; where it has none yet, another store's, or a new one. Writes nothing.

    Args:
        private: the folder beside the store.
        key_file: another store's key, to give the same patients the same pseudonyms in both.

    Returns:
        The key's hex digits.

    Raises:
        ScarceError: `key_file` is missing or holds no key, or differs from the key that is already there.
    """
    kept = private / "key"
    given = None if key_file is None else _read(key_file)
    if not kept.exists():
        return given or secrets.token_hex(32)
    key = _read(kept)
    if given not in (None, key):
        raise ScarceError(
            f"the key that the store was begun with ({kept})", f"another one in {key_file}", "leave the setting key out"
        )
    return key


def keep_key(private: Path, key: str) -> None:
    """Writes the key into the private folder, readable by its owner alone, unless it is there already."""
    if (private / "key").exists():
        return
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    with written_whole(private / "key") as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(key + "\n", "ascii")


def _read(path: Path) -> str:
    try:
        key = path.read_text("ascii").strip().lower()
    except (OSError, ValueError) as error:
        raise ScarceError("a readable key file", f"{path} ({type(error).__name__})", "check the path") from None
    if not re.fullmatch(r"([0-9a-f]{2}){16,64}", key):
        raise ScarceError(
            "a key of 32 to 128 hex digits", f"something else in {path}", "give the file `key` of a store"
        )
    return key
