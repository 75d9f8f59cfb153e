"""``/v1/dead-letters``."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.dead_letters import service
from gateway.dependencies import EventsRead, ServicesDep
from gateway.kit.fields import Timestamp
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from sluice.model import ids
from sluice.store.dead_letters import DeadLetter, LetterKind, LetterStatus

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=JsonRoute)


class DeadLetterResponse(BaseModel):
    """A record of the project that was refused, with its coordinates, or a delivery that failed, with its message."""

    id: str
    kind: LetterKind
    status: LetterStatus
    reason: str
    topic: str | None
    partition: int | None
    offset: int | None
    message_id: str | None
    created_at: Timestamp
    resolved_at: Timestamp | None


@router.get("", responses=errors_of())
async def list_dead_letters(
    principal: EventsRead,
    page: PageDep,
    services: ServicesDep,
    kind: LetterKind | None = None,
    status: LetterStatus | None = None,
) -> Page[DeadLetterResponse]:
    """What could not be processed in the last 30 days, newest first, of test and live keys alike.

    The operator of the installation replays records (`sluice dead-letters replay`), under the identity that they had. A
    failed delivery is not replayed: its message has ended, and a new request sends it again.
    """
    rows = await service.list_letters(
        services, principal.project_id, kind=kind, status=status, limit=page.fetch, before=page.before
    )
    return page.page(rows, lambda row: row.id, _serialize)


def _serialize(letter: DeadLetter) -> DeadLetterResponse:
    return DeadLetterResponse(
        id=ids.encode_id("dlt", letter.id),
        kind=letter.kind,
        status=letter.status,
        reason=letter.reason,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.record_offset,
        message_id=None if letter.message_id is None else ids.encode_id("msg", letter.message_id),
        created_at=rfc3339(letter.occurred_at),
        resolved_at=None if letter.resolved_at is None else rfc3339(letter.resolved_at),
    )
