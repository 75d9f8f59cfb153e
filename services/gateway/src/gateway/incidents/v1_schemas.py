"""The bodies of ``/v1/incidents``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.kit.actor import ActorResponse
from gateway.kit.fields import Timestamp, storable
from gateway.kit.provider_reference import ProviderReference
from sluice.model.incidents import Ending
from sluice.model.message import Channel


class IncidentStatus(StrEnum):
    """Whether an incident lasts."""

    OPEN = "open"
    RESOLVED = "resolved"


class NoteRequest(BaseModel):
    """A note on an incident."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"example": {"text": "Their status page confirms it."}}
    )

    text: Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(storable)]


class IncidentProviderResponse(BaseModel):
    """A provider that did not work. ``ended_at``: null while it does not; `recovered` means with its full share."""

    provider: ProviderReference
    reason: str
    since: Timestamp
    ended_at: Timestamp | None
    ending: Ending | None


class IncidentNumbersResponse(BaseModel):
    """What became of the deliveries that the incident touched. One may be counted in several numbers but `touched`.

    `GET /v1/messages?incident=…` lists their messages.
    """

    touched: int = Field(description="An attempt failed at one of the providers, or went elsewhere because of it.")
    masked: int = Field(description="Another provider accepted it.")
    late: int = Field(description="Accepted more than five seconds after it could go.")
    failed: int = Field(description="`FAILED` or `EXPIRED`.")
    unconfirmed: int = Field(description="`UNCONFIRMED`: it is not known whether it was sent.")
    possible_duplicates: int = Field(description="It may have arrived twice.")
    waiting: int = Field(description="An attempt is due or in flight.")
    counted_at: Timestamp | None


class WithoutProviderResponse(BaseModel):
    """The channel had no provider left. ``until``: null while it has none."""

    since: Timestamp
    until: Timestamp | None


class AcknowledgementResponse(BaseModel):
    """Who looks after the incident."""

    actor: ActorResponse
    at: Timestamp


class IncidentResponse(BaseModel):
    """A time in which a provider of a channel did not work.

    ``cause``: the reason of the first one; ``without_provider``: null if the channel always had another.
    """

    id: str
    channel: Channel
    status: IncidentStatus
    opened_at: Timestamp
    resolved_at: Timestamp | None
    cause: str
    providers: list[IncidentProviderResponse]
    without_provider: WithoutProviderResponse | None
    numbers: IncidentNumbersResponse
    acknowledged: AcknowledgementResponse | None


class NoteResponse(BaseModel):
    """A note on an incident."""

    id: str
    actor: ActorResponse
    text: str
    created_at: Timestamp


class HealthChangeResponse(BaseModel):
    """A health status that a provider reached."""

    provider: ProviderReference
    at: Timestamp
    status: str
    reason: str
    error_rate: float


class IncidentDetailResponse(IncidentResponse):
    """An incident with the notes on it, oldest first, and the changes of its providers' health meanwhile."""

    notes: list[NoteResponse]
    changes: list[HealthChangeResponse]
