"""The SMTP dialogue step by step: EHLO, TLS, AUTH, then a transaction of MAIL, RCPT, DATA and the final dot."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, replace

from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.protocol import PERIOD_REGEX, normalize_message_line_endings
from aiosmtplib.response import SMTPResponse

from sluice.providers.kit.smtp_types import PartReply, Phase, SmtpReply, SmtpServer, Submission
from sluice.transports.smtp_connect import SmtpRefusedError, connect, text_of, tls_context, tls_refusal
from sluice.transports.smtp_protocol import Connection, Progress

# RFC 5321, 4.5.3.1.10: 452, and 552 of older servers. Others say it in the enhanced code (RFC 3463) or in words.
_TOO_MANY_RECIPIENTS = re.compile(r"(?:452|552) (?![245]\.)|[45]\d\d (?:[45]\.5\.3 |.*too many recipients)", re.I)


async def open_session(server: SmtpServer, ehlo_name: str | None, progress: Progress) -> Connection:
    """A new connection, ready for MAIL. ``ehlo_name``: None for the literal of the connection's own address.

    Raises:
        SmtpRefusedError, SMTPException, OSError: no address of the server led to a session.
    """
    connection = await connect(server, progress)
    name = ehlo_name or _address_literal(connection)
    try:
        progress.phase = Phase.EHLO
        await _greet(connection, name, progress)
        progress.phase = Phase.TLS
        if await _start_tls(connection, progress):
            await _greet(connection, name, progress)  # what was offered in the clear no longer holds, RFC 3207
        progress.phase = Phase.AUTH
        await _authenticate(connection, progress)
    except BaseException:
        connection.drop()
        raise
    return connection


def _address_literal(connection: Connection) -> str:
    """The connection's own address as RFC 5321, 4.1.3 writes it: never wrong, unlike a name without a domain."""
    transport = connection.protocol.transport
    address = str(transport.get_extra_info("sockname")[0]) if transport is not None else "127.0.0.1"
    return f"[IPv6:{address.partition('%')[0]}]" if ":" in address else f"[{address}]"


async def _greet(connection: Connection, name: str, progress: Progress) -> None:
    """EHLO; HELO for a server that does not know it."""
    async with progress.step(progress.limits.smtp_command_timeout):
        reply = await connection.protocol.execute_command(b"EHLO", name.encode("ascii"))
    if reply.code != 250:
        await _expect(connection, Phase.EHLO, f"HELO {name}", progress)
        return
    connection.features = _read_features(text_of(reply).split("\n")[1:])


def _read_features(lines: Iterable[str]) -> dict[str, str]:
    features: dict[str, str] = {}
    for line in lines:
        # "AUTH=LOGIN" is an old spelling that some servers still add, in a line of its own: both lines count.
        keyword, _, parameters = line.replace("AUTH=", "AUTH ").partition(" ")
        keyword = keyword.upper()
        features[keyword] = f"{features.get('AUTH', '')} {parameters}" if keyword == "AUTH" else parameters
    return features


async def _start_tls(connection: Connection, progress: Progress) -> bool:
    """True when the connection has just become encrypted."""
    server, limits = connection.server, progress.limits
    if server.implicit_tls:
        return False
    if "STARTTLS" not in connection.features:
        if server.require_tls:
            raise SmtpRefusedError(Phase.TLS, 0, "STARTTLS is not offered, and TLS is required")
        return False
    name = server.servername or server.host
    try:
        async with progress.step(limits.smtp_command_timeout + limits.smtp_connect_timeout):
            # Its time limit is that of the reply and, once more, of the handshake.
            await connection.protocol.start_tls(
                tls_context(server), server_hostname=name, timeout=limits.smtp_command_timeout
            )
    except SMTPResponseException as error:
        raise SmtpRefusedError(Phase.TLS, error.code, error.message) from error
    except ssl.SSLError as error:
        raise tls_refusal(error) from error
    return True


async def _authenticate(connection: Connection, progress: Progress) -> None:
    user, password = connection.server.user, connection.server.password
    if user is None or password is None:
        return
    secret = password.get_secret_value()
    methods = connection.features.get("AUTH", "").upper().split()
    if "PLAIN" in methods:
        plain = "AUTH PLAIN " + _base64(f"\0{user}\0{secret}")
        await _expect(connection, Phase.AUTH, plain, progress, codes=(235,))
    elif "LOGIN" in methods:
        await _expect(connection, Phase.AUTH, "AUTH LOGIN", progress, codes=(334,))
        await _expect(connection, Phase.AUTH, _base64(user), progress, codes=(334,))
        await _expect(connection, Phase.AUTH, _base64(secret), progress, codes=(235,))
    else:
        raise SmtpRefusedError(Phase.AUTH, 0, "the server offers neither AUTH PLAIN nor AUTH LOGIN")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


async def _expect(
    connection: Connection, phase: Phase, command: str, progress: Progress, *, codes: Iterable[int] = (250,)
) -> None:
    async with progress.step(progress.limits.smtp_command_timeout):
        reply = await connection.protocol.execute_command(command.encode("ascii"))
    if reply.code not in codes:
        raise SmtpRefusedError(phase, reply.code, text_of(reply))


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """The replies of one transaction. ``rest``: recipients that the server takes in another transaction only."""

    parts: tuple[PartReply, ...]
    rest: tuple[str, ...] = ()


