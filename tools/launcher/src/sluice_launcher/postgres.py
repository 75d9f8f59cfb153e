"""PostgreSQL as a child process: one cluster in the data directory, on 127.0.0.1 only."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice.store.logins import scram_verifier
from sluice_launcher import probes
from sluice_launcher.plan import HOST, OWNER, Plan, addresses
from sluice_launcher.process_spec import ProcessSpec, Run
from sluice_launcher.scaling import POSTGRES_CONNECTIONS

SUPERUSER = "postgres"
"""For backups and repairs by hand; no process of Sluice uses it."""

NOBODY = 65534

# Megabytes. A commit that needs a new segment fills it with zeroes while all others wait: 50 to 80 ms every 3 to 10
# seconds under load with the usual 16, 20 ms with 4.
WAL_SEGMENT = 4
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": str(POSTGRES_CONNECTIONS),
    "shared_buffers": "128MB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}
# The data of a test need not survive a crash of the machine.
TESTING = {
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


def spec(plan: Plan) -> ProcessSpec:
    """The process as the plan wants it."""
    data = plan.data_dir / "postgres"
    settings = SETTINGS | (TESTING if plan.testing else {}) | {"port": str(plan.ports["postgres"])}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return ProcessSpec(
        name="postgres",
        kind="service",
        command=[plan.programs["postgres"] / "postgres", "-D", data, *options],
        wrapper=wrapper_for_root(data),
        address=addresses(plan)["postgres"],
        probe=partial(probes.postgres, HOST, plan.ports["postgres"]),
        prepare=partial(_initialize, plan, data),
        # Fast shutdown: disconnect the clients, write a checkpoint, end.
        stop_signal=signal.SIGINT,
        # Its backends are processes of their own: it must be able to stop them.
        parent_death_signal=signal.SIGQUIT,
    )


@cache
def wrapper_for_root(data: Path) -> Sequence[str]:
    """The words before PostgreSQL's commands under root, which it refuses; none otherwise.

    In a user namespace it sees another uid while its files stay root's; where namespaces are forbidden it runs as the
    user `nobody`, who must be able to reach the files.

    Raises:
        SluiceError: neither works.
    """
    if os.getuid() != 0:
        return ()
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    if not _belongs_to_nobody(data) and _works((*namespace, "true")):
        return namespace
    nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    _give_to_nobody(data)
    if _works((*nobody, "test", "-r", str(data))):
        return nobody
    raise SluiceError(
        "PostgreSQL refuses to run as root, and there are no user namespaces here: run as another user, "
        "set SLUICE_DATA_DIR to a directory that every user can reach, or give an address in SLUICE_POSTGRES_OWNER_DSN"
    )


async def _initialize(plan: Plan, data: Path, run: Run) -> None:
    """Create the cluster and its database once; an interrupted creation starts again."""
    made = data.with_name("postgres.made")
    if made.exists():
        return
    programs = plan.programs["postgres"]
    _empty(data)
    login = ["-A", "trust"] if plan.testing else [f"--pwfile={_password_file(data)}", "-A", "scram-sha-256"]
    speed = ["--no-sync"] if plan.testing else []
    await run(
        [
            programs / "initdb",
            "-D",
            data,
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            f"--wal-segsize={WAL_SEGMENT}",
            *login,
            *speed,
        ]
    )
    statements = _statements_file(plan, data)
    await run(["sh", "-c", '"$0" --single -D "$1" postgres < "$2"', programs / "postgres", data, statements])
    statements.unlink()
    made.touch()


def _statements_file(plan: Plan, data: Path) -> Path:
    """The statements that create the owner, a line each, in a file that only PostgreSQL's user can read.

    The owner creates the logins of the roles; for tests also databases.
    """
    verifier = scram_verifier(plan.postgres_passwords[OWNER])
    testing = " CREATEDB IN ROLE pg_signal_backend" if plan.testing else ""
    path = data / "create-owner.sql"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{verifier}'{testing}\n")
        file.write(f"CREATE DATABASE sluice OWNER {OWNER}\n")
    owner = data.stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    return path


def _empty(data: Path) -> None:
    """The directory itself stays: it may belong to `nobody` in a directory of root."""
    for entry in data.iterdir() if data.exists() else ():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _give_to_nobody(data: Path) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    data.parent.chmod(0o711)
    for path in (data, _password_file(data)):
        if path.exists():
            os.chown(path, NOBODY, NOBODY)


def _belongs_to_nobody(data: Path) -> bool:
    """Whether it was created without namespaces."""
    return data.exists() and data.stat().st_uid == NOBODY


def _password_file(data: Path) -> Path:
    return data.with_name("postgres.password")


def _works(command: Sequence[str]) -> bool:
    try:
        return (
            subprocess.run(  # noqa: S603
                command, capture_output=True, timeout=10, check=False
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
