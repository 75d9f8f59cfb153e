"""The SMPP endpoint, read by an independent client, and its faults, met by Sluice's session."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from sluice.providers.kit.smpp_status import StatusClass
from sluice.transports.smpp.contract import Accepted, BindRefused, NotSent, Refused, Unknown
from sluice.transports.smpp.session import SmppSession
from sluice_simulator import Behaviour, Receipts, Rule, Scenario, Simulator
from tests.transports.smpp.conftest import Handler, config, sms

ENDPOINTS = {"smpp": "smpp"}


async def submit(simulator: Simulator, *messages: tuple[str, str, int]) -> dict[str, Any]:
    """What the independent client saw; each message has the number of receipts that it waits for."""
    command = (sys.executable, "-m", "tests.simulator.smpp_client", str(simulator.address("smpp")[1]))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(messages).encode()), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found: dict[str, Any] = json.loads(output)
    return found


async def test_an_independent_client_is_answered_and_gets_receipts() -> None:
    plan = Receipts(kinds=("sent", "delivered"), delay=0.01, interval=0.01)
    async with Simulator(Scenario(default=Rule(receipts=plan)), endpoints=ENDPOINTS) as simulator:
        found = await submit(simulator, ("15557654321", "Hello", 2), ("15557654322", "No receipt", 0))

        (first, message_id), (second, other_id) = found["answers"]
        assert (first, second) == (0, 0)
        assert message_id != other_id
        assert [esm_class for esm_class, _, _ in found["receipts"]] == [4, 4]
        assert {source for _, source, _ in found["receipts"]} == {"15557654321"}
        texts = [text for _, _, text in found["receipts"]]
        assert [re.search(r"stat:(\w+)", text)[1] for text in texts] == ["ENROUTE", "DELIVRD"]  # type: ignore[index]
        assert all(text.startswith(f"id:{message_id} ") for text in texts)
        assert [line["recipient"] for line in simulator.calls] == ["+15557654321", "+15557654322"]


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (Behaviour.REJECT, 0x0B),
        (Behaviour.THROTTLE, 0x58),
        (Behaviour.FAULT, 0x08),
        (Behaviour.DECLINE, 0x01),
        (Behaviour.DECLINE_ACCOUNT, 0x101),
    ],
)
async def test_an_independent_client_reads_every_refusal(behaviour: Behaviour, status: int) -> None:
    recipient = f"1999{list(Behaviour).index(behaviour):03}0000"  # a built-in rule
    async with Simulator(endpoints=ENDPOINTS) as simulator:
        found = await submit(simulator, (recipient, "Hello", 0))

        assert found["answers"][0][0] == status
        assert [(line["accepted"], line["status"]) for line in simulator.calls] == [(False, status)]


async def exchange(simulator: Simulator, *, text: str = "Hello", timeout: float = 1.0) -> Any:
    async with SmppSession(config(simulator.address("smpp")[1]), Handler()) as session:
        await session.wait_bound()
        return await session.submit(sms(text=text), timeout=timeout)


@pytest.mark.parametrize(
    ("behaviour", "result", "taken"),
    [
        (Behaviour.ACCEPT, Accepted, True),
        (Behaviour.HANG, Unknown, False),
        (Behaviour.ACCEPT_SILENT, Unknown, True),
        (Behaviour.ACCEPT_RESET, Unknown, True),
        (Behaviour.ACCEPT_500, Unknown, True),
        (Behaviour.RESET, Unknown, False),
        (Behaviour.GARBAGE, Unknown, False),
        (Behaviour.DRIP, Unknown, True),
        (Behaviour.FAULT, Refused, False),
    ],
)
async def test_every_behaviour_is_met_by_the_session(behaviour: Behaviour, result: type, taken: bool) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=behaviour)), endpoints=ENDPOINTS) as simulator:
        assert isinstance(await exchange(simulator), result)
        assert [line["accepted"] for line in simulator.calls] == [taken]


async def test_a_long_message_is_one_call_with_an_id_for_each_segment() -> None:
    async with Simulator(endpoints=ENDPOINTS) as simulator:
        found = await exchange(simulator, text="x" * 400)

        assert isinstance(found, Accepted)
        assert len(set(found.message_ids)) == 3
        assert len(simulator.calls) == 1


async def test_a_refused_first_segment_ends_a_long_message() -> None:
    async with Simulator(Scenario(default=Rule(behaviour=Behaviour.REJECT)), endpoints=ENDPOINTS) as simulator:
        found = await exchange(simulator, text="x" * 400)

        assert isinstance(found, Refused | NotSent)
        assert found.message_ids == ()
        assert len(simulator.calls) == 1


async def test_a_bind_is_refused_by_the_rule_of_the_endpoint() -> None:
    handler = Handler()
    scenario = Scenario(default=Rule(behaviour=Behaviour.AUTH))
    async with (
        Simulator(scenario, endpoints=ENDPOINTS) as simulator,
        SmppSession(config(simulator.address("smpp")[1]), handler),
    ):
        assert await handler.event(BindRefused) == BindRefused(0x0F, StatusClass.AUTH_FAILED)


@pytest.mark.parametrize(
    ("pdu", "answer"),
    [
        (b"\x00\x00\x00\x10\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x07", (0x80000004, 0x04)),  # not bound
        (b"\x00\x00\x00\x10\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x07", (0x80000015, 0x00)),
        (b"\x00\x00\x00\x10\x00\x00\x01\x03\x00\x00\x00\x00\x00\x00\x00\x07", (0x80000000, 0x03)),
        (b"\x00\x00\x00\x07\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x07", (0x80000000, 0x02)),
    ],
)
async def test_a_pdu_out_of_place_is_answered(pdu: bytes, answer: tuple[int, int]) -> None:
    async with Simulator(endpoints=ENDPOINTS) as simulator:
        reader, writer = await asyncio.open_connection(*simulator.address("smpp"))
        writer.write(pdu)
        head = await reader.readexactly(16)
        writer.close()

    assert (int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")) == answer
