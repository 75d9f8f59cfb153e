"""Times as providers write them. UTC where no zone is named; None for what cannot be read and for other centuries.

A time near the end of the calendar would overflow when it is added to or converted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_YEARS = range(1970, 2200)


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
        return _aware(datetime.fromtimestamp(value, UTC)) if isinstance(value, int | float) else None
    except (OverflowError, OSError, ValueError):
        return None


def _aware(moment: datetime) -> datetime | None:
    if moment.year not in _YEARS:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
