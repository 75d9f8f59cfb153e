"""A local stack for a test or a tool: chosen services and roles, on free ports."""

import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice.store.logins import with_login
from sluice_launcher.control import NotRunning, SupervisorClient
from sluice_launcher.launch import launch
from sluice_launcher.plan import HOST, Plan, addresses, environment, make_plan, ops_ports
from sluice_launcher.postgres import SUPERUSER
from sluice_launcher.roles import SERVICES, role
from sluice_launcher.secret_files import password
from sluice_launcher.settings import read_settings
from sluice_launcher.teardown import stop_all


@contextmanager
def running_postgres(environment: Mapping[str, str]) -> Iterator[str]:
    """The PostgreSQL of an installation alone, as it is set, while the block runs; gives its address for the owner.

    Raises:
        SluiceError: it cannot run.
    """
    plan = make_plan(read_settings(environment), lambda _: None, services=["postgres"], roles=[])
    supervisor = launch(plan, lambda _: None, terminate_with_parent=True)
    try:
        yield addresses(plan)["postgres"]
    finally:
        stop_all(plan.data_dir)
        supervisor.wait()


class LocalStack:
    """Everything that `sluice up` starts, or a part of it, in a directory of its own.

    It ends with the process that started it, however that ends. Addresses in the environment
    (`SLUICE_KAFKA_BOOTSTRAP_SERVERS` and so on) are ignored: external services are given in `external`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        services: Collection[str] = SERVICES,
        roles: Collection[str] = (),
        external: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        scale: Mapping[str, int] | None = None,
        testing: bool = True,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._services = services
        self._roles = roles
        self._external = dict(external or {})
        self._ports = dict(ports or {})
        self._scale = dict(scale or {})
        self._testing = testing
        self._progress = progress
        self._plan: Plan | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> SupervisorClient:
        """The client of its supervisor."""
        return SupervisorClient(self._data_dir)

    @property
    def addresses(self) -> dict[str, str]:
        """`postgres`, `redis`, `kafka` as their clients expect them; each role as a URL."""
        return addresses(self._started)

    @property
    def ops_addresses(self) -> dict[str, str]:
        """The URL of the ops endpoints of each role that speaks HTTP."""
        return {name: f"http://{HOST}:{port}" for name, port in ops_ports(self._started).items()}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that works on this system."""
        return environment(self._started)

    def environment_of(self, name: str) -> dict[str, str]:
        """The environment of another process of a role: it has the role's login."""
        return environment(self._started, role(name).login)

    @property
    def superuser_dsn(self) -> str:
        """The address of the PostgreSQL of this stack for its superuser, whom no process uses."""
        secret = password(self._data_dir / "postgres.password")
        return with_login(self.addresses["postgres"], SUPERUSER, secret)

    def start(self) -> Self:
        """Returns when everything is ready.

        Raises:
            SluiceError: the start failed; everything is stopped.
        """
        own = {"SLUICE_DATA_DIR": str(self._data_dir), "SLUICE_ENCRYPTION_KEY_FILE": ""}
        settings = read_settings({**os.environ, **own})
        wanted = replace(
            settings,
            external=self._external,
            ports=dict.fromkeys(settings.ports, 0) | self._ports,
            unsafe_fast_database=self._testing,
        )
        self._plan = make_plan(wanted, self._progress, services=self._services, roles=self._roles, scale=self._scale)
        self._supervisor = launch(self._plan, self._progress, terminate_with_parent=True)
        return self

    def stop(self) -> None:
        """Returns when everything has ended; no effect if it has already."""
        with suppress(NotRunning):
            self.control.down()
        if self._supervisor is not None:
            self._supervisor.wait()
            self._supervisor = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _started(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the local stack was not started")
        return self._plan
