"""Existing messages of a project, for every API."""

from __future__ import annotations

from contextlib import suppress

from gateway.errors import NotCancellable, NotFound
from gateway.kit.database import database_errors
from gateway.services import Services
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER
from sluice.model import ids
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import cancellation, messages
from sluice.store.db import rows_of
from sluice.store.messages import MessageView
from sluice.store.projects import ProjectScope


async def find(services: Services, scope: ProjectScope, message_id: str) -> MessageView:
    """The project's message with its deliveries and events; ``message_id`` is its public id.

    Raises:
        NotFound: the project has no such message.
        Unavailable: PostgreSQL does not answer.
    """
    found = None
    with suppress(ids.InvalidIdError), database_errors():
        decoded = ids.decode_id("msg", message_id)
        async with rows_of(services.pool, [scope.project_id]) as db:
            found = await messages.find(db, scope, decoded)
    if found is None:
        raise NotFound("The project has no such message.")
    return found


async def cancel(services: Services, scope: ProjectScope, message_id: str) -> MessageView:
    """The project's message, cancelled; cancelling it again changes nothing.

    Raises:
        NotFound: the project has no such message.
        NotCancellable: it was handed to a provider, or may have been.
        Unavailable: PostgreSQL does not answer.
    """
    found = await find(services, scope, message_id)
    with database_errors():
        assert failpoints.hit("cancel.before_write")
        async with rows_of(services.pool, [scope.project_id]) as db:
            cancelled = await cancellation.cancel(
                db, scope, found.id, now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER
            )
        assert failpoints.hit("cancel.written")
    if cancelled is None:
        raise NotCancellable("The message was already handed to a provider and can no longer be cancelled.")
    if cancelled.outbox_id is not None:
        services.outbox.publish_events(cancelled.outbox_id, cancelled.events)
    return await find(services, scope, message_id)
