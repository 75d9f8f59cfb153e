"""up, down, status, logs, restart, stop, start, scale, env."""

import argparse
import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_launcher.control import NotRunning, SupervisorClient, supervisor_running
from sluice_launcher.logs import tail
from sluice_launcher.roles import ALL_ROLES, SERVICES
from sluice_launcher.scaling import parse_scale, process_name, read_scale, role_of
from sluice_launcher.settings import LauncherSettings, read_settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

NAMES = (*SERVICES, *(role.name for role in ALL_ROLES))
COLUMNS = ("name", "pid", "address", "state", "memory", "restarts", "last_exit")
READY_SECONDS = 30.0
FOLLOW_SECONDS = 0.2


def register(subparsers: "Subparsers") -> None:
    _register_up(subparsers)
    _command(subparsers, "down", run_down, "stop everything that `sluice up` started, and nothing else")
    status = _command(subparsers, "status", run_status, "list the processes: pid, address, state, memory, restarts")
    status.add_argument("--json", action="store_true", help="print JSON")
    logs = _command(subparsers, "logs", run_logs, "print the output of the processes")
    logs.add_argument("name", nargs="?", metavar="NAME", help="only this log: a process, supervisor or setup")
    logs.add_argument("-f", "--follow", action="store_true", help="continue until Ctrl-C")
    logs.add_argument(
        "-n", "--lines", type=within(int, 0, 1_000_000), default=20, help="lines of each (default %(default)s)"
    )
    restart = _command(subparsers, "restart", run_restart, "stop one process and start it again")
    restart.add_argument("--wipe", action="store_true", help="delete its data before the start (kafka and redis only)")
    stop = _command(subparsers, "stop", run_stop, "stop one process and leave it stopped")
    start = _command(subparsers, "start", run_start, "start a stopped process")
    for command in (restart, stop, start):
        command.add_argument(
            "name",
            metavar="NAME",
            type=_process,
            help=f"{', '.join(NAMES)}: all processes of that role; email-worker-2: one of several",
        )
    scale = _command(subparsers, "scale", run_scale, "change how many processes of a role run, or show it")
    scale.add_argument("numbers", nargs="*", metavar="ROLE=N", help="such as email-worker=3")
    _command(subparsers, "env", run_env, "print the addresses of the running system as export lines")


def run_up(options: argparse.Namespace) -> int:
    settings = read_settings(os.environ)
    progress = _Progress()
    if supervisor_running(settings.data_dir):
        return _already_up(SupervisorClient(settings.data_dir), progress, parse_scale(options.scale))
    return _bring_up(settings, options, progress)


def run_down(options: argparse.Namespace) -> int:
    from sluice_launcher.teardown import stop_all

    ended = stop_all(read_settings(os.environ).data_dir)
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running")
    return 0


def run_status(options: argparse.Namespace) -> int:
    status = _control().status()
    print(json.dumps(status, indent=2) if options.json else _table(status["processes"]))
    return 0


def run_logs(options: argparse.Namespace) -> int:
    paths = _log_paths(read_settings(os.environ).data_dir / "logs", options.name)
    width = max(len(path.stem) for path in paths) if len(paths) > 1 else 0
    for path in paths:
        for line in tail(path, options.lines):
            print(_log_line(path, line, width))
    if options.follow:
        sys.stdout.flush()
        for path, line in _follow(paths):
            print(_log_line(path, line, width), flush=True)
    return 0


def run_restart(options: argparse.Namespace) -> int:
    _control().restart(options.name, wipe=options.wipe)
    print(f"{options.name} was restarted{' without its data' if options.wipe else ''}")
    return 0


def run_stop(options: argparse.Namespace) -> int:
    _control().stop(options.name)
    print(f"{options.name} is stopped")
    return 0


def run_start(options: argparse.Namespace) -> int:
    _control().start(options.name)
    print(f"{options.name} is ready")
    return 0


def run_scale(options: argparse.Namespace) -> int:
    wanted = parse_scale(options.numbers)
    for name, number in _control().scale(wanted).items():
        if not wanted or name in wanted:
            print(f"{name:<12} {number}")
    return 0


def run_env(options: argparse.Namespace) -> int:
    for name, value in _control().environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _register_up(subparsers: "Subparsers") -> None:
    up = _command(subparsers, "up", run_up, "start PostgreSQL, Redis, Kafka and the roles, and supervise them")
    up.add_argument("--foreground", action="store_true", help="stay in the foreground; Ctrl-C stops everything")
    names = partial(_names, allowed=SERVICES)
    up.add_argument(
        "--scale",
        action="append",
        default=[],
        metavar="ROLE=N",
        help="run N processes of a role (repeatable); kept for later starts",
    )
    up.add_argument("--services", type=names, default=SERVICES, help="only these, separated by commas")
    names = partial(_names, allowed=tuple(role.name for role in ALL_ROLES))
    up.add_argument("--roles", type=names, default=None, help="only these, separated by commas; '' for none")


