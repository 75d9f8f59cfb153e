"""The secrets that the launcher makes: the credentials key and the passwords of the servers it starts."""

import os
import secrets
from base64 import b64encode
from pathlib import Path


def password(path: Path) -> str:
    """Made once and kept: the servers listen on 127.0.0.1, where every user of this machine can knock."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password := secrets.token_urlsafe(24))
        return password


def ensure_key_file(path: Path) -> None:
    """Make the credentials key where there is none; refuse one that others may read or that is no key."""
    from sluice.runtime.settings import read_key_file

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(b64encode(secrets.token_bytes(32)) + b"\n")
    read_key_file(path)
