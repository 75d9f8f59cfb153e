"""Times as providers write them. None for what cannot be read; UTC where no zone is named."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_iso_time(value: object) -> datetime | None:
    """ISO 8601."""
    try:
        return _aware(datetime.fromisoformat(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def parse_http_date(value: str) -> datetime | None:
    """RFC 9110, 5.6.7."""
    try:
        return _aware(parsedate_to_datetime(value))
    except (TypeError, ValueError):
        return None


def parse_unix_time(value: object) -> datetime | None:
    """Seconds since the epoch."""
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None
    except (OverflowError, OSError, ValueError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
