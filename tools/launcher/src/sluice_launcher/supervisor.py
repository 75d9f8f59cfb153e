"""The supervisor of one data directory: starts, watches, restarts and stops its processes, in order."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from sluice.runtime.errors import SluiceError
from sluice_launcher import probes
from sluice_launcher.control import SOCKET, short_path
from sluice_launcher.logs import last_line, open_log, rotate
from sluice_launcher.managed_process import ManagedProcess
from sluice_launcher.plan import (
    PRODUCER,
    Plan,
    endpoints_of,
    environment,
    owner_environment,
    redact_password,
    rescaled,
)
from sluice_launcher.process_spec import ProcessSpec
from sluice_launcher.process_specs import specs
from sluice_launcher.progress import Progress
from sluice_launcher.roles import ADDRESS_SETTINGS
from sluice_launcher.scaling import FILE as SCALE_FILE
from sluice_launcher.scaling import check_partitions, read_scale, role_of, write_scale
from sluice_launcher.state import write_state
from sluice_launcher.status import rows

log = logging.getLogger("sluice_launcher")


# Roles stop first, together; then these, one after the other: Kafka takes the longest to disconnect its clients.
STOP_ORDER = ("kafka", "redis", "postgres")
ROTATE_SECONDS = 60.0


class Supervisor:
    """One per data directory; commands arrive over a socket, see `control`."""

    def __init__(self, plan: Plan, progress: Progress, ready: Callable[[], None]) -> None:
        self.plan = plan
        self.phase = "starting"
        self._progress = progress
        self._ready = ready
        self._began = time.monotonic()
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self._change_lock = asyncio.Lock()
        self._state_is_stale = False
        self.processes = {spec.name: self._managed(spec) for spec in specs(plan)}

    async def run(self) -> None:
        """Run until the command `down`, SIGTERM or SIGINT.

        Raises:
            SluiceError: the start failed; everything is stopped then.
        """
        self._install_signal_handlers()
        starting = asyncio.create_task(self._start_everything())
        over = asyncio.create_task(self._over.wait())
        keeping_house = asyncio.create_task(self._keep_house())
        async with self._control():
            await asyncio.wait({starting, over}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and starting.exception() is None:
                await over
            for task in (starting, over, keeping_house):
                task.cancel()
            await self._end_everything()
        if starting.done() and not starting.cancelled() and (fault := starting.exception()):
            raise _root_cause(fault)

    async def handle_command(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one command of a client; returns its response.

        Raises:
            SluiceError: it cannot be carried out.
        """
        match command:
            case {"command": "status"}:
                return await asyncio.to_thread(self._status)
            case {"command": "environment"}:
                return {"environment": environment(self.plan)}
            case {"command": "verify"}:
                return {"not_ready": await self._not_ready()}
            case {"command": "stop", "name": str(name)}:
                await asyncio.gather(*(self._stop(each) for each in self._find(name)))
            case {"command": "start", "name": str(name)}:
                await asyncio.gather(*(self._start(each) for each in self._find(name)))
            case {"command": "restart", "name": str(name), "wipe": bool(wipe)}:
                for each in self._find(name):
                    await self._restart(each, wipe=wipe)
            case {"command": "scale", "numbers": dict(numbers)}:
                return {"scale": await self._scale(numbers)}
            case {"command": "down"}:
                self._over.set()
                await self._ended.wait()
            case _:
                raise SluiceError(f"unknown supervisor command {command!r}")
        return {"done": True}

    # starting

    async def _start_everything(self) -> None:
        """The services first, concurrently, then the roles."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._database())
            group.create_task(self._bus())
            group.create_task(self._bring_up("redis"))
        async with asyncio.TaskGroup() as group:
            for process in self.plan.role_processes:
                group.create_task(self._bring_up(process))
        self.phase = "running"
        with contextlib.suppress(SluiceError):  # the log has it; what runs is not stopped for it
            self._store_scale()
        self._progress(f"all services are up ({time.monotonic() - self._began:.1f} s)")
        self._ready()

    async def _database(self) -> None:
        await self._bring_up("postgres")
        if "postgres" in self.plan.services and self.plan.roles:
            await self._command("migrate", "the schema is up to date", extra=owner_environment(self.plan))

    async def _bus(self) -> None:
        await self._bring_up("kafka")
        if "kafka" in self.plan.services and self.plan.roles:
            await self._create_topics("the topics exist")
            # Numbers that ran before are not checked again: a wiped Kafka has the partitions of deploy/topics.yml.
            known = read_scale(self.plan.data_dir)
            await self._check_partitions({role: n for role, n in self.plan.scale.items() if known.get(role) != n})

    async def _bring_up(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None:
            if name in self.plan.external:
                await self._check_external(name, self.plan.external[name])
            return
        began = time.monotonic()
        process.start()
        await process.wait_ready()
        self._progress(f"{self._title(name)} on {_place(process.spec)} ({time.monotonic() - began:.1f} s)")

    async def _check_external(self, name: str, address: str) -> None:
        shown = redact_password(address)
        places = endpoints_of(name, address)
        if places and not any([await probes.anything(host, port) for host, port in places]):
            raise SluiceError(f"{ADDRESS_SETTINGS[name]} names {shown}, which is not reachable")
        self._progress(f"{name} is external, at {shown}")

    async def _create_topics(self, done: str) -> None:
        has_users = self.plan.is_managed("kafka") and self.plan.kafka_password is not None
        await self._command("create-topics", done, *(["--producer", PRODUCER] if has_users else []))

    async def _command(self, name: str, done: str, *options: str, extra: Mapping[str, str] | None = None) -> None:
        """Run `sluice NAME` to its end, in the environment of a command."""
        began = time.monotonic()
        path = self.plan.log_dir / "setup.log"
        with open_log(path) as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sluice_cli.main", name, *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment(self.plan), **(extra or {})},
            )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        if code:
            raise SluiceError(f"`sluice {name}` failed: {last_line(path).removeprefix('sluice: ')}")
        self._progress(f"{done} ({time.monotonic() - began:.1f} s)")

    # changing one process

    async def _stop(self, process: ManagedProcess) -> None:
        async with self._change_lock:
            await process.stop()

    async def _start(self, process: ManagedProcess) -> None:
        async with self._change_lock:
            process.start()
            await process.wait_ready()

    async def _restart(self, process: ManagedProcess, *, wipe: bool) -> None:
        if wipe and process.spec.data is None:
            raise SluiceError(f"{process.spec.name} has no data to wipe: only kafka and redis have")
        async with self._change_lock:
            await process.stop()
            if wipe:
                process.wipe()
            process.start()
            await process.wait_ready()
            if wipe and process.spec.name == "kafka" and self.plan.roles:
                await self._create_topics("the topics exist again")

    async def _scale(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Start or stop processes of roles; returns the number of each role."""
        async with self._change_lock:
            if self.phase != "running":
                raise SluiceError(f"nothing can be scaled while the installation is {self.phase}: try again")
            before, known = self.plan, self.processes
            self.plan = rescaled(before, numbers)
            try:
                await self._check_partitions({role: n for role, n in numbers.items() if n > before.scale.get(role, 1)})
                await self._change_processes()
            except BaseException:
                self.plan, self.processes = before, known
                self._write_state()
                raise
            if numbers:
                self._store_scale()
        return {name: self.plan.scale.get(name, 1) for name in self.plan.roles}

    async def _change_processes(self) -> None:
        """Start the processes that the plan has more, then stop those that it has no longer."""
        before = self.processes
        self.processes = {spec.name: before.get(spec.name) or self._managed(spec) for spec in specs(self.plan)}
        added = [each for name, each in self.processes.items() if name not in before]
        removed = [each for name, each in before.items() if name not in self.processes]
        for process in added:
            process.start()
        try:
            await asyncio.gather(*(process.wait_ready() for process in added))
        except BaseException:
            await asyncio.gather(*(process.stop() for process in added))
            raise
        await asyncio.gather(*(process.stop() for process in removed))

    async def _check_partitions(self, scale: Mapping[str, int]) -> None:
        if not scale or "kafka" not in self.plan.services:
            return
        from sluice.bus.connection import KafkaConnection
        from sluice.bus.topic_admin import read_partitions

        kafka = KafkaConnection.of({**os.environ, **environment(self.plan)})
        check_partitions(scale, await read_partitions(kafka))

    def _store_scale(self) -> None:
        """Keep the numbers for the next start."""
        try:
            write_scale(self.plan.data_dir, {name: self.plan.scale.get(name, 1) for name in self.plan.roles})
        except OSError as fault:
            log.error("%s could not be written: %s", SCALE_FILE, fault)
            raise SluiceError(
                f"the processes run as wanted, but {self.plan.data_dir / SCALE_FILE} could not be written "
                f"({fault.strerror}): the next `sluice up` starts the former numbers"
            ) from fault

    def _find(self, name: str) -> list[ManagedProcess]:
        """The process with this name; for the name of a role, all of its processes. ROLE-1 is the first alone."""
        if name in self.plan.external:
            raise SluiceError(
                f"{name} is external (its address is in the environment): it is not started or stopped here"
            )
        first = role_of(name)[0] if name.endswith("-1") else name
        if first not in self.processes:
            raise SluiceError(f"there is no process called {name}: there are {', '.join(self.processes)}")
        if name in self.plan.roles:
            return [each for process, each in self.processes.items() if self.plan.role_processes.get(process) == name]
        return [self.processes[first]]

    async def _not_ready(self) -> list[str]:
        """Probes every process: a running process need not be ready."""
        names = list(self.processes)
        answers = await asyncio.gather(*(self.processes[name].spec.probe() for name in names))
        return [name for name, ready in zip(names, answers, strict=True) if not ready]

    # ending

    async def _end_everything(self) -> None:
        self.phase = "stopping"
        await asyncio.gather(*(each.stop() for each in self.processes.values() if each.spec.kind == "role"))
        for name in STOP_ORDER:
            if name in self.processes:
                await self.processes[name].stop()
        self._ended.set()

    def _install_signal_handlers(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._over.set)

    # control socket

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[None]:
        path = self.plan.data_dir / SOCKET
        path.unlink(missing_ok=True)
        with short_path(path) as name:
            server = await asyncio.start_unix_server(self._serve_client, name)
            path.chmod(0o600)
        try:
            yield
            # The response to `down` must leave before the socket closes.
            await asyncio.sleep(0.05)
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self.handle_command(json.loads(await reader.readline()))
        except SluiceError as refused:
            answer = {"error": str(refused)}
        except ValueError:
            answer = {"error": "the command is not JSON"}
        except Exception as fault:  # a client without an answer would wait for minutes
            log.exception("a command failed")
            answer = {"error": f"the supervisor failed at this command ({type(fault).__name__}: {fault})"}
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer).encode())
            await writer.drain()
            writer.close()

    def _status(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "data_dir": str(self.plan.data_dir),
            "uptime": round(time.monotonic() - self._began, 1),
            "processes": rows(self.plan, self.phase, self.processes.values()),
        }

    def _title(self, name: str) -> str:
        version = self.plan.versions.get(name)
        return f"{name} {version}" if version else name

    # housekeeping

    def _managed(self, spec: ProcessSpec) -> ManagedProcess:
        return ManagedProcess(spec, self.plan.log_dir, self._write_state, extra_environment={})

    def _write_state(self) -> None:
        """Write the state file. Without it the processes are supervised all the same; only orphans are not found."""
        known = {name: each.identity for name, each in getattr(self, "processes", {}).items()}
        try:
            write_state(self.plan.data_dir, {name: identity for name, identity in known.items() if identity})
        except OSError as fault:
            log.error("the state file could not be written: %s", fault)
            self._state_is_stale = True
        else:
            self._state_is_stale = False

    async def _keep_house(self) -> None:
        """Rotate the logs, and write the state file again if that failed."""
        while True:
            for path in self.plan.log_dir.glob("*.log"):
                try:
                    rotate(path)
                except OSError as fault:
                    log.error("%s could not be rotated: %s", path.name, fault)
            if self._state_is_stale:
                self._write_state()
            await asyncio.sleep(ROTATE_SECONDS)


def _root_cause(fault: BaseException) -> BaseException:
    """The first fault inside nested exception groups: it caused the others."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


def _place(spec: ProcessSpec) -> str:
    """Host and port of its address."""
    return urlsplit(spec.address).netloc.rpartition("@")[2] or spec.address
