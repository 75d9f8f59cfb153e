"""The webhook sender: sends the receipts that the scenario asks for, and logs each with its response."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp

from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice_simulator.call_log import CallLog
from sluice_simulator.dialect import ParsedSend, ReceiptContext, ReceiptDialect, ReceiptPayload
from sluice_simulator.scenario import Forgery, Rule

if TYPE_CHECKING:
    from sluice_simulator.endpoint import Endpoint

RETRY_DELAYS = (0.2, 1.0, 5.0, 15.0, 60.0)  # seconds before each repeat of a genuine receipt without a 2xx response
RESPONSE_TIMEOUT = 15.0  # seconds
MAX_CONCURRENT = 64  # requests in flight; more would measure the sockets of one machine


class WebhookSender:
    """Sends receipts until it is closed; receipts that are still due then are dropped."""

    def __init__(self, call_log: CallLog) -> None:
        self.call_log = call_log
        self._session: aiohttp.ClientSession | None = None
        self._due = TaskSet()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def open(self) -> None:
        """Open the HTTP session; the loop must be running."""
        connector = aiohttp.TCPConnector(limit=MAX_CONCURRENT, keepalive_timeout=10)
        timeout = aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Cancel every receipt that is still due."""
        await self._due.cancel()
        if self._session is not None:
            await self._session.close()

    async def wait_idle(self) -> None:
        """Wait until no receipt is due any more."""
        await self._due.join()

    def schedule_receipts(self, endpoint: Endpoint, send: ParsedSend, rule: Rule) -> None:
        """Plan the receipts of a message that was taken."""
        plan, dialect = rule.receipts, endpoint.dialect.receipts
        if dialect is None or not (plan.kinds or plan.forged):
            return
        planned: list[tuple[str, str, Forgery | None]] = []
        for kind in plan.kinds:
            planned += [(kind, f"msg_{uuid4().hex}", None)] * plan.copies
        planned += [(plan.forged_kind, f"msg_{uuid4().hex}", forgery) for forgery in plan.forged]
        if plan.shuffle:
            Random(send.recipient).shuffle(planned)  # noqa: S311
        wait = 0.0 if plan.before_answer else plan.delay
        for number, (kind, receipt_id, forgery) in enumerate(planned):
            delay = wait + number * plan.interval
            at = utc_now() + timedelta(seconds=delay)
            context = ReceiptContext(send, kind, receipt_id, at, endpoint.scenario, endpoint.dashboard)
            payload = dialect.write(context)
            if payload is not None:
                self._due.spawn(self._send(dialect, payload, forgery, delay, _log_fields(endpoint, context)))

    async def _send(
        self,
        dialect: ReceiptDialect,
        payload: ReceiptPayload,
        forgery: Forgery | None,
        wait: float,
        fields: dict[str, object],
    ) -> None:
        """Send until a 2xx response; a forged one once."""
        for attempt, pause in enumerate((wait, *(RETRY_DELAYS if forgery is None else ())), start=1):
            await asyncio.sleep(pause)
            status = await self._post(*signed(dialect, payload, forgery))
            self.call_log.write(**fields, forged=forgery, attempt=attempt, status=status)
            if status is not None and 200 <= status < 300:
                return

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> int | None:
        """The status of the response; None when there was none."""
        assert self._session is not None
        try:
            async with (
                self._slots,
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return response.status
        except (aiohttp.ClientError, OSError):
            return None


def _log_fields(endpoint: Endpoint, context: ReceiptContext) -> dict[str, object]:
    return {
        "endpoint": endpoint.name,
        "kind": context.kind,
        "receipt_id": context.receipt_id,
        "reference": context.send.reference,
        "provider_message_id": context.send.provider_message_id,
    }


def signed(
    dialect: ReceiptDialect, payload: ReceiptPayload, forgery: Forgery | None = None
) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of one sending, genuine or false in one way.

    Where signatures carry no time, or do not cover the body, the matching forgeries use another key instead.
    """
    now = utc_now()
    then = now - dialect.stale
    other = replace(payload, body=dialect.other_body(payload.body))
    genuine = dialect.sign(payload, now)
    timeless = forgery is Forgery.OLD and genuine == dialect.sign(payload, then)
    bodyless = forgery is Forgery.OTHER_BODY and genuine == dialect.sign(other, now)
    if forgery is Forgery.WRONG_KEY or timeless or bodyless:
        payload = replace(payload, secret=dialect.other_key(payload.secret))
    headers = dialect.sign(payload, then if forgery is Forgery.OLD else now)
    headers["content-type"] = payload.content_type
    name = dialect.in_url or dialect.signature_header
    signature = payload.secret if dialect.in_url else headers.pop(name)
    match forgery:
        case Forgery.MISSING:
            place = {}
        case Forgery.EMPTY:
            place = {name: ""}
        case Forgery.TRUNCATED:
            place = {name: signature[:-4]}
        case _:
            place = {name: signature}
    url = payload.url
    if not dialect.in_url:
        headers |= place
    elif place:
        url += ("&" if "?" in url else "?") + urlencode(place)
    body = other.body if forgery is Forgery.OTHER_BODY else payload.body
    if dialect.in_body is not None:
        headers, body = dialect.in_body(headers, body)
    return url, headers, body
