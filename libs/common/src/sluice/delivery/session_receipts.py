"""Receipts that arrive on the SMS link's session: each is stored as a webhook's would be, before it is acknowledged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import tzinfo

import asyncpg
import structlog

from sluice.delivery.receipts import ReceiptSink
from sluice.delivery.settlement import record_late_acceptance
from sluice.model import ids
from sluice.model.characters import as_storable
from sluice.model.outcome import MAX_PROVIDER_TEXT
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import DeliveryReceipt
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.smpp_status import status_name
from sluice.runtime import metrics
from sluice.runtime.batching import Batcher
from sluice.runtime.clock import utc_now
from sluice.store import session_receipts
from sluice.store.db import Pool
from sluice.store.receipts import LateAcceptance
from sluice.store.session_receipts import LocatedAttempt, MessageKey
from sluice.transports.smpp.contract import Accepted, BindRefused, Bound, ConnectionLost, Refused, SessionEvent
from sluice.transports.smpp.pdu import MessageKind, ShortMessage
from sluice.transports.smpp.receipt import MessageIdFormat, MessageState, Receipt, comparable_id, parse_receipt
from sluice.transports.smpp.transport import SmppTransport

log = structlog.get_logger()

# A receipt can overtake the response to its submit_sm, or the write of that response. Together less than store_timeout.
_LOCATE_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
_LATE_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)
_DELIVERED = ":DELIVERED"  # ends the receipt id of each part that was delivered
_MIN_DIGITS = 6  # of a number that is compared

STATES: Mapping[MessageState, tuple[EventType, Reason | None]] = {
    MessageState.SCHEDULED: (EventType.SENT, None),
    MessageState.ENROUTE: (EventType.SENT, None),
    MessageState.DELIVERED: (EventType.DELIVERED, None),
    MessageState.EXPIRED: (EventType.SOFT_BOUNCE, Reason.EXPIRED),
    MessageState.DELETED: (EventType.FAILED, Reason.OTHER),
    MessageState.UNDELIVERABLE: (EventType.FAILED, Reason.UNREACHABLE),
    MessageState.ACCEPTED: (EventType.SENT, None),
    MessageState.UNKNOWN: (EventType.SOFT_BOUNCE, Reason.OTHER),  # perhaps delivered: FAILED may be sent again
    MessageState.REJECTED: (EventType.FAILED, Reason.BLOCKED),
    MessageState.SKIPPED: (EventType.FAILED, Reason.OTHER),
}
_PERMANENT = {1: Reason.UNKNOWN_RECIPIENT, 2: Reason.NETWORK}  # delivery_failure_reason of an undeliverable message


class UnknownMessageError(Exception):
    """A receipt names a message that no attempt has, now: the SMSC may repeat it later."""


class SessionReceipts:
    """The handler of the link's session."""

    def __init__(
        self,
        db: Pool,
        sink: ReceiptSink,
        transport: SmppTransport,
        *,
        package: str,
        form: MessageIdFormat,
        zone: tzinfo,
    ) -> None:
        self._db = db
        self._sink = sink
        self._transport = transport
        self._package = package
        self._form = form
        self._zone = zone
        self._locator: Batcher[MessageKey, LocatedAttempt | None] = Batcher(
            self._locate, name="session receipts", size=200, parallel=1, pace=0.005, limit=5_000, split_on=_DATA_ERRORS
        )
        self._counter: Batcher[LocatedAttempt, int] = Batcher(
            self._count, name="delivered parts", size=200, parallel=1, pace=0.005, limit=5_000, split_on=_DATA_ERRORS
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SessionReceipts]:
        """Store until the block ends."""
        async with self._locator.running(), self._counter.running():
            yield self

    async def _locate(self, keys: Sequence[MessageKey]) -> list[LocatedAttempt | None]:
        return await session_receipts.locate(self._db, self._package, keys)

    async def _count(self, attempts: Sequence[LocatedAttempt]) -> list[int]:
        return await session_receipts.count_delivered(self._db, attempts, suffix=_DELIVERED)

    async def store(self, message: ShortMessage) -> None:
        """Store a receipt; count what is none.

        Raises:
            UnknownMessageError: no attempt has its id.
        """
        if message.kind not in (MessageKind.RECEIPT, MessageKind.INTERMEDIATE):
            metrics.RECEIPTS.labels(self._package, "inbound").inc()
            return
        receipt = parse_receipt(message, zone=self._zone)
        if not (receipt.message_id or "").strip() or receipt.state is None:
            log.warning("smpp_receipt_unreadable", has_id=receipt.message_id is not None, stat=receipt.stat)
            metrics.RECEIPTS.labels(self._package, "ignored").inc()
            return
        assert receipt.message_id is not None
        key = comparable_id(receipt.message_id, self._form, of_receipt=True)
        located = await self._find(MessageKey(as_storable(key, MAX_PROVIDER_TEXT), _digits(message.source.value)))
        if located is None:
            metrics.RECEIPTS.labels(self._package, "ignored").inc()
            raise UnknownMessageError
        await self._write(located, key, receipt, receipt.state)
        metrics.RECEIPTS.labels(self._package, "known").inc()

    async def _find(self, key: MessageKey) -> LocatedAttempt | None:
        located = await self._locator.submit(key)
        for pause in _LOCATE_PAUSES:
            if located is not None:
                break
            await asyncio.sleep(pause)
            located = await self._locator.submit(key)
        return located

    async def _write(self, located: LocatedAttempt, key: str, receipt: Receipt, state: MessageState) -> None:
        type_, reason = _meaning(receipt, state)
        in_parts = type_ is EventType.DELIVERED and located.parts > 1
        detail = _detail(receipt, state) + (f"; one of {located.parts} parts" if located.parts > 1 else "")
        statement = DeliveryReceipt(
            receipt_id=f"{key}:{state.name}",
            type=EventType.SENT if in_parts else type_,
            reference=ids.attempt_reference(located.delivery_id, located.attempt),
            provider_message_id=key,
            occurred_at=receipt.done_at,
            reason=reason,
            detail=detail,
        )
        await self._accept(located, statement)
        # After the part is committed: of two parts that arrive at once, the later one sees both.
        if in_parts and await self._counter.submit(located) >= located.parts:
            whole = DeliveryReceipt(
                receipt_id="all parts",
                type=EventType.DELIVERED,
                reference=statement.reference,
                occurred_at=receipt.done_at,
                detail=f"all {located.parts} parts are delivered",
            )
            await self._accept(located, whole)

    async def _accept(self, located: LocatedAttempt, statement: DeliveryReceipt) -> None:
        payload = statement.detail.encode()
        await self._sink.accept(
            located.project_id, located.provider_id, [statement], payload=payload, received_at=utc_now()
        )

    async def late_answer(self, reference: str, result: Accepted | Refused) -> None:
        """Record the answer of a submit whose outcome was unknown, as a receipt about the attempt."""
        delivery_id, number = ids.parse_attempt_reference(reference)
        attempt = await session_receipts.find_attempt(self._db, delivery_id, number)
        for pause in _LATE_PAUSES:  # until the unknown outcome is written
            if attempt is None or not attempt.in_flight:
                break
            await asyncio.sleep(pause)
            attempt = await session_receipts.find_attempt(self._db, delivery_id, number)
        if attempt is None or attempt.in_flight:
            return
        receipt_ids = tuple(
            as_storable(each, MAX_PROVIDER_TEXT) for each in self._transport.receipt_ids(result.message_ids)
        )
        if isinstance(result, Accepted):
            late = LateAcceptance(
                delivery_id=delivery_id,
                attempt=number,
                provider_id=attempt.provider_id,
                occurred_at=utc_now(),
                detail="the SMSC answered late: accepted",
                provider_message_id=as_storable(next(filter(None, result.message_ids), ""), MAX_PROVIDER_TEXT),
                receipt_ids=receipt_ids,
            )
            await record_late_acceptance(self._db, late)
            return
        statement = DeliveryReceipt(
            receipt_id=f"late answer to attempt {number}",
            type=EventType.FAILED,
            reference=reference,
            detail=f"the SMSC answered late: {status_name(result.status)}",
        )
        located = LocatedAttempt(attempt.project_id, delivery_id, number, attempt.provider_id, len(receipt_ids))
        await self._accept(located, statement)

    def on_event(self, event: SessionEvent) -> None:
        """Log a change of the session; a throttled message has an outcome of its own."""
        if isinstance(event, Bound):
            log.info("sms_link_bound")
        elif isinstance(event, BindRefused):
            log.error("sms_link_bind_refused", status=status_name(event.status))
        elif isinstance(event, ConnectionLost):
            log.warning("sms_link_lost", reason=event.reason)


_DATA_ERRORS = (asyncpg.DataError, ValueError)


def _meaning(receipt: Receipt, state: MessageState) -> tuple[EventType, Reason | None]:
    permanent = _PERMANENT.get(-1 if receipt.failure_reason is None else receipt.failure_reason)
    if state is MessageState.UNDELIVERABLE and permanent is not None:
        return EventType.BOUNCED, permanent
    return STATES[state]


def _detail(receipt: Receipt, state: MessageState) -> str:
    """The state and the SMSC's codes; never its text, which repeats the message."""
    words = [receipt.stat or state.name]
    if receipt.err and receipt.err.strip("0"):
        words.append(f"err {receipt.err}")
    if receipt.network_error is not None and receipt.network_error[1]:
        words.append("network error {}/{}".format(*receipt.network_error))
    return redact(", ".join(words))


def _digits(number: str) -> str:
    """The end of a number that is compared: digits without zeros in front, "" for what is no number."""
    digits = re.sub(r"[^0-9]", "", number).lstrip("0")
    return digits if len(digits) >= _MIN_DIGITS else ""
