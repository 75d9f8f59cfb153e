"""Samples: webhook requests of `sluice doctor`. The gateway verifies them as a provider's, and stores nothing.

A request with the header SAMPLE_HEADER is a sample. The gateway answers it with a :class:`SampleAnswer`: whether it
believes the request, and what of it arrived, so that the sender can see what changed on the way. It contains nothing
that the sender has not sent, except the gateway's public address and its clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from pydantic import AwareDatetime, BaseModel

from sluice.providers.account import Account
from sluice.providers.contract import InvalidReceiptSignatureError, WebhookRequest

SAMPLE_HEADER = "x-sluice-sample"
STALE = timedelta(days=2)  # older than every signature with a time may be


class SampleResult(StrEnum):
    """What the gateway makes of a sample."""

    VERIFIED = "verified"
    REFUSED = "refused"  # the signature is not valid
    UNKNOWN = "unknown"  # no such provider, or its package has no webhook
    UNREADABLE = "unreadable"  # the provider's credentials cannot be decrypted
    NO_PUBLIC_URL = "no_public_url"  # the signature covers the URL, and SLUICE_PUBLIC_URL is not set


class SampleAnswer(BaseModel):
    """The response to a sample. ``url``: what the signature was verified against."""

    result: SampleResult
    url: str
    body_sha256: str
    received_at: AwareDatetime

    @classmethod
    def to(cls, request: WebhookRequest, result: SampleResult) -> SampleAnswer:
        """The answer to a request as it arrived."""
        digest = sha256(request.body).hexdigest()
        return cls(result=result, url=request.url, body_sha256=digest, received_at=request.received_at)


def samples(account: Account, url: str, now: datetime) -> Iterator[tuple[str, WebhookRequest]]:
    """The samples of an account with their names: ``genuine``, ``tampered`` and, where signatures age, ``stale``.

    Only the first is believed. None at all where only the provider can sign.

    Raises:
        InvalidReceiptSignatureError: the account lacks the secret that signs.
    """
    if account.package.sample is None:
        return
    genuine = account.package.sample(url, account.credentials, now)
    yield "genuine", genuine
    yield "tampered", next(one for one in _tampered(genuine) if not is_believed(account, one))
    stale = replace(account.package.sample(url, account.credentials, now - STALE), received_at=now)
    if not is_believed(account, stale):
        yield "stale", stale


def is_believed(account: Account, request: WebhookRequest) -> bool:
    """Whether the package takes the request for the provider's, without reading any URL."""
    assert account.package.parse_webhook is not None
    try:
        return account.package.parse_webhook(request, account.credentials, {}).fetch is None
    except InvalidReceiptSignatureError:
        return False


def _tampered(genuine: WebhookRequest) -> Iterator[WebhookRequest]:
    """Changed in one place; packages differ in what their signatures cover."""
    yield replace(genuine, body=b"x" + genuine.body[1:])
    yield replace(genuine, url=f"{genuine.url}0")
    for name, value in genuine.headers.items():
        yield replace(genuine, headers={**genuine.headers, name: f"{value}0"})
