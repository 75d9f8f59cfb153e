"""Building HTTP requests: the few things that every HTTP package needs for one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from sluice.providers.contract import UnsupportedMessageError


class _Request(httpx.Request):
    """A request that shows no more than its origin: a path can hold a token."""

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, '{self.url.scheme}://{self.url.netloc.decode()}/…')>"


@lru_cache(maxsize=4096)
def endpoint(base_url: str, path: str) -> httpx.URL:
    """Where a package's requests go. Cached: parsing a URL costs more than the rest of building a request."""
    return httpx.URL(base_url.rstrip("/") + path)


def basic(user: str, password: str) -> str:
    """An ``Authorization`` header, RFC 7617."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def post_json(url: httpx.URL, fields: Mapping[str, Any], **headers: str) -> httpx.Request:
    """A POST of ``fields`` without the empty ones (None), in the order given.

    ``headers`` are spelled with underscores: ``idempotency_key="…"``.
    """
    try:
        content = orjson.dumps({name: value for name, value in fields.items() if value is not None})
    except TypeError:  # orjson's word for a text that is not UTF-8
        raise UnsupportedMessageError("a text holds half a character (a lone surrogate)") from None
    return _post(url, b"application/json", content, headers)


def post_form(url: httpx.URL, fields: Mapping[str, str], **headers: str) -> httpx.Request:
    """A POST of ``fields`` as a form."""
    try:
        content = urlencode(fields).encode("ascii")
    except UnicodeEncodeError:
        raise UnsupportedMessageError("a text holds half a character (a lone surrogate)") from None
    return _post(url, b"application/x-www-form-urlencoded", content, headers)


def _post(url: httpx.URL, content_type: bytes, content: bytes, headers: Mapping[str, str]) -> httpx.Request:
    """A POST with these headers and no others: Host and Content-Length are the transport's to set."""
    lines = [
        *((name.replace("_", "-").title().encode(), value.encode()) for name, value in headers.items()),
        (b"Content-Type", content_type),
        (b"Accept", b"application/json"),
        (b"User-Agent", b"sluice"),  # some providers refuse requests without one
    ]
    # Given ``content``, httpx would look through the headers some ten times for what it could add.
    request = _Request("POST", url, headers=lines, stream=httpx.ByteStream(content))
    request.read()
    return request
