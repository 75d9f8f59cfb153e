"""Requests and responses of the hot path and of webhooks: plain ASGI, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from gateway.errors import PayloadTooLarge, ValidationFailed
from sluice.model import ids

_SINGLE = (b"idempotency-key", b"x-sendpipe-key", b"content-encoding")


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by their names in lower case; of a repeated name the first.

    Raises:
        ValidationFailed: a header that the gateway reads is repeated with another value.
    """
    headers = dict(reversed(scope["headers"]))
    if len(headers) != len(scope["headers"]):
        for name in _SINGLE:
            if len({value for found, value in scope["headers"] if found == name}) > 1:
                raise ValidationFailed(f"The {name.decode().title()} header is repeated with different values.")
    return headers


def idempotency_key_of(value: bytes | None) -> str | None:
    """The text of an ``Idempotency-Key`` header, of a request or a record.

    Raises:
        ValidationFailed: it is not UTF-8, as the field ``idempotency_key`` is.
    """
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        raise ValidationFailed("The Idempotency-Key header is not UTF-8.", field="idempotency_key") from None


def checked_key(header_key: str | None) -> str | None:
    """The ``Idempotency-Key`` header.

    Raises:
        ValidationFailed: it has no or too many characters, or control characters.
    """
    if header_key is not None and (not 0 < len(header_key) <= 255 or not header_key.isprintable()):
        raise ValidationFailed(
            "The Idempotency-Key header must have 1 to 255 printable characters.", field="idempotency_key"
        )
    return header_key


def key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The idempotency key in the headers of a request, for routes of which no body has one.

    The framework decodes a header as Latin-1: it would count the bytes of a key, and take some for no text.

    Raises:
        ValidationFailed: see :func:`idempotency_key_of` and :func:`checked_key`.
    """
    return checked_key(idempotency_key_of(headers.get(b"idempotency-key")))


def check_coding(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a compressed body.

    Raises:
        ValidationFailed: it is.
    """
    codings = headers.get(b"content-encoding", b"").lower().split(b",")
    if any(coding.strip() not in (b"", b"identity") for coding in codings):
        raise ValidationFailed("Compressed bodies are not accepted.")


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, limit: int, hold: Callable[[int], None] = lambda _bytes: None
) -> bytes:
    """The whole body, counted while it arrives. ``hold`` is called before bytes are read, and may raise.

    Raises:
        PayloadTooLarge: the body has more than ``limit`` bytes.
        ValidationFailed: the body is compressed.
        ClientDisconnect: the client closed the connection before the end of the body.
    """
    check_coding(headers)
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
    held = int(declared) if declared.isdigit() else 0
    hold(held)
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
        if size > held:  # a body of undeclared length
            hold(size - held)
            held = size
        chunks.append(chunk)
        more = event.get("more_body", False)
    return b"".join(chunks)


def rfc3339(when: datetime) -> str:
    """``2026-03-27T10:00:00.000Z``; ``when`` is in UTC."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(10_000)
def project_id_text(project_id: UUID) -> str:
    """``proj_…``."""
    return ids.encode_id("proj", project_id)
