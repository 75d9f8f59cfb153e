"""``/v1/outbox``: what was captured instead of sent, as a mail catcher shows it."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from gateway.dependencies import MessagesRead, MessagesSend, ServicesDep
from gateway.errors import NotFound, ValidationFailed
from gateway.kit.contents import (
    ContentPart,
    ContentResponse,
    ImagesQuery,
    document,
    documents_of,
    download,
    find_file,
    read_content,
    show_content,
)
from gateway.kit.fields import Short, Time, Timestamp
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import DEFAULT_LIMIT, MAX_LIMIT, Page
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.outbox import service
from sluice.model import ids
from sluice.model.message import Channel, Email
from sluice.store.sandbox import CapturedMessage, Place

router = APIRouter(prefix="/v1/outbox", tags=["outbox"], route_class=JsonRoute)

_SNIPPET = 200  # characters


class CapturedSummary(BaseModel):
    """A captured message: what a provider would have got in one attempt."""

    id: str
    message_id: str
    test: bool | None = Field(description="Whether it is a test message. Null: the message was deleted.")
    channel: Channel
    to: str
    from_: str | None = Field(serialization_alias="from")
    subject: str | None
    snippet: str = Field(description="The beginning of the text.")
    attachments: int
    created_at: Timestamp


class CapturedResponse(CapturedSummary):
    """A captured message with its content."""

    content: ContentResponse


class ClearedResponse(BaseModel):
    """The outbox was cleared."""

    deleted: int


class _Filters(BaseModel):
    channel: Channel | None
    to: str | None
    since: datetime | None


def _filters(
    channel: Channel | None = None,
    to: Annotated[Short | None, Query(description="A part of the recipient, in either case.")] = None,
    since: Annotated[Time | None, Query(description="Captured at this time or later.")] = None,
) -> _Filters:
    return _Filters(channel=channel, to=to, since=since)


_FiltersDep = Annotated[_Filters, Depends(_filters)]


@router.get("", responses=errors_of())
async def list_captured(
    principal: MessagesRead,
    services: ServicesDep,
    filters: _FiltersDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> Page[CapturedSummary]:
    """What was captured instead of sent, newest first. A key sees the messages of its mode, a person both."""
    rows = await service.list_captured(
        services,
        principal,
        limit=limit + 1,
        before=None if cursor is None else _decode(cursor),
        channel=filters.channel,
        recipient=filters.to,
        since=filters.since,
    )
    shown = rows[:limit]
    return Page(
        data=[CapturedSummary(**_fields(row)) for row in shown],
        next_cursor=_encode(shown[-1]) if len(rows) > limit else None,
    )


@router.get("/latest", responses=errors_of())
async def get_latest_captured(principal: MessagesRead, services: ServicesDep, filters: _FiltersDep) -> CapturedResponse:
    """The newest captured message that fits: what a test asks for after it has sent something."""
    rows = await service.list_captured(
        services, principal, limit=1, channel=filters.channel, recipient=filters.to, since=filters.since
    )
    if not rows:
        raise NotFound(service.NO_CAPTURE)
    return _detail(rows[0])


@router.delete("", responses=errors_of())
async def clear_outbox(request: Request, principal: MessagesSend, services: ServicesDep) -> ClearedResponse:
    """Delete all captured messages. The messages themselves and their history stay."""
    actor = services.accounts.access.actor(request, principal)
    return ClearedResponse(deleted=await service.clear(services, principal, actor))


@router.get("/{capture_id}", responses=errors_of())
async def get_captured(capture_id: str, principal: MessagesRead, services: ServicesDep) -> CapturedResponse:
    """One captured message."""
    return _detail(await service.find(services, principal, _read(capture_id)))


@router.get(
    "/{capture_id}/content/{part}",
    response_class=Response,
    responses=errors_of() | documents_of("text/html", "text/plain", "message/rfc822"),
)
async def get_captured_document(
    capture_id: str, part: ContentPart, principal: MessagesRead, services: ServicesDep, images: ImagesQuery = False
) -> Response:
    """A part of the content as a document. HTML may run nothing and load nothing, whatever it contains."""
    captured = await service.find(services, principal, _read(capture_id))
    content = read_content(captured)
    files = await service.files_of(services, captured, content) if part is ContentPart.RAW else {}
    date, shown = ids.created_at_of(captured.message_id), ids.encode_id("msg", captured.message_id)
    return await document(content, part, message_id=shown, date=date, files=files, images=images)


@router.get(
    "/{capture_id}/attachments/{number}",
    response_class=Response,
    responses=errors_of() | documents_of("application/octet-stream"),
)
async def get_captured_attachment(
    capture_id: str, number: int, principal: MessagesRead, services: ServicesDep
) -> Response:
    """An attachment as a file to save; its number is in the content."""
    captured = await service.find(services, principal, _read(capture_id))
    content = read_content(captured)
    file = find_file(content, number)
    return download(file, (await service.files_of(services, captured, content)).get(file.sha256))


def _read(text: str) -> str:
    """The reference in a path."""
    try:
        ids.parse_attempt_reference(text)
    except ids.InvalidIdError:
        raise NotFound(service.NO_CAPTURE) from None
    return text


def _fields(captured: CapturedMessage) -> dict[str, object]:
    content = read_content(captured)
    mail = content if isinstance(content, Email) else None
    return {
        "id": captured.reference,
        "message_id": ids.encode_id("msg", captured.message_id),
        "test": captured.sandbox,
        "channel": Channel(captured.channel),
        "to": captured.recipient,
        "from_": getattr(content, "sender", None),
        "subject": mail.subject if mail else getattr(content, "title", None),
        "snippet": (content.text or "")[:_SNIPPET],
        "attachments": len(mail.attachments) if mail else 0,
        "created_at": rfc3339(captured.captured_at),
    }


def _detail(captured: CapturedMessage) -> CapturedResponse:
    content = show_content(read_content(captured), [captured.recipient])
    return CapturedResponse.model_validate({**_fields(captured), "content": content})


def _encode(captured: CapturedMessage) -> str:
    text = f"{captured.captured_at.isoformat()} {captured.reference}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(text: str) -> Place:
    """The place in a cursor.

    Raises:
        ValidationFailed: the text is none of ours.
    """
    try:
        when, _, reference = base64.b64decode(text + "==", altchars=b"-_", validate=True).decode().partition(" ")
        ids.parse_attempt_reference(reference)
        at = datetime.fromisoformat(when)
        if at.tzinfo is None or not 1970 < at.year < 9999:
            raise ValueError("no time of ours")
        return Place(at, reference)
    except (binascii.Error, ValueError):
        raise ValidationFailed("cursor: is not a cursor of this list", field="cursor") from None
