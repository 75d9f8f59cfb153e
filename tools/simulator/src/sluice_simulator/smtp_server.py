"""A small SMTP server (RFC 5321) that can go wrong at any point of the dialogue.

A handler decides the reply at each phase; the session sends it: at once, late, byte by byte, never, or as a TCP reset.
Used by the simulator's SMTP endpoints and by the demo's mailbox.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, cast

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.http_server import DRIP_INTERVAL, reset
from sluice_simulator.listener import Listener

MAX_LINE = 64 * 1024  # bytes; a command has 512 by the standard

_DOT_END = b"\r\n.\r\n"
_STUFFED = re.compile(rb"(?m)^\.")
_PATH = re.compile(r'\s*<((?:[^"<>]|"(?:[^"\\]|\\.)*")*)>\s*(.*)\Z')


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The server's features. ``implicit``: TLS from the first byte, else STARTTLS when there is a context."""

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    auth: bool = True
    size: int = 50 * 1024 * 1024  # bytes
    utf8: bool = True


class ReplyMode(StrEnum):
    """How a reply is sent."""

    SEND = "send"
    DRIP = "drip"  # a byte a second
    HANG = "hang"  # not at all, and no later one either
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. ``on_sent`` is called with whether it was sent in full, once that is known."""

    text: str
    mode: ReplyMode = ReplyMode.SEND
    delay: float = 0.0  # seconds
    on_sent: Callable[[bool], None] | None = None


@dataclass(slots=True)
class Envelope:
    """The state of the transaction."""

    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    envelope_id: str | None = None
    message: bytes = b""
    encrypted: bool = False
    user: str | None = None  # of AUTH, undecoded
    in_transaction: bool = False  # MAIL was taken: only RSET or the final dot end the transaction
    handler_state: object = None  # the handler's own


class SmtpHandler(Protocol):
    """Decides replies. Any but a 2xx (3xx for DATA) refuses the sender, the recipient or the mail."""

    def reply(self, phase: Phase, envelope: Envelope, default: str) -> Reply:
        """The reply at this phase; ``default`` is the positive one."""


class SmtpSession(asyncio.Protocol):
    """One client."""

    def __init__(self, handler: SmtpHandler, settings: SmtpSettings, clients: set[asyncio.Transport]) -> None:
        self._handler = handler
        self._clients = clients
        self._settings = settings
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._searched = 0  # of the buffer, for the end of a message
        self._quiet = False  # a reply is due later, or never: nothing is read meanwhile
        self._next: Callable[[bytes], None] = self._command  # takes the next line
        self._in_message = False
        self._done: Callable[[bool], None] | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._user: str | None = None
        self._envelope = Envelope()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, without declaring it
        self._clients.add(self._transport)
        self._start_over()
        self._respond(Phase.GREETING, "220 simulator ESMTP")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._read()

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._clients.discard(self._transport)
        self._transport = None
        self._notify_sent(sent=False)

    def _read(self) -> None:
        while not self._quiet and self._transport is not None:
            if not (self._read_message() if self._in_message else self._read_line()):
                return

    def _read_line(self) -> bool:
        line, found, rest = self._buffer.partition(b"\n")
        if not found:
            if len(self._buffer) > MAX_LINE:
                self._abort()
            return False
        self._buffer = rest
        self._next(bytes(line.rstrip(b"\r")))
        return True

    def _read_message(self) -> bool:
        """Read the message up to the final dot, and undo the dot stuffing."""
        if self._buffer.startswith(_DOT_END[2:]):
            end, after = 0, 3
        else:
            end = self._buffer.find(_DOT_END, max(0, self._searched - len(_DOT_END)))
            self._searched = len(self._buffer)
            if end < 0:
                return False
            end, after = end + 2, end + len(_DOT_END)
        self._envelope.message = _STUFFED.sub(b"", bytes(self._buffer[:end]))
        del self._buffer[:after]
        self._in_message = False
        self._end_of_message()
        return True

    def _end_of_message(self) -> None:
        if len(self._envelope.message) > self._settings.size:
            self._reply("552 5.3.4 Message too big")
        else:
            self._respond(Phase.END_OF_DATA, "250 2.0.0 Ok")
        self._start_over()

    # The dialogue.

    def _command(self, line: bytes) -> None:
        words = line.decode("utf-8", "replace")
        verb, _, rest = words.partition(" ")
        handler = self._verbs.get(verb.upper())
        if handler is None:
            self._reply("500 5.5.1 Command not recognised")
        else:
            handler(self, rest)

    def _ehlo(self, _: str) -> None:
        self._start_over()
        lines = ["simulator", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", f"SIZE {self._settings.size}"]
        lines += ["SMTPUTF8"] * self._settings.utf8
        if self._settings.tls and not self._encrypted:
            lines.append("STARTTLS")
        lines += ["AUTH PLAIN LOGIN"] * self._settings.auth
        text = "\r\n".join(f"250-{line}" for line in lines[:-1])
        self._respond(Phase.EHLO, f"{text}\r\n250 {lines[-1]}")

    def _helo(self, _: str) -> None:
        self._start_over()
        self._respond(Phase.EHLO, "250 simulator")

    def _starttls(self, _: str) -> None:
        if self._settings.tls is None or self._encrypted:
            self._reply("502 5.5.1 Not available")
        elif self._respond(Phase.TLS, "220 2.0.0 Go ahead"):
            self._quiet = True
            self._buffer.clear()  # bytes in the clear after STARTTLS are discarded
            self._upgrade = asyncio.create_task(self._encrypt(self._settings.tls))

    async def _encrypt(self, context: ssl.SSLContext) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, ssl.SSLError):  # the client refused the certificate, or disconnected
            self._clients.discard(self._transport)  # asyncio reports no lost connection in a handshake
            self._abort()
            self.connection_lost(None)
            return
        self._clients.discard(self._transport)
        self._transport = cast(asyncio.Transport, transport)
        self._clients.add(self._transport)
        self._start_over()
        self._quiet = False
        self._read()

    def _auth(self, rest: str) -> None:
        if not self._settings.auth:
            self._reply("502 5.5.1 Not available")
            return
        method, _, initial = rest.partition(" ")
        if method.upper() == "PLAIN" and initial:
            self._authenticated(initial)
        elif method.upper() in ("PLAIN", "LOGIN"):
            self._ask(1 if method.upper() == "PLAIN" else 2)
        else:
            self._reply("504 5.5.4 Mechanism not known")

    def _ask(self, questions: int) -> None:
        """Read ``questions`` lines; any content is accepted."""

        def answered(line: bytes) -> None:
            if questions > 1:
                self._ask(questions - 1)
            else:
                self._authenticated(line.decode("ascii", "replace"))

        self._next = answered
        self._reply("334 VXNlcm5hbWU6" if questions > 1 else "334 ")

    def _authenticated(self, proof: str) -> None:
        self._next = self._command
        if self._respond(Phase.AUTH, "235 2.7.0 Authenticated"):
            self._user = proof

    def _mail(self, rest: str) -> None:
        path = _PATH.match(rest[5:]) if rest.upper().startswith("FROM:") else None
        if self._envelope.in_transaction:
            self._reply("503 5.5.1 Nested MAIL command")
            return
        if path is None:
            self._reply("501 5.5.4 Syntax: MAIL FROM:<address>")
            return
        self._start_over()
        self._envelope.sender = path[1]
        found = re.search(r"\bENVID=(\S+)", path[2])
        self._envelope.envelope_id = found[1] if found else None
        self._envelope.in_transaction = self._respond(Phase.MAIL, "250 2.1.0 Ok")

    def _rcpt(self, rest: str) -> None:
        path = _PATH.match(rest[3:]) if rest.upper().startswith("TO:") else None
        if path is None or not path[1]:
            self._reply("501 5.5.4 Syntax: RCPT TO:<address>")
            return
        self._envelope.recipients.append(path[1])
        if not self._respond(Phase.RCPT, "250 2.1.5 Ok"):
            self._envelope.recipients.pop()

    def _data(self, _: str) -> None:
        if not self._envelope.recipients:
            self._reply("503 5.5.1 RCPT first")
        elif self._respond(Phase.DATA, "354 Go ahead"):
            self._in_message, self._searched = True, 0

    def _rset(self, _: str) -> None:
        self._start_over()
        self._reply("250 2.0.0 Ok")

    def _noop(self, _: str) -> None:
        self._reply("250 2.0.0 Ok")

    def _quit(self, _: str) -> None:
        self._reply("221 2.0.0 Bye")
        if self._transport is not None:
            self._transport.close()

    _verbs: ClassVar[Mapping[str, Callable[[SmtpSession, str], None]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "STARTTLS": _starttls,
        "AUTH": _auth,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "RSET": _rset,
        "NOOP": _noop,
        "QUIT": _quit,
    }

    @property
    def _encrypted(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None

    def _start_over(self) -> None:
        self._envelope = Envelope(encrypted=self._encrypted, user=self._user)

    # Replies.

    def _respond(self, phase: Phase, default: str) -> bool:
        """Send the handler's reply; True when it is a positive one."""
        reply = self._handler.reply(phase, self._envelope, default)
        self._done = reply.on_sent
        match reply.mode:
            case ReplyMode.HANG:
                self._quiet = True
                self._notify_sent(sent=False)
            case ReplyMode.RESET:
                self._notify_sent(sent=False)
                self._abort()
            case ReplyMode.DRIP:
                self._quiet = True
                self._notify_sent(sent=False)
                self._drip(memoryview(f"{reply.text}\r\n".encode()))
            case ReplyMode.SEND if reply.delay:
                self._quiet = True
                asyncio.get_running_loop().call_later(reply.delay, self._send_late, reply.text)
            case ReplyMode.SEND:
                self._reply(reply.text)
                self._notify_sent(sent=True)
        return reply.text == default or reply.text[:1] in "23"

    def _send_late(self, text: str) -> None:
        self._quiet = False
        self._reply(text)
        self._notify_sent(sent=self._transport is not None)
        self._read()

    def _drip(self, rest: memoryview) -> None:
        if self._transport is None:
            return
        if not rest:
            self._quiet = False
            self._read()
            return
        self._transport.write(rest[:1])
        asyncio.get_running_loop().call_later(DRIP_INTERVAL, self._drip, rest[1:])

    def _reply(self, text: str) -> None:
        if self._transport is not None:
            self._transport.write(f"{text}\r\n".encode())

    def _notify_sent(self, *, sent: bool) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(sent)

    def _abort(self) -> None:
        if self._transport is not None:
            with suppress(OSError):
                reset(self._transport)


async def listen_smtp(handler: SmtpHandler, settings: SmtpSettings, host: str, port: int) -> Listener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    listener = Listener()
    tls = settings.tls if settings.implicit else None
    await listener.open(lambda: SmtpSession(handler, settings, listener.clients), host, port, tls=tls)
    return listener
