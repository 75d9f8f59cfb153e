"""The log files: appended to, cut off when they grow too large."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

LARGEST = 20_000_000
TAIL = 8192


def open_log(path: Path) -> BinaryIO:
    """For appending: so that a file which is cut off under its writer goes on at its new end."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb")


def rotate(path: Path) -> None:
    """Move what is there into PATH.1 when it is too much. The writer keeps its file; a line or two
    that it writes in between may be lost, which is less than asking every program to open its log anew."""
    if path.exists() and path.stat().st_size > LARGEST:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


def last_line(path: Path) -> str:
    lines = tail(path, 1)
    return lines[0].strip() if lines else "(empty)"


def tail(path: Path, count: int) -> list[str]:
    """The last lines that say anything, oldest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL - 200 * count))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]
