"""A provider as responses name it."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from gateway.providers.names import name_of
from sluice.model import ids
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.store.config_cache import ConfigCache


class ProviderReference(BaseModel):
    """A provider by id and name."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str


def provider_reference(provider_id: UUID, config: ConfigCache) -> ProviderReference:
    """The provider by id and name, also when it was removed."""
    if provider_id == SANDBOX_PROVIDER_ID:
        return ProviderReference(id=ids.encode_id("prv", provider_id), name="sandbox")
    row = config.providers.get(provider_id)
    return ProviderReference(id=ids.encode_id("prv", provider_id), name=row.name if row else "removed")


def provider_name(provider_id: UUID, config: ConfigCache) -> str | None:
    """The name of the provider's package in the project API; None for a provider that is not known any more."""
    if provider_id == SANDBOX_PROVIDER_ID:
        return "sandbox"
    row = config.providers.get(provider_id)
    return None if row is None else name_of(row.package)
