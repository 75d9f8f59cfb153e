"""A session that stays bound: connects, binds, reports, and connects again."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import Self

import structlog

from sluice.providers.kit.smpp_status import StatusClass, status_class, status_name
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.transports.smpp.connection import BindRefusedError, Connection
from sluice.transports.smpp.contract import (
    BindRefused,
    Bound,
    ConnectionLost,
    NotSent,
    OutboundSms,
    Refused,
    SessionHandler,
    SmppConfig,
    SubmitResult,
)
from sluice.transports.smpp.inbound import InboundStores
from sluice.transports.smpp.pdu import encode_bind

log = structlog.get_logger()

_STANDARD_PASSWORD = 8  # characters


class SmppSession:
    """One bind of an account, kept while the ``async with`` block lasts; safe for any number of concurrent submits.

    It holds at most one connection at a time, so the owner that opens n sessions uses at most n binds. The SMSC may
    deliver a receipt on any session of the account: the handlers of all of them need the same database.
    """

    def __init__(self, config: SmppConfig, handler: SessionHandler) -> None:
        """
        Raises:
            PduError: the configuration does not fit into a bind.
        """
        password = config.password.get_secret_value()
        encode_bind(system_id=config.system_id, password=password, system_type=config.system_type)
        if len(password) > _STANDARD_PASSWORD:
            log.warning("smpp_password_long", characters=len(password), standard=_STANDARD_PASSWORD)
        self._config = config
        self._handler = handler
        self._inbound = InboundStores(handler, limit=config.max_concurrent_stores, timeout=config.store_timeout)
        self._connection: Connection | None = None
        self._refusal: Refused | None = None  # of the last bind, when the credentials are the cause
        self._bound = asyncio.Event()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._runner = supervised(self._run(), name=f"smpp session to {self._config.host}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        try:
            if self._connection is not None:
                await self._connection.unbind()
                await asyncio.wait((self._runner,))  # it closes the connection and returns
        finally:
            await cancel_and_wait(self._runner)
            await self._inbound.cancel()

    @property
    def bound(self) -> bool:
        """Whether a message would be submitted now."""
        return self._connection is not None and not self._stopping

    async def wait_bound(self) -> None:
        """Return when the session is bound."""
        await self._bound.wait()

    async def submit(self, sms: OutboundSms, *, timeout: float) -> SubmitResult:
        """Submit one message once; nothing is repeated.

        ``timeout``: seconds for the wait for a place in the window and for all answers. A session that is not bound
        answers at once: NotSent, or the Refused of the bind while the SMSC refuses the credentials. When the call is
        cancelled, the answer goes to ``SessionHandler.late_answer``.

        Raises:
            EncodingError: the text cannot be sent; nothing was written.
            PduError: an address or the validity does not fit; nothing was written.
        """
        bodies = sms.bodies(self._config)
        if self._refusal is not None:
            return self._refusal
        if self._connection is None or self._stopping:
            return NotSent("the session is not bound")
        deadline = asyncio.get_running_loop().time() + timeout
        return await self._connection.submit(bodies, sms.reference, deadline=deadline)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_at = loop.time()
            await self._connect_until_lost()
            if self._stopping:
                return
            if self._refusal is not None:
                await asyncio.sleep(self._config.auth_retry_delay)
                continue
            # The delay starts over only after a connection that lasted: binds that succeed and fail at once back off.
            failures = 0 if loop.time() - began_at >= self._config.max_reconnect_delay else failures
            longest = min(self._config.max_reconnect_delay, self._config.reconnect_delay * 2.0 ** min(failures, 16))
            failures += 1
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  full jitter, no secret

    async def _connect_until_lost(self) -> None:
        self._refusal = None
        try:
            connection = await self._open()
        except BindRefusedError as error:
            self._refuse(error.status)
            return
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            self._handler.on_event(ConnectionLost(f"connecting failed ({type(error).__name__})"))
            return
        try:
            self._connection = connection
            self._bound.set()
            self._handler.on_event(Bound())
            await asyncio.wait((connection.lost,))
        finally:
            self._connection = None
            self._bound.clear()
            await connection.close()
        if not self._stopping:
            self._handler.on_event(ConnectionLost(connection.lost.result()))

    async def _open(self) -> Connection:
        config = self._config
        async with asyncio.timeout(config.bind_timeout):
            reader, writer = await asyncio.open_connection(config.host, config.port, ssl=config.tls)
            connection = Connection(reader, writer, config, self._handler, self._inbound)
            try:
                await connection.bind()
            except BaseException:
                await connection.close()
                raise
        return connection

    def _refuse(self, status: int) -> None:
        reason = status_class(status, self._config.status_overrides)
        log.warning("smpp_bind_refused", host=self._config.host, status=status_name(status))
        if reason is StatusClass.AUTH_FAILED:
            self._refusal = Refused(status, reason, "the bind was refused")
        self._handler.on_event(BindRefused(status, reason))
