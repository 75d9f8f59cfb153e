"""What a far end is: a record of pure functions, the mirror image of a provider package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from sluice.providers.contract import TransportKind
from sluice_simulator.scenario import Behaviour, EndpointScenario, Rule


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request as it came in; header names in lower case."""

    method: str
    path: str  # without query
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A status with a body, JSON unless the headers say otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> FakeResponse:
    """An answer in JSON."""
    return FakeResponse(status, orjson.dumps(body), tuple((headers or {}).items()))


@dataclass(frozen=True, slots=True)
class ParsedSend:
    """What the far end understood of a call that it could read."""

    recipient: str
    provider_message_id: str  # the id it would give
    reference: str | None = None  # ours, wherever this provider carries it
    idempotency_key: str | None = None  # idempotency key
    message_id: str | None = None  # our public id, when it travels too
    account: str = ""  # whose call: API key or account sid
    secret: str = ""  # what signs this account's receipts, when the call itself tells
    callback: str | None = None  # where receipts go, when the call itself tells
    forced_response: FakeResponse | None = (
        None  # the provider's own test numbers: this answer, whatever the script says
    )
    fields: Mapping[str, str] = field(default_factory=dict)  # what the answer and the receipts repeat


@dataclass(frozen=True, slots=True)
class ReceiptPayload:
    """One receipt before it is signed. ``statement_id`` stays the same over repeats."""

    receipt_id: str
    url: str
    content_type: str
    body: bytes
    secret: str


@dataclass(frozen=True, slots=True)
class ReceiptDialect:
    """How a far end speaks about a message later."""

    state: Callable[
        [ParsedSend, str, str, datetime, EndpointScenario], ReceiptPayload | None
    ]  # kind, id; None: nowhere to send
    sign: Callable[[ReceiptPayload, datetime], dict[str, str]]  # the headers of one sending
    signature: str  # the header that holds the signature


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of far end. ``read`` and ``answer`` are None for SMTP, whose dialogue has its own server."""

    name: str
    package: str
    transport: TransportKind
    default_port: int = 0  # of ``sluice simulate``; 0: a free one
    read: Callable[[FakeRequest], ParsedSend | FakeResponse] | None = (
        None  # HttpAnswer: refused before the script is asked
    )
    respond: Callable[[Behaviour, ParsedSend, Rule], FakeResponse] | None = None
    # Takes an idempotency key: (the answer when other bytes come under it, the answer while it is being worked on)
    conflicts: tuple[FakeResponse, FakeResponse] | None = None
    receipts: ReceiptDialect | None = None
