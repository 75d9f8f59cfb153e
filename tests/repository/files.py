"""The repository as these tests read it."""

import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@cache
def tracked_files() -> list[Path]:
    """What git keeps; where this is no clone, everything that git would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def pinned(lock: str) -> dict[str, str]:
    """Name and version of every package that a lock file pins."""
    lines = (line.partition(" ")[0] for line in (ROOT / lock).read_text().splitlines() if line[:1].isalnum())
    pairs = (line.partition("==") for line in lines)
    return {name: version for name, _, version in pairs}


CHECKED = (
    "libs",
    "services",
    "tools",
    "tests",
    "bench",
    "deploy",
    "docs",
    "Makefile",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docker-compose.yml",
)


def checked_files() -> list[Path]:
    """The files whose style is checked."""
    return [path for path in tracked_files() if any(path.is_relative_to(ROOT / name) for name in CHECKED)]
