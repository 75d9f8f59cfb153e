"""Incidents: an outage of a channel of a project, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


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
