"""One function an operation: what it sends. The clients send it and return the answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Required, TypedDict
from urllib.parse import quote

from sluice.client.answers import Channel

Query = Mapping[str, Any]  # names may end in an underscore; None is omitted


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``body``: JSON; ``content``: a body of another type, which ``headers`` name.

    ``repeatable``: a repeat changes nothing, so an unknown outcome may be tried again.
    """

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


def path(*segments: str) -> str:
    """A path of the API; each segment is escaped."""
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value; names that are words of Python may end in an underscore."""
    return {name.rstrip("_"): value for name, value in fields.items() if value is not None}


def read(*segments: str, query: Query | None = None) -> Call:
    return Call("GET", path(*segments), query or {})


def delete(*segments: str) -> Call:
    return Call("DELETE", path(*segments))


def update(*segments: str, body: Any) -> Call:
    return Call("PATCH", path(*segments), body=body)


def create(*segments: str, body: Any = None) -> Call:
    """A POST that would act twice if it was repeated."""
    return Call("POST", path(*segments), body=body, repeatable=False)


def send(fields: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """A send request; the key makes its repeats one message."""
    return _keyed(path("messages", "channel"), without_none(fields), idempotency_key)


def send_batch(messages: Sequence[Mapping[str, Any]], idempotency_key: str | None) -> Call:
    """Up to 1,000 send requests."""
    return _keyed(path("messages", "batch"), {"messages": [without_none(each) for each in messages]}, idempotency_key)


def create_bulk(
    message: Mapping[str, Any], recipients: Iterable[Mapping[str, Any]], idempotency_key: str | None
) -> Call:
    """An upload of JSON lines: the message, then a row for each recipient."""
    lines = [{"message": without_none(message)}, *map(without_none, recipients)]
    content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Content-Type": "application/jsonl"}
    return Call("POST", path("messages", "bulk"), content=content, headers=headers)


def _keyed(to: str, body: Any, idempotency_key: str | None) -> Call:
    key = idempotency_key or str(uuid.uuid4())
    return Call("POST", to, body=body, headers={"Idempotency-Key": key})


class SendRequest(TypedDict, total=False):
    """The fields of a send request; ``from_`` and ``class_`` are the API's ``from`` and ``class``."""

    channel: Required[Channel]
    to: Required[Sequence[str]]
    from_: str
    subject: str
    text: str
    html: str
    cc: Sequence[str]
    bcc: Sequence[str]
    reply_to: str
    attachments: Sequence[Mapping[str, Any]]
    channel_options: Mapping[str, Any]
    template_id: str
    variables: Mapping[str, Any]
    unsubscribe: bool
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    class_: str
    send_at: str
    expires_at: str
    preferred_provider: str


class BulkMessage(TypedDict, total=False):
    """The message of a bulk job: a send request without recipients, whose texts are templates for ``variables``."""

    channel: Required[Channel]
    from_: str
    subject: str
    text: str
    html: str
    reply_to: str
    attachments: Sequence[Mapping[str, Any]]
    channel_options: Mapping[str, Any]
    template_id: str
    variables: Mapping[str, Any]
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    class_: str
    send_at: str
    expires_at: str
    preferred_provider: str


class BulkRow(TypedDict, total=False):
    """A recipient of a bulk job. A row may also have other fields of the message; these are the usual ones."""

    to: Required[str | Sequence[str]]
    variables: Mapping[str, Any]
    metadata: Mapping[str, Any]


class MessageFilters(TypedDict, total=False):
    """The filters of a list of messages. Times are RFC 3339."""

    status: str
    channel: Channel
    from_: str
    to: str
    tag: str
    provider: str
    attempted_provider: str
    failed_over: bool
    possible_duplicate: bool
    incident: str
    template: str
    bulk: str
    since: str
    until: str
    limit: int
    cursor: str


class AnalyticsQuery(TypedDict, total=False):
    """The range, the filters and the groups of analytics. Times are RFC 3339."""

    from_: str
    to: str
    interval: Literal["auto", "hour", "day"]
    channel: Channel
    provider: str
    tag: str
    group_by: Sequence[Literal["channel", "provider", "tag"]]
