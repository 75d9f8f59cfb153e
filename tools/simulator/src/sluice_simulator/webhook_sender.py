"""The postman: sends the receipts that the script promises, and writes down what came of each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp

from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice_simulator.call_log import CallLog
from sluice_simulator.dialect import ParsedSend, ReceiptDialect, ReceiptPayload
from sluice_simulator.scenario import Forgery, Rule

if TYPE_CHECKING:
    from sluice_simulator.endpoint import Endpoint

RETRY_DELAYS = (
    0.2,
    1.0,
    5.0,
    15.0,
    60.0,
)  # seconds before each repeat of a genuine statement that was not answered 2xx
RESPONSE_TIMEOUT = 15.0  # seconds the receiver has
MAX_CONCURRENT = 64  # sendings in flight; more would measure the sockets of one machine


class WebhookSender:
    """Sends receipts until it is closed; what is still due then is dropped."""

    def __init__(self, call_log: CallLog) -> None:
        self.call_log = call_log
        self._session: aiohttp.ClientSession | None = None
        self._due = TaskSet()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def open(self) -> None:
        """Make the session; the loop must be running."""
        connector = aiohttp.TCPConnector(limit=MAX_CONCURRENT, keepalive_timeout=10)
        timeout = aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Stop everything that is still due."""
        await self._due.cancel()
        if self._session is not None:
            await self._session.close()

    async def wait_idle(self) -> None:
        """Wait until nothing is due any more."""
        await self._due.join()

    def schedule_receipts(self, endpoint: Endpoint, send: ParsedSend, rule: Rule) -> None:
        """A message was taken: plan everything that will be said about it."""
        plan, speaks = rule.receipts, endpoint.dialect.receipts
        if speaks is None or not (plan.kinds or plan.forged):
            return
        planned: list[tuple[str, str, Forgery | None]] = []
        for kind in plan.kinds:
            planned += [(kind, f"msg_{uuid4().hex}", None)] * plan.copies
        planned += [(plan.forged_kind, f"msg_{uuid4().hex}", forgery) for forgery in plan.forged]
        if plan.shuffle:
            Random(send.recipient).shuffle(planned)  # noqa: S311
        wait = 0.0 if plan.before_answer else plan.delay
        for number, (kind, statement_id, forgery) in enumerate(planned):
            self._plan(endpoint, speaks, send, kind, statement_id, forgery, wait + number * plan.interval)

    def _plan(
        self,
        endpoint: Endpoint,
        speaks: ReceiptDialect,
        send: ParsedSend,
        kind: str,
        statement_id: str,
        forgery: Forgery | None,
        wait: float,
    ) -> None:
        payload = speaks.state(send, kind, statement_id, utc_now() + timedelta(seconds=wait), endpoint.script)
        if payload is None:
            return
        about: dict[str, object] = {
            "endpoint": endpoint.name,
            "kind": kind,
            "receipt_id": statement_id,
            "forged": forgery,
            "reference": send.reference,
            "provider_message_id": send.provider_message_id,
        }
        self._due.spawn(self._send(speaks, payload, forgery, wait, about))

    async def _send(
        self,
        speaks: ReceiptDialect,
        payload: ReceiptPayload,
        forgery: Forgery | None,
        wait: float,
        about: dict[str, object],
    ) -> None:
        """Send until it is answered 2xx; a forged one once."""
        for attempt, pause in enumerate((wait, *(RETRY_DELAYS if forgery is None else ())), start=1):
            await asyncio.sleep(pause)
            status = await self._post(*signed(speaks, payload, forgery), url=payload.url)
            self.call_log.write(**about, attempt=attempt, status=status)
            if status is not None and 200 <= status < 300:
                return

    async def _post(self, headers: dict[str, str], body: bytes, *, url: str) -> int | None:
        """The status of the answer; None when there was none."""
        assert self._session is not None
        try:
            async with (
                self._slots,
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return response.status
        except (aiohttp.ClientError, OSError):
            return None


def signed(
    speaks: ReceiptDialect, payload: ReceiptPayload, forgery: Forgery | None = None
) -> tuple[dict[str, str], bytes]:
    """Headers and body of one sending, genuine or false in one way."""
    now = utc_now()
    then = now - timedelta(hours=1)
    timeless = speaks.sign(payload, now) == speaks.sign(payload, then)
    if forgery is Forgery.WRONG_KEY or (forgery is Forgery.OLD and timeless):
        payload = replace(payload, secret=_other_secret(payload.secret))
    headers = speaks.sign(payload, then if forgery is Forgery.OLD else now)
    headers["content-type"] = payload.content_type
    signature = headers.pop(speaks.signature)
    match forgery:
        case Forgery.MISSING:
            return headers, payload.body
        case Forgery.EMPTY:
            signature = ""
        case Forgery.TRUNCATED:
            signature = signature[:-4]
        case Forgery.OTHER_BODY:
            return {**headers, speaks.signature: signature}, _other_body(payload)
        case _:
            pass
    return {**headers, speaks.signature: signature}, payload.body


def _other_secret(secret: str) -> str:
    """A key of the same form that is not this one."""
    return "whsec_b3RoZXIta2V5LW90aGVyLWtleS1vdGhlcg==" if secret.startswith("whsec_") else secret + "x"


def _other_body(payload: ReceiptPayload) -> bytes:
    """Other bytes that still mean something."""
    return payload.body + (b"&Extra=1" if b"=" in payload.body[:40] else b" ")
