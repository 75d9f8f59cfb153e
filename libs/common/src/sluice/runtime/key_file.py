"""The file of the encryption keys: created once per installation, and changed by a rotation."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from sluice.runtime.settings import read_key_file


def ensure_key_file(path: Path) -> None:
    """Create the key file (mode 600, 32 random bytes in base64) if there is none, and check it.

    Raises:
        SluiceError: the existing file may be read by others, or is no key.
        OSError: it cannot be created.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_line(secrets.token_bytes(32)))
    read_key_file(path)


def add_key(path: Path) -> None:
    """Put a new key in front of those in the file, so that it encrypts from now on.

    Raises:
        SluiceError: the file cannot be read, may be read by others, or contains no key.
        OSError: it cannot be written.
    """
    _replace(path, [secrets.token_bytes(32), *read_key_file(path)])


def remove_old_keys(path: Path) -> int:
    """Keep only the key that encrypts; returns how many were removed.

    Raises:
        SluiceError: the file cannot be read, may be read by others, or contains no key.
        OSError: it cannot be written.
    """
    keys = read_key_file(path)
    if len(keys) > 1:
        _replace(path, keys[:1])
    return len(keys) - 1


def _replace(path: Path, keys: Sequence[bytes]) -> None:
    """At once, so that no reader sees a part of it, and with the owner and the mode of the old file."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(_line(key) for key in keys)
        file.flush()
        os.fsync(file.fileno())
    before = path.stat()
    if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()):
        os.chown(draft, before.st_uid, before.st_gid)
    draft.replace(path)


def _line(key: bytes) -> bytes:
    return b64encode(key) + b"\n"
