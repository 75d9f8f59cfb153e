"""The call log: the calls that a fake provider received, one JSON object a line, only ever appended."""

from __future__ import annotations

import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

import orjson

MAX_LINES = 10_000  # lines kept in memory, for the control port and for tests


class CallLog:
    """Lines to a file (none without ``path``), each passed to the operating system before ``write`` returns.

    The file survives the end of this and every other process; only a crash of the machine can lose lines.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.lines: deque[dict[str, Any]] = deque(maxlen=MAX_LINES)
        self.written = 0
        self._file = _open(path) if path else None

    def write(self, **fields: Any) -> None:
        """Add a line; ``n``, ``mono`` (seconds) and ``at`` are set here."""
        self.written += 1
        moment = datetime.fromtimestamp(time(), UTC)
        line = {"n": self.written, "mono": monotonic(), "at": moment, **fields}
        self.lines.append(line)
        if self._file is not None:
            os.write(self._file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
