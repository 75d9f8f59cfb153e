"""``/v1/messages``. Sending is answered by :mod:`gateway.ingest.fast_path`, in front of these routes."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header

from gateway.apis.rendering import operation_id
from gateway.dependencies import MessagesCancel, MessagesRead, MessagesSend, ServicesDep
from gateway.errors import IdempotencyConflict, NotCancellable, QuotaExceeded, TooManyRequests
from gateway.ingest import fast_path
from gateway.kit.provider_reference import provider_reference
from gateway.kit.responses import project_id_text, rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.messages import service
from gateway.messages.v1_schemas import (
    AcceptedResponse,
    AnySendRequest,
    EventResponse,
    MessageResponse,
)
from gateway.routing.v1_schemas import serialize_decision
from sluice.model import ids
from sluice.model.state import State
from sluice.store.config_cache import ConfigCache
from sluice.store.messages import Event, MessageView

_REPLAYED: dict[str, Any] = {
    "description": "The message is stored and will be delivered.",
    "headers": {
        "Idempotent-Replayed": {
            "schema": {"const": "true"},
            "description": "Present when the idempotency key was used before: this is the answer to the first request.",
        }
    },
}

router = APIRouter(prefix="/v1/messages", tags=["messages"])
documented = APIRouter(tags=["messages"], generate_unique_id_function=operation_id)
"""Routes that the fast path answers; they exist for the OpenAPI document only."""


@documented.post(
    fast_path.PATH,
    status_code=201,
    response_model=AcceptedResponse,
    responses=errors_of(IdempotencyConflict, QuotaExceeded, TooManyRequests) | {201: _REPLAYED},
)
async def send_message(
    body: AnySendRequest, principal: MessagesSend, idempotency_key: Annotated[str | None, Header()] = None
) -> None:
    """Send a message on any channel.

    The header `Idempotency-Key` and the field `idempotency_key` are the same thing; a key is valid for 24 hours.
    """


@router.get("/{message_id}", responses=errors_of())
async def get_message(message_id: str, principal: MessagesRead, services: ServicesDep) -> MessageResponse:
    """One message with its history."""
    return serialize(await service.find(services, principal.scope, message_id), services.config)


@router.delete("/{message_id}/cancel", responses=errors_of(NotCancellable))
async def cancel_message(message_id: str, principal: MessagesCancel, services: ServicesDep) -> MessageResponse:
    """Cancel a message that was not handed to a provider yet. After a 200 no provider is called for it."""
    return serialize(await service.cancel(services, principal.scope, message_id), services.config)


def serialize(message: MessageView, config: ConfigCache) -> MessageResponse:
    """The message as ``/v1`` shows it."""
    content = orjson.loads(message.content)
    provider_ids = [delivery.provider_id for delivery in message.deliveries if delivery.provider_id]
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
            "provider": provider_reference(provider_ids[-1], config) if provider_ids else None,
            "attempts": sum(delivery.attempt_count for delivery in message.deliveries),
            "created_at": rfc3339(message.created_at),
            "events": [_event(event, config) for event in message.events],
        }
    )


def _event(event: Event, config: ConfigCache) -> EventResponse:
    return EventResponse(
        id=f"{ids.encode_id('evt', event.delivery_id)}_{event.sequence}",
        type=event.type,
        status=None if event.state is None else State(event.state),
        provider=None if event.provider_id is None else provider_reference(event.provider_id, config),
        recipient=event.recipient,
        attempt=event.attempt,
        detail=event.detail,
        routing=None if event.routing_decision is None else serialize_decision(event.routing_decision, config),
        created_at=rfc3339(event.occurred_at),
    )
