"""Reading HTTP responses: the few things that every HTTP package needs from one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
import orjson

from sluice.providers.kit.times import parse_http_date

MIN_RETRY_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(hours=1)  # also the wait after a used-up quota, which names no time


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object in ``content``; empty when it is anything else, so that look-ups simply miss."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def object_of(owner: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under ``name``; empty when there is none."""
    found = owner.get(name)
    return found if isinstance(found, dict) else {}


def text_of(value: object, limit: int = 320) -> str | None:
    """``value`` if it is a text and not empty, cut at ``limit`` characters."""
    return value[:limit] if isinstance(value, str) and value else None


def describe(response: httpx.Response, *words: object) -> str:
    """The status with the provider's words, or the statement that it gave none."""
    said = " ".join(str(word) for word in words if word)
    return f"{response.status_code} {said or 'without a documented error'}"


def retry_after(response: httpx.Response) -> timedelta | None:
    """The ``Retry-After`` header (seconds or an HTTP date), kept between 1 s and 1 h; None when unreadable.

    A date is read against the response's own ``Date``, which is the clock that the provider meant.
    """
    value = response.headers.get("retry-after", "").strip()
    wait = seconds(value)
    if wait is None:
        then, now = parse_http_date(value), parse_http_date(response.headers.get("date", ""))
        wait = None if then is None or now is None else then - now
    return None if wait is None else clamp(wait)


def clamp(wait: timedelta) -> timedelta:
    """``wait`` between 1 s and 1 h."""
    return min(max(wait, MIN_RETRY_AFTER), MAX_RETRY_AFTER)


def seconds(value: object) -> timedelta | None:
    """A number of seconds, as a number or a text; None when it is none."""
    try:
        return timedelta(seconds=float(value)) if isinstance(value, int | float | str) else None
    except OverflowError:
        return MAX_RETRY_AFTER
    except ValueError:  # not a number, or "nan"
        return None
