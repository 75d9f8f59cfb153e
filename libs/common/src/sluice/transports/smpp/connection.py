"""One connection to an SMSC: framing, matching of answers, the window, enquire_link, unbind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog

from sluice.providers.kit.smpp_status import (
    RINVBNDSTS,
    RINVCMDID,
    RINVCMDLEN,
    ROK,
    RX_P_APPN,
    StatusClass,
    status_class,
)
from sluice.runtime.tasks import TaskSet, cancel_and_wait
from sluice.transports.smpp.contract import (
    Accepted,
    NotSent,
    Refused,
    SessionHandler,
    SmppConfig,
    SubmitResult,
    SubmitThrottled,
    Unknown,
)
from sluice.transports.smpp.inbound import InboundStores
from sluice.transports.smpp.pdu import (
    HEADER,
    MAX_SEQUENCE,
    RESPONSE_BIT,
    Command,
    Pdu,
    PduError,
    ShortMessage,
    body_length,
    decode,
    encode_bind,
    response_message_id,
    response_text,
)

log = structlog.get_logger()

_WITHOUT_RESPONSE = (Command.OUTBIND, Command.ALERT_NOTIFICATION)


class BindRefusedError(Exception):
    """The SMSC answered the bind with a status other than ROK."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Request(NamedTuple):
    """A request on its way. ``answer`` is None when the connection ends first."""

    command: Command
    answer: asyncio.Future[Pdu | None]


class _Submitted(NamedTuple):
    """The message that the last segment on its way completes."""

    reference: str
    message_ids: tuple[str, ...]  # of the segments before


def _answers(pdu: Pdu, command: Command) -> bool:
    return pdu.command in (command | RESPONSE_BIT, Command.GENERIC_NACK)


