"""Append-only ledgers: one JSON object a line, on disk before the next step is taken."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Written by one process. A line that ``write`` has returned from survives every kill and every crash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **fields: Any) -> None:
        line = {"at": now().isoformat(), **fields}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; none when nothing was ever written."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
