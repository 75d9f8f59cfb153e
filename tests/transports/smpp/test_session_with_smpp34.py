"""The session against an independent SMSC: what it reads of ours, and what ours reads of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sluice.providers.kit.smpp_status import RX_T_APPN, StatusClass
from sluice.transports.smpp.contract import Accepted, Bound, ConnectionLost, Refused, SubmitThrottled
from sluice.transports.smpp.encoding import LongMessageMode, decode_text, split_header
from sluice.transports.smpp.pdu import UDHI, MessageKind, Tag
from sluice.transports.smpp.receipt import MessageState, parse_receipt
from sluice.transports.smpp.session import SmppSession
from tests.transports.smpp.conftest import LONG, Handler, config, sms
from tests.transports.smpp.smsc_process import Smsc, open_smsc

GSM = "Hello [€] " * 40  # 520 septets: 4 parts
UCS2 = "Привет 😀 " * 20  # 200 units: 3 parts


@pytest.fixture
async def smsc() -> AsyncIterator[tuple[Smsc, int]]:
    async with open_smsc() as found:
        yield found


@pytest.fixture
def handler() -> Handler:
    return Handler()


def text_of(submit: dict[str, Any]) -> str:
    """The text of a submit_sm as the SMSC received it."""
    octets = bytes.fromhex(submit["short_message"]) or bytes.fromhex(dict(submit["tlvs"])[Tag.MESSAGE_PAYLOAD])
    if submit["esm_class"] & UDHI:
        octets = split_header(octets)[1]
    return str(decode_text(octets, submit["data_coding"]))


async def test_a_short_message_is_accepted(smsc: tuple[Smsc, int], handler: Handler):
    other, port = smsc
    async with SmppSession(config(port), handler) as session:
        await session.wait_bound()
        assert await other.event("bound") == "acme"

        assert await session.submit(sms(), timeout=LONG) == Accepted(("00000001",))

    (submit,) = await other.submits(1)
    assert submit == {
        "source_addr": "ACME",
        "source_addr_ton": 5,
        "source_addr_npi": 0,
        "destination_addr": "2348012345678",
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "esm_class": 0,
        "data_coding": 0,
        "registered_delivery": 1,
        "short_message": b"Hello".hex(),
        "tlvs": [],
    }
    await other.event("unbound")


@pytest.mark.parametrize(
    ("text", "mode", "parts"),
    [
        (GSM, LongMessageMode.UDH, 4),
        (GSM, LongMessageMode.SAR, 4),
        (GSM, LongMessageMode.PAYLOAD, 1),
        (UCS2, LongMessageMode.UDH, 3),
        (UCS2, LongMessageMode.SAR, 3),
        (UCS2, LongMessageMode.PAYLOAD, 1),
    ],
)
async def test_a_long_message_has_an_id_for_each_part(
    smsc: tuple[Smsc, int], handler: Handler, text: str, mode: LongMessageMode, parts: int
):
    other, port = smsc
    async with SmppSession(config(port, long_message_mode=mode), handler) as session:
        await session.wait_bound()
        result = await session.submit(sms(text), timeout=LONG)

    assert result == Accepted(tuple(f"{number:08X}" for number in range(1, parts + 1)))
    assert "".join(text_of(submit) for submit in await other.submits(parts)) == text


async def test_a_refused_part_ends_the_message(smsc: tuple[Smsc, int], handler: Handler):
    other, port = smsc
    await other.prepare("first", 0x58)
    async with SmppSession(config(port), handler) as session:
        await session.wait_bound()
        result = await session.submit(sms(GSM), timeout=LONG)
        assert result == Refused(0x58, StatusClass.THROTTLED, "", ("first",))
        assert await handler.event(SubmitThrottled) == SubmitThrottled(0x58)

        assert await session.submit(sms("next"), timeout=LONG) == Accepted(("00000003",))

    assert text_of((await other.submits(3))[2]) == "next"


@pytest.mark.parametrize(
    ("status", "overrides", "expected"),
    [
        (0x0B, {}, StatusClass.RECIPIENT_REJECTED),
        (0x08, {}, StatusClass.PROVIDER_FAULT),
        (0x08, {0x08: StatusClass.THROTTLED}, StatusClass.THROTTLED),
    ],
)
async def test_a_refusal_has_its_class(
    smsc: tuple[Smsc, int],
    handler: Handler,
    status: int,
    overrides: dict[int, StatusClass],
    expected: StatusClass,
):
    other, port = smsc
    await other.prepare(status)
    async with SmppSession(config(port, status_overrides=overrides), handler) as session:
        await session.wait_bound()

        assert await session.submit(sms(), timeout=LONG) == Refused(status, expected)


async def test_many_messages_at_once(smsc: tuple[Smsc, int], handler: Handler):
    _, port = smsc
    async with SmppSession(config(port), handler) as session:
        await session.wait_bound()
        results = await asyncio.gather(*(session.submit(sms(reference=f"att_{n}"), timeout=LONG) for n in range(300)))

    ids = [result.message_ids for result in results if isinstance(result, Accepted)]
    assert len(set(ids)) == 300


async def test_a_receipt_is_acknowledged_when_it_is_stored(smsc: tuple[Smsc, int], handler: Handler):
    other, port = smsc
    text = b"id:7B stat:DELIVRD err:0A1 done date:260102030405"
    receipt = {"short_message": text.hex(), "esm_class": 4, "tlvs": [[0x0427, "02"], [0x1400, "ff"]]}
    handler.failures = 1
    async with SmppSession(config(port), handler) as session:
        await other.event("bound")
        await session.wait_bound()
        other.order("deliver", receipt)
        assert await other.event("delivered") == RX_T_APPN
        assert handler.stored.empty()

        other.order("deliver", receipt)
        assert await other.event("delivered") == 0
        message = handler.stored.get_nowait()

    assert message.kind == MessageKind.RECEIPT
    assert (message.source.value, message.destination.value) == ("2348012345678", "ACME")
    assert parse_receipt(message).message_id == "7B"
    assert parse_receipt(message).state is MessageState.DELIVERED
    assert parse_receipt(message).err == "0A1"


async def test_an_inbound_message_is_stored(smsc: tuple[Smsc, int], handler: Handler):
    other, port = smsc
    async with SmppSession(config(port), handler) as session:
        await other.event("bound")
        await session.wait_bound()
        other.order("deliver", {"short_message": "СТОП".encode("utf-16-be").hex(), "data_coding": 8})
        assert await other.event("delivered") == 0
        message = handler.stored.get_nowait()

    assert message.kind == MessageKind.INBOUND
    assert decode_text(message.user_data, message.data_coding) == "СТОП"


async def test_the_session_binds_again_after_the_smsc_unbinds(smsc: tuple[Smsc, int], handler: Handler):
    other, port = smsc
    async with SmppSession(config(port), handler) as session:
        await other.event("bound")
        await handler.event(Bound)
        other.order("unbind")
        await handler.event(ConnectionLost)
        await other.event("bound")
        await session.wait_bound()

        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)


async def test_an_idle_session_stays_bound(smsc: tuple[Smsc, int], handler: Handler):
    _, port = smsc
    async with SmppSession(config(port, enquire_link_interval=0.01), handler) as session:
        await session.wait_bound()
        await asyncio.sleep(0.2)  # some twenty enquire_links

        assert isinstance(await session.submit(sms(), timeout=LONG), Accepted)
    assert handler.events.get_nowait() == Bound()
    assert handler.events.empty()
