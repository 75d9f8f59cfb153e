"""The request and response types of the SMTP transport: inert, as httpx's types are for HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import SecretStr


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


@dataclass(frozen=True, slots=True)
class Submission:
    """One mail for one SMTP transaction."""

    server: SmtpServer
    sender: str  # MAIL FROM
    recipients: tuple[str, ...]  # RCPT TO, in this order, without doubles
    message: bytes = field(repr=False)  # CRLF lines, dots not yet doubled
    utf8: bool = False  # an address needs SMTPUTF8
    envelope_id: str | None = None  # ours, for servers with DSN (RFC 3461): their bounces repeat it


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """The reply that decided. ``code`` 0: there was none, and ``text`` is ours (TLS failed, no AUTH)."""

    phase: Phase
    code: int
    text: str
    recipient: int | None = None  # which RCPT it answers, from 0