class Connection:
    """A TCP connection, usable after :meth:`bind` and until :attr:`lost` is done with the reason of its end.

    Sequence numbers belong to the connection, so an answer can only be matched on the connection of its request.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        config: SmppConfig,
        handler: SessionHandler,
        inbound: InboundStores,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._config = config
        self._handler = handler
        self._inbound = inbound
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._requests: dict[int, _Request] = {}
        self._late: dict[int, tuple[float, _Submitted]] = {}  # with the time of expiry; oldest first
        self._window = asyncio.Semaphore(config.window)
        self._draining = False
        self._sequence = 0
        self._received_at = self._loop.time()
        self._background = TaskSet()
        self._tasks = [self._loop.create_task(self._read())]

    async def bind(self) -> None:
        """Bind as a transceiver.

        Raises:
            BindRefusedError: the SMSC refused.
            OSError: no answer in time, or the connection ended first.
        """
        config = self._config
        body = encode_bind(
            system_id=config.system_id,
            password=config.password.get_secret_value(),
            system_type=config.system_type,
            interface_version=config.interface_version,
        )
        response = await self._ask(Command.BIND_TRANSCEIVER, body, timeout=config.bind_timeout)
        if response is None:
            raise ConnectionResetError("the bind has no answer")
        if response.status != ROK or response.command == Command.GENERIC_NACK:
            raise BindRefusedError(response.status)
        self._tasks.append(self._loop.create_task(self._keep_alive()))

    async def submit(self, bodies: Sequence[bytes], reference: str, *, deadline: float) -> SubmitResult:
        """Send the segments of one message, each after the answer to the one before.

        One place in the window covers the whole message. ``deadline`` is a time of the event loop, for the wait for
        that place and all answers.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._window.acquire()
        except TimeoutError:
            return NotSent("no place in the window became free in time")
        try:
            if self._draining:
                return NotSent("the connection is closing")
            return await self._submit_segments(bodies, reference, deadline)
        finally:
            self._window.release()

    async def _submit_segments(self, bodies: Sequence[bytes], reference: str, deadline: float) -> SubmitResult:
        message_ids: tuple[str, ...] = ()
        for number, body in enumerate(bodies, 1):
            last = number == len(bodies)
            if self.lost.done() or self._writer.is_closing():
                return NotSent("the connection was lost", message_ids)
            if self._loop.time() >= deadline:
                return NotSent("the deadline has passed", message_ids)
            response = await self._ask(
                Command.SUBMIT_SM,
                body,
                timeout=deadline - self._loop.time(),
                submitted=_Submitted(reference, message_ids) if last else None,
            )
            if response is None:
                reason = "the connection was lost" if self.lost.done() else "no answer in time"
                if last:
                    return Unknown(reason, message_ids)
                return NotSent(f"segment {number} of {len(bodies)}: {reason}; the rest is not sent", message_ids)
            result = self._result(response, message_ids)
            if isinstance(result, Refused):
                if result.status_class is StatusClass.THROTTLED:
                    self._handler.on_event(SubmitThrottled(result.status))
                if result.status == RINVBNDSTS and not self._draining:  # only a new bind helps
                    self._background.spawn(self.unbind())
                return result
            message_ids = result.message_ids
        return Accepted(message_ids)

    async def _ask(
        self, command: Command, body: bytes = b"", *, timeout: float, submitted: _Submitted | None = None
    ) -> Pdu | None:
        """The answer to a request, or None when none came in time or the connection ended.

        With ``submitted``, an answer that this call does not return is reported when it comes.
        """
        self._sequence = sequence = self._sequence % MAX_SEQUENCE + 1
        answer: asyncio.Future[Pdu | None] = self._loop.create_future()
        if self.lost.done():
            return None
        self._requests[sequence] = _Request(command, answer)
        self._send(Pdu(command, ROK, sequence, body))
        try:
            # Not a timeout that cancels: an answer of the same moment must not get lost.
            await asyncio.wait((answer,), timeout=timeout)
        except asyncio.CancelledError:
            if submitted is not None and answer.done() and (response := answer.result()) is not None:
                self._report_late(submitted, response)
            raise
        finally:
            del self._requests[sequence]
            if submitted is not None and not answer.done():
                self._expect_late(sequence, submitted)
        return answer.result() if answer.done() else None

    def _result(self, response: Pdu, message_ids: tuple[str, ...]) -> Accepted | Refused:
        if response.command == Command.GENERIC_NACK:  # its status is about the PDU, not about the message
            return Refused(response.status, StatusClass.PROVIDER_FAULT, "generic_nack", message_ids)
        if response.status == ROK:
            return Accepted((*message_ids, response_message_id(response.body)))
        reason = status_class(response.status, self._config.status_overrides)
        return Refused(response.status, reason, response_text(response.body), message_ids)

    def _expect_late(self, sequence: int, submitted: _Submitted) -> None:
        now = self._loop.time()
        while self._late and self._late[oldest := next(iter(self._late))][0] <= now:
            del self._late[oldest]
        self._late[sequence] = now + self._config.late_answer_ttl, submitted

    def _report_late(self, submitted: _Submitted, response: Pdu) -> None:
        result = self._result(response, submitted.message_ids)
        self._background.spawn(self._hand_over(submitted.reference, result))

    async def _hand_over(self, reference: str, result: Accepted | Refused) -> None:
        try:
            async with asyncio.timeout(self._config.store_timeout):
                await self._handler.late_answer(reference, result)
        except Exception as error:
            log.error("smpp_late_answer_failed", reference=reference, error=type(error).__name__)

    async def unbind(self) -> None:
        """Let open messages and stores finish, unbind, and end. Waiting messages are not sent."""
        if self._draining:
            await asyncio.wait((self.lost,))
            return
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_timeout):
                for _ in range(self._config.window):
                    await self._window.acquire()
                await self._inbound.join()
        await self._ask(Command.UNBIND, timeout=self._config.enquire_link_timeout)
        self.lose("the session was unbound")

    async def close(self) -> None:
        """End the connection now, and return when its tasks have ended."""
        self.lose("the connection was closed")
        await cancel_and_wait(*self._tasks)
        await self._background.join()
        with suppress(OSError):
            await self._writer.wait_closed()

    def lose(self, reason: str) -> None:
        """End the connection; open requests get no answer. Later calls change nothing."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._writer.transport.abort()
        for request in self._requests.values():
            if not request.answer.done():
                request.answer.set_result(None)

    async def _keep_alive(self) -> None:
        interval = self._config.enquire_link_interval
        while not self.lost.done():
            idle = self._loop.time() - self._received_at
            if idle < interval:
                await asyncio.sleep(interval - idle)
                continue
            if await self._ask(Command.ENQUIRE_LINK, timeout=self._config.enquire_link_timeout) is None:
                self.lose("enquire_link has no answer")

    async def _read(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(HEADER.size)
                pdu = decode(header, await self._reader.readexactly(body_length(header)))
                self._received_at = self._loop.time()
                self._handle(pdu)
                await self._writer.drain()  # an SMSC that does not read its answers gets no more of them
        except EOFError:
            self.lose("the SMSC closed the connection")
        except OSError as error:
            self.lose(f"the connection broke ({type(error).__name__})")
        except PduError as error:
            self._send(Pdu(Command.GENERIC_NACK, RINVCMDLEN, 0))
            self.lose(str(error))
        except Exception as error:
            log.exception("smpp_reader_failed")
            self.lose(f"the reader failed ({type(error).__name__})")

    def _handle(self, pdu: Pdu) -> None:
        if pdu.command & RESPONSE_BIT:
            self._match(pdu)
        elif pdu.command == Command.DELIVER_SM:
            self._deliver(pdu)
        elif pdu.command == Command.ENQUIRE_LINK:
            self._answer(pdu, ROK)
        elif pdu.command == Command.UNBIND:
            self._answer(pdu, ROK)
            self.lose("the SMSC unbound the session")
        elif pdu.command not in _WITHOUT_RESPONSE:
            self._send(Pdu(Command.GENERIC_NACK, RINVCMDID, pdu.sequence))

    def _match(self, pdu: Pdu) -> None:
        request = self._requests.get(pdu.sequence)
        if request is not None and _answers(pdu, request.command):
            if not request.answer.done():
                request.answer.set_result(pdu)
        elif pdu.sequence in self._late and _answers(pdu, Command.SUBMIT_SM):
            self._report_late(self._late.pop(pdu.sequence)[1], pdu)
        else:
            log.info("smpp_answer_unmatched", command=hex(pdu.command), status=pdu.status)

    def _deliver(self, pdu: Pdu) -> None:
        try:
            message = ShortMessage.decode(pdu.body)
        except PduError as error:
            log.error("smpp_deliver_sm_unreadable", error=str(error), octets=len(pdu.body))
            self._answer(pdu, RX_P_APPN)
        else:
            self._inbound.begin(message, partial(self._answer, pdu))

    def _answer(self, request: Pdu, status: int) -> None:
        body = b"\0" if request.command == Command.DELIVER_SM else b""  # an empty message_id
        self._send(Pdu(request.command | RESPONSE_BIT, status, request.sequence, body))

    def _send(self, pdu: Pdu) -> None:
        if not self.lost.done():
            self._writer.write(pdu.encode())
