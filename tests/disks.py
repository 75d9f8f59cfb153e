"""Small file systems that a test can fill."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own in memory, such as ``24m``; the test is skipped where none can be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more fits; returns the file to delete."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, (free.f_bavail - 64) * free.f_bsize))
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return ballast
