"""The session against an SMSC that misbehaves: on which side of "written" every accident falls."""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from sluice.providers.kit.smpp_status import RX_P_APPN, RX_T_APPN, StatusClass
from sluice.transports.smpp.contract import (
    Accepted,
    BindRefused,
    Bound,
    ConnectionLost,
    NotSent,
    OutboundSms,
    Refused,
    SubmitResult,
    Unknown,
)
from sluice.transports.smpp.encoding import EncodingError
from sluice.transports.smpp.pdu import Address, PduError, ShortMessage
from sluice.transports.smpp.receipt import MessageIdFormat, comparable_id, parse_receipt
from sluice.transports.smpp.session import SmppSession
from tests.transports.conftest import Certificate, server
from tests.transports.smpp.conftest import LONG, SHORT, Handler, config, sms

BIND, SUBMIT, DELIVER, UNBIND, ENQUIRE = 0x09, 0x04, 0x05, 0x06, 0x15
RESPONSE = 0x80000000
TWO_PARTS = "a" * 200
RECEIPT = bytes.fromhex("000101323334000500414300" + "04" + "0000" + "0000" + "00000000")  # up to sm_length


class Peer:
    """One client as the faulty SMSC sees it; framing of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def read(self) -> tuple[int, int, int, bytes]:
        """command_id, command_status, sequence_number and body of the next PDU."""
        length, command, status, sequence = struct.unpack("!IIII", await self._reader.readexactly(16))
        return command, status, sequence, await self._reader.readexactly(length - 16)

    async def expect(self, command: int) -> int:
        """The sequence number of the next PDU, which is of this kind."""
        got, _, sequence, _ = await self.read()
        assert got == command, hex(got)
        return sequence

    def write(self, command: int, status: int, sequence: int, body: bytes = b"") -> None:
        self.writer.write(pdu(command, status, sequence, body))

    async def bind(self, status: int = 0) -> None:
        self.write(BIND | RESPONSE, status, await self.expect(BIND), b"SMSC\0" if status == 0 else b"")

    async def closed(self) -> None:
        """Return when the client has closed the connection; what it still sends is dropped."""
        while await self._reader.read(4096):
            pass


def pdu(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    return struct.pack("!IIII", 16 + len(body), command, status, sequence) + body


def accept(sequence: int, message_id: bytes = b"7B") -> bytes:
    return pdu(SUBMIT | RESPONSE, 0, sequence, message_id + b"\0")


def deliver(sequence: int, text: bytes = b"id:7B stat:DELIVRD") -> bytes:
    return pdu(DELIVER, 0, sequence, RECEIPT + bytes((len(text),)) + text)


Script = Callable[[Peer], Awaitable[None]]


class Smsc:
    """Plays one script for each connection, in order, and the last one again and again. Keeps what goes wrong."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = scripts
        self.connections = 0
        self.errors: list[AssertionError] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(Peer(reader, writer))
        except AssertionError as error:
            self.errors.append(error)
            raise OSError from error


@asynccontextmanager
async def faulty(*scripts: Script) -> AsyncIterator[tuple[Smsc, int]]:
    smsc = Smsc(scripts)
    async with server(smsc.talk) as port:
        yield smsc, port
    assert smsc.errors == []


@pytest.fixture
def handler() -> Handler:
    return Handler()


async def serve(peer: Peer) -> None:
    """A correct SMSC: it accepts everything."""
    await peer.bind()
    await serve_rest(peer)


async def serve_rest(peer: Peer) -> None:
    """Answer everything until the client unbinds."""
    while True:
        command, _, sequence, _ = await peer.read()
        peer.write(command | RESPONSE, 0, sequence, b"ok\0" if command == SUBMIT else b"")
        if command == UNBIND:
            return await peer.closed()


async def submit_one(
    port: int, handler: Handler, text: str = "Hello", *, timeout: float = LONG, **fields: object
) -> SubmitResult:
    """The result of one message on a fresh session."""
    async with SmppSession(config(port, **fields), handler) as session:
        await session.wait_bound()
        return await session.submit(sms(text), timeout=timeout)


# ---- framing


@pytest.mark.parametrize("size", [1, 7, 16, 19])
async def test_pdus_in_pieces_are_put_together(handler: Handler, size: int):
    async def script(peer: Peer) -> None:
        await peer.bind()
        octets = accept(await peer.expect(SUBMIT))
        for start in range(0, len(octets), size):
            peer.writer.write(octets[start : start + size])
            await peer.writer.drain()
            await asyncio.sleep(0.001)
        await peer.closed()

    async with faulty(script) as (_, port):
        assert await submit_one(port, handler, enquire_link_timeout=SHORT) == Accepted(("7B",))


