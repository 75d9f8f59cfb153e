"""One SMTP connection: aiosmtplib's protocol with pipelining and flow control, and the time limits of its steps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import cast

from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import COMMAND_INJECTION_REGEX, SMTPProtocol
from aiosmtplib.response import SMTPResponse

from sluice.providers.kit.smtp_types import Phase, SmtpServer
from sluice.transports.provider_call import OnProgress
from sluice.transports.settings import TransportSettings

_BLOCK = 64 * 1024  # bytes of a mail that are written at once
_MAX_REPLIES = 4 * 1024 * 1024  # bytes of replies that are read and not yet parsed


@dataclass(slots=True)
class Progress:
    """How far one call has come. ``end_of_data_sent``: the final dot was written; the server may have the mail."""

    limits: TransportSettings
    on_progress: OnProgress
    phase: Phase = Phase.GREETING
    end_of_data_sent: bool = False

    def step(self, seconds: float) -> asyncio.Timeout:
        """The time limit of the step that begins now; the one before it has ended."""
        self.on_progress(seconds)
        return asyncio.timeout(seconds)


class Protocol(SMTPProtocol):
    """Reads the replies to several commands that were written together, and waits until all bytes are written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._expected = 0  # replies to pipelined commands that have not been read from the connection
        self._replies: deque[SMTPResponse] = deque()  # read from the connection, and not yet asked for

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if not self._expected:
            super().data_received(data)
            return
        self._buffer.extend(data)
        try:
            if len(self._buffer) > _MAX_REPLIES:
                raise SMTPResponseException(-1, "Response too long")
            while self._expected and (reply := self._read_response_from_buffer()) is not None:
                self._expected -= 1
                self._hand_over(reply)
        except SMTPResponseException as error:
            self._expected = 0
            if self._response_waiter is not None and not self._response_waiter.done():
                self._set_response_exception(self._response_waiter, error)

    def _hand_over(self, reply: SMTPResponse) -> None:
        waiter = self._response_waiter
        if self._response_pending and waiter is not None and not waiter.done():
            waiter.set_result(reply)
        else:
            self._replies.append(reply)

    def pipeline(self, commands: Sequence[bytes]) -> None:
        """Write commands together (RFC 2920); each has a reply, which :meth:`next_reply` returns.

        Raises:
            ValueError: a command contains a line break.
        """
        if any(COMMAND_INJECTION_REGEX.search(command) for command in commands):
            raise ValueError("a line break in a command")
        self._expected = len(commands)
        self.write(b"".join(command + b"\r\n" for command in commands))

    async def next_reply(self) -> SMTPResponse:
        """The next reply to the pipelined commands."""
        return self._replies.popleft() if self._replies else await self.read_response()

    async def write_all(self, data: bytes, progress: Progress) -> None:
        """Return when the operating system has all of it; each block has its own time limit."""
        if self.transport is not None:
            # Wait for the last byte, not for the last 64 KiB. (0 would never wake up again under TLS.)
            cast(asyncio.Transport, self.transport).set_write_buffer_limits(high=1)
        view = memoryview(data)
        for start in range(0, len(view), _BLOCK):
            async with progress.step(progress.limits.smtp_block_timeout):
                self.write(view[start : start + _BLOCK])  # type: ignore[arg-type]
                await self._drain_helper()


class Connection:
    """One connection, authenticated and ready for a mail."""

    def __init__(self, protocol: Protocol, server: SmtpServer) -> None:
        self.protocol = protocol
        self.server = server
        self.features: dict[str, str] = {}  # of EHLO: keyword in upper case -> parameters
        self.mails = 0
        self.used_at = monotonic()
        self.dirty = False  # a transaction was begun and refused: RSET before the next one

    @property
    def alive(self) -> bool:
        return self.protocol.is_connected

    def limit(self, name: str, default: int) -> int:
        """A number of the LIMITS extension (RFC 9422), at most ``default``."""
        words = self.features.get("LIMITS", "").upper().split()
        stated = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
        return min([default, *(int(number) for number in stated if number.isdecimal() and int(number) > 0)])

    def close(self) -> None:
        """Send QUIT and close without waiting for the reply."""
        with suppress(SMTPServerDisconnected):
            self.protocol.write(b"QUIT\r\n")
        if self.protocol.transport is not None:
            self.protocol.transport.close()

    def drop(self) -> None:
        """Abort: unwritten bytes, perhaps half a mail, must not be sent."""
        if self.protocol.transport is not None:
            cast(asyncio.Transport, self.protocol.transport).abort()
