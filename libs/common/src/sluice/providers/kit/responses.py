"""Reading HTTP answers: the few things every HTTP package asks of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from sluice.model.outcome import AuthFailed, Outcome, ProviderFault, Rejected, Throttled, Unknown

# A row of a package's error table names one of these; the reason is filled in from the answer.
OutcomeType = type[Rejected] | type[Throttled] | type[AuthFailed] | type[ProviderFault] | type[Unknown]

MIN_RETRY_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(hours=1)  # also the cool-down after a used-up quota, which names no time


def json_body(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object; empty when it is anything else, so that look-ups simply miss."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def describe(response: httpx.Response, *words: object) -> str:
    """The status with what the provider said of it; says so when it said nothing that is documented."""
    said = " ".join(str(word) for word in words if word)
    return f"{response.status_code} {said or 'without a word that the provider documents'}"


def make_outcome(
    kind: OutcomeType, reason: str, response: httpx.Response, *, default_retry_after: timedelta | None = None
) -> Outcome:
    """``kind`` with its reason; when throttled also the wait the provider asked for, else ``pause``."""
    if kind is Throttled:
        return Throttled(reason, retry_after(response) or default_retry_after)
    return kind(reason)


def retry_after(response: httpx.Response) -> timedelta | None:
    """The answer's ``Retry-After`` (seconds or an HTTP date), kept between 1 s and 1 h; None when unreadable.

    A date is read against the answer's own ``Date``: the provider's clock, not ours, is the one it meant.
    """
    value = response.headers.get("retry-after", "").strip()
    wait = _seconds(value)
    if wait is None:
        wait = _until(value, response.headers.get("date", ""))
    return None if wait is None else min(max(wait, MIN_RETRY_AFTER), MAX_RETRY_AFTER)


def _seconds(value: str) -> timedelta | None:
    try:
        return timedelta(seconds=float(value))
    except OverflowError:
        return MAX_RETRY_AFTER
    except ValueError:  # not a number, or "nan"
        return None


def _until(value: str, date: str) -> timedelta | None:
    then, now = _http_date(value), _http_date(date)
    return None if then is None or now is None else then - now


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
