"""``POST /v1/messages/channel``: the hot route, plain ASGI, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.apis.rendering import error_headers, render_v1
from gateway.auth.access import Access
from gateway.auth.api_keys import KEY_HEADER, ApiKeyAuthenticator
from gateway.auth.permissions import Permission
from gateway.auth.principal import Principal, require
from gateway.errors import ApiError, InternalError, MethodNotAllowed, TooManyRequests
from gateway.ingest.admission import AdmissionController
from gateway.ingest.ingest import AcceptedMessage, MessageIngest
from gateway.kit.body_cost import SMALL, BodyBudget
from gateway.kit.responses import headers_of, idempotency_key_of, project_id_text, read_body, rfc3339
from gateway.messages.v1_schemas import read_command
from gateway.rate_limits.limits import RateLimits
from sluice.model import ids
from sluice.runtime import metrics

log = structlog.get_logger()

PATH = "/v1/messages/channel"
_KEY_HEADER = KEY_HEADER.encode()
_REPLAYED = (b"idempotent-replayed", b"true")


class SendFastPath:
    """Answers the hot route in front of the APIs; every other request goes to ``next_app``.

    The framework's routing, middleware, request and response cost this route a third of its CPU time and do nothing
    for it.
    """

    def __init__(
        self,
        authenticator: ApiKeyAuthenticator,
        access: Access,
        ingest: MessageIngest,
        limits: RateLimits,
        *,
        max_body: int,
        next_app: ASGIApp,
    ) -> None:
        self._authenticator = authenticator
        self._access = access
        self._ingest = ingest
        self._limits = limits
        self._admission = AdmissionController()
        self._max_body = max_body
        # A decoded body is in memory about three times.
        self._budget = BodyBudget(total=2 * max_body, per_project=max_body + SMALL)
        self._next_app = next_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._next_app(scope, receive, send)
            return
        try:
            accepted = await self._accept(scope, receive)
        except ApiError as error:
            await _reject(send, error)
        except ClientDisconnect:
            await Response(status_code=400)(scope, receive, send)
        except Exception:
            log.exception("send_failed")
            await _reject(
                send,
                InternalError(
                    "Internal error. The request may or may not have been accepted; retry with an idempotency key."
                ),
            )
        else:
            await _send(send, 201, accepted_body(accepted), [_REPLAYED] if accepted.replayed else ())

    async def _accept(self, scope: Scope, receive: Receive) -> AcceptedMessage:
        if scope["method"] != "POST":
            raise MethodNotAllowed({"POST"})
        headers = headers_of(scope)
        key = headers.get(_KEY_HEADER)
        if key:
            principal: Principal = await self._authenticator.authenticate(_key_text(key))
        else:
            principal = await self._access.principal(Request(scope))
        if self._limits.is_on:
            await self._limits.spend_project(principal.project_id)
        require(principal, Permission.MESSAGES_SEND)
        held = self._budget.body(principal.project_id)
        try:
            return await self._accept_body(await read_body(headers, receive, self._max_body, held), headers, principal)
        finally:
            held.release()

    async def _accept_body(self, body: bytes, headers: dict[bytes, bytes], principal: Principal) -> AcceptedMessage:
        # A cheap check before parsing: only urgent messages have a quota of their own, and a body without the word
        # cannot be urgent.
        backlogged = self._ingest.over_quota(principal) and b"urgent" not in body
        acquired_at = self._admission.acquire(principal.project_id, backlogged=backlogged)
        if acquired_at is None:
            raise TooManyRequests(
                "Too many concurrent requests for this project. Retry after the delay in Retry-After."
            )
        try:
            command = await read_command(body, header_key=idempotency_key_of(headers.get(b"idempotency-key")))
            del body  # up to 26 MB, beside the attachments that were decoded from it
            return await self._ingest.accept(command, principal, source="http")
        finally:
            self._admission.release(principal.project_id, acquired_at)


async def _reject(send: Send, error: ApiError) -> None:
    """As :func:`gateway.apis.rendering.error_response`, without its cost: a rejection must be cheaper than the load
    that it sheds.
    """
    metrics.series(metrics.REQUESTS_REJECTED, error.code, "http").inc()
    headers = [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    await _send(send, error.status, render_v1(error), headers)


async def _send(send: Send, status: int, document: object, headers: Iterable[tuple[bytes, bytes]]) -> None:
    body = orjson.dumps(document)
    whole = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": body})


def _key_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii", "replace")  # a valid key is ASCII


def accepted_body(accepted: AcceptedMessage) -> dict[str, str]:
    """The answer to an accepted message, also as an item of a batch."""
    return {
        "id": ids.encode_id("msg", accepted.message_id),
        "project_id": project_id_text(accepted.project_id),
        "status": "queued",
        "channel": accepted.channel.value,
        "created_at": rfc3339(accepted.created_at),
    }
