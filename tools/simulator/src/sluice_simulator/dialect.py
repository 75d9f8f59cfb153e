"""What a far end is: a record of pure functions, the mirror image of a provider package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from sluice.providers.contract import Wire
from sluice_simulator.scenario import Do, DoorScript, Rule


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request as it came in; header names in lower case."""

    method: str
    path: str  # without query
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status with a body, JSON unless the headers say otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, body: object, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """An answer in JSON."""
    return HttpAnswer(status, orjson.dumps(body), tuple((headers or {}).items()))


@dataclass(frozen=True, slots=True)
class Taken:
    """What the far end understood of a call that it could read."""

    recipient: str
    provider_ref: str  # the id it would give
    reference: str | None = None  # ours, wherever this provider carries it
    key: str | None = None  # idempotency key
    message_id: str | None = None  # our public id, when it travels too
    account: str = ""  # whose call: API key or account sid
    secret: str = ""  # what signs this account's receipts, when the call itself tells
    callback: str | None = None  # where receipts go, when the call itself tells
    forced: HttpAnswer | None = None  # the provider's own test numbers: this answer, whatever the script says
    fields: Mapping[str, str] = field(default_factory=dict)  # what the answer and the receipts repeat


@dataclass(frozen=True, slots=True)
class Statement:
    """One receipt before it is signed. ``statement_id`` stays the same over repeats."""

    statement_id: str
    url: str
    content_type: str
    body: bytes
    secret: str


@dataclass(frozen=True, slots=True)
class ReceiptsOf:
    """How a far end speaks about a message later."""

    state: Callable[[Taken, str, str, datetime, DoorScript], Statement | None]  # kind, id; None: nowhere to send
    sign: Callable[[Statement, datetime], dict[str, str]]  # the headers of one sending
    signature: str  # the header that holds the signature


@dataclass(frozen=True, slots=True)
class FarEnd:
    """One kind of far end. ``read`` and ``answer`` are None for SMTP, whose dialogue has its own server."""

    name: str
    package: str
    wire: Wire
    read: Callable[[HttpCall], Taken | HttpAnswer] | None = None  # HttpAnswer: refused before the script is asked
    answer: Callable[[Do, Taken, Rule], HttpAnswer] | None = None
    # Takes an idempotency key: (the answer when other bytes come under it, the answer while it is being worked on)
    conflicts: tuple[HttpAnswer, HttpAnswer] | None = None
    receipts: ReceiptsOf | None = None