async def send_mail(connection: Connection, request: Submission, progress: Progress) -> TransactionResult:
    """One transaction: the mail goes to the recipients that the server accepts, if it accepts any.

    A reply that ends the transaction is the reply to every recipient that was not refused before.
    """
    connection.mails += 1
    progress.phase = Phase.MAIL
    if missing := _missing(connection, request):
        return TransactionResult((PartReply(request.recipients, missing),))
    limit = connection.limit("RCPTMAX", len(request.recipients))
    later = request.recipients[limit:]
    reply, taken = await _envelope(connection, replace(request, recipients=request.recipients[:limit]), progress)
    if reply is None:
        reply = await _data(connection, request, progress) if taken.accepted else None
    if reply is None or reply.phase is not Phase.END_OF_DATA:
        connection.dirty = True
    if reply is None:
        return TransactionResult(taken.refused, taken.rest + later)
    if reply.phase is Phase.END_OF_DATA and 200 <= reply.code < 300:
        return TransactionResult((PartReply(taken.accepted, reply), *taken.refused), taken.rest + later)
    refused = {recipient for part in taken.refused for recipient in part.recipients}
    others = tuple(recipient for recipient in request.recipients if recipient not in refused)
    return TransactionResult((PartReply(others, reply), *taken.refused))


@dataclass(frozen=True, slots=True)
class _Recipients:
    """The replies to RCPT."""

    accepted: tuple[str, ...] = ()
    refused: tuple[PartReply, ...] = ()
    rest: tuple[str, ...] = ()


async def _envelope(
    connection: Connection, request: Submission, progress: Progress
) -> tuple[SmtpReply | None, _Recipients]:
    """MAIL and RCPT, in one piece where the server allows it; the reply that ended the transaction, if one did."""
    commands = [_mail(connection, request), *(b"RCPT TO:<%b>" % recipient.encode() for recipient in request.recipients)]
    replies = _Replies(connection, commands, progress)
    reply = await replies.next()
    if reply.code != 250:
        if reply.code != 421:
            await replies.skip_rest()
        return SmtpReply(Phase.MAIL, reply.code, text_of(reply)), _Recipients()
    progress.phase = Phase.RCPT
    accepted: list[str] = []
    refused: list[PartReply] = []
    rest: list[str] = []
    for recipient in request.recipients:
        reply = await replies.next()
        found = SmtpReply(Phase.RCPT, reply.code, text_of(reply))
        if reply.code == 421:
            return found, _Recipients(refused=tuple(refused))
        if 250 <= reply.code < 260:
            accepted.append(recipient)
        elif accepted and _TOO_MANY_RECIPIENTS.match(f"{found.code} {found.text}"):
            rest.append(recipient)
        else:
            refused.append(PartReply((recipient,), found))
    return None, _Recipients(tuple(accepted), tuple(refused), tuple(rest))


class _Replies:
    """The replies to commands, which are written together where the server offers PIPELINING."""

    def __init__(self, connection: Connection, commands: list[bytes], progress: Progress) -> None:
        self._connection = connection
        self._progress = progress
        self._commands = iter(commands)
        self._pipelined = "PIPELINING" in connection.features
        if self._pipelined:
            connection.protocol.pipeline(commands)

    async def next(self) -> SMTPResponse:
        """The reply to the next command."""
        command = next(self._commands)
        protocol = self._connection.protocol
        async with self._progress.step(self._progress.limits.smtp_command_timeout):
            return await (protocol.next_reply() if self._pipelined else protocol.execute_command(command))

    async def skip_rest(self) -> None:
        """Read the replies to commands that were written and are of no interest; the connection stays usable."""
        if not self._pipelined:
            return
        try:
            async with self._progress.step(self._progress.limits.smtp_command_timeout):
                for _ in self._commands:
                    await self._connection.protocol.next_reply()
        except (SMTPException, OSError):
            self._connection.drop()


async def _data(connection: Connection, request: Submission, progress: Progress) -> SmtpReply:
    """DATA, the mail and the final dot.

    DATA is not part of the pipeline: after it there is no way back, and whether the mail is sent depends on the
    replies to RCPT.
    """
    progress.phase = Phase.DATA
    async with progress.step(progress.limits.smtp_data_timeout):
        reply = await connection.protocol.execute_command(b"DATA")
    if reply.code != 354:
        return SmtpReply(Phase.DATA, reply.code, text_of(reply))
    # Dots doubled, and no lone CR or LF left that a server could take for the end of the mail.
    message = PERIOD_REGEX.sub(b"..", normalize_message_line_endings(request.message))
    await connection.protocol.write_all(message, progress)
    progress.phase = Phase.END_OF_DATA
    progress.end_of_data_sent = True
    async with progress.step(progress.limits.smtp_final_timeout):
        reply = await connection.protocol.execute_command(b".")
    return SmtpReply(Phase.END_OF_DATA, reply.code, text_of(reply))


def _missing(connection: Connection, request: Submission) -> SmtpReply | None:
    """A refusal in the server's own form for what its EHLO response excludes."""
    limit = connection.features.get("SIZE", "")
    if limit.isdecimal() and 0 < int(limit) < len(request.message):
        return SmtpReply(Phase.MAIL, 552, f"5.3.4 the server takes {limit} bytes, not {len(request.message)}")
    if request.utf8 and "SMTPUTF8" not in connection.features:
        return SmtpReply(Phase.MAIL, 553, "5.6.7 the server does not take non-ASCII addresses")
    return None


def _mail(connection: Connection, request: Submission) -> bytes:
    words = [f"MAIL FROM:<{request.sender}>".encode()]
    if "SIZE" in connection.features:
        words.append(f"SIZE={len(request.message)}".encode())
    if "DSN" in connection.features and request.envelope_id:
        words += [b"RET=HDRS", f"ENVID={request.envelope_id}".encode("ascii")]
    if request.utf8:
        words += [b"SMTPUTF8"] + [b"BODY=8BITMIME"] * ("8BITMIME" in connection.features)
    return b" ".join(words)
