"""The events of one project as they happen, for every API."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from gateway.events.feed import Entry
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.store import messages
from sluice.store.projects import ProjectScope


async def of_scope(services: Services, scope: ProjectScope, entries: Sequence[Entry]) -> list[Entry]:
    """Those of ``entries``, all of the scope's project, that belong to its test or its live messages, or to none.

    The event of a delivery does not say it: what no stream has asked about before is looked up, in one statement.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    unknown: dict[UUID, list[Entry]] = {}
    for entry in entries:
        if entry.delivery_id is not None and entry.sandbox is None:
            unknown.setdefault(entry.delivery_id, []).append(entry)
    if unknown:
        async with transaction(services.pool, scope.project_id) as db:
            found = await messages.find_sandbox(db, scope.project_id, list(unknown))
        for delivery_id, same in unknown.items():
            for entry in same:
                entry.sandbox = found.get(delivery_id)
    return [
        entry
        for entry in entries
        if entry.sandbox is scope.sandbox or (entry.delivery_id is None and entry.sandbox is None)
    ]
