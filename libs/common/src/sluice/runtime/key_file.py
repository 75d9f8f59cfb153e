"""The file of the encryption key, created once per installation."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
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
            file.write(b64encode(secrets.token_bytes(32)) + b"\n")
    read_key_file(path)
