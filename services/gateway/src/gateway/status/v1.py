"""``/v1/status``."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.dependencies import EventsRead, ServicesDep
from gateway.kit.fields import Timestamp
from gateway.kit.json_route import JsonRoute
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.status import service
from gateway.status.monitor import InstallationStatus, PartStatus
from sluice.bus.topics import Group
from sluice.model.message import Channel
from sluice.runtime.version import program_version
from sluice.store.waiting import COUNTED, Waiting

router = APIRouter(prefix="/v1/status", tags=["status"], route_class=JsonRoute)

_ROLES = {
    "gateway": (Group.INGEST,),
    "router": (Group.ROUTER,),
    "email-worker": (Group.EMAIL_WORKER,),
    "sms-worker": (Group.SMS_WORKER,),
    "push-worker": (Group.PUSH_WORKER,),
    "health": (Group.HEALTH,),
    "event-worker": (Group.EVENT_WORKER, Group.DEAD_LETTERS, Group.INCIDENTS),
}


class PartResponse(BaseModel):
    """A backing service, as this gateway reaches it. ``since``: when the gateway saw its state begin."""

    status: Literal["up", "down", "unused"]
    since: Timestamp | None
    latency_ms: float | None
    error: str | None


class RoleResponse(BaseModel):
    """A role, by its consumers on the bus; null while Kafka does not answer.

    ``lag_s``: the age of the oldest record that it has to work on; ``down`` means that none runs.
    """

    role: str
    status: Literal["up", "down", "unknown"]
    consumers: int | None
    lag_records: int | None
    lag_s: float | None


class WaitingResponse(BaseModel):
    """The deliveries of a channel that have no end yet. ``due``: could be sent now; ``scheduled``: later."""

    channel: Channel
    due: int
    scheduled: int
    in_flight: int
    oldest_due_at: Timestamp | None


class StatusResponse(BaseModel):
    """The state of the installation, and what waits in the project.

    ``status``: `down` without PostgreSQL, when nothing is accepted; `impaired` when another part or a role is missing.
    """

    status: Literal["up", "impaired", "down"]
    version: str
    postgres: PartResponse
    kafka: PartResponse
    redis: PartResponse = Field(description="Without it, limits and the evidence of health are approximate.")
    roles: list[RoleResponse]
    waiting: list[WaitingResponse] | None = Field(
        description=f"Of the project; null without PostgreSQL. At most {COUNTED:,} deliveries are counted."
    )
    measured_at: Timestamp


@router.get("", responses=errors_of())
async def get_status(principal: EventsRead, services: ServicesDep) -> StatusResponse:
    """What runs, what does not and since when, how far each role is behind, and what waits.

    With an API key it answers while PostgreSQL, Kafka and Redis are away. A person's session is checked in PostgreSQL:
    without it, the answer is 503.
    """
    found = await service.installation(services)
    waiting = await service.waiting_in(services, principal)
    roles = [_role(name, found) for name in _ROLES]
    return StatusResponse(
        status=_summary(found, roles),
        version=program_version(),
        postgres=_part(found.postgres),
        kafka=_part(found.kafka),
        redis=_part(found.redis),
        roles=roles,
        waiting=None if waiting is None else [_waiting(one) for one in waiting],
        measured_at=rfc3339(found.measured_at),
    )


def _summary(found: InstallationStatus, roles: list[RoleResponse]) -> Literal["up", "impaired", "down"]:
    if found.postgres.error:
        return "down"
    redis = found.redis is not None and found.redis.error
    return "impaired" if found.kafka.error or redis or any(role.status != "up" for role in roles) else "up"


def _part(part: PartStatus | None) -> PartResponse:
    if part is None:
        return PartResponse(status="unused", since=None, latency_ms=None, error=None)
    return PartResponse(
        status="down" if part.error else "up",
        since=rfc3339(part.since),
        latency_ms=None if part.latency is None else round(part.latency * 1000, 1),
        error=part.error,
    )


def _role(name: str, found: InstallationStatus) -> RoleResponse:
    if found.groups is None:
        return RoleResponse(role=name, status="unknown", consumers=None, lag_records=None, lag_s=None)
    groups = [found.groups[group] for group in _ROLES[name] if group in found.groups]
    consumers = min((group.consumers for group in groups), default=0)
    return RoleResponse(
        role=name,
        status="up" if consumers else "down",
        consumers=consumers,
        lag_records=sum(group.lag_records for group in groups),
        lag_s=round(max((group.lag_seconds for group in groups), default=0.0), 1),
    )


def _waiting(one: Waiting) -> WaitingResponse:
    return WaitingResponse(
        channel=Channel(one.channel),
        due=one.due,
        scheduled=one.scheduled,
        in_flight=one.in_flight,
        oldest_due_at=None if one.oldest_due_at is None else rfc3339(one.oldest_due_at),
    )
