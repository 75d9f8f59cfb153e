"""What both clients share: the address, the headers, and how an answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx
from sluice.client.calls import Call
from sluice.client.retries import Retries

try:
    VERSION = version("sluice-client")
except PackageNotFoundError:  # a checkout without an installation
    VERSION = "0"


def options(
    key: str, *, base_url: str, project: str | None, timeout: float, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """The options of the HTTP client. A session token (``ses_…``) names its project in each request.

    Raises:
        ValueError: there is no key, or the address is not an http one.
    """
    if not key.strip() or not key.isascii():
        raise ValueError("key: must be an API key (sp_live_…, sp_test_…, mzl_…) or a session token (ses_…)")
    if not base_url.startswith(("http://", "https://")):
        raise ValueError("base_url: must begin with http:// or https://")
    who = {"Authorization": f"Bearer {key}"} if key.startswith("ses_") else {"X-SendPipe-Key": key}
    where = {} if project is None else {"X-SendPipe-Project": project}
    return {
        "base_url": base_url,
        "timeout": timeout,
        "headers": {"User-Agent": f"sluice-client/{VERSION}", **who, **where, **(headers or {})},
    }


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    """The request of a call."""
    query = {name.rstrip("_"): value for name, value in call.query.items() if value is not None}
    body = {} if call.body is None else {"json": call.body}
    body |= {} if call.content is None else {"content": call.content}
    return http.build_request(call.method, call.path, params=query, headers=dict(call.headers), **body)


def answer_of(response: httpx.Response) -> Any:
    """The JSON of a successful answer; None without a body."""
    return response.json() if response.content else None


DEFAULT_RETRIES = Retries()
