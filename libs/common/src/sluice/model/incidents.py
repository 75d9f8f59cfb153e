"""When an outage is an incident: the pure function from the statuses of providers to the changes of incidents.

An incident is open for a channel of a project while a provider of it does not work, or none of it can be called. A
provider that stops to work meanwhile joins it. It is resolved when each of its providers works with its full share of
the traffic, or is disabled or removed. Nothing depends on the number of messages, or on how often it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

LEAST_SUSPENSION = timedelta(seconds=30)
"""A shorter pause that a provider asks for is no outage: the deliveries wait for it."""


class Ending(StrEnum):
    """Why a provider is no part of an incident any more."""

    RECOVERED = "recovered"
    DISABLED = "disabled"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What is known of a provider. ``status``: by the policy of its project; ``since``: when it was reached.

    ``full_share_at``: of one that has returned, the end of its ramp.
    """

    provider_id: UUID
    project_id: UUID
    channel: str
    status: str
    reason: str = ""
    since: datetime | None = None
    full_share_at: datetime | None = None
    suspended_until: datetime | None = None
    enabled: bool = True
    removed: bool = False

    @property
    def is_unhealthy(self) -> bool:
        """Whether it is selected as a probe only."""
        return self.enabled and not self.removed and self.status == "unhealthy"

    def is_suspended(self, at: datetime) -> bool:
        """Whether no call is made to it then."""
        is_used = self.enabled and not self.removed
        return is_used and self.suspended_until is not None and self.suspended_until > at


@dataclass(frozen=True, slots=True)
class Member:
    """A provider in an incident. ``ended_at``: None while it does not work."""

    provider_id: UUID
    began_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that is not resolved. ``has_none``: its channel has no provider left."""

    id: UUID
    opened_at: datetime
    members: Mapping[UUID, Member]
    has_none: bool = False


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel of a project: the statuses of its providers, how many it has enabled, and its open incident.

    ``resolved_at``: the end of the newest incident that is not open any more.
    """

    project_id: UUID
    channel: str
    statuses: Sequence[ProviderStatus]
    enabled: int
    incident: OpenIncident | None = None
    resolved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """A provider has stopped to work. ``status``: ``unhealthy`` or ``suspended``."""

    provider_id: UUID
    began_at: datetime
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A provider works again, or is not used any more."""

    provider_id: UUID
    at: datetime
    ending: Ending


@dataclass(frozen=True, slots=True)
class Plan:
    """What changes in one channel. ``opened_at``: of a new incident; ``has_none``: the new value, None for the same."""

    channel: ChannelState
    opened_at: datetime | None = None
    joined: tuple[Joined, ...] = ()
    ended: tuple[Ended, ...] = ()
    has_none: bool | None = None
    resolved_at: datetime | None = None

    def __bool__(self) -> bool:
        changes = (self.opened_at, self.resolved_at, self.has_none)
        return bool(self.joined or self.ended) or any(one is not None for one in changes)


def plan(state: ChannelState, now: datetime) -> Plan:
    """The changes of a channel; none where everything is written already."""
    unhealthy = [one for one in state.statuses if one.is_unhealthy]
    out = [one for one in state.statuses if one.is_unhealthy or one.is_suspended(now + LEAST_SUSPENSION)]
    has_none = 0 < state.enabled <= len(out)
    incident = state.incident
    if incident is None:
        if not (unhealthy or has_none):
            return Plan(state)
        joined = _joined(state, out if has_none else unhealthy, {}, now)
        opened_at = min(one.began_at for one in joined)
        return Plan(state, opened_at=opened_at, joined=joined, has_none=has_none or None)
    joined = _joined(state, out if has_none else unhealthy, incident.members, now)
    ended = tuple(_ended(incident, state.statuses, now))
    remaining = {one.provider_id for one in incident.members.values() if one.ended_at is None}
    remaining = remaining - {one.provider_id for one in ended} | {one.provider_id for one in joined}
    found = Plan(state, joined=joined, ended=ended, has_none=None if has_none is incident.has_none else has_none)
    if remaining or has_none:
        return found
    ends = [one.at for one in ended] + [one.ended_at for one in incident.members.values() if one.ended_at is not None]
    return replace(found, resolved_at=max(ends, default=now))


def _joined(
    state: ChannelState, statuses: Iterable[ProviderStatus], members: Mapping[UUID, Member], now: datetime
) -> tuple[Joined, ...]:
    earliest = state.resolved_at if state.incident is None else state.incident.opened_at
    found = []
    for one in statuses:
        member = members.get(one.provider_id)
        if member is not None and member.ended_at is None:
            continue
        began = min(now, one.since or now) if one.is_unhealthy else now
        # The time before belongs to the incident before, or to the time in which the provider was not used.
        for time in (earliest, None if member is None else member.ended_at):
            began = began if time is None else max(began, time)
        status = "unhealthy" if one.is_unhealthy else "suspended"
        found.append(Joined(one.provider_id, began, status, one.reason or "the provider asked for a pause"))
    return tuple(found)


def _ended(incident: OpenIncident, statuses: Iterable[ProviderStatus], now: datetime) -> Iterable[Ended]:
    known = {one.provider_id: one for one in statuses}
    for member in incident.members.values():
        if member.ended_at is not None:
            continue
        found = known.get(member.provider_id)
        if found is None or found.removed:
            yield Ended(member.provider_id, now, Ending.REMOVED)
        elif not found.enabled:
            yield Ended(member.provider_id, now, Ending.DISABLED)
        elif found.status == "healthy" and not found.is_suspended(now):
            times = (found.full_share_at, found.suspended_until, found.since)
            at = max((time for time in times if time is not None and time >= member.began_at), default=now)
            if at <= now:
                yield Ended(member.provider_id, at, Ending.RECOVERED)
