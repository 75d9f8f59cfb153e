"""A provider as routing sees it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Candidate(NamedTuple):
    """An enabled provider of a project's channel: no credentials, no settings."""

    id: UUID
    package: str
    priority: int  # lower values are selected first
    weight: float | None = None  # its share among equal priorities; None: 1
    price: float | None = None  # of a message or of a segment, in the same unit for every provider of a channel
