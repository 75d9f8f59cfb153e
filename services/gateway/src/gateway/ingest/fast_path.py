"""``POST /v1/messages/channel``: the hot route, plain ASGI, bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.api_keys import KEY_HEADER, ApiKeyAuthenticator
from gateway.errors import ApiError, MethodNotAllowed, PayloadTooLarge, TooManyRequests, ValidationFailed
from gateway.ingest.admission import AdmissionController
from gateway.ingest.ingest import AcceptedMessage, MessageIngest
from sluice.model import ids
from sluice.runtime import metrics

log = structlog.get_logger()

_JSON = "application/json"


def json_response(status: int, document: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(document), status, headers, _JSON)


def error_response(error: ApiError, source: str = "http") -> Response:
    """The envelope of an error."""
    metrics.series(metrics.REQUESTS_REJECTED, error.code, source).inc()
    return json_response(error.status, error.envelope(), {"retry-after": "1"} if error.status in _RETRYABLE else None)


PATH = "/v1/messages/channel"
_KEY_HEADER = KEY_HEADER.encode()
_REPLAYED = (b"idempotent-replayed", b"true")
_RETRYABLE = (429, 503)
_RETRY_AFTER = (b"retry-after", b"1")


class SendFastPath:
    """Answers the hot route in front of everything else; other requests go on to ``others``.

    The framework's routing, middleware, request and response cost this route a third of its CPU time and do nothing
    for it.
    """

    def __init__(self, keys: ApiKeyAuthenticator, ingest: MessageIngest, *, max_body: int, next_app: ASGIApp) -> None:
        self._keys = keys
        self._ingest = ingest
        self._admission = AdmissionController()
        self._max_body = max_body
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
            await _reject(send, ApiError("an unexpected fault; what became of the request is not known"))
        else:
            await _send(send, 201, _accepted_body(accepted), _REPLAYED if accepted.replayed else None)

    async def _accept(self, scope: Scope, receive: Receive) -> AcceptedMessage:
        if scope["method"] != "POST":
            raise MethodNotAllowed("only POST is possible here")
        headers = headers_of(scope)
        key = await self._keys.authenticate(_text(headers.get(_KEY_HEADER)))
        body = await read_body(headers, receive, self._max_body)
        # Without this word in it a body cannot ask for the class that has room of its own.
        piles = self._ingest.over_quota(key) and b"urgent" not in body
        entered = self._admission.acquire(key.project_id, backlogged=piles)
        if entered is None:
            raise TooManyRequests("too many requests of this project are waiting for their answers; try again")
        try:
            header_key = _text(headers.get(b"idempotency-key"))
            return await self._ingest.accept(body, key, source="http", header_key=header_key)
        finally:
            self._admission.release(key.project_id, entered)


async def _reject(send: Send, error: ApiError) -> None:
    """As :func:`refusal`, as cheap as an acceptance: refusing must cost less than what it saves."""
    metrics.series(metrics.REQUESTS_REJECTED, error.code, "http").inc()
    await _send(send, error.status, error.envelope(), _RETRY_AFTER if error.status in _RETRYABLE else None)


async def _send(send: Send, status: int, document: object, header: tuple[bytes, bytes] | None) -> None:
    body = orjson.dumps(document)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if header is not None:
        headers.append(header)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by their names in small letters; of a name that comes twice the first."""
    return dict(reversed(scope["headers"]))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole body, counted while it comes.

    Raises:
        TooLarge: it has more than ``largest`` bytes.
        Invalid: it is compressed.
        ClientDisconnect: the rest of it will not come.
    """
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise ValidationFailed("a compressed body is not accepted")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise PayloadTooLarge(f"the body may have at most {limit} bytes")
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
            raise PayloadTooLarge(f"the body may have at most {limit} bytes")
        chunks.append(chunk)
        more = event.get("more_body", False)
    return b"".join(chunks)


def _accepted_body(accepted: AcceptedMessage) -> dict[str, str]:
    return {
        "id": ids.encode_id("msg", accepted.message_id),
        "project_id": _project_id(accepted.project_id),
        "status": "queued",
        "channel": accepted.channel.value,
        "created_at": rfc3339(accepted.created_at),
    }


@lru_cache(10_000)
def _project_id(project_id: UUID) -> str:
    return ids.encode_id("proj", project_id)


def rfc3339(when: object) -> str:
    """``2026-03-27T10:00:00.000Z``."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # type: ignore[attr-defined, no-any-return]
