"""A dialect: how one provider's API reads a call and writes responses and receipts. Pure functions in a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import orjson
from pydantic import BaseModel

from sluice.providers.contract import TransportKind
from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.scenario import Behaviour, EndpointScenario, Rule


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request as received; header names in lower case."""

    method: str
    path: str  # without query
    headers: Mapping[bytes, bytes]
    body: bytes
    query: str = ""


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A status with a body, JSON unless the headers say otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def split_token(url: str, parameter: str) -> tuple[str, str]:
    """A receipt URL without the token in this parameter, and the token ("" without one)."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in query if name != parameter])
    return urlunsplit(parts._replace(query=rest)), dict(query).get(parameter, "")


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> FakeResponse:
    """A response in JSON."""
    return FakeResponse(status, orjson.dumps(body), tuple((headers or {}).items()))


@dataclass(frozen=True, slots=True)
class ParsedSend:
    """A call that sends a message."""

    recipient: str
    provider_message_id: str  # the id that the provider assigns
    reference: str | None = None  # our attempt reference, wherever this provider carries it
    idempotency_key: str | None = None
    message_id: str | None = None  # our public id, when the call carries it
    account: str = ""  # API key or account id
    secret: str = ""  # signs this account's receipts, when the call carries it
    callback: str | None = None  # URL for receipts, when the call carries it
    forced_response: FakeResponse | None = None  # of the provider's own test numbers, whatever the scenario says
    fields: Mapping[str, str] = field(default_factory=dict)  # repeated in the response and in receipts


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that the provider refuses before the scenario decides: unauthenticated, malformed, unknown path."""

    response: FakeResponse


@dataclass(frozen=True, slots=True)
class Answered:
    """A call of another kind than a send: a token exchange, a look-up, an upload."""

    response: FakeResponse


@dataclass(frozen=True, slots=True)
class ReceiptPayload:
    """One receipt before it is signed. ``receipt_id`` stays the same over repeats."""

    receipt_id: str
    url: str
    content_type: str
    body: bytes
    secret: str


@dataclass(frozen=True, slots=True)
class ReceiptContext:
    """What a receipt is written from. ``kind``: an event type, ``inbound`` or ``opt_out``."""

    send: ParsedSend
    kind: str
    receipt_id: str
    at: datetime
    scenario: EndpointScenario
    dashboard: BaseModel


@dataclass(frozen=True, slots=True)
class ReceiptDialect:
    """How a provider writes and signs receipts.

    ``other_key`` and ``other_body`` make a false receipt: another key of the same form, other bytes that still parse.
    A provider without signatures has ``in_url``: its "signature" is the token in that parameter of the receipt URL.
    A provider that signs inside the body has ``in_body``: it moves what ``sign`` returned from the headers to the body.
    """

    write: Callable[[ReceiptContext], ReceiptPayload | None]  # None: no receipt of this kind, or nowhere to send it
    sign: Callable[[ReceiptPayload, datetime], dict[str, str]] = lambda _payload, _at: {}  # the headers of one sending
    signature_header: str = ""
    in_url: str = ""
    in_body: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]] | None = None
    other_key: Callable[[str], str] = lambda secret: secret + "x"
    other_body: Callable[[bytes], bytes] = lambda body: body + b" "
    stale: timedelta = timedelta(hours=1)  # the age of a signature that is too old


@dataclass(frozen=True, slots=True)
class SmtpDialect:
    """Replies of an SMTP server: by behaviour and phase, "" for all other phases; and the phase of each behaviour."""

    replies: Mapping[Behaviour, Mapping[Phase | str, str]]
    phases: Mapping[Behaviour, Phase]


@dataclass(frozen=True, slots=True)
class SmppDialect:
    """The command_status of each refusal, and the word and number of each state that a receipt reports."""

    statuses: Mapping[Behaviour, int]
    states: Mapping[str, tuple[str, int]]


class NoDashboard(BaseModel, extra="forbid"):
    """A provider without settings that matter to the simulator."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of fake provider. HTTP dialects have ``read`` and ``respond``, others ``smtp`` or ``smpp``."""

    name: str
    package: str
    transport: TransportKind
    default_port: int = 0  # of ``sluice simulate``; 0: a free one
    read: Callable[[FakeRequest], ParsedSend | Refused | Answered] | None = None
    respond: Callable[[Behaviour, ParsedSend, Rule], FakeResponse] | None = None
    # The code of ``decline`` and ``decline-account``; the dialect's ``reject`` where the provider has no such error.
    declines: Mapping[Behaviour, str] = field(default_factory=dict)
    # Of a provider with idempotency keys: the response to other bytes under a key, and to a call in progress.
    conflicts: tuple[FakeResponse, FakeResponse] | None = None
    # Of a provider that refuses a repeated key instead: its response, whatever the bytes.
    duplicate: Callable[[ParsedSend], FakeResponse] | None = None
    receipts: ReceiptDialect | None = None
    dashboard: type[BaseModel] = NoDashboard  # the settings that an account has in the provider's dashboard
    smtp: SmtpDialect | None = None
    smpp: SmppDialect | None = None
