"""Building HTTP requests: the few things that every HTTP package needs for one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
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
    return _post(url, b"application/json", encode_json(fields), headers)


def encode_json(fields: Mapping[str, Any]) -> bytes:
    """``fields`` without the empty ones as JSON; UnsupportedMessageError when a text is not Unicode."""
    try:
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})
    except TypeError:  # orjson's word for a text that is not UTF-8
        raise UnsupportedMessageError("a text holds half a character (a lone surrogate)") from None


def post_form(url: httpx.URL, fields: Mapping[str, str], **headers: str) -> httpx.Request:
    """A POST of ``fields`` as a form."""
    return _post(url, b"application/x-www-form-urlencoded", encode_form(fields), headers)


def encode_form(fields: Mapping[str, str]) -> bytes:
    """``fields`` as the body of a form; UnsupportedMessageError when a text is not Unicode."""
    try:
        return urlencode(fields).encode("ascii")
    except UnicodeEncodeError:
        raise UnsupportedMessageError("a text holds half a character (a lone surrogate)") from None


def post_multipart(
    url: httpx.URL,
    fields: Iterable[tuple[str, str]],
    files: Sequence[tuple[str, tuple[str, bytes, str]]],
    **headers: str,
) -> httpx.Request:
    """A POST of ``fields`` and ``files`` (field, (file name, content, content type)) as ``multipart/form-data``.

    File names are in UTF-8, as browsers send them. The boundary is made from the content, so that the same fields give
    the same bytes and no content can contain it.
    """
    try:
        parts = [(name, (None, value.encode(), None)) for name, value in fields]
        names = [(name, filename.encode(), kind.encode()) for name, (filename, _, kind) in files]
    except UnicodeEncodeError:
        raise UnsupportedMessageError("a text holds half a character (a lone surrogate)") from None
    digest = sha256(repr((parts, names)).encode())
    for _, (_, content, _) in files:
        digest.update(sha256(content).digest())
    content_type = f"multipart/form-data; boundary={digest.hexdigest()}"
    form = httpx.Request("POST", url, headers={"content-type": content_type}, files=[*parts, *files])
    return _post(url, content_type.encode("ascii"), form.read(), headers)


def post(url: httpx.URL, content: bytes, *, content_type: str, accept: str, **headers: str) -> httpx.Request:
    """A POST of bytes that a signature among the headers covers."""
    return _post(url, content_type.encode(), content, headers, accept.encode())


def _post(
    url: httpx.URL, content_type: bytes, content: bytes, headers: Mapping[str, str], accept: bytes = b"application/json"
) -> httpx.Request:
    """A POST with these headers and no others: Host and Content-Length are the transport's to set."""
    lines = [
        *((name.replace("_", "-").title().encode(), value.encode()) for name, value in headers.items()),
        (b"Content-Type", content_type),
        (b"Accept", accept),
        (b"User-Agent", b"sluice"),  # some providers refuse requests without one
    ]
    # Given ``content``, httpx would look through the headers some ten times for what it could add.
    request = _Request("POST", url, headers=lines, stream=httpx.ByteStream(content))
    request.read()
    return request
