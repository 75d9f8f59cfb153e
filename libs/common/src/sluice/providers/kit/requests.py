"""Making HTTP requests: the few things every HTTP package needs for one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import httpx


@lru_cache(maxsize=4096)
def endpoint(base_url: str, path: str) -> httpx.URL:
    """Where a package's requests go. Parsing a URL costs more than the rest of building a request, so it is
    done once for an account."""
    return httpx.URL(base_url.rstrip("/") + path)


def post(url: httpx.URL, headers: Sequence[tuple[bytes, bytes]], content: bytes) -> httpx.Request:
    """A POST with these headers and no others: Host and Content-Length are the wire's to set."""
    # Given ``content``, httpx would look through the headers some ten times for what it could add.
    request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(content))
    request.read()
    return request
