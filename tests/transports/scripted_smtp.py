"""An SMTP server with exactly the replies of a test; it shares no code with the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tests.transports.conftest import server

Reply = str | Callable[[str], str | Awaitable[str]]


@dataclass
class Scripted:
    """``replies`` by verb (``greeting`` and ``dot`` are verbs here): a text, or a function of the command's argument.

    An empty reply is none at all; "close" closes the connection.
    """

    features: Sequence[str] = ()
    replies: dict[str, Reply] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)  # as received
    packets: list[int] = field(default_factory=list)  # commands that arrived together
    mails: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)  # recipients that were accepted, message
    connections: int = 0

    def serving(self, host: str = "127.0.0.1", port: int = 0) -> AbstractAsyncContextManager[int]:
        """The server until the block ends; the value is its port."""
        return server(self._talk, host, port)

    @property
    def recipients(self) -> list[str]:
        """The recipients of all mails, once for each mail."""
        return [recipient for recipients, _ in self.mails for recipient in recipients]

    async def _reply(self, writer: asyncio.StreamWriter, verb: str, argument: str, default: str) -> str:
        reply = self.replies.get(verb, default)
        said = reply if isinstance(reply, str) else reply(argument)
        text = said if isinstance(said, str) else await said
        if text == "close":
            raise EOFError
        writer.write(f"{text}\r\n".encode() if text else b"")
        return text

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        accepted: list[str] = []
        await self._reply(writer, "greeting", "", "220 scripted")
        while line := (await reader.readline()).decode():
            await asyncio.sleep(0)
            self.packets.append(bytes(reader._buffer).count(b"\n") + 1)  # type: ignore[attr-defined]
            self.commands.append(line.rstrip("\r\n"))
            verb, _, argument = line.strip().partition(" ")
            match verb.upper():
                case "EHLO":
                    lines = ["scripted", *self.features]
                    text = "".join(f"250-{one}\r\n" for one in lines[:-1]) + f"250 {lines[-1]}"
                    await self._reply(writer, "EHLO", argument, text)
                case "RCPT":
                    path = argument[4:-1]
                    if (await self._reply(writer, "RCPT", path, "250 ok")).startswith("25"):
                        accepted.append(path)
                case "DATA":
                    if (await self._reply(writer, "DATA", argument, "354 go")).startswith("354"):
                        message = await reader.readuntil(b"\r\n.\r\n")
                        text = await self._reply(writer, "dot", "", "250 2.0.0 Ok: queued as Q1")
                        if text.startswith("250"):
                            self.mails.append((tuple(accepted), message[:-3]))
                    accepted = []
                case "MAIL" | "RSET":
                    accepted = []
                    await self._reply(writer, verb, argument, "250 ok")
                case "QUIT":
                    return
                case _:
                    await self._reply(writer, verb.upper(), argument, "250 ok")
