"""A few numbers that several processes see at once: what was sent, and what the sink has seen."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Self

SENT = (0, 1)  # by generator process
FAILED = (2, 3)  # sent, and not accepted
CALLS = 4  # at the sink
ACCEPTED = 5  # by the sink
_SIZE = 8


class Counters:
    """Each number has one writer, so no lock is needed."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * _SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * _SIZE)
        self._view = memoryview(self._map).cast("Q")

    def __getitem__(self, index: int) -> int:
        return self._view[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._view[index] = value

    def close(self) -> None:
        """Let go of the file."""
        self._view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
