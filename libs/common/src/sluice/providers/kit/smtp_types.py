"""The request and response types of the SMTP transport: inert, as httpx's types are for HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr

# A fully qualified name or an address literal, RFC 5321, 4.1.2 and 4.1.3.
EHLO_NAME = (
    r"^(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"|\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\])$"
)


class Phase(StrEnum):
    """How far the dialogue had come when the deciding reply arrived."""

    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_DATA = "end_of_data"  # the whole message was sent; only here can it be accepted


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A submission server and the account on it. Equal servers share connections, so every difference is a field."""

    host: str
    port: int
    implicit_tls: bool = False
    require_tls: bool = False
    user: str | None = None
    password: SecretStr | None = None
    verify: bool = True
    ca_file: str | None = None
    servername: str | None = None  # the name in the certificate when it is not the host
    ehlo_name: str | None = None  # ours; None: the transport's


@dataclass(frozen=True, slots=True)
class Submission:
    """One mail. The transport sends it in as many SMTP transactions as the number of recipients requires."""

    server: SmtpServer
    sender: str  # MAIL FROM
    recipients: tuple[str, ...]  # RCPT TO, in this order, without doubles
    message: bytes = field(repr=False)  # CRLF lines, dots not yet doubled
    utf8: bool = False  # an address needs SMTPUTF8
    envelope_id: str | None = None  # ours, for servers with DSN (RFC 3461): their bounces repeat it
    max_recipients: int = 100  # of one transaction; RFC 5321, 4.5.3.1.8: the least that a server takes


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """A reply that decided. ``code`` 0: there was none, and ``text`` is ours (TLS failed, no AUTH)."""

    phase: Phase
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class PartReply:
    """The reply that decided about some of a submission's recipients."""

    recipients: tuple[str, ...]
    reply: SmtpReply


@dataclass(frozen=True, slots=True)
class DividedReply:
    """The server treated the recipients of a submission differently; each of them is in exactly one part."""

    parts: tuple[PartReply, ...]
