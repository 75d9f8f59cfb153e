"""A provider as routing sees it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Candidate(NamedTuple):
    """An enabled provider of a project's channel: no credentials, no settings."""

    id: UUID
    package: str
    priority: int  # lower values are selected first
