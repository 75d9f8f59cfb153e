"""``python -m tests.simulator.smpp_client PORT``: the client of smpp34, which shares no code with Sluice.

It submits what comes on standard input as a JSON list of ``[recipient, text, receipts]`` and prints the answers and the
receipts as JSON. A process of its own because smpp34's threads can outlive the end of the interpreter and crash it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import smpp34


async def main(port: int, messages: list[tuple[str, str, int]]) -> None:
    session = await smpp34.Client("127.0.0.1", port, "acme", "secret").connect()
    answers, receipts = [], []
    for recipient, text, expected in messages:
        answer = await session.submit_sm(
            recipient, text.encode(), source_addr="ACME", registered_delivery=int(expected > 0)
        )
        answers.append([answer.command_status, answer.message_id])
        for _ in range(expected):
            event = await session.next()
            assert isinstance(event, smpp34.DeliverSmEvent)
            receipts.append([event.esm_class, event.source_addr, event.short_message.decode()])
    await session.unbind()
    print(json.dumps({"answers": answers, "receipts": receipts}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(sys.stdin.read())))
