"""The frame of every role: settings errors as one line, uvloop, logs, shutdown, backing services, HTTP, the run loop.

    async with role("router", settings) as router:
        pool, publisher = await router.open_pool(), await router.open_publisher()
        ...
        await router.serve(ops_app(router.readiness))
        await router.run(consumer, loops=[recovery.run()])

Everything that a role opens is closed in reverse order when the block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

import uvloop
from redis.asyncio import Redis
from starlette.types import ASGIApp

from sluice.bus.connection import KafkaConnection
from sluice.bus.publisher import Publisher, open_publisher
from sluice.runtime import metrics, tracing
from sluice.runtime.allocator import limit_retained_memory
from sluice.runtime.errors import SluiceError
from sluice.runtime.http_server import Check, ops_app, serve_http
from sluice.runtime.logs import configure_logging
from sluice.runtime.redis_client import open_redis
from sluice.runtime.settings import Settings
from sluice.runtime.signals import shutdown_event
from sluice.runtime.tasks import cancel_and_wait, run_unless, supervised
from sluice.runtime.version import program_version
from sluice.store import migrations
from sluice.store.config_cache import ConfigCache
from sluice.store.contact import DatabaseContact
from sluice.store.db import Pool, open_pool

T = TypeVar("T")

# Seconds after which a thread that computes gives the interpreter to the event loop, which asks for it again after each
# system call: with Python's 5 ms a request waited for it for 50 ms and more while a large body was decoded.
_SWITCH_INTERVAL = 0.0001
_CLOSE_TIME = 5.0  # seconds of the shutdown timeout that remain for closing after the consumer's drain


def run_role(main: Callable[[], Awaitable[None]]) -> None:
    """Run a role's ``main`` until it returns; a :class:`SluiceError` is one line on stderr and its exit code."""
    limit_retained_memory()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        uvloop.run(_tune_gc_and_run(main))
    except SluiceError as error:
        with contextlib.suppress(OSError):
            print(f"sluice: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


async def _tune_gc_and_run(main: Callable[[], Awaitable[None]]) -> None:
    # Modules that are loaded now stay until the end; most other objects are short-lived and free of cycles. With the
    # default thresholds the collector took a tenth of a worker's CPU time under load.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await main()


class RoleConsumer(Protocol):
    """The interface of a role's consumer: :class:`~sluice.bus.consumer.Consumer` and the FastStream one have it."""

    async def run(self) -> None:
        """Consume until :meth:`stop`, then drain and leave the group."""

    def stop(self) -> None:
        """Read nothing more; :meth:`run` returns after the drain."""

    def readiness(self) -> str | None:
        """None while it consumes; otherwise the reason why it does not."""


class Role:
    """A running process of a role; made by :func:`role`.

    ``readiness`` holds the checks of ``/readyz``: the role is not stopping, its consumers poll as members of their
    groups and Kafka answers, and PostgreSQL answers if the role uses it.

    Raises:
        SluiceError: the settings of the Kafka connection do not fit each other.
    """

    def __init__(self, name: str, settings: Settings, stack: AsyncExitStack, shutdown: asyncio.Event) -> None:
        self.name = name
        self.settings = settings
        self.kafka = KafkaConnection(settings)
        self.shutdown = shutdown
        self._stack = stack
        self._stopping_at = math.inf  # monotonic time of the shutdown
        self.readiness: dict[str, Check] = {
            "role": lambda: "stopping" if shutdown.is_set() else None,
            "kafka": lambda: "not in the consumer group yet",
        }

    @property
    def drain_timeout(self) -> float:
        """Seconds that the consumer has to finish the records in flight at shutdown."""
        return max(0.0, self.settings.shutdown_timeout - _CLOSE_TIME)

    def drain_left(self) -> float:
        """Seconds of :attr:`drain_timeout` that are left since the shutdown began, at least 2.5."""
        return max(_CLOSE_TIME / 2, self.drain_timeout - max(0.0, time.monotonic() - self._stopping_at))

    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter ``manager`` now and exit it when the role ends."""
        return await self._stack.enter_async_context(manager)

    async def _enter_unless_stopped(self, manager: AbstractAsyncContextManager[T]) -> T:
        """As :meth:`enter`, for what waits for a server: a shutdown does not wait for it.

        Raises:
            SluiceError: the shutdown began before the server answered; the exit code is 0.
        """
        entered = await run_unless(self.shutdown, self.enter(manager))
        if entered is None:
            raise SluiceError(f"{self.name} was stopped before it was ready", exit_code=0)
        return entered

    async def open_pool(self) -> Pool:
        """The connection pool of this process; the role is ready while its server answers.

        Raises:
            SluiceError: PostgreSQL cannot be reached, or its schema is older than this version.
        """
        settings = self.settings
        pool = await self._enter_unless_stopped(
            open_pool(settings.postgres_dsn, size=settings.postgres_pool_size, name=self.name)
        )
        await migrations.require_current(pool)
        contact = await self.enter(DatabaseContact(pool).running())
        self.readiness["postgres"] = contact.fault
        metrics.POOL_LIMIT.set(settings.postgres_pool_size)
        metrics.POOL_CONNECTIONS.labels("idle").set_function(pool.get_idle_size)
        metrics.POOL_CONNECTIONS.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
        return pool

    async def open_config(self) -> ConfigCache:
        """The configuration cache, kept current until the role ends."""
        return await self._enter_unless_stopped(ConfigCache().subscribed(self.settings.postgres_dsn))

    async def open_redis(self) -> Redis | None:
        """A client of Redis; None without an address. A server that is away is no error.

        Raises:
            SluiceError: the address, the password or a certificate is wrong.
        """
        settings = self.settings
        if not settings.redis_url:
            return None
        return await self.enter(open_redis(settings.redis_url, password=settings.redis_login()))

    async def open_publisher(self) -> Publisher:
        """A publisher; records that are published before the broker responds wait in its queue."""
        return await self.enter(open_publisher(self.kafka, name=self.name))

    async def serve(self, app: ASGIApp, *, grace: float = 5.0) -> None:
        """Serve ``app`` on the role's address until the role ends.

        Raises:
            SluiceError: the port is in use.
        """
        await self.enter(serve_http(app, self.settings, grace=grace))

    async def serve_ops(self, port: int) -> None:
        """Serve the ops endpoints on a port of their own until the role ends.

        Raises:
            SluiceError: the port is in use.
        """
        await self.enter(serve_http(ops_app(self.readiness), self.settings, ops_port=port))

    async def run(self, *consumers: RoleConsumer, loops: Iterable[Coroutine[Any, Any, None]] = ()) -> None:
        """Consume and run ``loops`` until the shutdown; then stop the consumers, cancel the loops, and drain.

        The role also ends when a consumer or a loop ends by itself, whether it fails, returns or is cancelled: a
        poll that is cancelled inside the Kafka client must not leave a process that looks alive and reads nothing.

        Raises:
            SluiceError: a consumer or a loop ended before the shutdown.
            Exception: the error with which one of them failed.
        """
        self.readiness["kafka"] = lambda: next(filter(None, (consumer.readiness() for consumer in consumers)), None)
        background = [supervised(loop, name=f"{self.name}-loop") for loop in loops]
        consuming = [supervised(consumer.run(), name="consumer") for consumer in consumers]
        shutdown = asyncio.create_task(self.shutdown.wait())
        await asyncio.wait([*consuming, shutdown, *background], return_when=asyncio.FIRST_COMPLETED)
        ended = [task.get_name() for task in (*consuming, *background) if task.done()]
        self.shutdown.set()
        self._stopping_at = time.monotonic()
        for consumer in consumers:
            consumer.stop()
        try:
            await cancel_and_wait(*background)
        finally:
            await asyncio.wait(consuming)
        await cancel_and_wait(*consuming)
        if ended:
            raise SluiceError(f"{self.name} stops because {', '.join(ended)} ended before the shutdown")


@asynccontextmanager
async def role(name: str, settings: Settings) -> AsyncIterator[Role]:
    """Configure the logs, listen to the signals, and close everything that the role opened when the block ends."""
    configure_logging(settings.log_level, name)
    metrics.BUILD_INFO.labels(program_version(), name).set(1)
    shutdown = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing.running(settings, name))
        yield Role(name, settings, stack, shutdown)
