"""Two versions of the code, and an installation whose processes are of either."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sluice_launcher import parent_death_signal
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.logs import tail
from sluice_launcher.process_info import free_port
from sluice_launcher.roles import role

BUILD_SECONDS = 900.0
MIGRATIONS = "deploy/migrations"
READY_SECONDS = 240.0
STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Code:
    """A checkout with its own environment."""

    name: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ".venv/bin/python"


def require_same_migrations(checkout: Path, commit: str) -> None:
    """The migrations that both have are the same ones: only then does either code run on the schema of the other.

    Raises:
        SystemExit: there is no such commit, or one of its migrations was changed after it, or removed.
    """
    for path in _migrations_of(checkout, commit):
        file = checkout / path
        if file.exists() and file.read_bytes() == _git(checkout, commit, "show", f"{commit}:{path}"):
            continue
        changed = _git(checkout, commit, "log", "-1", "--format=%h", "--", path).decode().strip()
        raise SystemExit(
            f"FROM={commit}: {path} is another one there than in this checkout, so neither code runs on the schema of "
            f"the other: name {changed}, which changed it last, or a later commit"
        )


def adds_migrations(checkout: Path, commit: str) -> bool:
    """Whether the checkout has migrations that the commit lacks."""
    own = {file.relative_to(checkout).as_posix() for file in (checkout / MIGRATIONS).glob("*.sql")}
    return own > set(_migrations_of(checkout, commit))


def _migrations_of(checkout: Path, commit: str) -> list[str]:
    return _git(checkout, commit, "ls-tree", "-r", "--name-only", commit, "--", MIGRATIONS).decode().splitlines()


def _git(checkout: Path, commit: str, *words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=checkout, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"FROM={commit}: {done.stderr.decode().strip()}")
    return done.stdout


def build(checkout: Path, commit: str, folder: Path, progress: Callable[[str], None]) -> Code:
    """The commit in a folder of its own, with its own environment.

    Raises:
        SystemExit: there is no such commit, or its packages cannot be installed.
    """
    found = _git(checkout, commit, "archive", "--format=tar", commit)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(found)) as archive:
        archive.extractall(folder, filter="data")
    # A process group: at the time limit what the script has started ends with it.
    with subprocess.Popen(
        ["sh", "deploy/setup.sh"],
        cwd=folder,
        env={**os.environ, "PYTHON": sys.executable},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as script:
        try:
            _, errors = script.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(script.pid, signal.SIGKILL)
            raise SystemExit(f"FROM={commit} is not built within {BUILD_SECONDS:.0f} s") from None
    if script.returncode:
        raise SystemExit(f"FROM={commit} cannot be built: {errors.strip()}")
    progress(f"{commit} is built")
    return Code("old", folder)


class Installation:
    """Servers, and the roles that run on them, each of one code at a time."""

    def __init__(self, servers: LocalStack, folder: Path) -> None:
        self.faults: list[str] = []
        self.gateways: list[str] = []  # URLs, the one to use first in front
        self._servers = servers
        self.folder = folder
        self._processes: dict[str, tuple[asyncio.subprocess.Process, str]] = {}

    async def prepare(self, code: Code) -> None:
        """The key, the schema and the topics of this code."""
        await self._command(code, "generate-key")
        await self._command(code, "migrate", SLUICE_POSTGRES_OWNER_DSN=self._servers.addresses["postgres"])
        await self._command(code, "create-topics")

    async def configure(self, code: Code, host: str, port: int) -> str:
        """A project with a provider at this address; returns its API key."""
        slug = (await self._command(code, "project", "create", "Rolling")).strip()
        key = (await self._command(code, "key", "create", slug)).strip()
        credentials = json.dumps({"host": host, "port": port, "secure": False, "requireTLS": False})
        words = ("provider", "add", "provider-smtp", "simulator", "--key", key)
        await self._command(code, *words, stdin=credentials, SLUICE_API_URL=self.gateways[0])
        return key

    async def verify(self, code: Code, calls: Path) -> dict[str, Any]:
        """The report of `verify`, compared with the provider's log."""
        text = await self._command(code, "verify", "--json", "--call-log", str(calls), codes=(0, 1))
        found: dict[str, Any] = json.loads(text)
        return found

    async def start(self, code: Code, name: str) -> None:
        """Start a role and wait until it is ready.

        Raises:
            RuntimeError: it ends, or does not become ready; with the end of its log.
        """
        port, ops_port = free_port(), free_port()
        log = self.folder / f"{name}-{code.name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *parent_death_signal.prefix(signal.SIGKILL),
                str(code.python),
                *("-O", "-m", role(name).module),
                cwd=code.folder,
                env=self._environment(name, port, ops_port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._processes[name] = (process, code.name)
        has_ops_port = role(name).ops_port is not None
        await self._wait_ready(process, f"http://127.0.0.1:{ops_port if has_ops_port else port}/readyz", log)
        if name == "gateway":
            self.gateways.insert(0, f"http://127.0.0.1:{port}")

    async def replace(self, name: str, code: Code) -> None:
        """Start the other code's process of a role, then stop the one that ran; health is stopped first."""
        former, former_name = self._processes[name]
        if name == "health":
            await self._stop(name, former, former_name)
            await self.start(code, name)
            return
        await self.start(code, name)
        del self.gateways[1:]
        await self._stop(name, former, former_name)

    async def stop(self) -> None:
        """Stop all roles."""
        running = {name: one for name, one in self._processes.items() if one[0].returncode is None}
        await asyncio.gather(*(self._stop(name, *one) for name, one in running.items()))

    async def _stop(self, name: str, process: asyncio.subprocess.Process, code: str) -> None:
        if process.returncode is not None:
            self.faults.append(f"{name} of {code} ended with {process.returncode} while it should run")
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        if process.returncode:
            self.faults.append(f"{name} of {code} was stopped and ended with {process.returncode}")

    async def _wait_ready(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            deadline = asyncio.get_running_loop().time() + READY_SECONDS
            while True:
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(f"{log.stem} does not become ready: {' / '.join(tail(log, 3))}")
                await asyncio.sleep(0.2)

    def _environment(self, name: str, port: int, ops_port: int) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "PYTHON"))}
        return {
            **own,
            **self._servers.environment_of(name),
            "SLUICE_HOST": "127.0.0.1",
            "SLUICE_PORT": str(port),
            "SLUICE_OPS_PORT": str(ops_port),
            "SLUICE_ROLE": name,
            "SLUICE_PUBLIC_URL": "http://127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }

    async def _command(
        self, code: Code, *words: str, stdin: str = "", codes: tuple[int, ...] = (0,), **variables: str
    ) -> str:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "PYTHON"))}
        process = await asyncio.create_subprocess_exec(
            *(str(code.python), "-m", "sluice_cli.main", *words),
            cwd=code.folder,
            env={**own, **self._servers.environment, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(stdin.encode())
        if process.returncode not in codes:
            raise RuntimeError(f"`sluice {' '.join(words[:2])}` of {code.name} failed: {errors.decode().strip()}")
        return output.decode()
