"""A small SMSC (SMPP 3.4): PDUs, binds and sessions. A handler decides about each bind and each message.

It shares no code with Sluice's own SMPP client. The facts are those of SMPP 3.4 Issue 1.2.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, cast

from sluice_simulator.http_server import reset
from sluice_simulator.listener import Listener

MAX_PDU = 128 * 1024  # octets
HEADER = struct.Struct(">IIII")  # length, command, status, sequence

INVALID_LENGTH, INVALID_COMMAND, NOT_BOUND, ALREADY_BOUND = 0x02, 0x03, 0x04, 0x05

_UDH = 0x40  # esm_class: the text begins with a user data header
_RECEIPT = 0x04  # esm_class: the text is a receipt
_PAYLOAD, _RECEIPTED_ID, _STATE = 0x0424, 0x001E, 0x0427  # TLVs
_SAR_REFERENCE, _SAR_TOTAL, _SAR_NUMBER = 0x020C, 0x020E, 0x020F


class Command(IntEnum):
    """The commands that an SMSC meets; a response has bit 31."""

    GENERIC_NACK = 0x80000000
    BIND_RECEIVER = 0x00000001
    BIND_TRANSMITTER = 0x00000002
    SUBMIT_SM = 0x00000004
    DELIVER_SM = 0x00000005
    UNBIND = 0x00000006
    BIND_TRANSCEIVER = 0x00000009
    ENQUIRE_LINK = 0x00000015


_RESPONSE = 0x80000000
_BINDS = (Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER)


@dataclass(frozen=True, slots=True)
class Submission:
    """One submit_sm. ``part``: number and total of a segment of a long message that ``reference`` identifies."""

    sequence: int
    sender: str
    recipient: str
    text: bytes  # without user data header
    wants_receipt: bool
    reference: int = 0
    part: tuple[int, int] = (1, 1)


class SmppHandler(Protocol):
    """Decides what the SMSC answers."""

    def bind(self, system_id: str) -> int:
        """The command_status of a bind; 0 admits it."""

    def submit(self, session: SmppSession, submission: Submission) -> None:
        """Answer a message, now, later or never, through the session."""


class SmppSession(asyncio.Protocol):
    """One client."""

    def __init__(self, handler: SmppHandler, listener: SmppListener) -> None:
        self._handler = handler
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._command: int | None = None  # of the bind
        self._sequence = 0
        self._delivering: dict[int, asyncio.Future[int]] = {}

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, without declaring it
        self._listener.clients.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._listener.clients.discard(self._transport)
        self._transport = None
        self._listener.receivers.pop(self, None)
        for answer in self._delivering.values():
            answer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._transport is not None and len(self._buffer) >= HEADER.size:
            length, command, status, sequence = HEADER.unpack_from(self._buffer)
            if not HEADER.size <= length <= MAX_PDU:
                self.send(Command.GENERIC_NACK, INVALID_LENGTH, sequence)
                self._transport.close()
                return
            if len(self._buffer) < length:
                return
            body = bytes(self._buffer[HEADER.size : length])
            del self._buffer[:length]
            self._read(command, status, sequence, body)

    # The dialogue.

    def _read(self, command: int, status: int, sequence: int, body: bytes) -> None:
        if command == Command.DELIVER_SM | _RESPONSE:
            answer = self._delivering.pop(sequence, None)
            if answer is not None and not answer.done():
                answer.set_result(status)
        elif command in _BINDS:
            self._bind(command, sequence, body)
        elif command == Command.ENQUIRE_LINK:
            self.respond(command, sequence)
        elif command == Command.UNBIND:
            self.respond(command, sequence)
            self.close()
        elif command == Command.SUBMIT_SM:
            self._submit(sequence, body)
        elif not command & _RESPONSE:
            self.send(Command.GENERIC_NACK, INVALID_COMMAND, sequence)

    def _bind(self, command: int, sequence: int, body: bytes) -> None:
        system_id = body.partition(b"\0")[0].decode("latin-1")
        status = ALREADY_BOUND if self._command is not None else self._handler.bind(system_id)
        self.respond(command, sequence, status, b"simulator\0" if not status else b"")
        if not status:
            self._command = command
            if command != Command.BIND_TRANSMITTER:
                self._listener.receivers[self] = None

    def _submit(self, sequence: int, body: bytes) -> None:
        if self._command not in (Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER):
            self.respond(Command.SUBMIT_SM, sequence, NOT_BOUND)
            return
        try:
            submission = read_submission(sequence, body)
        except (ValueError, IndexError, struct.error):
            self.respond(Command.SUBMIT_SM, sequence, INVALID_LENGTH)
            return
        self._handler.submit(self, submission)

    # Used by the handler.

    def respond(self, command: int, sequence: int, status: int = 0, body: bytes = b"") -> bool:
        """Send the response to a request; False when the connection has ended."""
        return self.send(command | _RESPONSE, status, sequence, body)

    def send(self, command: int, status: int, sequence: int, body: bytes = b"") -> bool:
        """Send a PDU; False when the connection has ended."""
        return self.write(HEADER.pack(HEADER.size + len(body), command, status, sequence) + body)

    def write(self, data: bytes) -> bool:
        """Send octets; False when the connection has ended."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Cut the connection (TCP RST)."""
        if self._transport is not None:
            reset(self._transport)

    async def deliver(self, submission: Submission, message_id: str, text: bytes, state: int) -> int | None:
        """Send a receipt; the status of the response, None when the connection ended before it."""
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        body = b"".join(
            (
                b"\0\1\1" + submission.recipient.encode() + b"\0",
                b"\1\1" + submission.sender.encode() + b"\0",
                bytes((_RECEIPT, 0, 0)) + b"\0\0" + bytes((0, 0, 0, 0, len(text))) + text,
                _tlv(_RECEIPTED_ID, message_id.encode() + b"\0") + _tlv(_STATE, bytes((state,))),
            )
        )
        answer = asyncio.get_running_loop().create_future()
        self._delivering[self._sequence] = answer
        if not self.send(Command.DELIVER_SM, 0, self._sequence, body):
            return None
        try:
            return cast(int, await answer)
        except asyncio.CancelledError:
            if self._transport is None:
                return None
            raise


