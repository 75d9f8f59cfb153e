"""The passwords of the servers that the launcher starts."""

import os
import secrets
from pathlib import Path


def password(path: Path) -> str:
    """The password in the file, created (mode 600) at the first call.

    The servers listen on 127.0.0.1, which every user of the machine can reach.
    """
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password := secrets.token_urlsafe(24))
        return password


def write_private(path: Path, text: str) -> None:
    """Write the file with mode 600, whatever its mode was."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
