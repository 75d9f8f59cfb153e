"""How much of its configuration a project may have: every process keeps that of all projects in memory."""

from __future__ import annotations

from gateway.errors import LimitReached

MAX_PROVIDERS = 100
MAX_DELETED_PROVIDERS = 100
"""Deleted providers that keep their credentials, for the receipts of what they sent."""

MAX_KEYS = 500
MAX_DOMAINS = 500


def require_room(count: int, limit: int, noun: str) -> None:
    """Refuse one more of what the project has ``count`` of. ``noun``: what they are, in the plural.

    Raises:
        LimitReached: it may have no more than ``limit``.
    """
    if count >= limit:
        raise LimitReached(f"The project may have at most {limit} {noun}. Delete one that is not used any more.")