class SmppListener(Listener):
    """``receivers``: the sessions that take receipts, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.receivers: dict[SmppSession, None] = {}
        self.before_close: Callable[[], Awaitable[None]] | None = None

    async def close(self) -> None:
        if self.before_close is not None:
            await self.before_close()
        await super().close()


def read_submission(sequence: int, body: bytes) -> Submission:
    """The fields of a submit_sm; ValueError, IndexError or struct.error when it has no such form."""
    rest = body[body.index(b"\0") + 1 + 2 :]  # service_type, source TON and NPI
    sender, rest = _text(rest)
    recipient, rest = _text(rest[2:])
    esm_class, rest = rest[0], rest[3:]  # protocol_id, priority
    _, rest = _text(rest)  # schedule
    _, rest = _text(rest)  # validity
    wants_receipt, length, rest = bool(rest[0] & 3), rest[4], rest[5:]
    tlvs = _tlvs(rest[length:])
    text = rest[:length] or tlvs.get(_PAYLOAD, b"")
    reference, part = 0, (1, 1)
    if esm_class & _UDH:
        header, text = text[1 : text[0] + 1], text[text[0] + 1 :]
        kind = header[0]
        reference = int.from_bytes(header[2:4] if kind == 8 else header[2:3], "big")
        part = (header[-1], header[-2])
    elif _SAR_REFERENCE in tlvs:
        reference = int.from_bytes(tlvs[_SAR_REFERENCE], "big")
        part = (tlvs[_SAR_NUMBER][0], tlvs[_SAR_TOTAL][0])
    return Submission(sequence, sender, recipient, text, wants_receipt, reference, part)


def _text(data: bytes) -> tuple[str, bytes]:
    end = data.index(b"\0")
    return data[:end].decode("latin-1"), data[end + 1 :]


def _tlv(tag: int, value: bytes) -> bytes:
    return struct.pack(">HH", tag, len(value)) + value


def _tlvs(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        tag, length = struct.unpack_from(">HH", data)
        found[tag], data = data[4 : 4 + length], data[4 + length :]
    return found


async def listen_smpp(handler: SmppHandler, listener: SmppListener, host: str, port: int) -> SmppListener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    await listener.open(lambda: SmppSession(handler, listener), host, port)
    return listener
