"""The provider that a request names."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from gateway.errors import ValidationFailed
from sluice.model.ids import InvalidIdError, decode_id
from sluice.model.message import Channel
from sluice.store.config_cache import ConfigCache


def find_preferred(config: ConfigCache, project_id: UUID, channel: Channel, name: str | None) -> UUID | None:
    """The project's provider with this id, or of this package; None for no name.

    Raises:
        ValidationFailed: the project has no such provider for the channel.
    """
    if name is None:
        return None
    with suppress(InvalidIdError):
        provider_id = decode_id("prv", name)
        row = config.providers.get(provider_id)
        if row and row.project_id == project_id and row.channel == channel and not row.deleted:
            return provider_id
    for candidate in config.candidates(project_id, channel):
        if candidate.package == name:
            return candidate.id
    raise ValidationFailed(
        "preferred_provider: the project has no such provider for this channel", field="preferred_provider"
    )
