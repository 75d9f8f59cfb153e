"""The bodies of ``/v1/suppressions``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.kit.fields import Timestamp, one_line
from sluice.model.message import Channel
from sluice.model.suppression import MAX_ADDRESS, SuppressionReason

MAX_ADDRESSES = 1000

_Address = Annotated[str, Field(min_length=1, max_length=MAX_ADDRESS), AfterValidator(one_line)]
_Detail = Annotated[str, Field(max_length=500), AfterValidator(one_line)]


class AddSuppressionsRequest(BaseModel):
    """Addresses to suppress on a channel: e-mail addresses, numbers, chat ids or device tokens."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"channel": "email", "addresses": ["ada@example.com"], "detail": "by phone"}},
    )

    channel: Channel
    addresses: Annotated[list[_Address], Field(min_length=1, max_length=MAX_ADDRESSES)]
    reason: SuppressionReason = Field(
        SuppressionReason.MANUAL, description="Another reason than `manual` is for lists that come from elsewhere."
    )
    detail: _Detail = Field("", description="A note.")


class SourceResponse(BaseModel):
    """The event that suppressed the address. ``provider_id``: of the provider that reported it."""

    message_id: str | None
    event_id: str | None
    provider_id: str | None


class SuppressionResponse(BaseModel):
    """A suppressed address. ``source``: null for an address that was added by hand."""

    id: str
    channel: Channel
    address: str
    reason: SuppressionReason
    detail: str
    source: SourceResponse | None
    created_at: Timestamp


class AddedSuppressionsResponse(BaseModel):
    """The suppressions of the addresses. ``added``: how many are new; the others keep their reason."""

    added: int
    data: list[SuppressionResponse]


class RemovedSuppressionsResponse(BaseModel):
    """How many suppressions were removed."""

    removed: int
