"""Captured messages of a project, for every API."""

from __future__ import annotations

from datetime import datetime

from gateway.auth.principal import KeyPrincipal, Principal
from gateway.errors import NotFound
from gateway.kit.contents import MessageContent
from gateway.kit.transactions import transaction
from gateway.messages.service import load_files
from gateway.services import Services
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.store import audit, sandbox
from sluice.store.audit import Actor
from sluice.store.sandbox import CapturedMessage, Place

NO_CAPTURE = "The outbox has no such message."


def _mode(principal: Principal) -> bool | None:
    """A key has the captured messages of its mode; people see both."""
    return principal.is_test if isinstance(principal, KeyPrincipal) else None


async def list_captured(
    services: Services,
    principal: Principal,
    *,
    limit: int,
    before: Place | None = None,
    channel: Channel | None = None,
    recipient: str | None = None,
    since: datetime | None = None,
) -> list[CapturedMessage]:
    """The captured messages of the principal's project, newest first; for a key those of its mode.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        return await sandbox.list_captured(
            db,
            project_id=principal.project_id,
            limit=limit,
            before=before,
            channel=None if channel is None else channel.value,
            recipient=recipient,
            since=since,
            sandbox=_mode(principal),
        )


async def find(services: Services, principal: Principal, reference: str) -> CapturedMessage:
    """One captured message.

    Raises:
        NotFound: the project has none with this id, or a key of the other mode asks.
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, principal.project_id) as db:
        found = await sandbox.find_captured(db, principal.project_id, reference, sandbox=_mode(principal))
    if found is None:
        raise NotFound(NO_CAPTURE)
    return found


async def files_of(services: Services, captured: CapturedMessage, content: MessageContent) -> dict[str, bytes]:
    """The bytes of its attachments by SHA-256; without those that were deleted.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    return await load_files(services, captured.project_id, content)


async def clear(services: Services, principal: Principal, actor: Actor) -> int:
    """Delete the captured messages that the principal sees; the messages themselves stay. Their number.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    deleted = 0
    while True:
        async with transaction(services.pool, principal.project_id) as db:
            number = await sandbox.delete_captured(db, principal.project_id, sandbox=_mode(principal))
            deleted += number
            if number:
                await audit.append(
                    db,
                    actor,
                    project_id=principal.project_id,
                    action="deleted",
                    noun="outbox",
                    object_id="*",
                    changes={"deleted": number},
                    now=utc_now(),
                )
        if not number:
            return deleted
