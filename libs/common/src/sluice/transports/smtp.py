"""The SMTP transport: one submission in, the deciding reply out, over a small pool of open connections.

It uses aiosmtplib's protocol, below its client, because only there the moment is visible that divides "not sent" from
"no answer": the line with the final dot. The client's exceptions do not name the phase.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from aiosmtplib.errors import SMTPException, SMTPServerDisconnected

from sluice.providers.kit.smtp_types import Phase, SmtpReply, SmtpServer, Submission
from sluice.transports.provider_call import NoAnswerError, NotSentError
from sluice.transports.reasons import describe_error
from sluice.transports.smtp_session import Connection, Progress, SmtpRefusedError, open_session, send_mail

# Servers drop idle connections without notice (SES after some ten seconds). A connection idle for less than PROBE_AFTER
# is used as it is, one idle for longer is probed with RSET first, one idle for MAX_IDLE is closed.
PROBE_AFTER = 1.0  # seconds
MAX_IDLE = 15.0  # seconds
MAX_IDLE_PER_SERVER = 16  # connections kept
MAX_MAILS_PER_CONNECTION = 200  # then a new one: many servers close after some hundred mails


class SmtpTransport:
    """A pool of connections by server and account; safe for any number of concurrent exchanges."""

    def __init__(self, local_name: str) -> None:
        self._local_name = local_name
        self._idle: dict[SmtpServer, deque[Connection]] = {}

    async def exchange(self, request: Submission, *, deadline: float) -> SmtpReply:
        """Submit once; ``deadline``: seconds for everything.

        A reply decides. An error before the final dot raises NotSentError, after it NoAnswerError.
        """
        progress = Progress()
        try:
            async with asyncio.timeout(deadline):
                return await self._submit(request, progress)
        except SmtpRefusedError as refusal:
            return refusal.reply
        except (SMTPException, OSError, ValueError) as error:  # TimeoutError is an OSError
            kind = NoAnswerError if progress.end_of_data_sent else NotSentError
            raise kind(f"{progress.phase}: {describe_error(error)}") from error

    async def _submit(self, request: Submission, progress: Progress) -> SmtpReply:
        if pooled := self._acquire(request.server):
            reply = await self._transact_pooled(pooled, request, progress)
            if reply is not None:
                return reply
        progress.phase = Phase.GREETING
        fresh = await open_session(request.server, self._local_name, progress)
        return await self._transact(fresh, request, progress)

    async def _transact_pooled(self, pooled: Connection, request: Submission, progress: Progress) -> SmtpReply | None:
        """None when the connection turned out to be dead before the server took even the sender."""
        try:
            reply = await self._transact(pooled, request, progress)
        except (SMTPException, OSError):
            if progress.phase in (Phase.GREETING, Phase.MAIL):
                return None
            raise
        return None if reply.phase is Phase.MAIL and reply.code == 421 else reply

    def _acquire(self, server: SmtpServer) -> Connection | None:
        """The connection used last, if it is not idle for too long."""
        idle = self._idle.get(server)
        while idle:
            connection = idle.pop()
            if connection.alive and monotonic() - connection.used_at < MAX_IDLE:
                return connection
            connection.close()
        return None

    async def _transact(self, connection: Connection, request: Submission, progress: Progress) -> SmtpReply:
        """One mail on this connection, which afterwards is back in the pool or closed, whatever happens."""
        try:
            await _ensure_alive(connection)
            reply = await send_mail(connection, request, progress)
        except BaseException:
            connection.drop()
            raise
        self._release(connection, reply)
        return reply

    def _release(self, connection: Connection, reply: SmtpReply) -> None:
        idle = self._idle.setdefault(connection.server, deque())
        connection.used_at = monotonic()
        if reply.code == 421 or connection.mails >= MAX_MAILS_PER_CONNECTION or len(idle) >= MAX_IDLE_PER_SERVER:
            connection.close()
            return
        idle.append(connection)
        asyncio.get_running_loop().call_later(MAX_IDLE, self._evict_idle, connection.server)

    def _evict_idle(self, server: SmtpServer) -> None:
        """Close what has been idle too long; a server without connections leaves the table."""
        idle = self._idle.get(server, deque())
        while idle and monotonic() - idle[0].used_at >= MAX_IDLE:
            idle.popleft().close()
        if not idle:
            self._idle.pop(server, None)

    def close(self) -> None:
        """Drop every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()


async def _ensure_alive(connection: Connection) -> None:
    """Probe a pooled connection, and reset a transaction that was begun on it and refused."""
    if not connection.mails or (not connection.dirty and monotonic() - connection.used_at < PROBE_AFTER):
        return
    reply = await connection.protocol.execute_command(b"RSET")
    if reply.code != 250:
        raise SMTPServerDisconnected("the server refused RSET")
    connection.dirty = False


def _host_name() -> str:
    """The name in EHLO: this machine's, or an address literal when that is not a valid name."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", name) else "[127.0.0.1]"


@asynccontextmanager
async def open_smtp(*, local_name: str | None = None) -> AsyncIterator[SmtpTransport]:
    """The pool, open as long as the block lasts. ``local_name``: the name in EHLO, ASCII."""
    transport = SmtpTransport(local_name or _host_name())
    try:
        yield transport
    finally:
        transport.close()
