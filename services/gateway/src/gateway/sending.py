"""``POST /v1/messages/channel``: the hot route, plain Starlette, bytes in and bytes out."""

from __future__ import annotations

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.accepting import Acceptance, Accepted
from gateway.authentication import KEY_HEADER, Keys
from gateway.errors import ApiError, Invalid, NotAllowed, TooLarge
from sluice import metrics
from sluice.model import ids

log = structlog.get_logger()

_JSON = "application/json"


def answer(status: int, document: object, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(document), status, headers, _JSON)


def refusal(error: ApiError, door: str = "http") -> Response:
    """The envelope of an error."""
    metrics.REFUSED.labels(error.code, door).inc()
    return answer(error.status, error.envelope(), {"retry-after": "1"} if error.status == 503 else None)


PATH = "/v1/messages/channel"


class Sending:
    """Answers the hot route in front of everything else; other requests go on to ``others``.

    The framework's routing and middleware cost this route a quarter of its CPU time and do nothing for it.
    """

    def __init__(self, keys: Keys, acceptance: Acceptance, *, largest_body: int, others: ASGIApp) -> None:
        self._keys = keys
        self._acceptance = acceptance
        self._largest_body = largest_body
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._others(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return refusal(NotAllowed("only POST is possible here"))
        try:
            key = await self._keys.check(request.headers.get(KEY_HEADER))
            body = await read_body(request, self._largest_body)
            header_key = request.headers.get("idempotency-key")
            accepted = await self._acceptance.accept(body, key, door="http", header_key=header_key)
        except ApiError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("send_failed")
            return refusal(ApiError("an unexpected fault; what became of the request is not known"))
        return answer(201, _shown(accepted), {"idempotent-replayed": "true"} if accepted.replayed else None)


async def read_body(request: Request, largest: int) -> bytes:
    """The whole body, counted while it comes.

    Raises:
        TooLarge: it has more than ``largest`` bytes.
        Invalid: it is compressed.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Invalid("a compressed body is not accepted")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > largest:
        raise TooLarge(f"the body may have at most {largest} bytes")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > largest:
            raise TooLarge(f"the body may have at most {largest} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _shown(accepted: Accepted) -> dict[str, str]:
    return {
        "id": ids.shown("msg", accepted.message_id),
        "project_id": ids.shown("proj", accepted.project_id),
        "status": "queued",
        "channel": accepted.channel.value,
        "created_at": rfc3339(accepted.created_at),
    }


def rfc3339(when: object) -> str:
    """``2026-03-27T10:00:00.000Z``."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # type: ignore[attr-defined, no-any-return]
