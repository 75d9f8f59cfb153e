"""The log files: append-only, truncated when they are too large."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 20_000_000
TAIL = 8192  # bytes


def open_log(path: Path) -> BinaryIO:
    """Open for appending, so that a writer continues at the new end after a truncation."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb")


def rotate(path: Path) -> None:
    """Copy a file that is too large to PATH.1 and truncate it. The writer keeps its file; lines that it writes in
    between may be lost, which costs less than a reopening in every program."""
    if path.exists() and path.stat().st_size > MAX_BYTES:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


def last_line(path: Path) -> str:
    """The last line that is not blank."""
    lines = tail(path, 1)
    return lines[0].strip() if lines else "(empty)"


def tail(path: Path, count: int) -> list[str]:
    """The last ``count`` lines that are not blank, oldest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL - 200 * count))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