def _command(subparsers: "Subparsers", name: str, run: Any, help: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    return parser


def _names(text: str, *, allowed: Collection[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(allowed)}")
    return names


def _process(name: str) -> str:
    if name not in NAMES and role_of(name)[0] not in NAMES:
        raise argparse.ArgumentTypeError(f"there is no process called {name}; there are {', '.join(NAMES)}")
    return name


def _control() -> SupervisorClient:
    return SupervisorClient(read_settings(os.environ).data_dir)


# up


class _Progress:
    """Prints one line per step, with the seconds since the start of the command."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a report that cannot be written must not end a start
            print(f"{time.monotonic() - self._began:5.1f} s  {text}", flush=True)


def _bring_up(settings: LauncherSettings, options: argparse.Namespace, progress: _Progress) -> int:
    from sluice_launcher.launch import exclusive_lock, launch, supervise
    from sluice_launcher.plan import make_directories, make_plan

    if os.environ.get("SLUICE_POSTGRES_DSN") and "postgres" not in settings.external:
        raise SluiceError(
            "SLUICE_POSTGRES_DSN is the address for one role: give the owner's in SLUICE_POSTGRES_OWNER_DSN to use "
            "your own PostgreSQL, or unset it"
        )
    scale = parse_scale(options.scale)
    make_directories(settings)
    with exclusive_lock(settings.data_dir / "run/up.lock"):
        if supervisor_running(settings.data_dir):
            return _already_up(SupervisorClient(settings.data_dir), progress, scale)
        plan = make_plan(
            settings,
            progress,
            services=options.services,
            roles=options.roles,
            scale=_scale_of(settings, options.roles, scale),
        )
        if not options.foreground:
            launch(plan, progress)
            return 0
    supervise(plan, progress)
    return 0


def _scale_of(settings: LauncherSettings, roles: Collection[str] | None, wanted: dict[str, int]) -> dict[str, int]:
    """The numbers of the command line, and for the other roles those that ran last."""
    stored = read_scale(settings.data_dir)
    return {name: number for name, number in stored.items() if roles is None or name in roles} | wanted


def _already_up(control: SupervisorClient, progress: _Progress, scale: dict[str, int] | None = None) -> int:
    """Wait for a start in progress, start what does not run, scale, and wait until everything is ready."""
    _wait_until_started(control)
    for row in control.status()["processes"]:
        if row["state"] in ("stopped", "crashed"):
            control.start(row["name"])
            progress(f"{row['name']} was {row['state']} and is started again")
    if scale:
        control.scale(scale)
        progress(", ".join(f"{name}: {number} processes" for name, number in scale.items()))
    deadline = time.monotonic() + READY_SECONDS
    while missing := control.not_ready():
        if time.monotonic() > deadline:
            raise SluiceError(f"running, but {', '.join(missing)} is not ready: see `sluice logs {missing[0]}`")
        time.sleep(0.2)
    progress("already running, and everything is ready")
    return 0


def _wait_until_started(control: SupervisorClient) -> None:
    """Raises NotRunning if the start fails."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if control.status()["phase"] == "running":
                return
        except NotRunning:
            # The supervisor holds its lock shortly before it listens.
            if time.monotonic() > deadline or not supervisor_running(control.data_dir):
                raise
        time.sleep(0.2)


# status


def _table(rows: Iterable[dict[str, Any]]) -> str:
    lines = [[column.replace("_", " ") for column in COLUMNS]]
    lines += [[_cell(column, row[column]) for column in COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(column: str, value: object) -> str:
    if value is None:
        return "-"
    return f"{int(str(value)) / 1e6:.0f} MB" if column == "memory" else str(value)


# logs


def _log_paths(directory: Path, name: str | None) -> list[Path]:
    paths = sorted(directory.glob("*.log"), key=lambda path: role_of(path.stem))
    if name is None:
        return paths
    role, number = role_of(name)
    found = [path for path in paths if path.stem == process_name(role, number) or role_of(path.stem)[0] == name]
    if not found:
        known = ", ".join(path.stem for path in paths) or "none yet"
        raise SluiceError(f"there is no log of {name} in {directory}; there are: {known}")
    return found


def _log_line(path: Path, line: str, width: int) -> str:
    """``width``: of the names in front of the lines; 0 for none."""
    return f"{path.stem:<{width}} | {line}" if width else line


def _follow(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Every line that is written after this call."""
    positions = {path: path.stat().st_size for path in paths}
    while True:
        for path, position in positions.items():
            lines, positions[path] = _lines_since(path, position)
            yield from ((path, line) for line in lines)
        time.sleep(FOLLOW_SECONDS)


def _lines_since(path: Path, position: int) -> tuple[list[str], int]:
    """The complete lines after a position, and the position after them; from the start if the file was truncated."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < position:
            position = 0
        file.seek(position)
        written = file.read()
    whole = written[: written.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), position + len(whole)
