"""A backup on disk: a directory with the dump of the database, a manifest, and if wanted the encryption key.

backup/
├── manifest.json     what it is: time, versions, migrations, digest of the dump, ids of the encryption keys
├── database.dump     `pg_dump --format=custom`
└── credentials.key   with --with-key only
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from sluice.runtime.errors import SluiceError

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "database.dump"
KEY = "credentials.key"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup contains. ``taken_at`` is by the database's clock, before the dump began."""

    format: int
    sluice_version: str
    taken_at: datetime
    postgres_major: int
    migrations: list[str]
    encryption_key_ids: list[str]  # of what is encrypted in it
    sha256: str  # of the dump

    def write(self, directory: Path) -> None:
        """Store it."""
        fields = asdict(self) | {"taken_at": self.taken_at.isoformat()}
        with private_file(directory / MANIFEST) as file:
            file.write(json.dumps(fields, indent=2).encode() + b"\n")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Load it, and compare the dump with its digest.

        Raises:
            SluiceError: the directory is no backup, or its dump is damaged.
        """
        try:
            fields = json.loads((directory / MANIFEST).read_text("utf-8"))
            manifest = cls(**fields | {"taken_at": datetime.fromisoformat(fields["taken_at"])})
            digest = digest_of(directory / DUMP)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SluiceError(f"{directory} is not a backup of Sluice: {error or type(error).__name__}") from None
        if manifest.format != FORMAT:
            raise SluiceError(f"{directory} has the format {manifest.format}, and this version reads {FORMAT}")
        if digest != manifest.sha256:
            raise SluiceError(f"{directory / DUMP} is damaged: its SHA-256 is not that of the manifest")
        return manifest


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory that gets its name when the block has succeeded, so that a name always means a whole backup.

    Raises:
        SluiceError: the name is taken, or nothing can be written there.
    """
    if path.exists():
        raise SluiceError(f"{path} exists: name a new directory")
    draft = path.with_name(f"{path.name}.partial")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        yield draft
        draft.rename(path)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise SluiceError(f"the backup cannot be written to {path}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def private_file(path: Path) -> Iterator[Any]:
    """A new file that only its owner can read, on the disk when the block ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dump(dsn: str, directory: Path, *, server_major: int) -> None:
    """Write a dump of the database as of one moment. ``dsn`` is that of the owner of the tables.

    Raises:
        SluiceError: there is no suitable pg_dump, or it fails.
    """
    options = ["--format=custom", "--no-owner", "--no-privileges", "--enable-row-security"]
    with private_file(directory / DUMP) as file:
        _run([_program("pg_dump", server_major), *options], dsn, stdout=file)


def load(directory: Path, dsn: str, *, major: int) -> None:
    """Load a dump into an empty database, all of it or nothing. ``major``: of the PostgreSQL that dumped.

    The policies of row-level security are omitted: they name the owner, and `sluice migrate` creates them.

    Raises:
        SluiceError: there is no suitable pg_restore, or it fails.
    """
    program = _program("pg_restore", major)
    contents = _run([program, "--list", directory / DUMP], dsn, stdout=subprocess.PIPE).decode()
    wanted = directory / f"restore-{os.getpid()}.list"
    try:
        wanted.write_text("".join(line for line in contents.splitlines(keepends=True) if " POLICY " not in line))
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", f"--use-list={wanted}"]
        _run([program, *options, f"--dbname={_libpq(dsn)[0]}", directory / DUMP], dsn, stdout=subprocess.DEVNULL)
    finally:
        wanted.unlink(missing_ok=True)


def _run(command: Sequence[str | Path], dsn: str, *, stdout: Any) -> bytes:
    """The output, if ``stdout`` is a pipe. The password is in the environment: arguments are visible to all users."""
    address, secret = _libpq(dsn)
    places = [f"--dbname={address}"] if Path(command[0]).name == "pg_dump" else []
    done = subprocess.run(  # noqa: S603
        [*map(str, command), *places],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C", **({"PGPASSWORD": secret} if secret else {})},
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise SluiceError(f"{Path(command[0]).name} failed: {lines[0] if lines else f'exit {done.returncode}'}")
    return done.stdout or b""


def _libpq(dsn: str) -> tuple[str, str | None]:
    """The address without its password, and the password."""
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, None
    user, _, place = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{place}").geturl(), unquote(parts.password)


def _program(name: str, major: int) -> Path:
    """The first program of that name that is not older than ``major``.

    Raises:
        SluiceError: there is none.
    """
    for candidate in _candidates(name):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            shown = subprocess.run(  # noqa: S603
                [candidate, "--version"], capture_output=True, text=True, timeout=30, check=True
            ).stdout
            found = re.search(r"\) (\d+)", shown)
            if found and int(found[1]) >= major:
                return candidate
    raise SluiceError(f"{name} {major} or newer is needed: install the client programs of PostgreSQL {major}")


def _candidates(name: str) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found)
    try:
        from sluice_launcher.programs import postgres_directories
    except ModuleNotFoundError:
        return
    yield from (directory / name for directory in postgres_directories(os.environ.get("PATH", "")))
