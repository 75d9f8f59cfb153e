"""``GET /v1/messages/:id`` and ``DELETE /v1/messages/:id/cancel``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.auth.api_keys import KEY_HEADER, Keys
from gateway.errors import NotCancellable, NotFound, Unavailable
from gateway.ingest.fast_path import answer, rfc3339
from sluice.delivery.outbox import ANNOUNCE_WITHIN, Announcer
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.model import ids
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import cancellation, messages
from sluice.store.config_cache import Configuration
from sluice.store.db import UNAVAILABLE, Pool
from sluice.store.messages import Event, MessageView


def create_messages(keys: Keys, configuration: Configuration, pool: Pool, announcer: Announcer) -> APIRouter:
    """The routes of existing messages."""
    router = APIRouter()

    @router.get("/v1/messages/{message_id}")
    async def show(message_id: str, request: Request) -> Response:
        key = await keys.check(request.headers.get(KEY_HEADER))
        with _record():
            found = await _find(pool, key.project_id, message_id)
        return answer(200, shown(found, configuration))

    @router.delete("/v1/messages/{message_id}/cancel")
    async def cancel(message_id: str, request: Request) -> Response:
        key = await keys.check(request.headers.get(KEY_HEADER))
        with _record():
            found = await _find(pool, key.project_id, message_id)
            assert failpoints.at("cancel.before_write")
            done = await cancellation.cancel(
                pool, key.project_id, found.id, now=utc_now(), announce_within=ANNOUNCE_WITHIN
            )
            assert failpoints.at("cancel.written")
            if done is None:
                raise NotCancellable("it was handed to a provider, or may have been")
            if done.announcement is not None:
                announcer.announce(done.announcement, done.events)
            found = await _find(pool, key.project_id, message_id)
        return answer(200, shown(found, configuration))

    return router


@contextmanager
def _record() -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE as error:
        raise Unavailable("the record does not answer; try again") from error


async def _find(pool: Pool, project_id: UUID, message_id: str) -> MessageView:
    try:
        found = await messages.find(pool, project_id, ids.read("msg", message_id))
    except ids.InvalidIdError:
        found = None
    if found is None:
        raise NotFound("there is no such message")
    return found


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
