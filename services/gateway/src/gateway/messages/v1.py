"""``/v1/messages``. Sending is answered by :mod:`gateway.ingest.fast_path`, in front of these routes."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response

from gateway.apis.rendering import operation_id, render_v1
from gateway.dependencies import MessagesCancel, MessagesRead, MessagesSend, ServicesDep
from gateway.errors import (
    ApiError,
    ChannelDisabled,
    IdempotencyConflict,
    NotCancellable,
    QuotaExceeded,
    TooManyRequests,
    ValidationFailed,
)
from gateway.ingest import fast_path
from gateway.ingest.fast_path import accepted_body
from gateway.kit.body_cost import SMALL
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
from gateway.kit.fields import Short, Time
from gateway.kit.large_answers import json_response
from gateway.kit.pagination import DEFAULT_LIMIT, MAX_LIMIT, Page, decode_cursor, encode_cursor
from gateway.kit.provider_reference import ProviderReference, provider_reference
from gateway.kit.replayed import REPLAYED_HEADER
from gateway.kit.responses import project_id_text, rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.messages import batch, retry, service
from gateway.messages.cursor import MAX_LENGTH, decode_position, encode_position
from gateway.messages.v1_schemas import (
    SEND_EXAMPLES,
    AcceptedResponse,
    AnySendRequest,
    BatchRequest,
    BatchResponse,
    DeliveryAttemptResponse,
    DeliveryReceiptResponse,
    DeliveryResponse,
    EventResponse,
    ItemError,
    MessageResponse,
    MessageSummary,
    RetriedDelivery,
    TemplateReference,
)
from gateway.routing.v1_schemas import DecisionResponse, serialize_decision
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.state import State
from sluice.model.terms import TermKind, term
from sluice.routing.decision import shorten_decision
from sluice.store.config_cache import ConfigCache
from sluice.store.message_list import Filters, MessageRow
from sluice.store.messages import Attempt, Delivery, Event, MessageView

_FEW = 100  # parts of an answer (attempts, events, recipients): they are written in 5 ms

_REPLAYED: dict[str, Any] = {
    "description": "The message is stored and will be delivered.",
    "headers": REPLAYED_HEADER,
}

_Text = Annotated[str | None, Query(alias="from", min_length=1, max_length=520, description="Without a name.")]
_Recipient = Annotated[
    str | None, Query(min_length=1, max_length=4096, description="A recipient, also in cc and bcc, without a name.")
]

router = APIRouter(prefix="/v1/messages", tags=["messages"])
documented = APIRouter(tags=["messages"], generate_unique_id_function=operation_id)
"""Routes that the fast path answers; they exist for the OpenAPI document only."""


@documented.post(
    fast_path.PATH,
    status_code=201,
    response_model=AcceptedResponse,
    responses=errors_of(IdempotencyConflict, ChannelDisabled, QuotaExceeded, TooManyRequests) | {201: _REPLAYED},
)
async def send_message(
    body: Annotated[AnySendRequest, Body(openapi_examples=SEND_EXAMPLES)],
    principal: MessagesSend,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> None:
    """Send a message on any channel.

    The header `Idempotency-Key` and the field `idempotency_key` are the same thing; a key is valid for 24 hours.
    """


@documented.post(
    "/v1/messages/batch",
    status_code=201,
    response_model=BatchResponse,
    responses=errors_of(TooManyRequests) | {201: _REPLAYED | {"description": "What became of each message."}},
)
async def send_batch(
    body: BatchRequest, principal: MessagesSend, idempotency_key: Annotated[str | None, Header()] = None
) -> None:
    """Send up to 1,000 messages to up to 10,000 recipients in one request of at most 10 MiB.

    `data` has a result for each message, in their order: as from a single request, or an `error`, which concerns this
    message only. Messages are stored in chunks of 200, or of 1,000 recipients, each in one transaction. With an
    `Idempotency-Key` a repeated batch sends nothing twice: each of its messages counts by its position, where it has no
    key of its own.
    """


@router.post("/batch", include_in_schema=False)
async def read_and_send_batch(request: Request, principal: MessagesSend, services: ServicesDep) -> Response:
    """See :func:`send_batch`."""
    results = await batch.send_batch(services, principal, request)
    items = [render_v1(one) if isinstance(one, ApiError) else accepted_body(one) for one in results]
    replayed = all(isinstance(one, ApiError) or one.replayed for one in results)
    headers = (
        {"idempotent-replayed": "true"} if replayed and any(not isinstance(one, ApiError) for one in results) else {}
    )
    return Response(orjson.dumps({"data": items}), 201, headers, "application/json")


def _filters(
    principal: MessagesRead,
    services: ServicesDep,
    status: Annotated[str | None, Query(max_length=20, description="In either case.")] = None,
    channel: Channel | None = None,
    from_: _Text = None,
    to: _Recipient = None,
    tag: Annotated[Short | None, Query()] = None,
    provider: Annotated[Short | None, Query(description="The id, package or name of the last attempt's.")] = None,
    attempted_provider: Annotated[
        Short | None, Query(description="A provider that was called: id, package or name.")
    ] = None,
    failed_over: Annotated[bool | None, Query(description="Several providers were called for a delivery.")] = None,
    possible_duplicate: Annotated[bool | None, Query(description="It may have arrived twice.")] = None,
    incident: Annotated[Short | None, Query(description="The id of an incident that touched it.")] = None,
    template: Annotated[Short | None, Query(description="The id of the template that it was made from.")] = None,
    bulk: Annotated[Short | None, Query(description="The id of a bulk job.")] = None,
    since: Annotated[Time | None, Query(description="Made at this time or later.")] = None,
    until: Annotated[Time | None, Query(description="Made before this time.")] = None,
) -> Filters:
    # The rarest first: a recipient has few messages, a sender most.
    texts = ((TermKind.TO, to), (TermKind.BULK, bulk), (TermKind.TAG, tag), (TermKind.FROM, from_))
    return Filters(
        channel=channel,
        status=None if status is None else _status(status),
        terms=tuple(term(kind, text, sandbox=principal.is_test) for kind, text in texts if text is not None),
        is_narrow=to is not None,
        provider_ids=None if provider is None else service.providers_named(services, principal.scope, provider),
        attempted_ids=None
        if attempted_provider is None
        else service.providers_named(services, principal.scope, attempted_provider),
        failed_over=failed_over,
        may_be_doubled=possible_duplicate,
        incident_id=None if incident is None else _filter_id("inc", incident, "incident"),
        template_id=None if template is None else _filter_id("tpl", template, "template"),
        **({} if since is None else {"first": ids.min_id_at(since)}),
        **({} if until is None else {"end": ids.min_id_at(until)}),
    )


def _filter_id(prefix: str, text: str, field: str) -> UUID:
    try:
        return ids.decode_id(prefix, text)
    except ids.InvalidIdError as error:
        raise ValidationFailed(f"{field}: {error}", field=field) from None


def _status(text: str) -> State:
    try:
        return State(text.upper())
    except ValueError:
        raise ValidationFailed(f"status: must be one of {', '.join(State)}", field="status") from None


@router.get("", response_model=Page[MessageSummary], responses=errors_of())
async def list_messages(
    principal: MessagesRead,
    services: ServicesDep,
    filters: Annotated[Filters, Depends(_filters)],
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=MAX_LENGTH, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """The project's messages, newest first; a test key's are the test messages.

    `next_cursor` is null at the end only: a page may have fewer messages than `limit`, or none, where what fits the
    filters is rare. A walk through all pages shows each message that was accepted before its first page once, and none
    twice, also while others arrive; one that is stored late may come after older ones.
    """
    position = None if cursor is None else decode_position(cursor)
    found = await service.list_messages(services, principal.scope, filters, limit=limit, position=position)
    recipients = sum(len(row.recipients) for row in found.messages)
    return await json_response(
        lambda: Page[MessageSummary](
            data=[_summary(row, services.config) for row in found.messages],
            next_cursor=None if found.next is None else encode_position(found.next),
        ),
        is_large=recipients > _FEW or sum(len(row.metadata or "") for row in found.messages) > SMALL,
    )


@router.post("/retry", responses=errors_of())
async def retry_messages(
    principal: MessagesSend,
    services: ServicesDep,
    filters: Annotated[Filters, Depends(_filters)],
    since: Annotated[Time, Query(description="Made at this time or later. Required, unlike in the list.")],
    dry_run: Annotated[bool, Query(description="Show what would be sent again, and send nothing.")] = False,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Messages that are looked at.")] = MAX_LIMIT,
    cursor: Annotated[str | None, Query(max_length=MAX_LENGTH, description="`next_cursor` of the call before.")] = None,
) -> Page[RetriedDelivery]:
    """Send the failed deliveries of the messages again that the filters of the list find, each as a new message.

    A call looks at a page of the list; repeat it with `next_cursor` until that is null. `data` has the failed
    deliveries of the page. One that cannot be retried, or was retried in the last 24 hours, has an `error` and keeps no
    other one back: a call may be repeated.
    """
    position = None if cursor is None else decode_position(cursor)
    found = await retry.retry_matching(services, principal, filters, limit=limit, position=position, dry_run=dry_run)
    return Page(
        data=[_retried(one) for one in found.deliveries],
        next_cursor=None if found.next is None else encode_position(found.next),
    )


def _retried(one: retry.Retried) -> RetriedDelivery:
    new, error = None, None
    if isinstance(one.result, ApiError):
        error = ItemError.model_validate(render_v1(one.result)).error
    elif one.result is not None:
        new = AcceptedResponse.model_validate(accepted_body(one.result))
    return RetriedDelivery(
        message_id=ids.encode_id("msg", one.message_id),
        delivery_id=ids.encode_id("dlv", one.delivery_id),
        retried_as=new,
        error=error,
    )


@router.get("/{message_id}", response_model=MessageResponse, responses=errors_of())
async def get_message(
    message_id: str,
    principal: MessagesRead,
    services: ServicesDep,
    cursor: Annotated[
        str | None, Query(max_length=100, description="`next_cursor` of the answer before: further deliveries.")
    ] = None,
) -> Response:
    """One message with its history: that of 50 deliveries, and of each its first and its newest events and attempts.

    `next_cursor` leads to further `deliveries` with their `events`; all other fields are about the whole message.
    """
    after = None if cursor is None else decode_cursor(cursor)
    return await _respond(
        await service.find_with_history(services, principal.scope, message_id, after=after), services.config
    )


@router.get("/{message_id}/content", responses=errors_of())
async def get_message_content(message_id: str, principal: MessagesRead, services: ServicesDep) -> ContentResponse:
    """The content of a message, as it was accepted."""
    message = await service.find(services, principal.scope, message_id)
    return show_content(read_content(message), [delivery.recipient for delivery in message.deliveries])


@router.get(
    "/{message_id}/content/{part}",
    response_class=Response,
    responses=errors_of() | documents_of("text/html", "text/plain", "message/rfc822"),
)
async def get_message_document(
    message_id: str, part: ContentPart, principal: MessagesRead, services: ServicesDep, images: ImagesQuery = False
) -> Response:
    """A part of the content as a document. HTML may run nothing and load nothing, whatever it contains."""
    message = await service.find(services, principal.scope, message_id)
    content = read_content(message)
    files = await service.load_files(services, message.project_id, content) if part is ContentPart.RAW else {}
    shown = ids.encode_id("msg", message.id)
    return await document(content, part, message_id=shown, date=message.created_at, files=files, images=images)


@router.get(
    "/{message_id}/attachments/{number}",
    response_class=Response,
    responses=errors_of() | documents_of("application/octet-stream"),
)
async def get_message_attachment(
    message_id: str, number: int, principal: MessagesRead, services: ServicesDep
) -> Response:
    """An attachment as a file to save; its number is in the content."""
    message = await service.find(services, principal.scope, message_id)
    content = read_content(message)
    file = find_file(content, number)
    return download(file, (await service.load_files(services, message.project_id, content)).get(file.sha256))


@router.delete("/{message_id}/cancel", response_model=MessageResponse, responses=errors_of(NotCancellable))
async def cancel_message(message_id: str, principal: MessagesCancel, services: ServicesDep) -> Response:
    """Cancel a message that was not handed to a provider yet. After a 200 no provider is called for it.

    The answer is that of `GET /v1/messages/{message_id}`.
    """
    return await _respond(await service.cancel(services, principal.scope, message_id), services.config)


async def _respond(message: MessageView, config: ConfigCache) -> Response:
    """The message as ``/v1`` shows it, written in a thread where that takes longer than the event loop can wait."""
    parts = len(message.events) + sum(1 + len(one.attempts) + len(one.receipts) for one in message.shown)
    return await json_response(
        lambda: serialize(message, config), is_large=parts > _FEW or len(message.content) > SMALL
    )


def _summary(row: MessageRow, config: ConfigCache) -> MessageSummary:
    return MessageSummary.model_validate(
        {
            "id": ids.encode_id("msg", row.id),
            "project_id": project_id_text(row.project_id),
            "status": row.state,
            "channel": row.channel,
            "class": row.delivery_class,
            "from": row.sender,
            "to": list(row.recipients),
            "subject": row.subject,
            "tags": list(row.tags),
            "metadata": None if row.metadata is None else orjson.loads(row.metadata),
            "template": _template(row),
            "provider": _provider(row.taken_by, config),
            "attempts": row.attempts,
            "failed_over": row.failed_over,
            "possible_duplicate": row.may_be_doubled,
            "created_at": rfc3339(row.created_at),
        }
    )


def serialize(message: MessageView, config: ConfigCache) -> MessageResponse:
    """The message as ``/v1`` shows it."""
    content = orjson.loads(message.content)
    taken_by = [delivery.taken_by for delivery in message.deliveries if delivery.taken_by]
    return MessageResponse.model_validate(
        {
            "id": ids.encode_id("msg", message.id),
            "project_id": project_id_text(message.project_id),
            "status": message.state,
            "channel": message.channel,
            "class": message.delivery_class,
            "from": message.sender,
            "to": content.get("to") or [delivery.recipient for delivery in message.deliveries],
            "subject": content.get("subject") or content.get("title"),
            "tags": list(message.tags),
            "metadata": None if message.metadata is None else orjson.loads(message.metadata),
            "template": _template(message),
            "provider": _provider(taken_by[-1] if taken_by else None, config),
            "attempts": sum(delivery.attempt_count for delivery in message.deliveries),
            "failed_over": any(delivery.failed_over for delivery in message.deliveries),
            "possible_duplicate": any(delivery.may_be_doubled for delivery in message.deliveries),
            "created_at": rfc3339(message.created_at),
            "deliveries": [_delivery(delivery, config) for delivery in message.shown],
            "events": [_event(event, config) for event in message.events],
            "next_cursor": None if message.next is None else encode_cursor(message.next),
        }
    )


def _delivery(delivery: Delivery, config: ConfigCache) -> DeliveryResponse:
    return DeliveryResponse(
        id=ids.encode_id("dlv", delivery.id),
        recipient=delivery.recipient,
        status=delivery.state,
        due_at=None if delivery.due_at is None else rfc3339(delivery.due_at),
        failed_over=delivery.failed_over,
        possible_duplicate=delivery.may_be_doubled,
        attempt_count=delivery.attempt_count,
        event_count=delivery.event_count,
        attempts=[_attempt(delivery, one, config) for one in delivery.attempts],
    )


def _attempt(delivery: Delivery, one: Attempt, config: ConfigCache) -> DeliveryAttemptResponse:
    lasted = None if one.finished_at is None else round((one.finished_at - one.started_at).total_seconds() * 1000)
    return DeliveryAttemptResponse(
        id=ids.attempt_reference(delivery.id, one.number),
        number=one.number,
        provider=provider_reference(one.provider_id, config),
        round=one.retry_round,
        started_at=rfc3339(one.started_at),
        finished_at=None if one.finished_at is None else rfc3339(one.finished_at),
        duration_ms=lasted,
        outcome=one.outcome,
        detail=one.error or "",
        reference=one.client_reference,
        provider_message_id=one.provider_message_id,
        routing=_routing(one.routing_decision, config),
        receipts=[
            DeliveryReceiptResponse(type=receipt.type, received_at=rfc3339(receipt.received_at))
            for receipt in delivery.receipts
            if receipt.attempt == one.number
        ],
    )


def _event(event: Event, config: ConfigCache) -> EventResponse:
    return EventResponse(
        id=f"{ids.encode_id('evt', event.delivery_id)}_{event.sequence}",
        type=event.type,
        status=None if event.state is None else State(event.state),
        provider=_provider(event.provider_id, config),
        recipient=event.recipient,
        attempt=event.attempt,
        reason=event.reason,
        detail=event.detail,
        routing=_routing(event.routing_decision, config),
        created_at=rfc3339(event.occurred_at),
    )


def _routing(decision: str | None, config: ConfigCache) -> DecisionResponse | None:
    known = None if decision is None else orjson.loads(decision)
    return serialize_decision(shorten_decision(known), config) if known else None  # an older one may be longer


def _template(message: MessageView | MessageRow) -> TemplateReference | None:
    if message.template_id is None or message.template_version is None:
        return None
    return TemplateReference(id=ids.encode_id("tpl", message.template_id), version=message.template_version)


def _provider(provider_id: UUID | None, config: ConfigCache) -> ProviderReference | None:
    return None if provider_id is None else provider_reference(provider_id, config)
