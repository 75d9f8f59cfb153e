"""The bodies of ``/v1/domains``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.domains.checker import Purpose, RecordStatus
from gateway.kit.fields import Timestamp
from sluice.model.address import InvalidAddressError, parse_address


def _domain(text: str) -> str:
    try:
        return parse_address(f"postmaster@{text.rstrip('.')}").bare.rpartition("@")[2].lower()
    except InvalidAddressError:
        raise ValueError("is not a domain name") from None


class CreateDomainRequest(BaseModel):
    """A domain to send from; an international one is stored in punycode."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"domain": "shop.example"}})

    domain: Annotated[str, Field(min_length=3, max_length=253), AfterValidator(_domain)]


class DomainStatus(StrEnum):
    """``pending``: never checked; ``verified``: every record was found; ``failed``: one is missing or different."""

    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"


class DomainRecordResponse(BaseModel):
    """A DNS record to add. ``host`` is relative to the domain, `@` for the domain itself."""

    purpose: Purpose
    type: str
    host: str
    value: str
    status: RecordStatus


class DomainResponse(BaseModel):
    """A domain with its DNS records, as the newest check has found them."""

    id: str
    domain: str
    status: DomainStatus
    records: list[DomainRecordResponse]
    checked_at: Timestamp | None
    created_at: Timestamp
