"""The SMTP transport: one submission in, the deciding replies out, over a small pool of open connections.

It uses aiosmtplib's protocol, below its client, because only there the moment is visible that divides "not sent" from
"no answer": the line with the final dot. The client's exceptions do not name the phase.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from aiosmtplib.errors import SMTPException, SMTPServerDisconnected

from sluice.providers.kit.smtp_types import (
    EHLO_NAME,
    DividedReply,
    PartReply,
    Phase,
    SmtpReply,
    SmtpServer,
    Submission,
)
from sluice.transports.outgoing import ForbiddenAddressError
from sluice.transports.provider_call import NoAnswerError, NotAllowedError, NotSentError, OnProgress, ignore_progress
from sluice.transports.reasons import describe_error
from sluice.transports.settings import DEFAULT_LIMITS, TransportSettings
from sluice.transports.smtp_connect import SmtpRefusedError
from sluice.transports.smtp_protocol import Connection, Progress
from sluice.transports.smtp_session import TransactionResult, open_session, send_mail

# Servers drop idle connections without notice (SES after some ten seconds). A connection idle for less than PROBE_AFTER
# is used as it is, one idle for longer is probed with RSET first, one idle for MAX_IDLE is closed.
PROBE_AFTER = 1.0  # seconds
PROBE_TIMEOUT = 5.0  # seconds for the reply to the probe; a new connection costs less than a longer wait
MAX_IDLE = 15.0  # seconds
MAX_IDLE_PER_SERVER = 16  # connections kept
MAX_MAILS_PER_CONNECTION = 200  # then a new one: many servers close after some hundred mails


class SmtpTransport:
    """A pool of connections by server and account; safe for any number of concurrent exchanges."""

    def __init__(self, limits: TransportSettings) -> None:
        self._limits = limits
        self._ehlo_name = limits.smtp_ehlo_name or _qualified_host_name()
        self._idle: dict[SmtpServer, deque[Connection]] = {}

    async def exchange(
        self, request: Submission, *, deadline: float, on_progress: OnProgress = ignore_progress
    ) -> SmtpReply | DividedReply:
        """Submit once, each recipient in one transaction; ``deadline``: seconds for everything.

        A reply decides. An error before the final dot raises NotSentError, after it NoAnswerError; after a transaction
        that was accepted, it is the reply (code 0) to the recipients that are left.
        """
        parts: list[PartReply] = []
        rest = request.recipients
        ends_at = asyncio.get_running_loop().time() + deadline
        while rest:
            now, later = rest[: request.max_recipients], rest[request.max_recipients :]
            progress = Progress(self._limits, on_progress)
            try:
                async with asyncio.timeout_at(ends_at):
                    result = await self._submit(replace(request, recipients=now), progress)
            except SmtpRefusedError as refusal:
                result = TransactionResult((PartReply(now, refusal.reply),))
            except (SMTPException, OSError, ValueError) as error:  # TimeoutError is an OSError
                if not parts and not (later and progress.end_of_data_sent):
                    if isinstance(error, ForbiddenAddressError):
                        raise NotAllowedError(str(error)) from error
                    kind = NoAnswerError if progress.end_of_data_sent else NotSentError
                    raise kind(f"{progress.phase}: {describe_error(error)}") from error
                parts += _without_reply(now, later, progress, describe_error(error))
                break
            parts += result.parts
            rest = result.rest + later
            if rest and (final := _refusal_of_all(result.parts)):
                parts.append(PartReply(rest, final))
                break
        return _merge(parts)

    async def _submit(self, request: Submission, progress: Progress) -> TransactionResult:
        if pooled := self._acquire(request.server):
            result = await self._transact_pooled(pooled, request, progress)
            if result is not None:
                return result
        progress.phase = Phase.GREETING
        fresh = await open_session(request.server, request.server.ehlo_name or self._ehlo_name, progress)
        return await self._transact(fresh, request, progress)

    async def _transact_pooled(
        self, pooled: Connection, request: Submission, progress: Progress
    ) -> TransactionResult | None:
        """None when the connection turned out to be dead before the server took even the sender."""
        try:
            result = await self._transact(pooled, request, progress)
        except (SMTPException, OSError):
            if progress.phase in (Phase.GREETING, Phase.MAIL):
                return None
            raise
        first = result.parts[0].reply
        return None if first.phase is Phase.MAIL and first.code == 421 else result

    def _acquire(self, server: SmtpServer) -> Connection | None:
        """The connection used last, if it is not idle for too long."""
        idle = self._idle.get(server)
        while idle:
            connection = idle.pop()
            if connection.alive and monotonic() - connection.used_at < MAX_IDLE:
                return connection
            connection.close()
        return None

    async def _transact(self, connection: Connection, request: Submission, progress: Progress) -> TransactionResult:
        """One transaction on this connection, which afterwards is back in the pool or closed, whatever happens."""
        try:
            await _ensure_alive(connection, progress)
            result = await send_mail(connection, request, progress)
        except BaseException:
            connection.drop()
            raise
        self._release(connection, result)
        return result

    def _release(self, connection: Connection, result: TransactionResult) -> None:
        idle = self._idle.setdefault(connection.server, deque())
        connection.used_at = monotonic()
        closing = not connection.alive or any(part.reply.code == 421 for part in result.parts)
        used_up = connection.mails >= connection.limit("MAILMAX", MAX_MAILS_PER_CONNECTION)
        if closing or used_up or len(idle) >= MAX_IDLE_PER_SERVER:
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


def _refusal_of_all(parts: Sequence[PartReply]) -> SmtpReply | None:
    """The reply that would meet every other recipient of the mail as well."""
    reply = parts[0].reply
    about_one = reply.phase is Phase.RCPT and reply.code != 421
    accepted = reply.phase is Phase.END_OF_DATA and 200 <= reply.code < 300
    return None if about_one or accepted else reply


def _without_reply(now: tuple[str, ...], later: tuple[str, ...], progress: Progress, reason: str) -> list[PartReply]:
    """The parts of a submission whose last transaction, with the recipients ``now``, had no reply."""
    # An error of the connection is no finding about its configuration.
    phase = Phase.EHLO if progress.phase in (Phase.TLS, Phase.AUTH) else progress.phase
    parts = [PartReply(now, SmtpReply(phase, 0, reason))]
    if later:
        parts.append(PartReply(later, SmtpReply(Phase.MAIL, 0, f"not sent after another part failed: {reason}")))
    return parts


def _merge(parts: Sequence[PartReply]) -> SmtpReply | DividedReply:
    """One reply where it decided about the mail; replies to RCPT are about recipients, even if all say the same."""
    by_reply: dict[SmtpReply, tuple[str, ...]] = {}
    for part in parts:
        if part.recipients:
            by_reply[part.reply] = by_reply.get(part.reply, ()) + part.recipients
    if len(by_reply) == 1:
        [(reply, recipients)] = by_reply.items()
        if reply.phase is not Phase.RCPT or len(recipients) == 1:
            return reply
    return DividedReply(tuple(PartReply(recipients, reply) for reply, recipients in by_reply.items()))


async def _ensure_alive(connection: Connection, progress: Progress) -> None:
    """Probe a pooled connection, and reset a transaction that was begun on it and refused."""
    if not connection.mails or (not connection.dirty and monotonic() - connection.used_at < PROBE_AFTER):
        return
    async with progress.step(PROBE_TIMEOUT):
        reply = await connection.protocol.execute_command(b"RSET")
    if reply.code != 250:
        raise SMTPServerDisconnected("the server refused RSET")
    connection.dirty = False


def _qualified_host_name() -> str | None:
    """This machine's name if it is fully qualified; a container's id is not."""
    name = socket.gethostname()
    return name if re.fullmatch(EHLO_NAME, name) else None


@asynccontextmanager
async def open_smtp(limits: TransportSettings = DEFAULT_LIMITS) -> AsyncIterator[SmtpTransport]:
    """The pool, open as long as the block lasts."""
    transport = SmtpTransport(limits)
    try:
        yield transport
    finally:
        transport.close()
