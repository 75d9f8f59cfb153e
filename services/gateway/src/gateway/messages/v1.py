"""``GET /v1/messages/:id`` and ``DELETE /v1/messages/:id/cancel``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.auth.api_keys import KEY_HEADER, ApiKeyAuthenticator
from gateway.errors import NotCancellable, NotFound, Unavailable
from gateway.ingest.fast_path import json_response, rfc3339
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.model import ids
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import cancellation, messages
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.messages import Event, MessageView


def create_messages(
    keys: ApiKeyAuthenticator, config: ConfigCache, pool: Pool, announcer: OutboxPublisher
) -> APIRouter:
    """The routes of existing messages."""
    router = APIRouter()

    @router.get("/v1/messages/{message_id}")
    async def show(message_id: str, request: Request) -> Response:
        key = await keys.authenticate(request.headers.get(KEY_HEADER))
        with _database_errors():
            found = await _find(pool, key.project_id, message_id)
        return json_response(200, serialize(found, config))

    @router.delete("/v1/messages/{message_id}/cancel")
    async def cancel(message_id: str, request: Request) -> Response:
        key = await keys.authenticate(request.headers.get(KEY_HEADER))
        with _database_errors():
            found = await _find(pool, key.project_id, message_id)
            assert failpoints.hit("cancel.before_write")
            done = await cancellation.cancel(
                pool, key.project_id, found.id, now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER
            )
            assert failpoints.hit("cancel.written")
            if done is None:
                raise NotCancellable("it was handed to a provider, or may have been")
            if done.outbox_id is not None:
                announcer.publish_events(done.outbox_id, done.events)
            found = await _find(pool, key.project_id, message_id)
        return json_response(200, serialize(found, config))

    return router


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE_ERRORS as error:
        raise Unavailable("the record does not answer; try again") from error


async def _find(pool: Pool, project_id: UUID, message_id: str) -> MessageView:
    try:
        found = await messages.find(pool, project_id, ids.decode_id("msg", message_id))
    except ids.InvalidIdError:
        found = None
    if found is None:
        raise NotFound("there is no such message")
    return found


def serialize(message: MessageView, config: ConfigCache) -> dict[str, Any]:
    """The message as the contract shows it."""
    content = json.loads(message.content)
    delivered_by = [delivery.provider_id for delivery in message.deliveries if delivery.provider_id]
    return {
        "id": ids.encode_id("msg", message.id),
        "project_id": ids.encode_id("proj", message.project_id),
        "status": message.state.value,
        "channel": message.channel,
        "class": message.delivery_class,
        "from": message.sender,
        "to": content.get("to") or [delivery.recipient for delivery in message.deliveries],
        "subject": content.get("subject") or content.get("title"),
        "tags": list(message.tags),
        "metadata": None if message.metadata is None else json.loads(message.metadata),
        "provider": _provider(delivered_by[-1], config) if delivered_by else None,
        "attempts": sum(delivery.attempt_count for delivery in message.deliveries),
        "created_at": rfc3339(message.created_at),
        "events": [_event(event, config) for event in message.events],
    }


def _event(event: Event, config: ConfigCache) -> dict[str, Any]:
    return {
        "id": f"{ids.encode_id('evt', event.delivery_id)}_{event.sequence}",
        "type": event.type,
        "status": event.state,
        "provider": _provider(event.provider_id, config) if event.provider_id else None,
        "recipient": event.recipient,
        "attempt": event.attempt,
        "detail": event.detail,
        "created_at": rfc3339(event.occurred_at),
    }


def _provider(provider_id: UUID, config: ConfigCache) -> dict[str, str]:
    if provider_id == SANDBOX_PROVIDER_ID:
        return {"id": ids.encode_id("prv", provider_id), "name": "sandbox"}
    row = config.providers.get(provider_id)
    return {"id": ids.encode_id("prv", provider_id), "name": row.name if row else "removed"}
