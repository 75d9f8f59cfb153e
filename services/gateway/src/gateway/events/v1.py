"""``/v1/events/stream``: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
import structlog
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from gateway.dependencies import EventsRead, ServicesDep
from gateway.errors import ApiError, NotFound, TooManyRequests, ValidationFailed
from gateway.events.feed import Batch, Entry, EventStream, OvertakenError, Position
from gateway.events.service import of_scope
from gateway.kit.fields import Timestamp
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.streams import content_of
from gateway.kit.v1_errors import errors_of
from gateway.services import Services
from sluice.bus.messages import NON_DELIVERY_TYPES
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.state import EventType, State
from sluice.store.projects import ProjectScope

log = structlog.get_logger()

router = APIRouter(prefix="/v1/events", tags=["events"])

HEARTBEAT = 15.0  # seconds
_TYPES = frozenset(EventType) | NON_DELIVERY_TYPES
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass it on as it comes


class StreamedEvent(BaseModel):
    """The data of one event. It has no recipient and no content: `GET /v1/messages/{id}` shows them."""

    id: str | None
    type: str
    status: State | None
    message_id: str | None
    channel: Channel | None
    provider: str | None
    attempt: int | None
    reason: str | None
    detail: str
    created_at: Timestamp


class StreamFilter:
    """Which events a stream has. Without a type: all."""

    def __init__(self, types: frozenset[str], channel: Channel | None, message_id: UUID | None) -> None:
        self._types = types
        self._channel = channel
        self._message_id = None if message_id is None else str(message_id)

    def fits(self, entry: Entry) -> bool:
        """Whether the stream has this event."""
        fields = entry.fields
        return (
            (not self._types or fields["type"] in self._types)
            and (self._channel is None or fields.get("channel") == self._channel)
            and (self._message_id is None or fields.get("message_id") == self._message_id)
        )


def _filter(
    types: Annotated[
        str | None, Query(max_length=1_000, description="Types of events, separated by commas; all without it.")
    ] = None,
    channel: Channel | None = None,
    message_id: Annotated[str | None, Query(max_length=100)] = None,
) -> StreamFilter:
    wanted = frozenset(part.strip() for part in (types or "").split(",") if part.strip())
    if unknown := sorted(wanted - _TYPES):
        raise ValidationFailed(f"types: {unknown[0][:50]!r} is none of {', '.join(sorted(_TYPES))}", field="types")
    decoded = None
    if message_id is not None:
        decoded = read_id("msg", message_id, NotFound("The project has no such message."))
    return StreamFilter(wanted, channel, decoded)


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses=errors_of(TooManyRequests)
    | {
        200: {
            "description": "Server-sent events until the client, or the gateway when it stops, closes the connection. "
            "`event` is the type, `data` the JSON of an event, `id` where a stream continues that sends it as "
            "`Last-Event-ID`. `reset` says that events between were missed: what is shown has to be read again. A "
            "comment comes every 15 seconds.",
            "content": content_of(StreamedEvent, "text/event-stream"),
            "headers": {
                name: {"schema": {"const": value}, "description": "No proxy keeps the stream."}
                for name, value in _HEADERS.items()
            },
        }
    },
)
async def stream_events(
    request: Request,
    principal: EventsRead,
    services: ServicesDep,
    wanted: Annotated[StreamFilter, Depends(_filter)],
    last_event_id: Annotated[str | None, Header(max_length=1_000)] = None,
) -> StreamingResponse:
    """The events of the project as they happen; a test key has those of test messages.

    A client that is too slow is disconnected, and continues with `Last-Event-ID`, as browsers do by themselves. The
    newest 20,000 events of the installation can be continued from.
    """
    stream = await services.events.subscribe(principal.project_id, _position(last_event_id))
    body = _events(services, request, principal.scope, stream, wanted)
    return StreamingResponse(body, media_type="text/event-stream", headers=_HEADERS)


def _position(text: str | None) -> Position | None:
    """The position in an id of ours; one that cannot be read is before everything, and leads to ``reset``."""
    if not text:
        return None
    try:
        return tuple(int(part, 36) for part in text.split("."))
    except ValueError:
        return (-1,)


def encode_position(position: Position) -> str:
    """The id of an event: where a stream continues behind it."""
    return ".".join(_base36(offset) for offset in position)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"


async def _events(
    services: Services, request: Request, scope: ProjectScope, stream: EventStream, wanted: StreamFilter
) -> AsyncIterator[bytes]:
    """The body of the response. It ends when the credentials are not valid any more, too."""
    loop = asyncio.get_running_loop()
    try:
        yield _reset(stream) if stream.missed else _heartbeat(stream)
        beat_at = loop.time() + HEARTBEAT
        while not stream.is_closed:
            batch = stream.next_batch()
            if events := await _of_stream(services, scope, batch, wanted):
                yield events
            elif not batch.entries:
                await stream.wait(max(0.0, beat_at - loop.time()))
            if loop.time() >= beat_at:
                await services.accounts.access.principal(request)
                yield _heartbeat(stream)
                beat_at = loop.time() + HEARTBEAT
    except OvertakenError:
        log.info("event_stream_ended", reason="the client is too slow")
    except ApiError as error:
        log.info("event_stream_ended", reason=error.code)
    finally:
        stream.close()


async def _of_stream(services: Services, scope: ProjectScope, batch: Batch, wanted: StreamFilter) -> bytes:
    fitting = [entry for entry in batch.entries if wanted.fits(entry)]
    shown = {entry.number for entry in await of_scope(services, scope, fitting)}
    return b"".join(
        _encode(entry, position)
        for entry, position in zip(batch.entries, batch.positions, strict=True)
        if entry.number in shown
    )


def _heartbeat(stream: EventStream) -> bytes:
    """A comment, and the id from which to continue: no event is dispatched, and none is sent twice."""
    return b":\nid: %b\n\n" % encode_position(stream.position).encode()


def _reset(stream: EventStream) -> bytes:
    return b"event: reset\nid: %b\ndata: {}\n\n" % encode_position(stream.position).encode()


def _encode(entry: Entry, position: Position) -> bytes:
    try:
        data = orjson.dumps(_data(entry))
    except (ValueError, TypeError, KeyError):
        return b""  # no event of this version: it must not end the stream
    kind = entry.fields["type"] if entry.fields["type"] in _TYPES else "other"
    return b"event: %b\nid: %b\ndata: %b\n\n" % (str(kind).encode(), encode_position(position).encode(), data)


def _data(entry: Entry) -> dict[str, Any]:
    """The fields of a :class:`StreamedEvent`."""
    fields = entry.fields
    delivery_id, message_id, provider_id = entry.delivery_id, fields.get("message_id"), fields.get("provider_id")
    return {
        "id": None if delivery_id is None else f"{ids.encode_id('evt', delivery_id)}_{fields.get('sequence')}",
        "type": fields["type"],
        "status": fields.get("state"),
        "message_id": None if message_id is None else ids.encode_id("msg", UUID(message_id)),
        "channel": fields.get("channel"),
        "provider": None if provider_id is None else ids.encode_id("prv", UUID(provider_id)),
        "attempt": fields.get("attempt"),
        "reason": fields.get("reason"),
        "detail": _text(fields, ("detail", "message")),
        "created_at": rfc3339(datetime.fromisoformat(fields["occurred_at"])),
    }


def _text(fields: Any, names: Iterable[str]) -> str:
    return next((str(fields[name]) for name in names if fields.get(name)), "")