async def test_several_pdus_in_one_piece_are_taken_apart(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        first, second = await peer.expect(SUBMIT), await peer.expect(SUBMIT)
        peer.writer.write(accept(second, b"B") + deliver(1) + accept(first, b"A") + pdu(ENQUIRE, 0, 2))
        assert {(await peer.read())[0], (await peer.read())[0]} == {DELIVER | RESPONSE, ENQUIRE | RESPONSE}
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        results = await asyncio.gather(*(session.submit(sms(text), timeout=LONG) for text in "12"))
        assert parse_receipt(await handler.stored.get()).message_id == "7B"

    assert results == [Accepted(("A",)), Accepted(("B",))]


@pytest.mark.parametrize("header", ["0000000f800000040000000000000002", "00010001800000040000000000000002"])
async def test_an_impossible_length_ends_the_connection(handler: Handler, header: str):
    nacks: list[tuple[int, int]] = []

    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(SUBMIT)
        peer.writer.write(bytes.fromhex(header))
        command, status, _, _ = await peer.read()
        nacks.append((command, status))
        await peer.closed()

    async with faulty(script, serve) as (smsc, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        assert isinstance(await session.submit(sms(), timeout=LONG), Unknown)
        await handler.event(ConnectionLost)
        await session.wait_bound()
        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)

    assert nacks == [(0x80000000, 0x02)]
    assert smsc.connections == 2


# ---- answers


async def test_half_an_answer_and_an_end_is_unknown(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(accept(await peer.expect(SUBMIT))[:-3])
        await peer.writer.drain()

    async with faulty(script, serve) as (_, port):
        assert await submit_one(port, handler) == Unknown("the connection was lost")


async def test_a_cut_splits_what_was_written_from_what_waited(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(SUBMIT)
        await peer.expect(SUBMIT)

    async with faulty(script, serve) as (_, port), SmppSession(config(port, window=2), handler) as session:
        await session.wait_bound()
        results = await asyncio.gather(*(session.submit(sms(), timeout=LONG) for _ in range(5)))

    assert [type(result) for result in results] == [Unknown, Unknown, NotSent, NotSent, NotSent]


async def test_no_answer_is_unknown_and_the_late_answer_is_matched(handler: Handler):
    timed_out = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(accept(await peer.expect(SUBMIT), b"A"))
        sequence = await peer.expect(SUBMIT)
        await timed_out.wait()
        peer.writer.write(accept(sequence, b"B") * 2)
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        result = await session.submit(sms(TWO_PARTS, "att_7"), timeout=SHORT)
        assert result == Unknown("no answer in time", ("A",))
        timed_out.set()

        assert await handler.late.get() == ("att_7", Accepted(("A", "B")))
        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)
    assert handler.late.empty()


async def test_a_late_refusal_is_matched(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        sequence = await peer.expect(SUBMIT)
        peer.write(SUBMIT | RESPONSE, 0x0B, await peer.expect(SUBMIT))
        peer.write(SUBMIT | RESPONSE, 0x0B, sequence)
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        assert isinstance(await session.submit(sms(reference="att_7"), timeout=SHORT), Unknown)
        refused = Refused(0x0B, StatusClass.RECIPIENT_REJECTED)
        assert await session.submit(sms(), timeout=LONG) == refused
        assert await handler.late.get() == ("att_7", refused)


async def test_a_late_answer_is_forgotten_after_its_time(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        first, second = await peer.expect(SUBMIT), await peer.expect(SUBMIT)
        third = await peer.expect(SUBMIT)
        peer.writer.write(accept(first, b"A") + accept(second, b"B") + accept(third, b"C"))
        await serve_rest(peer)

    fields = {"late_answer_ttl": 0.0}
    async with faulty(script) as (_, port), SmppSession(config(port, **fields), handler) as session:
        await session.wait_bound()
        assert isinstance(await session.submit(sms(reference="att_1"), timeout=SHORT), Unknown)
        assert isinstance(await session.submit(sms(reference="att_2"), timeout=SHORT), Unknown)
        assert await session.submit(sms(reference="att_3"), timeout=LONG) == Accepted(("C",))

    assert handler.late.get_nowait() == ("att_2", Accepted(("B",)))  # kept: no other message came after it
    assert handler.late.empty()


async def test_the_answer_to_a_cancelled_call_is_reported(handler: Handler):
    cancelled = asyncio.Event()
    written = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        sequence = await peer.expect(SUBMIT)
        written.set()
        await cancelled.wait()
        peer.writer.write(accept(sequence))
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        call = asyncio.create_task(session.submit(sms(reference="att_7"), timeout=LONG))
        await written.wait()
        call.cancel()
        await asyncio.wait((call,))
        assert call.cancelled()
        cancelled.set()

        assert await handler.late.get() == ("att_7", Accepted(("7B",)))


async def test_the_answer_of_the_moment_of_a_cancellation_is_reported():
    class Cancelling(Handler):
        async def store(self, message: ShortMessage) -> None:
            call.cancel()  # the answer has been read, and the call has not run since

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(accept(await peer.expect(SUBMIT)) + deliver(1))
        await peer.expect(DELIVER | RESPONSE)
        await serve_rest(peer)

    handler = Cancelling()
    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        call = asyncio.create_task(session.submit(sms(reference="att_7"), timeout=LONG))

        assert await handler.late.get() == ("att_7", Accepted(("7B",)))
        assert call.cancelled()


async def test_a_part_without_an_answer_stops_the_rest(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(SUBMIT)
        peer.write(UNBIND | RESPONSE, 0, await peer.expect(UNBIND))  # and no second part
        await peer.closed()

    async with faulty(script) as (_, port):
        result = await submit_one(port, handler, TWO_PARTS, timeout=SHORT)

    assert result == NotSent("segment 1 of 2: no answer in time; the rest is not sent")


async def test_a_full_window_ends_as_not_sent(handler: Handler):
    written = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(SUBMIT)
        written.set()
        await peer.closed()

    fields = {"window": 1, "drain_timeout": SHORT, "enquire_link_timeout": SHORT}
    async with faulty(script) as (_, port), SmppSession(config(port, **fields), handler) as session:
        await session.wait_bound()
        opened = asyncio.create_task(session.submit(sms(), timeout=LONG))
        await written.wait()
        result = await session.submit(sms(), timeout=SHORT)
        assert result == NotSent("no place in the window became free in time")
    assert await opened == Unknown("the connection was lost")


async def test_a_message_without_time_left_is_not_written(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.write(UNBIND | RESPONSE, 0, await peer.expect(UNBIND))
        await peer.closed()

    async with faulty(script) as (_, port):
        assert await submit_one(port, handler, timeout=0) == NotSent("the deadline has passed")


async def test_the_window_is_never_exceeded(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        for _ in range(10):
            open_requests = [await peer.expect(SUBMIT) for _ in range(4)]
            peer.write(ENQUIRE, 0, 1)
            await peer.expect(ENQUIRE | RESPONSE)  # a fifth submit_sm would have been written before
            for sequence in open_requests:
                peer.writer.write(accept(sequence))
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port, window=4), handler) as session:
        await session.wait_bound()
        results = await asyncio.gather(*(session.submit(sms(), timeout=LONG) for _ in range(40)))

    assert results == [Accepted(("7B",))] * 40


async def test_a_nack_is_a_refusal_and_strange_answers_are_ignored(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        sequence = await peer.expect(SUBMIT)
        peer.write(ENQUIRE | RESPONSE, 0, sequence)  # of another kind
        peer.write(SUBMIT | RESPONSE, 0, sequence + 1000, b"X\0")  # to no request
        peer.write(0x80000003, 0, sequence, b"X\0")  # query_sm_resp
        peer.write(0x80000000, 0x03, 0)
        peer.write(0x80000000, 0x03, sequence)
        await serve_rest(peer)

    async with faulty(script) as (_, port):
        assert await submit_one(port, handler) == Refused(0x03, StatusClass.PROVIDER_FAULT, "generic_nack")


async def test_a_success_without_an_id_is_a_success(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.write(SUBMIT | RESPONSE, 0, await peer.expect(SUBMIT))
        await serve_rest(peer)

    async with faulty(script) as (_, port):
        assert await submit_one(port, handler) == Accepted(("",))


async def test_a_refusal_keeps_the_text_of_the_smsc(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.write(SUBMIT | RESPONSE, 0x400, await peer.expect(SUBMIT), b"\0\x00\x1d\x00\x08no route")
        await serve_rest(peer)

    async with faulty(script) as (_, port):
        assert await submit_one(port, handler) == Refused(0x400, StatusClass.PROVIDER_FAULT, "no route")


async def test_hexadecimal_ids_meet_their_decimal_receipts(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(accept(await peer.expect(SUBMIT), b"0A1B2C3D") + deliver(1, b"id:0169552957 stat:DELIVRD"))
        await peer.expect(DELIVER | RESPONSE)
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        result = await session.submit(sms(), timeout=LONG)
        receipt = parse_receipt(await handler.stored.get())

    assert isinstance(result, Accepted)
    assert receipt.message_id is not None
    form = MessageIdFormat.HEX_THEN_DECIMAL
    assert comparable_id(result.message_ids[0], form, of_receipt=False) == "A1B2C3D"
    assert comparable_id(receipt.message_id, form, of_receipt=True) == "A1B2C3D"


@pytest.mark.parametrize(
    "message",
    [sms("\ud83d"), sms("a" * 40_000), sms(validity=timedelta(0)), sms(destination=Address(1, 1, "2" * 21))],
)
async def test_a_message_that_cannot_be_written_raises(handler: Handler, message: OutboundSms):
    async with faulty(serve) as (_, port), SmppSession(config(port), handler) as session:
        await session.wait_bound()
        with pytest.raises((EncodingError, PduError)):
            await session.submit(message, timeout=LONG)
        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)


# ---- binding


async def test_refused_credentials_are_reported_and_not_tried_again_at_once(handler: Handler):
    async def refuse(peer: Peer) -> None:
        await peer.bind(0x0E)
        await peer.closed()

    async with faulty(refuse) as (smsc, port), SmppSession(config(port, auth_retry_delay=LONG), handler) as session:
        assert await handler.event(BindRefused) == BindRefused(0x0E, StatusClass.AUTH_FAILED)

        result = await session.submit(sms(), timeout=LONG)
        assert result == Refused(0x0E, StatusClass.AUTH_FAILED, "the bind was refused")
        assert not session.bound
        await asyncio.sleep(SHORT)  # five times the delay after other failures
        assert smsc.connections == 1


async def test_a_session_with_refused_credentials_binds_when_they_are_accepted(handler: Handler):
    async def refuse(peer: Peer) -> None:
        await peer.bind(0x05)
        await peer.closed()

    async with faulty(refuse, refuse, serve) as (smsc, port):
        async with SmppSession(config(port, auth_retry_delay=0.01), handler) as session:
            await session.wait_bound()
            assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)
        assert smsc.connections == 3


@pytest.mark.parametrize(
    ("status", "overrides", "expected"),
    [
        (0x08, {}, StatusClass.PROVIDER_FAULT),
        (0x58, {}, StatusClass.THROTTLED),
        (0x0D, {0x0D: StatusClass.PROVIDER_FAULT}, StatusClass.PROVIDER_FAULT),
    ],
)
async def test_a_bind_refused_for_another_reason_is_tried_again(
    handler: Handler, status: int, overrides: dict[int, StatusClass], expected: StatusClass
):
    async def refuse(peer: Peer) -> None:
        await peer.bind(status)
        await peer.closed()

    fields = {"status_overrides": overrides, "auth_retry_delay": LONG}
    async with faulty(refuse, serve) as (_, port), SmppSession(config(port, **fields), handler) as session:
        assert await handler.event(BindRefused) == BindRefused(status, expected)
        await session.wait_bound()


async def test_a_session_that_the_smsc_no_longer_regards_as_bound_binds_again(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        first, second = await peer.expect(SUBMIT), await peer.expect(SUBMIT)
        peer.write(SUBMIT | RESPONSE, 0x04, first)
        peer.writer.write(accept(second))  # no answer gets lost
        await peer.expect(UNBIND)
        peer.write(UNBIND | RESPONSE, 0x04, 0)
        await peer.closed()

    fields = {"enquire_link_timeout": SHORT}
    async with faulty(script, serve) as (smsc, port), SmppSession(config(port, **fields), handler) as session:
        await session.wait_bound()
        results = await asyncio.gather(*(session.submit(sms(), timeout=LONG) for _ in range(2)))
        assert results == [Refused(0x04, StatusClass.PROVIDER_FAULT), Accepted(("7B",))]
        await handler.event(ConnectionLost)
        await session.wait_bound()
        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)
        assert smsc.connections == 2


async def test_an_unanswered_bind_is_tried_again(handler: Handler):
    async def unresponsive(peer: Peer) -> None:
        await peer.closed()

    async with (
        faulty(unresponsive, serve) as (_, port),
        SmppSession(config(port, bind_timeout=SHORT), handler) as session,
    ):
        await handler.event(ConnectionLost)
        assert isinstance(await session.submit(sms(), timeout=LONG), NotSent)
        await session.wait_bound()


async def test_an_smsc_that_does_not_listen_is_not_sent(handler: Handler):
    async with faulty(serve) as (_, port):
        pass
    async with SmppSession(config(port), handler) as session:
        assert (await handler.event(ConnectionLost)).reason == "connecting failed (ConnectionRefusedError)"
        assert await session.submit(sms(), timeout=LONG) == NotSent("the session is not bound")


async def test_the_delay_before_a_new_connection_doubles_up_to_its_limit(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        drawn.append((least, most))
        return 0.0

    monkeypatch.setattr(random, "uniform", draw)
    async with faulty(serve) as (_, port):
        pass
    usual = config(port, reconnect_delay=1.0, max_reconnect_delay=60.0)
    async with SmppSession(usual, handler):
        while len(drawn) < 9:
            await handler.event(ConnectionLost)

    assert drawn[:9] == [(0, most) for most in (1, 2, 4, 8, 16, 32, 60, 60, 60)]


async def test_a_session_ends_while_it_connects(handler: Handler):
    connected = asyncio.Event()

    async def unresponsive(peer: Peer) -> None:
        connected.set()
        await peer.closed()

    async with faulty(unresponsive) as (_, port), SmppSession(config(port), handler) as session:
        await connected.wait()
        assert not session.bound


def test_a_configuration_that_fits_no_bind_is_refused(handler: Handler):
    with pytest.raises(PduError):
        SmppSession(config(1, system_id="A" * 16), handler)


async def test_tls(handler: Handler, certificate: Certificate):
    smsc = Smsc((serve,))
    listening = await asyncio.start_server(smsc.talk, "127.0.0.1", 0, ssl=certificate.context)
    port = listening.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=certificate.file)
    async with listening:
        assert isinstance(await submit_one(port, handler, host="localhost", tls=trusting), Accepted)

        async with SmppSession(config(port, host="localhost", tls=ssl.create_default_context()), handler):
            lost = await handler.event(ConnectionLost)
            assert lost.reason == "connecting failed (SSLCertVerificationError)"


# ---- the other direction


async def test_a_message_is_answered_after_it_is_stored(handler: Handler):
    order: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(deliver(1) + pdu(ENQUIRE, 0, 2))
        order.append((await peer.read())[0])
        handler.gate.set()
        command, status, sequence, body = await peer.read()
        order.append(command)
        assert (status, sequence, body) == (0, 1, b"\0")
        await serve_rest(peer)

    handler.gate.clear()
    async with faulty(script) as (_, port), SmppSession(config(port), handler):
        await handler.stored.get()

    assert order == [ENQUIRE | RESPONSE, DELIVER | RESPONSE]


async def test_stores_above_the_limit_are_refused_for_now(handler: Handler):
    statuses: dict[int, int] = {}

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(b"".join(deliver(number) for number in range(1, 6)))
        for _ in range(3):
            _, status, sequence, _ = await peer.read()
            statuses[sequence] = status
        handler.gate.set()
        for _ in range(2):
            _, status, sequence, _ = await peer.read()
            statuses[sequence] = status
        await serve_rest(peer)

    handler.gate.clear()
    async with faulty(script) as (_, port), SmppSession(config(port, max_concurrent_stores=2), handler):
        await handler.stored.get()
        await handler.stored.get()

    assert statuses == {1: 0, 2: 0, 3: RX_T_APPN, 4: RX_T_APPN, 5: RX_T_APPN}
    assert handler.stored.empty()


async def test_a_store_that_takes_too_long_is_refused_for_now(handler: Handler):
    answers: list[tuple[int, int]] = []
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(deliver(1))
        command, status, _, _ = await peer.read()
        answers.append((command, status))
        answered.set()
        await serve_rest(peer)

    handler.gate.clear()
    async with faulty(script) as (_, port), SmppSession(config(port, store_timeout=SHORT), handler):
        await answered.wait()

    assert answers == [(DELIVER | RESPONSE, RX_T_APPN)]
    assert handler.waiting == 0


async def test_requests_of_the_smsc_are_answered(handler: Handler):
    answers: list[tuple[int, int, int]] = []
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.write(ENQUIRE, 0, 10)
        peer.write(0x102, 0, 11, b"ignored")  # alert_notification has no response
        peer.write(0x103, 0, 12, b"data_sm")
        peer.write(DELIVER, 0, 13, b"\0\0")  # ends too early
        for _ in range(3):
            command, status, sequence, _ = await peer.read()
            answers.append((command, status, sequence))
        done.set()
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port), handler) as session:
        await done.wait()
        assert session.bound

    assert answers == [(ENQUIRE | RESPONSE, 0, 10), (0x80000000, 0x03, 12), (DELIVER | RESPONSE, RX_P_APPN, 13)]


# ---- idleness and ends


async def test_an_unanswered_enquire_link_ends_the_connection(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(ENQUIRE)
        peer.writer.write(deliver(1)[:20])  # half a PDU is no sign of life
        await peer.closed()

    fields = {"enquire_link_interval": SHORT, "enquire_link_timeout": SHORT}
    async with faulty(script, serve) as (_, port), SmppSession(config(port, **fields), handler) as session:
        assert await handler.event(ConnectionLost) == ConnectionLost("enquire_link has no answer")
        await handler.event(Bound)
        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)


async def test_an_enquire_link_follows_an_idle_interval(handler: Handler):
    idle: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.bind()
        for _ in range(3):
            began_at = asyncio.get_running_loop().time()
            peer.write(ENQUIRE | RESPONSE, 0, await peer.expect(ENQUIRE))
            idle.append(asyncio.get_running_loop().time() - began_at)
        await serve_rest(peer)

    async with faulty(script) as (_, port), SmppSession(config(port, enquire_link_interval=SHORT), handler):
        while len(idle) < 3:
            await asyncio.sleep(SHORT)

    assert min(idle) >= SHORT  # a busy machine makes it longer, never shorter


async def test_an_unbind_of_the_smsc_is_answered(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.write(UNBIND, 0, 5)
        assert await peer.expect(UNBIND | RESPONSE) == 5
        await peer.closed()

    async with faulty(script, serve) as (_, port), SmppSession(config(port), handler):
        assert await handler.event(ConnectionLost) == ConnectionLost("the SMSC unbound the session")
        await handler.event(Bound)


async def test_the_end_lets_open_messages_finish_and_refuses_waiting_ones(handler: Handler):
    ending = asyncio.Event()
    written = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.bind()
        first = await peer.expect(SUBMIT)
        written.set()
        await ending.wait()
        peer.writer.write(accept(first, b"A"))
        peer.writer.write(accept(await peer.expect(SUBMIT), b"B"))  # the second part of the open message
        peer.write(UNBIND | RESPONSE, 0, await peer.expect(UNBIND))
        await peer.closed()

    async with faulty(script) as (_, port):
        async with SmppSession(config(port, window=1), handler) as session:
            await session.wait_bound()
            opened = asyncio.create_task(session.submit(sms(TWO_PARTS), timeout=LONG))
            await written.wait()
            waiting = asyncio.create_task(session.submit(sms(), timeout=LONG))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.01, ending.set)  # when the session has begun to end

        assert await opened == Accepted(("A", "B"))
        assert await waiting == NotSent("the connection is closing")
        assert await session.submit(sms(), timeout=LONG) == NotSent("the session is not bound")


async def test_the_end_does_not_wait_for_a_unresponsive_smsc(handler: Handler):
    async def script(peer: Peer) -> None:
        await peer.bind()
        await peer.expect(SUBMIT)
        await peer.expect(UNBIND)
        await peer.closed()

    fields = {"drain_timeout": SHORT, "enquire_link_timeout": SHORT}
    async with faulty(script) as (_, port):
        async with SmppSession(config(port, **fields), handler) as session:
            await session.wait_bound()
            opened = asyncio.create_task(session.submit(sms(), timeout=LONG))
            await asyncio.sleep(0)
        assert await opened == Unknown("the connection was lost")


async def test_the_end_waits_for_stores(handler: Handler):
    statuses: list[tuple[int, int]] = []

    async def script(peer: Peer) -> None:
        await peer.bind()
        peer.writer.write(deliver(1))
        for _ in range(2):
            command, status, sequence, _ = await peer.read()
            statuses.append((command, status))
        peer.write(UNBIND | RESPONSE, 0, sequence)
        await peer.closed()

    handler.gate.clear()
    async with faulty(script) as (_, port), SmppSession(config(port), handler):
        while not handler.waiting:
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_later(0.01, handler.gate.set)

    assert statuses == [(DELIVER | RESPONSE, 0), (UNBIND, 0)]
    assert handler.stored.qsize() == 1
