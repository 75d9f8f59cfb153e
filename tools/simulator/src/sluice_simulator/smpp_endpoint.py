"""Serving an SMPP dialect: which status the scenario asks for, and the receipts of what was taken."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from random import Random
from uuid import uuid4

from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice_simulator.dialect import SmppDialect
from sluice_simulator.endpoint import Decision, Endpoint
from sluice_simulator.http_server import DRIP_INTERVAL
from sluice_simulator.listener import Listener
from sluice_simulator.scenario import REFUSALS, Behaviour
from sluice_simulator.smpp_server import HEADER, Command, SmppListener, SmppSession, Submission, listen_smpp
from sluice_simulator.smtp_server import SmtpSettings

RETRY_DELAY = 0.5  # seconds before a receipt that no session took is sent again
MAX_TRIES = 120

_GARBAGE = HEADER.pack(7, 0, 0, 0)  # a length that is shorter than its header


@dataclass(slots=True)
class Long:
    """A message of several segments: what was decided at the first, and what has come."""

    decision: Decision
    texts: dict[int, bytes] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)


class SmppEndpoint:
    """The handler of an SMPP endpoint."""

    def __init__(self, endpoint: Endpoint, dialect: SmppDialect, listener: SmppListener) -> None:
        self._endpoint = endpoint
        self._dialect = dialect
        self._listener = listener
        self._long: dict[tuple[SmppSession, str, str, int], Long] = {}
        self._due = TaskSet()

    def bind(self, system_id: str) -> int:
        """The endpoint's own rule refuses a bind with ``auth``; a name is required."""
        refused = self._endpoint.default_rule.behaviour is Behaviour.AUTH
        return self._dialect.statuses[Behaviour.AUTH] if refused or not system_id else 0

    def submit(self, session: SmppSession, submission: Submission) -> None:
        key = (session, submission.sender, submission.recipient, submission.reference)
        number, total = submission.part
        message = self._long.get(key) if number > 1 else None
        if message is None:
            message = Long(self._endpoint.decide(f"+{submission.recipient}"))
        message.texts[number] = submission.text
        last = len(message.texts) == total
        if message.decision.behaviour.takes and not last:
            self._long[key] = message
            message.ids.append(uuid4().hex[:16])
            session.respond(Command.SUBMIT_SM, submission.sequence, 0, message.ids[-1].encode() + b"\0")
            return
        self._long.pop(key, None)
        if message.decision.behaviour.takes:
            message.ids.append(uuid4().hex[:16])
            self._schedule_receipts(submission, message)
        finish = partial(self._finish, session, submission, message)
        if message.decision.delay:
            asyncio.get_running_loop().call_later(message.decision.delay, finish)
        else:
            finish()

    def _finish(self, session: SmppSession, submission: Submission, message: Long) -> None:
        """Respond as decided, and log the call."""
        behaviour = message.decision.behaviour
        provider_message_id = message.ids[-1] if behaviour.takes else None
        status, answered = self._respond(session, submission, message.decision, provider_message_id)
        text = b"".join(message.texts[number] for number in sorted(message.texts))
        self._endpoint.record(
            accepted=behaviour.takes,
            answered=answered,
            decision=message.decision,
            behaviour=behaviour,
            status=status,
            reference=None,
            key=None,
            message_id=None,
            recipient=f"+{submission.recipient}",
            recipients=1,
            body=sha256(text).hexdigest(),
            provider_message_id=provider_message_id,
        )

    def _respond(
        self, session: SmppSession, submission: Submission, decision: Decision, message_id: str | None
    ) -> tuple[int | None, bool]:
        """The intended status, and whether the whole response was sent."""
        respond = partial(session.respond, Command.SUBMIT_SM, submission.sequence)
        body = (message_id or "").encode() + b"\0"
        behaviour = decision.behaviour
        if behaviour in REFUSALS:
            status = int(decision.rule.code, 0) if decision.rule.code else self._dialect.statuses[behaviour]
            return status, respond(status)
        match behaviour:
            case Behaviour.HANG | Behaviour.ACCEPT_SILENT:
                return None, False
            case Behaviour.RESET | Behaviour.ACCEPT_RESET | Behaviour.ACCEPT_500:
                session.reset()  # a status is a definite answer: only a cut says nothing about what was taken
                return None, False
            case Behaviour.GARBAGE:
                return None, session.write(_GARBAGE)
            case Behaviour.DRIP:
                response = HEADER.pack(HEADER.size + len(body), Command.SUBMIT_SM | 1 << 31, 0, submission.sequence)
                self._due.spawn(_drip(session, response + body))
                return 0, False
            case _:
                return 0, respond(0, body)

    # Receipts.

    def _schedule_receipts(self, submission: Submission, message: Long) -> None:
        """Plan the receipts of every segment of a message that was taken; SMPP has nothing to forge."""
        plan = message.decision.rule.receipts
        if not submission.wants_receipt:
            return
        planned = [
            (kind, message_id)
            for kind in plan.kinds
            if kind in self._dialect.states
            for message_id in message.ids
            for _ in range(plan.copies)
        ]
        if plan.shuffle:
            Random(submission.recipient).shuffle(planned)  # noqa: S311
        wait = 0.0 if plan.before_answer else plan.delay
        for number, (kind, message_id) in enumerate(planned):
            self._due.spawn(self._deliver(submission, kind, message_id, wait + number * plan.interval))

    async def _deliver(self, submission: Submission, kind: str, message_id: str, wait: float) -> None:
        """Send a receipt to any session until one takes it."""
        word, state = self._dialect.states[kind]
        await asyncio.sleep(wait)
        at = utc_now().strftime("%y%m%d%H%M")
        delivered = int(kind == "delivered")
        text = (
            f"id:{message_id} sub:001 dlvrd:{delivered:03} submit date:{at} done date:{at} stat:{word} "
            f"err:{0 if delivered else 1:03} text:{submission.text[:20].decode('ascii', 'replace')}"
        )
        for attempt in range(1, MAX_TRIES + 1):
            session = next(reversed(self._listener.receivers), None)
            status = session and await session.deliver(submission, message_id, text.encode("ascii", "replace"), state)
            self._endpoint.webhook_sender.call_log.write(
                endpoint=self._endpoint.name,
                kind=kind,
                receipt_id=f"{message_id}/{kind}",
                reference=None,
                provider_message_id=message_id,
                forged=None,
                attempt=attempt,
                status=status if session else None,
            )
            if session and status == 0:
                return
            await asyncio.sleep(RETRY_DELAY)

    async def close(self) -> None:
        """Cancel every receipt that is still due."""
        await self._due.cancel()


async def _drip(session: SmppSession, data: bytes) -> None:
    for octet in data:
        if not session.write(bytes((octet,))):
            return
        await asyncio.sleep(DRIP_INTERVAL)


async def serve(endpoint: Endpoint, host: str, port: int, _: SmtpSettings) -> Listener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    assert endpoint.dialect.smpp is not None
    listener = SmppListener()
    handler = SmppEndpoint(endpoint, endpoint.dialect.smpp, listener)
    listener.before_close = handler.close
    return await listen_smpp(handler, listener, host, port)
