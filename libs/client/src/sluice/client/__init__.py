"""A client of Sluice's `/v1` API.

    from sluice.client import Sluice

    with Sluice("sp_live_…", base_url="http://127.0.0.1:8080") as sluice:
        sent = sluice.messages.send(channel="email", to=["ada@example.com"], subject="Hello", text="Hello.")
        print(sluice.messages.get(sent["id"])["status"])

:class:`AsyncSluice` has the same methods for asyncio. Answers are the API's JSON objects, typed. A request that may
have reached the gateway is repeated only where a repeat changes nothing: reads, deletions, and sends, which get an
idempotency key if they have none.
"""

from sluice.client._async import AsyncSluice
from sluice.client._sync import Sluice
from sluice.client.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    SluiceClientError,
    UnavailableError,
)
from sluice.client.retries import Retries
from sluice.client.webhooks import InvalidSignatureError, verify_webhook

__all__ = [
    "ApiError",
    "AsyncSluice",
    "AuthenticationError",
    "ConflictError",
    "ConnectionFailedError",
    "InvalidRequestError",
    "InvalidSignatureError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitedError",
    "Retries",
    "Sluice",
    "SluiceClientError",
    "UnavailableError",
    "verify_webhook",
]
