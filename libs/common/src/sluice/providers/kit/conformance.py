"""What holds for every package, as a function for the tests of a package: ours, and those of other distributions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import ValidationError

from sluice.model.outcome import Accepted
from sluice.providers.contract import (
    AnyPackage,
    InvalidReceiptSignatureError,
    OutboundMessage,
    ReceiptSource,
    TransportKind,
    WebhookRequest,
)
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.registry import credential_schema

_STATUSES = (200, 201, 202, 204, 301, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 599)
_BODIES = (b"", b"{}", b"[]", b"null", b'"id"', b'{"id": null}', b'{"id": {}}', b"<html>", b"\xff\xfe", b"[" * 2000)


def violations(package: AnyPackage, credentials: Mapping[str, Any], message: OutboundMessage) -> list[str]:
    """The rules of the contract that a package breaks, one sentence each; empty for one that keeps them.

    ``credentials``: a complete account, as it is configured. ``message``: one that the package can carry.
    """
    try:
        account = package.credentials.model_validate(dict(credentials))
    except ValidationError as refused:
        fields = sorted({".".join(map(str, error["loc"])) for error in refused.errors()})
        return [f"the credentials are not valid: {', '.join(fields)}"]
    found = [
        *_of_facts(package),
        *_of_credentials(package, dict(credentials), account),
        *_of_requests(package, account, message),
    ]
    if package.transport is TransportKind.HTTP:
        found += _of_responses(package)
    if package.parse_webhook is not None:
        found += _of_webhooks(package, account)
    return found


def _of_facts(package: AnyPackage) -> Iterator[str]:
    if not package.name.startswith("provider-"):
        yield "the name does not begin with provider-"
    if not package.channels:
        yield "the package names no channel"
    if package.receipts is ReceiptSource.WEBHOOK and package.parse_webhook is None:
        yield "receipts arrive by webhook, and there is no parse_webhook"
    if package.max_recipients < 1:
        yield "max_recipients is below 1"
    if not all(url.startswith("https://") for url in package.webhook_urls):
        yield "a pattern of webhook_urls is not https"


def _of_credentials(package: AnyPackage, given: dict[str, Any], account: Any) -> Iterator[str]:
    schema = json.loads(json.dumps(credential_schema(package)))
    if schema.get("additionalProperties") is not False:
        yield "the credentials accept unknown fields"
    if not given.keys() <= schema["properties"].keys():
        yield "the schema of the credentials has other field names than the account"
    shown = f"{account!r} {account} {account.model_dump()} {account.model_dump_json()}"
    if any(secret in shown for secret in secrets_of(account)):
        yield "a text that is made of the credentials shows a secret"
    secret = "canary-0123456789abcdef"  # noqa: S105
    try:
        package.credentials.model_validate({**given, "nosuch": secret})
    except ValidationError as refused:
        if secret in str(refused):
            yield "a validation error repeats the credentials"


def _of_requests(package: AnyPackage, account: Any, message: OutboundMessage) -> Iterator[str]:
    first, second = package.build(message, account), package.build(message, account)
    if any(secret in repr(first) for secret in secrets_of(account)):
        yield "a printed request shows a secret"
    if isinstance(first, httpx.Request) and isinstance(second, httpx.Request) and first.content != second.content:
        yield "the same message gives different bytes"


def _of_responses(package: AnyPackage) -> Iterator[str]:
    """Responses that no provider documents: none may raise, and none is an acceptance."""
    for status in _STATUSES:
        for body in _BODIES:
            try:
                outcome = package.classify(httpx.Response(status, content=body))
            except Exception as error:  # whatever the package raises is the finding
                yield f"classify raises {type(error).__name__} on {status} {body[:20]!r}"
                continue
            if isinstance(outcome, Accepted):
                yield f"{status} {body[:20]!r} is taken for an acceptance"


def _of_webhooks(package: AnyPackage, account: Any) -> Iterator[str]:
    """Requests without a signature: each is refused, whatever is in it."""
    assert package.parse_webhook is not None
    for body in _BODIES:
        for headers in ({}, {"content-type": "application/json"}, {"authorization": "Bearer x"}):
            request = WebhookRequest("POST", "https://hooks.example/r?ref=1", headers, body, datetime.now(UTC))
            try:
                package.parse_webhook(request, account, {})
            except InvalidReceiptSignatureError:
                continue
            except Exception as error:  # whatever the package raises is the finding
                yield f"parse_webhook raises {type(error).__name__} on the unsigned {body[:20]!r}"
            else:
                yield f"parse_webhook believes the unsigned {body[:20]!r}"
