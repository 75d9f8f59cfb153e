"""The receipt endpoint: providers' webhooks, each verified by the signature of its own provider.

It also answers handshakes (a GET with a challenge), and reads the URLs that a webhook refers to (a signing
certificate, a confirmation), each once and only where the provider's package allows it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from time import monotonic

import httpx
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.apis.rendering import error_response
from gateway.errors import ApiError, NotFound, PayloadTooLarge, Unauthorized, Unavailable
from gateway.kit.body_cost import BodyBudget
from gateway.kit.responses import headers_of, read_body
from gateway.receipts.refusals import RefusalCounter
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import ReceiptSink
from sluice.model import ids
from sluice.model.suppression import OPT_OUTS, SuppressionReason, known_address
from sluice.providers.account import Account, UnusableAccountError, open_account
from sluice.providers.contract import (
    DeliveryReceipt,
    InboundMessage,
    InvalidReceiptSignatureError,
    OptOut,
    WebhookAnswer,
    WebhookEvent,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.samples import SAMPLE_HEADER, SampleAnswer, SampleResult, is_believed
from sluice.providers.sms_link import Links
from sluice.runtime import metrics
from sluice.runtime.batching import QueueFullError
from sluice.runtime.clock import utc_now
from sluice.store import suppressions
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of
from sluice.store.providers import ProviderRow
from sluice.store.suppressions import NewSuppression, Recipient
from sluice.transports.http import HttpTransport, open_http
from sluice.transports.outgoing import PUBLIC_ADDRESSES, OutgoingAddresses
from sluice.transports.provider_call import NoAnswerError, NotSentError

log = structlog.get_logger()

_MAX_BODY = 1_048_576  # bytes; SendGrid sends a batch when it has 768 KB
_SMALL = 8 << 10  # bytes; of the smallest events such a body has 230, which are read in 12 ms
# Events of one request. Of SendGrid's, 768 KB are 3,400 at most; Infobip sends up to 2,000, Meta up to 1,000.
_MAX_EVENTS = 5_000
# Objects and arrays of JSON, counted before a body is read: an event of some providers has several.
_MAX_OBJECTS = 4 * _MAX_EVENTS
_BATCH = 200  # opt-outs of one statement
_MAX_FETCHES = 3  # URLs read for one webhook request
_FETCH_TIMEOUT = 5.0  # seconds
_KEPT_FOR = 3600.0  # seconds that a cacheable content is used without being read again
_MAX_KEPT = 64  # cacheable contents; the oldest makes room


class ReceiptEndpoint:
    """Verifies webhook requests and passes their receipts to the sink."""

    def __init__(
        self,
        pool: Pool,
        config: ConfigCache,
        cipher: CredentialCipher,
        outbox: OutboxPublisher,
        *,
        public_url: str | None,
        links: Links,
        outgoing: OutgoingAddresses = PUBLIC_ADDRESSES,
    ) -> None:
        self._outgoing = outgoing
        self._config = config
        self._cipher = cipher
        self._public_url = public_url
        self._links = links
        self._pool = pool
        self._sink = ReceiptSink(pool, outbox)
        self._refusals = RefusalCounter(pool)
        self._http: HttpTransport | None = None
        # Bodies that are read and written at the moment, those that are small not counted.
        self._bodies = BodyBudget(total=16 * _MAX_BODY, per_project=4 * _MAX_BODY)
        self._large = asyncio.Semaphore(1)  # bodies that are read in a thread
        self._kept: dict[str, tuple[float, bytes]] = {}  # by URL: when it was read, and its content

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ReceiptEndpoint]:
        """Accept receipts until the block ends."""
        async with AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(open_http(outgoing=self._outgoing))
            await stack.enter_async_context(self._sink.running())
            await stack.enter_async_context(self._refusals.running())
            yield self

    def route(self) -> Route:
        """``/v1/receipts/{provider}``; its only authentication is the provider's signature."""
        return Route("/v1/receipts/{provider}", self._respond, methods=["GET", "POST"])

    async def _respond(self, request: Request) -> Response:
        try:
            reply = await self._handle(request)
        except ApiError as error:
            return error_response(error, "receipt")
        if reply.answer is None:
            return Response(status_code=204)
        answer = reply.answer
        return Response(answer.body, status_code=answer.status, media_type=answer.content_type)

    async def _handle(self, request: Request) -> WebhookReply:
        if SAMPLE_HEADER in request.headers:
            return await self._answer_sample(request)
        row = self._provider(request.path_params["provider"])
        body = await read_body(headers_of(request.scope), request.receive, _MAX_BODY)
        held = self._bodies.body(row.project_id)
        try:
            held(len(body))  # once it is here: a slow sender holds nothing
            return await self._accept(row, self._original_request(request, body))
        finally:
            held.release()

    async def _accept(self, row: ProviderRow, request: WebhookRequest) -> WebhookReply:
        if request.body.count(b"{") + request.body.count(b"[") > _MAX_OBJECTS:
            raise _too_many_events()
        reply = await self._parse(row, request)
        if len(reply.events) > _MAX_EVENTS:
            raise _too_many_events()
        if reply.token is not None:
            await self._check_token(row, reply.token, request.body)
        found = reply.receipts
        known = await self._write(row, found, request)
        await self._suppress(row, [event for event in reply.events if isinstance(event, OptOut)])
        for event in reply.events:
            if not isinstance(event, DeliveryReceipt):
                metrics.RECEIPTS.labels(row.package, _result(event)).inc()
        if found or not reply.events:
            metrics.RECEIPTS.labels(row.package, "known" if any(known) else "ignored").inc()
        if found and not any(known):
            raise NotFound("there is nothing at this path")
        return reply

    async def _answer_sample(self, request: Request) -> WebhookReply:
        """Verify a sample of `sluice doctor`. Nothing is fetched, stored or counted as a receipt, valid or not."""
        body = await read_body(headers_of(request.scope), request.receive, _SMALL)
        original = self._original_request(request, body)
        result = self._verify_sample(request.path_params["provider"], original)
        content = SampleAnswer.to(original, result).model_dump_json().encode()
        return WebhookReply(answer=WebhookAnswer(200, content, "application/json"))

    def _verify_sample(self, provider: str, request: WebhookRequest) -> SampleResult:
        try:
            account = open_account(self._provider(provider), self._cipher, self._links)
        except NotFound:
            return SampleResult.UNKNOWN
        except UnusableAccountError:
            return SampleResult.UNREADABLE
        if account.package.parse_webhook is None:
            return SampleResult.UNKNOWN
        if account.package.signs_url and self._public_url is None:
            return SampleResult.NO_PUBLIC_URL
        return SampleResult.VERIFIED if is_believed(account, request) else SampleResult.REFUSED

    def _provider(self, text: str) -> ProviderRow:
        """The provider's row. A deleted provider is found too: receipts of what it sent still come."""
        try:
            row = self._config.providers.get(ids.decode_id("prv", text))
        except ids.InvalidIdError:
            row = None
        if row is None:
            raise NotFound("there is nothing at this path")
        return row

    async def _parse(self, row: ProviderRow, request: WebhookRequest) -> WebhookReply:
        try:
            account = open_account(row, self._cipher, self._links)
        except UnusableAccountError as error:
            log.error("receipt_unreadable", provider=str(row.id), error=str(error))
            raise NotFound("there is nothing at this path") from None
        if account.package.parse_webhook is None:
            raise NotFound("there is nothing at this path")
        if account.package.signs_url and self._public_url is None:
            # The Host header is the caller's: a signature made for any address would be valid here.
            log.error("receipt_refused", provider=str(row.id), error="SLUICE_PUBLIC_URL is not set")
            raise Unavailable("this installation has no public URL, which the signature covers: set SLUICE_PUBLIC_URL")
        fetched: dict[str, bytes] = {}
        cacheable: set[str] = set()
        try:
            reply = await self._read(account, request, fetched)
            while reply.fetch is not None and len(fetched) < _MAX_FETCHES:
                fetched[reply.fetch] = await self._fetch(account, reply.fetch, cacheable=reply.cacheable)
                cacheable |= {reply.fetch} if reply.cacheable else set()
                reply = await self._read(account, request, fetched)
        except InvalidReceiptSignatureError:
            self._refusals.add(row)
            raise Unauthorized("the signature is not valid") from None
        for url in cacheable:
            self._keep(url, fetched[url])
        return reply

    async def _read(self, account: Account, request: WebhookRequest, fetched: Mapping[str, bytes]) -> WebhookReply:
        """What the package makes of the request, in a thread where that takes longer than the event loop can wait."""
        read = account.package.parse_webhook
        assert read is not None
        if len(request.body) <= _SMALL:
            return read(request, account.credentials, fetched)
        async with self._large:
            return await asyncio.to_thread(read, request, account.credentials, fetched)

    def _find_kept(self, url: str) -> bytes | None:
        read_at, content = self._kept.get(url, (0.0, b""))
        return content if read_at and monotonic() - read_at < _KEPT_FOR else None

    def _keep(self, url: str, content: bytes) -> None:
        """Keep what a genuine request was verified with; what is kept already keeps its age."""
        if self._find_kept(url) is not None:
            return
        self._kept.pop(url, None)
        if len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[url] = monotonic(), content

    async def _fetch(self, account: Account, url: str, *, cacheable: bool) -> bytes:
        """The content of a URL that a webhook request named."""
        if not may_fetch(account, url):
            # The request is not verified yet: without the list it could make the gateway read any address.
            raise InvalidReceiptSignatureError("the request names a URL that the package does not allow")
        kept = self._find_kept(url) if cacheable else None
        if kept is not None:
            return kept
        assert self._http is not None
        try:
            response = await self._http.exchange(httpx.Request("GET", url), deadline=_FETCH_TIMEOUT)
        except (NotSentError, NoAnswerError) as error:
            raise Unavailable("a URL of the webhook request could not be read; send it again") from error
        if not response.is_success:
            raise Unavailable("a URL of the webhook request could not be read; send it again")
        return response.content

    async def _check_token(self, row: ProviderRow, token: str, body: bytes) -> None:
        """Refuse a token that came with another body before: the signature covers no body."""
        with _recording():
            accepted = await self._sink.accept_token(row.id, token, body)
        if not accepted:
            self._refusals.add(row)
            raise Unauthorized("the signature is not valid")

    async def _write(self, row: ProviderRow, found: list[DeliveryReceipt], request: WebhookRequest) -> list[bool]:
        with _recording():
            return await self._sink.accept(
                row.project_id, row.id, found, payload=request.body, received_at=request.received_at
            )

    async def _suppress(self, row: ProviderRow, opt_outs: list[OptOut]) -> None:
        """Suppress the recipients who refuse further messages; a repeat changes nothing."""
        for start in range(0, len(opt_outs), _BATCH):
            part = opt_outs[start : start + _BATCH]
            new = [one for opt_out in part if (one := _suppression(row, opt_out)) is not None]
            if new:
                with _recording():
                    async with rows_of(self._pool, [row.project_id]) as db:
                        await suppressions.add(db, new, now=utc_now())

    def _original_request(self, request: Request, body: bytes) -> WebhookRequest:
        """The request as the provider made it: behind a proxy only the settings name the address that it used."""
        query = f"?{request.url.query}" if request.url.query else ""
        base = self._public_url or f"{request.url.scheme}://{request.url.netloc}"
        return WebhookRequest(
            method=request.method,
            url=f"{base.rstrip('/')}{request.url.path}{query}",
            headers=_headers(request),
            body=body,
            received_at=utc_now(),
        )


