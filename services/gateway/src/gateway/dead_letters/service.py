"""The dead letters of a project, for every API."""

from __future__ import annotations

from uuid import UUID

from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.store import dead_letters
from sluice.store.dead_letters import DeadLetter, LetterKind, LetterStatus


async def list_letters(
    services: Services,
    project_id: UUID,
    *,
    kind: LetterKind | None,
    status: LetterStatus | None,
    limit: int,
    before: UUID | None,
) -> list[DeadLetter]:
    """The project's dead letters, newest first.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    async with transaction(services.pool, project_id) as db:
        return await dead_letters.list_letters(db, project_id, kind=kind, status=status, limit=limit, before=before)
