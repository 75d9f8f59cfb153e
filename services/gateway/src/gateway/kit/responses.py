"""Requests and responses of the hot path and of webhooks: plain ASGI, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from gateway.errors import PayloadTooLarge, ValidationFailed
from sluice.model import ids


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by their names in lower case; of a repeated name the first."""
    return dict(reversed(scope["headers"]))


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole body, counted while it arrives.

    Raises:
        PayloadTooLarge: the body has more than ``limit`` bytes.
        ValidationFailed: the body is compressed.
        ClientDisconnect: the client closed the connection before the end of the body.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise ValidationFailed("Compressed bodies are not accepted.")
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise PayloadTooLarge(f"The body may have at most {limit} bytes.")
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