def may_fetch(account: Account, url: str) -> bool:
    """Whether a webhook request of the account may name this URL: one of its package, or below its own base URL."""
    patterns = [*account.package.webhook_urls]
    own: str | None = getattr(account.credentials, "base_url", None)
    if patterns and own:
        patterns.append(re.escape(own.rstrip("/")) + "/.*")
    return any(re.fullmatch(pattern, url) for pattern in patterns)


def _too_many_events() -> PayloadTooLarge:
    return PayloadTooLarge(f"A request may have at most {_MAX_EVENTS} events.")


def _suppression(row: ProviderRow, opt_out: OptOut) -> NewSuppression | None:
    address = known_address(row.channel, opt_out.recipient)
    if address is None:
        return None
    return NewSuppression(
        Recipient(row.project_id, row.channel, address),
        OPT_OUTS.get(opt_out.reason, SuppressionReason.UNSUBSCRIBE),
        "the recipient opted out at the provider",
        provider_id=row.id,
    )


@contextmanager
def _recording() -> Iterator[None]:
    """What the sink raises, as a response after which the provider sends the receipt again."""
    try:
        yield
    except QueueFullError:
        raise Unavailable("too many receipts are waiting to be recorded; send it again") from None
    except UNAVAILABLE_ERRORS as error:
        raise Unavailable("the receipt could not be recorded; send it again") from error


def _headers(request: Request) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        # A repeated header cannot be read in one way only; no provider sends its signature twice.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _result(event: WebhookEvent) -> str:
    match event:
        case InboundMessage():
            return "inbound"
        case OptOut():
            return "opt_out"
        case DeliveryReceipt():
            return "receipt"
