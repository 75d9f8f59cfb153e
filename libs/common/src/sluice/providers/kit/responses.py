"""Reading HTTP responses: the few things that every HTTP package needs from one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

import httpx
import orjson

from sluice.providers.kit.times import parse_http_date

MIN_RETRY_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(hours=1)  # also the wait after a used-up quota, which names no time
_MAX_DEPTH = 20
_NUMBER = re.compile(r"\+?([1-9][0-9]{6,14})")  # of international form; with fewer digits it is a short code
_IDENTIFIER = re.compile(r"[!-~]{1,200}")


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object in ``content``; empty when it is anything else, so that look-ups simply miss."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def json_list(content: bytes) -> list[dict[str, Any]]:
    """The objects of the JSON array in ``content``; empty when it is anything else."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return []
    return [item for item in body if isinstance(item, dict)] if isinstance(body, list) else []


def object_of(owner: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object under ``name``; empty when there is none."""
    found = owner.get(name)
    return found if isinstance(found, dict) else {}


def dump_json(value: object) -> bytes:
    """``value`` as JSON; empty when it is nested too deeply for that."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b""


def exact_json_object(content: bytes) -> dict[str, Any]:
    """As :func:`json_object`, with every number as the text that it was written as: an id can exceed 64 bits."""
    if not json_object(content):  # orjson refuses what json accepts: NaN, half a character
        return {}
    try:
        body: dict[str, Any] = json.loads(content, parse_int=str, parse_float=str)
    except RecursionError:
        return {}
    return body


def identifier(value: object) -> str | None:
    """``value`` if it is an id as providers assign them: 1 to 200 printable ASCII characters without blanks."""
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else None


def text_of(value: object, limit: int = 320) -> str | None:
    """``value`` if it is a text and not empty, cut at ``limit`` characters."""
    return value[:limit] if isinstance(value, str) and value else None


def number_of(value: object) -> str | None:
    """A telephone number as Sluice writes it, with a plus sign (E.164), however the provider does.

    Every other text stays as it is: a short code, a sender's name, an id. None for what is no text, or empty.
    """
    text = text_of(value)
    digits = _NUMBER.fullmatch(text.strip()) if text else None
    return f"+{digits[1]}" if digits else text


def xml_texts(content: bytes) -> dict[str, str]:
    """The texts of an XML document by their path of local names ("Error/Code"), the first of each.

    Empty when it is not well-formed, nested deeper than any response, or has a document type: that could define
    entities.
    """
    parser = ParserCreate(namespace_separator=" ")
    path: list[str] = []
    words: list[str] = []
    texts: dict[str, str] = {}

    def start(name: str, _: object) -> None:
        path.append(name.rpartition(" ")[2])
        words.clear()
        if len(path) > _MAX_DEPTH:
            raise ValueError("nested too deep")

    def end(_: str) -> None:
        texts.setdefault("/".join(path), "".join(words))
        path.pop()
        words.clear()

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = words.append, refuse
    try:
        parser.Parse(content, True)
    except (ExpatError, ValueError, LookupError):  # LookupError: an unknown encoding
        return {}
    return texts


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


def reset_wait(response: httpx.Response) -> timedelta | None:
    """``X-RateLimit-Reset`` (seconds since the epoch) against the response's own ``Date``; None without both."""
    reset = seconds(response.headers.get("x-ratelimit-reset"))
    now = parse_http_date(response.headers.get("date", ""))
    return None if reset is None or now is None else clamp(reset - timedelta(seconds=now.timestamp()))


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
