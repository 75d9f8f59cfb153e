"""The SMTP dialogue step by step: greeting, EHLO, TLS, AUTH, then MAIL, RCPT, DATA and the final dot."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import cast

from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import PERIOD_REGEX, SMTPProtocol, normalize_message_line_endings
from aiosmtplib.response import SMTPResponse

from sluice.providers.kit.smtp_types import Phase, SmtpReply, SmtpServer, Submission

CONNECT_TIMEOUT = 10.0  # seconds for name look-up, TCP and, on an implicit-TLS port, the handshake


class SmtpRefusedError(Exception):
    """The dialogue ended before a mail was sent: the server refused, or it lacks something that is required."""

    def __init__(self, phase: Phase, code: int, text: str) -> None:
        super().__init__(phase)
        self.reply = SmtpReply(phase, code, text)


@dataclass(slots=True)
class Progress:
    """How far one mail has come. ``end_of_data_sent``: the final dot was written; the server may have the mail."""

    phase: Phase = Phase.GREETING
    end_of_data_sent: bool = False


class Protocol(SMTPProtocol):
    """aiosmtplib's protocol, which can also wait until its write buffer is empty."""

    async def write_all(self, data: bytes) -> None:
        """Return when the operating system has it all; OSError when the connection is lost before."""
        if self.transport is not None:
            # Wait for the last byte, not for the last 64 KiB. (0 would never wake up again under TLS.)
            cast(asyncio.Transport, self.transport).set_write_buffer_limits(high=1)
        self.write(data)
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


async def open_session(server: SmtpServer, local_name: str, progress: Progress) -> Connection:
    """A new connection, ready for MAIL. Raises SmtpRefusedError, SMTPException or OSError."""
    connection = Connection(await _connect(server), server)
    try:
        await _greeting(connection)
        progress.phase = Phase.EHLO
        await _greet(connection, local_name)
        progress.phase = Phase.TLS
        if await _start_tls(connection):
            await _greet(connection, local_name)  # what the server offered in the clear no longer holds, RFC 3207
        progress.phase = Phase.AUTH
        await _authenticate(connection)
    except BaseException:
        connection.drop()
        raise
    return connection


async def _connect(server: SmtpServer) -> Protocol:
    loop = asyncio.get_running_loop()
    tls = _tls(server) if server.implicit_tls else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, protocol = await loop.create_connection(
                lambda: Protocol(loop),
                server.host,
                server.port,
                ssl=tls,
                server_hostname=(server.servername or server.host) if tls else None,
            )
    except ssl.SSLError as error:
        raise _tls_refusal(error) from error
    return protocol


async def _greeting(connection: Connection) -> None:
    reply = await connection.protocol.read_response()
    if reply.code != 220:
        raise SmtpRefusedError(Phase.GREETING, reply.code, _text(reply))


async def _greet(connection: Connection, local_name: str) -> None:
    """EHLO; HELO for a server that does not know it."""
    reply = await connection.protocol.execute_command(b"EHLO", local_name.encode("ascii"))
    if reply.code != 250:
        await _expect(connection, Phase.EHLO, f"HELO {local_name}")
        return
    # "AUTH=LOGIN" is an old spelling that some servers still add.
    words = (line.replace("AUTH=", "AUTH ").partition(" ") for line in _text(reply).split("\n")[1:])
    connection.features = {keyword.upper(): parameters for keyword, _, parameters in words}


async def _start_tls(connection: Connection) -> bool:
    """True when the connection has just become encrypted."""
    server = connection.server
    if server.implicit_tls:
        return False
    if "STARTTLS" not in connection.features:
        if server.require_tls:
            raise SmtpRefusedError(Phase.TLS, 0, "STARTTLS is not offered, and TLS is required")
        return False
    name = server.servername or server.host
    try:
        await connection.protocol.start_tls(_tls(server), server_hostname=name, timeout=CONNECT_TIMEOUT)
    except SMTPResponseException as error:
        raise SmtpRefusedError(Phase.TLS, error.code, error.message) from error
    except ssl.SSLError as error:
        raise _tls_refusal(error) from error
    return True


