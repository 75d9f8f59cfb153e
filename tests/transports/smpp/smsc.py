"""``python -m tests.transports.smpp.smsc``: the SMSC of smpp34 as a process. It shares no code with Sluice.

A process of its own because smpp34's Rust threads can outlive the end of the interpreter and crash it. Commands come on
standard input, events go to standard output, both as lines of JSON. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import traceback
from collections import deque
from typing import Any

import smpp34

SUBMIT_FIELDS = (
    "source_addr", "source_addr_ton", "source_addr_npi", "destination_addr", "dest_addr_ton", "dest_addr_npi",
    "esm_class", "data_coding", "registered_delivery",
)  # fmt: skip


def emit(event: str, value: Any) -> None:
    print(json.dumps([event, value]), flush=True)


class Smsc:
    """Accepts every submit_sm with a counted id, or gives the answers that were prepared."""

    def __init__(self, server: smpp34.Server) -> None:
        self._server = server
        self._answers: deque[str | int] = deque()
        self._accepted = 0
        self._bind: smpp34.Esme | None = None

    async def events(self) -> None:
        while True:
            event = await self._server.next()
            if isinstance(event, smpp34.Esme):
                self._bind = event
                emit("bound", event.system_id)
            elif isinstance(event, smpp34.SubmitSmEvent):
                self._answer(event)
            else:
                emit("unbound", None)

    def _answer(self, event: smpp34.SubmitSmEvent) -> None:
        fields: dict[str, Any] = {name: getattr(event, name) for name in SUBMIT_FIELDS}
        fields["short_message"] = event.short_message.hex()
        fields["tlvs"] = [[tlv.tag, tlv.value.hex()] for tlv in event.tlvs]
        emit("submit", fields)
        self._accepted += 1
        answer = self._answers.popleft() if self._answers else f"{self._accepted:08X}"
        if isinstance(answer, int):
            event.reject(answer)
        else:
            event.accept(answer)

    async def commands(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            command, value = json.loads(line)
            if command == "answers":
                self._answers.extend(value)
                emit("prepared", None)
            elif command == "deliver":
                await self._deliver(value)
            elif command == "unbind":
                assert self._bind is not None
                await self._bind.unbind()

    async def _deliver(self, fields: dict[str, Any]) -> None:
        assert self._bind is not None
        tlvs = [smpp34.Tlv(tag, bytes.fromhex(value)) for tag, value in fields.pop("tlvs", [])]
        content = bytes.fromhex(fields.pop("short_message"))
        answer = await self._bind.deliver_sm("ACME", content, tlvs=tlvs, **{"source_addr": "2348012345678"} | fields)
        emit("delivered", answer.command_status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _main() -> None:
    port = _free_port()
    server = smpp34.Server("127.0.0.1", port, system_id="SMSC")
    await server.start()
    smsc = Smsc(server)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    emit("listening", port)
    serving = asyncio.create_task(smsc.events())
    commands = asyncio.create_task(smsc.commands(lines))
    done, _ = await asyncio.wait((serving, commands), return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if error := task.exception():
            traceback.print_exception(error)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main())
