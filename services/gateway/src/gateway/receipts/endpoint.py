"""Receipts: what providers tell about messages they took, over HTTPS, signed in each provider's own way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import structlog
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.apis.rendering import error_response
from gateway.errors import ApiError, NotFound, Unauthorized, Unavailable
from gateway.kit.responses import headers_of, read_body
from sluice.delivery.outbox import OUTBOX_RETRY_AFTER, OutboxPublisher
from sluice.model import ids
from sluice.model.state import EventType
from sluice.providers import registry
from sluice.providers.contract import InvalidReceiptSignatureError, Receipt, ReceiptRequest
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher, QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.store import receipts
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Db
from sluice.store.providers import ProviderRow
from sluice.store.receipts import ReceiptEntry

log = structlog.get_logger()

_MAX_BODY = 1_048_576  # bytes; providers send batches of some hundred events at most


class ReceiptEndpoint:
    """Checks receipts and writes them in batches."""

    def __init__(
        self, db: Db, config: ConfigCache, cipher: CredentialCipher, outbox: OutboxPublisher, *, public_url: str | None
    ) -> None:
        self._db = db
        self._config = config
        self._cipher = cipher
        self._outbox = outbox
        self._public_url = public_url
        self._batcher: Batcher[ReceiptEntry, bool] = Batcher(
            self._write,
            name="receipts",
            size=200,
            parallel=2,
            pace=0.005,
            limit=20_000,
            split_on=(asyncpg.DataError, ValueError),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ReceiptEndpoint]:
        """Write until the block ends."""
        async with self._batcher.running():
            yield self

    def route(self) -> Route:
        """``/v1/receipts/{provider}``; its only authentication is the provider's signature."""
        return Route("/v1/receipts/{provider}", self._respond, methods=["POST"])

    async def _respond(self, request: Request) -> Response:
        try:
            await self._handle(request)
        except ApiError as error:
            return error_response(error, "receipt")
        return Response(status_code=204)

    async def _handle(self, request: Request) -> None:
        row = self._provider(request.path_params["provider"])
        body = await read_body(headers_of(request.scope), request.receive, _MAX_BODY)
        statements = self._entries(row, self._read(row, request, body))
        try:
            results = [self._batcher.submit(statement) for statement in statements]
            known = [await result for result in results]
        except QueueFullError:
            raise Unavailable("too many receipts are waiting to be recorded; send it again") from None
        except UNAVAILABLE_ERRORS as error:
            raise Unavailable("the receipt could not be recorded; send it again") from error
        metrics.RECEIPTS.labels(row.package, "known" if any(known) else "ignored").inc()
        if statements and not any(known):
            raise NotFound("there is nothing at this path")

    def _provider(self, text: str) -> ProviderRow:
        """A deleted provider still hears about what was sent through it."""
        try:
            row = self._config.providers.get(ids.decode_id("prv", text))
        except ids.InvalidIdError:
            row = None
        if row is None:
            raise NotFound("there is nothing at this path")
        return row

    def _read(self, row: ProviderRow, request: Request, body: bytes) -> list[Receipt]:
        try:
            package = registry.get_package(row.package)
            if package.parse_receipts is None:
                raise NotFound("there is nothing at this path")
            opened = self._cipher.decrypt(row.encrypted_credentials, project_id=row.project_id, provider_id=row.id)
            credentials = package.credentials.model_validate_json(opened)
            return package.parse_receipts(self._original_request(request, body), credentials)
        except InvalidReceiptSignatureError:
            metrics.RECEIPTS.labels(row.package, "forged").inc()
            raise Unauthorized("the signature is not valid") from None
        except (SluiceError, ValidationError, LookupError) as error:
            log.error("receipt_unreadable", provider=str(row.id), error=type(error).__name__)
            raise NotFound("there is nothing at this path") from None

    def _original_request(self, request: Request, body: bytes) -> ReceiptRequest:
        """The request as the provider made it: behind a proxy only our settings know the address it used."""
        query = f"?{request.url.query}" if request.url.query else ""
        base = self._public_url or f"{request.url.scheme}://{request.url.netloc}"
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            # A header that comes twice cannot be read in one way only; no provider sends its signature twice.
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        return ReceiptRequest(
            method=request.method,
            url=f"{base.rstrip('/')}{request.url.path}{query}",
            headers=headers,
            body=body,
            received_at=utc_now(),
        )

    def _entries(self, row: ProviderRow, found: list[Receipt]) -> list[ReceiptEntry]:
        statements = []
        for receipt in found:
            try:
                delivery_id, attempt = ids.parse_attempt_reference(receipt.reference or "")
            except ids.InvalidIdError:
                continue  # not of ours, or from before this installation
            statements.append(
                ReceiptEntry(
                    delivery_id=delivery_id,
                    attempt=attempt,
                    provider_id=row.id,
                    receipt_id=receipt.receipt_id[:255],
                    type=EventType(receipt.kind.value),
                    occurred_at=receipt.occurred_at or utc_now(),
                    detail=receipt.detail.replace("\x00", "")[:500],
                )
            )
        return statements

    async def _write(self, batch: Sequence[ReceiptEntry]) -> list[bool]:
        assert failpoints.hit("receipts.before_write")
        heard = await receipts.apply(self._db, batch, now=utc_now(), outbox_retry_after=OUTBOX_RETRY_AFTER)
        assert failpoints.hit("receipts.written")
        if heard.outbox_id is not None:
            self._outbox.publish_events(heard.outbox_id, heard.events)
        return heard.known
