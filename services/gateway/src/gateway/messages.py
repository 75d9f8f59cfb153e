"""``GET /v1/messages/:id``: a message with its history."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.authentication import KEY_HEADER, Keys
from gateway.errors import NotFound, Unavailable
from gateway.sending import answer, rfc3339
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.model import ids
from sluice.store import messages
from sluice.store.cache import Configuration
from sluice.store.db import UNAVAILABLE, Pool
from sluice.store.messages import Event, MessageView


def create_messages(keys: Keys, configuration: Configuration, pool: Pool) -> APIRouter:
    """The routes that read messages."""
    router = APIRouter()

    @router.get("/v1/messages/{message_id}", responses={404: {"description": "no such message in this project"}})
    async def show(message_id: str, request: Request) -> Response:
        key = await keys.check(request.headers.get(KEY_HEADER))
        try:
            wanted = ids.read("msg", message_id)
        except ids.InvalidIdError:
            raise NotFound("there is no such message") from None
        try:
            found = await messages.find(pool, key.project_id, wanted)
        except UNAVAILABLE as error:
            raise Unavailable("the record does not answer; try again") from error
        if found is None:
            raise NotFound("there is no such message")
        return answer(200, shown(found, configuration))

    return router


def shown(message: MessageView, configuration: Configuration) -> dict[str, Any]:
    """The message as the contract shows it."""
    content = json.loads(message.content)
    delivered_by = [delivery.provider_id for delivery in message.deliveries if delivery.provider_id]
    return {
        "id": ids.shown("msg", message.id),
        "project_id": ids.shown("proj", message.project_id),
        "status": message.state.value,
        "channel": message.channel,
        "class": message.class_,
        "from": message.sender,
        "to": content.get("to") or [delivery.recipient for delivery in message.deliveries],
        "subject": content.get("subject") or content.get("title"),
        "tags": list(message.tags),
        "metadata": None if message.metadata is None else json.loads(message.metadata),
        "provider": _provider(delivered_by[-1], configuration) if delivered_by else None,
        "attempts": sum(delivery.attempts for delivery in message.deliveries),
        "created_at": rfc3339(message.created_at),
        "events": [_event(event, configuration) for event in message.events],
    }


def _event(event: Event, configuration: Configuration) -> dict[str, Any]:
    return {
        "id": f"{ids.shown('evt', event.delivery_id)}_{event.number}",
        "type": event.kind,
        "status": event.state,
        "provider": _provider(event.provider_id, configuration) if event.provider_id else None,
        "recipient": event.recipient,
        "attempt": event.attempt,
        "detail": event.detail,
        "created_at": rfc3339(event.at),
    }


def _provider(provider_id: UUID, configuration: Configuration) -> dict[str, str]:
    if provider_id == SANDBOX_ID:
        return {"id": ids.shown("prv", provider_id), "name": "sandbox"}
    row = configuration.providers.get(provider_id)
    return {"id": ids.shown("prv", provider_id), "name": row.name if row else "removed"}
