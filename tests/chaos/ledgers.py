"""Append-only ledgers: one JSON object a line, on disk before the next step."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


class Ledger:
    """A file with one writing process; a line survives every crash once ``write`` has returned."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **fields: Any) -> None:
        """Append a line with the time and sync it."""
        line = {"at": now().isoformat(), **fields}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; none if the file does not exist."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)


def moment(text: str) -> datetime:
    """A time of a ledger."""
    return datetime.fromisoformat(text)