def _tls_refusal(error: ssl.SSLError) -> Exception:
    """A refusal for certificate and version errors, which are configuration; a broken connection stays one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SmtpRefusedError(Phase.TLS, 0, f"the certificate is not valid: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionResetError("connection lost in the TLS handshake")
    return SmtpRefusedError(Phase.TLS, 0, f"TLS failed: {error.reason or 'no reason given'}")


def _tls(server: SmtpServer) -> ssl.SSLContext:
    try:
        changed_at = os.stat(server.ca_file).st_mtime_ns if server.ca_file else 0
        return _tls_context(server.verify, server.ca_file, changed_at)
    except (OSError, ssl.SSLError) as error:
        raise SmtpRefusedError(Phase.TLS, 0, "the file with the certificate authority cannot be read") from error


@lru_cache(maxsize=64)
def _tls_context(verify: bool, ca_file: str | None, _changed_at: int) -> ssl.SSLContext:
    # Cached because reading the system's authorities takes some ten milliseconds of CPU.
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _authenticate(connection: Connection) -> None:
    user, password = connection.server.user, connection.server.password
    if user is None or password is None:
        return
    secret = password.get_secret_value()
    methods = connection.features.get("AUTH", "").upper().split()
    if "PLAIN" in methods:
        await _expect(connection, Phase.AUTH, "AUTH PLAIN " + _base64(f"\0{user}\0{secret}"), codes=(235,))
    elif "LOGIN" in methods:
        await _expect(connection, Phase.AUTH, "AUTH LOGIN", codes=(334,))
        await _expect(connection, Phase.AUTH, _base64(user), codes=(334,))
        await _expect(connection, Phase.AUTH, _base64(secret), codes=(235,))
    else:
        raise SmtpRefusedError(Phase.AUTH, 0, "the server offers neither AUTH PLAIN nor AUTH LOGIN")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


async def _expect(connection: Connection, phase: Phase, command: str, *, codes: Iterable[int] = (250,)) -> SMTPResponse:
    reply = await connection.protocol.execute_command(command.encode("ascii"))
    if reply.code not in codes:
        raise SmtpRefusedError(phase, reply.code, _text(reply))
    return reply


async def send_mail(connection: Connection, request: Submission, progress: Progress) -> SmtpReply:
    """One transaction; returns the reply that decided it. The whole envelope or nothing (see adapters/smtp.py)."""
    connection.mails += 1
    progress.phase = Phase.MAIL
    refusal = await _envelope(connection, request, progress)
    if refusal is not None:
        connection.dirty = True
        return refusal
    # Dots doubled, and no lone CR or LF left that a server could take for the end of the mail.
    message = PERIOD_REGEX.sub(b"..", normalize_message_line_endings(request.message))
    await connection.protocol.write_all(message)
    progress.phase = Phase.END_OF_DATA
    progress.end_of_data_sent = True
    return _reply(Phase.END_OF_DATA, await connection.protocol.execute_command(b"."))


async def _envelope(connection: Connection, request: Submission, progress: Progress) -> SmtpReply | None:
    """MAIL, RCPT and DATA; the first refusal, or None when the server waits for the message."""
    if missing := _missing(connection, request):
        return missing
    execute = connection.protocol.execute_command
    reply = await execute(*_mail(connection, request))
    if reply.code != 250:
        return _reply(Phase.MAIL, reply)
    progress.phase = Phase.RCPT
    for number, recipient in enumerate(request.recipients):
        reply = await execute(b"RCPT", f"TO:<{recipient}>".encode())
        if reply.code not in (250, 251):
            return _reply(Phase.RCPT, reply, number if len(request.recipients) > 1 else None)
    progress.phase = Phase.DATA
    reply = await execute(b"DATA")
    return None if reply.code == 354 else _reply(Phase.DATA, reply)


def _missing(connection: Connection, request: Submission) -> SmtpReply | None:
    """A refusal in the server's own form for what its EHLO response excludes."""
    limit = connection.features.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit) < len(request.message):
        return SmtpReply(Phase.MAIL, 552, f"5.3.4 the server takes {limit} bytes, not {len(request.message)}")
    if request.utf8 and "SMTPUTF8" not in connection.features:
        return SmtpReply(Phase.MAIL, 553, "5.6.7 the server does not take non-ASCII addresses")
    return None


def _mail(connection: Connection, request: Submission) -> list[bytes]:
    words = [b"MAIL", f"FROM:<{request.sender}>".encode()]
    if "SIZE" in connection.features:
        words.append(f"SIZE={len(request.message)}".encode())
    if "DSN" in connection.features and request.envelope_id:
        words += [b"RET=HDRS", f"ENVID={request.envelope_id}".encode("ascii")]
    if request.utf8:
        words += [b"SMTPUTF8"] + [b"BODY=8BITMIME"] * ("8BITMIME" in connection.features)
    return words


def _reply(phase: Phase, reply: SMTPResponse, recipient: int | None = None) -> SmtpReply:
    return SmtpReply(phase, reply.code, _text(reply), recipient)


def _text(reply: SMTPResponse) -> str:
    # aiosmtplib keeps undecodable bytes as half characters, which no database takes.
    return reply.message.encode("utf-8", "replace").decode()
