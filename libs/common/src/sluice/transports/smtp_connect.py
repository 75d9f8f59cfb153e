"""Connecting to a submission server: every address of its name is tried until one of them greets (RFC 5321, 5.1)."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from functools import lru_cache

import aiohappyeyeballs
from aiosmtplib.errors import SMTPException
from aiosmtplib.response import SMTPResponse

from sluice.providers.kit.smtp_types import Phase, SmtpReply, SmtpServer
from sluice.transports.outgoing import AddressInfo
from sluice.transports.smtp_protocol import Connection, Progress, Protocol

_NEXT_ADDRESS_DELAY = 0.25  # seconds without a connection after which the next address is tried as well, RFC 8305
# Seconds to wait for a greeting while other addresses are left. The last one has the full time limit: a server that
# delays its greeting on purpose does so on every address.
_GREETING_OF_MANY = 5.0
# Bytes that the operating system may hold unsent: a mail that was written is then all but sent, and the time limit of
# the final dot is the server's.
_MAX_UNSENT = 128 * 1024
# A peer that is gone for good is noticed within about a minute, whatever the time limit of the step is.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class SmtpRefusedError(Exception):
    """The dialogue ended before a mail was sent: the server refused, or it lacks something that is required."""

    def __init__(self, phase: Phase, code: int, text: str) -> None:
        super().__init__(phase)
        self.reply = SmtpReply(phase, code, text)


async def connect(server: SmtpServer, progress: Progress) -> Connection:
    """A connection whose greeting was read.

    Raises:
        SmtpRefusedError, SMTPException, OSError: what happened at the last address.
    """
    async with progress.step(progress.limits.smtp_command_timeout):
        addresses = progress.limits.outgoing().select(await _resolve(server))
    while True:
        sock = await _connect_first(addresses, progress)
        try:
            _remove_connected(addresses, sock)
            return await _greeted(server, sock, progress, last=not addresses)
        except SmtpRefusedError as error:
            if not addresses or error.reply.phase is not Phase.GREETING:
                raise
        except (SMTPException, OSError):
            if not addresses:
                raise


def _remove_connected(addresses: list[AddressInfo], sock: socket.socket) -> None:
    try:
        aiohappyeyeballs.remove_addr_infos(addresses, sock.getpeername())
    except (OSError, ValueError):  # already disconnected, or in a form of its own: at least each turn takes one
        del addresses[0]


async def _resolve(server: SmtpServer) -> list[AddressInfo]:
    try:  # an address needs no thread
        found = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(found))


async def _connect_first(addresses: list[AddressInfo], progress: Progress) -> socket.socket:
    # Each address has the whole time limit, because none waits for the end of the one before it.
    limit = progress.limits.smtp_connect_timeout + _NEXT_ADDRESS_DELAY * (len(addresses) - 1)
    async with progress.step(limit):
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_DELAY, interleave=1
        )
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*_KEEP_ALIVE, ("TCP_NOTSENT_LOWAT", _MAX_UNSENT)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


async def _greeted(server: SmtpServer, sock: socket.socket, progress: Progress, *, last: bool) -> Connection:
    connection = Connection(await _start_protocol(server, sock, progress), server)
    try:
        limit = progress.limits.smtp_command_timeout
        async with progress.step(limit if last else min(limit, _GREETING_OF_MANY)):
            reply = await connection.protocol.read_response()
    except BaseException:
        connection.drop()
        raise
    if reply.code != 220:
        connection.close()
        raise SmtpRefusedError(Phase.GREETING, reply.code, text_of(reply))
    return connection


async def _start_protocol(server: SmtpServer, sock: socket.socket, progress: Progress) -> Protocol:
    loop = asyncio.get_running_loop()
    try:
        tls = tls_context(server) if server.implicit_tls else None
        async with progress.step(progress.limits.smtp_connect_timeout):
            _, protocol = await loop.create_connection(
                lambda: Protocol(loop),
                sock=sock,
                ssl=tls,
                server_hostname=(server.servername or server.host) if tls else None,
            )
    except ssl.SSLError as error:
        raise tls_refusal(error) from error
    except BaseException:
        sock.close()
        raise
    return protocol


def tls_refusal(error: ssl.SSLError) -> Exception:
    """A refusal for certificate and version errors, which are configuration; a broken connection stays one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SmtpRefusedError(Phase.TLS, 0, f"the certificate is not valid: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConnectionResetError("connection lost in the TLS handshake")
    return SmtpRefusedError(Phase.TLS, 0, f"TLS failed: {error.reason or 'no reason given'}")


def tls_context(server: SmtpServer) -> ssl.SSLContext:
    """The server's TLS settings as a context.

    Raises:
        SmtpRefusedError: the file with the certificate authority cannot be read.
    """
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


def text_of(reply: SMTPResponse) -> str:
    """The text of a reply, fit for a database: aiosmtplib keeps undecodable bytes as half characters."""
    return reply.message.encode("utf-8", "replace").decode()
