"""Existing messages of a project, for every API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from uuid import UUID

from gateway.errors import NotCancellable, NotFound
from gateway.kit.contents import MessageContent
from gateway.kit.database import database_errors
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER
from sluice.model import ids
from sluice.model.message import Email
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import failpoints
from sluice.runtime.clock import utc_now
from sluice.store import cancellation, message_list, messages
from sluice.store.db import Db, rows_of
from sluice.store.message_list import Filters, MessagePage, Position
from sluice.store.messages import MessageView
from sluice.store.projects import ProjectScope


async def find(services: Services, scope: ProjectScope, message_id: str) -> MessageView:
    """The project's message without its history; ``message_id`` is its public id.

    Raises:
        NotFound: the project has no such message.
        Unavailable: PostgreSQL does not answer.
    """
    return await _find(services, scope, message_id, messages.find)


async def find_with_history(
    services: Services, scope: ProjectScope, message_id: str, *, after: UUID | None = None
) -> MessageView:
    """The project's message with the history of some deliveries: see :func:`sluice.store.messages.find_with_history`.

    Raises:
        NotFound: the project has no such message.
        Unavailable: PostgreSQL does not answer.
    """
    return await _find(services, scope, message_id, partial(messages.find_with_history, after=after))


async def _find(
    services: Services,
    scope: ProjectScope,
    message_id: str,
    read: Callable[[Db, ProjectScope, UUID], Awaitable[MessageView | None]],
) -> MessageView:
    found = None
    with suppress(ids.InvalidIdError), database_errors():
        decoded = ids.decode_id("msg", message_id)
        async with rows_of(services.pool, [scope.project_id]) as db:
            found = await read(db, scope, decoded)
    if found is None:
        raise NotFound("The project has no such message.")
    return found


async def load_files(services: Services, project_id: UUID, content: MessageContent) -> dict[str, bytes]:
    """The bytes of the attachments of a content, by SHA-256; without those that were deleted.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    if not isinstance(content, Email) or not content.attachments:
        return {}
    digests = sorted({file.sha256 for file in content.attachments})
    async with transaction(services.pool, project_id) as db:
        return await messages.load_attachments(db, project_id, digests)


async def cancel(services: Services, scope: ProjectScope, message_id: str) -> MessageView:
    """The project's message, cancelled; cancelling it again changes nothing.

    Raises:
        NotFound: the project has no such message.
        NotCancellable: it was handed to a provider, or may have been; or it has failed.
        Unavailable: PostgreSQL does not answer.
    """
    found = await find(services, scope, message_id)
    with database_errors():
        assert failpoints.hit("cancel.before_write")
        async with rows_of(services.pool, [scope.project_id]) as db:
            cancelled = await cancellation.cancel(
                db, scope, [found.id], now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER
            )
        assert failpoints.hit("cancel.written")
    if found.id not in cancelled.message_ids:
        raise NotCancellable("The message was handed to a provider, or has failed, and can no longer be cancelled.")
    if cancelled.outbox_id is not None:
        services.outbox.publish_events(cancelled.outbox_id, cancelled.events)
    return await find_with_history(services, scope, message_id)


async def list_messages(
    services: Services, scope: ProjectScope, filters: Filters, *, limit: int, position: Position | None
) -> MessagePage:
    """A page of the project's messages, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, scope.project_id) as db:
        return await message_list.list_messages(db, scope, filters, limit=limit, position=position, now=utc_now())


def providers_named(services: Services, scope: ProjectScope, name: str) -> tuple[UUID, ...]:
    """The project's providers with this public id, package or name, deleted ones included; none for any other text."""
    with suppress(ids.InvalidIdError):
        name = str(ids.decode_id("prv", name))
    found = [
        row.id
        for row in services.config.providers.values()
        if row.project_id == scope.project_id and name in (str(row.id), row.package, row.name)
    ]
    if scope.sandbox and name in ("sandbox", str(SANDBOX_PROVIDER_ID)):
        found.append(SANDBOX_PROVIDER_ID)
    return tuple(found)
