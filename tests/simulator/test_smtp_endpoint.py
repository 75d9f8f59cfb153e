"""The SMTP endpoint: it takes exactly what was sent, and its resets are real ones."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from sluice.providers.kit.smtp_types import SmtpReply, SmtpServer, Submission
from sluice.transports.smtp import open_smtp
from sluice_simulator import Behaviour, Receipts, Rule, Scenario, Simulator
from tests.loopback import LOCAL


def submission(simulator: Simulator, message: bytes, *recipients: str) -> Submission:
    host, port = simulator.address("smtp")
    return Submission(SmtpServer(host, port), "a@example.com", recipients or ("ana@example.org",), message)


@pytest.mark.parametrize("message", [b"a\r\n.\r\n..\r\n.b\r\n", b".\r\n", b"\r\n", b"x" * 200_000 + b"\r\n.\r\n"])
async def test_the_message_is_taken_byte_for_byte(message: bytes) -> None:
    async with Simulator() as simulator, open_smtp(LOCAL) as transport:
        await transport.exchange(submission(simulator, message), deadline=10)

        assert [line["body"] for line in simulator.calls] == [sha256(message).hexdigest()]


async def say(simulator: Simulator, *lines: bytes) -> bytes:
    """All replies to these lines, until the server hangs up."""
    reader, writer = await asyncio.open_connection(*simulator.address("smtp"))
    try:
        writer.write(b"".join(line + b"\r\n" for line in lines))
        return await reader.read()
    finally:
        writer.transport.abort()


MAIL = (b"EHLO me", b"MAIL FROM:<a@example.com>", b"RCPT TO:<ana@example.org>", b"DATA", b"hi", b".")


@pytest.mark.parametrize("do", [Behaviour.RESET, Behaviour.ACCEPT_RESET])
async def test_a_reset_is_a_reset_and_not_an_end(do: Behaviour) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do))) as simulator:
        with pytest.raises(ConnectionResetError):
            await say(simulator, *MAIL)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"NONSENSE"], b"500"),
        ([b"MAIL FROM:a@example.com"], b"501"),
        ([b"MAIL FROM:<a@example.com>", b"RCPT TO:<>"], b"501"),
        ([b"MAIL FROM:<a@example.com>", b"DATA"], b"503"),
        ([b"MAIL FROM:<a@example.com>", b"MAIL FROM:<b@example.com>"], b"503"),
        ([b"STARTTLS"], b"502"),
        ([b"AUTH CRAM-MD5"], b"504"),
        ([b"NOOP"], b"250"),
    ],
)
async def test_it_answers_as_servers_do(lines: list[bytes], code: bytes) -> None:
    async with Simulator() as simulator:
        replies = await say(simulator, b"HELO me", *lines, b"QUIT")

        assert replies.splitlines()[-2][:3] == code
        assert replies.splitlines()[-1][:3] == b"221"


async def test_commands_sent_in_one_go_are_all_answered() -> None:
    async with Simulator() as simulator:
        replies = await say(simulator, *MAIL, *MAIL[1:], b"QUIT")

        assert replies.count(b"queued as") == 2
        assert simulator.endpoints["smtp"].accepted == 2


async def test_a_rule_for_a_later_recipient_decides_about_the_mail() -> None:
    scenario = Scenario(prefixes={"eve": Rule(behaviour=Behaviour.FAULT)}, default=Rule(receipts=Receipts(kinds=())))
    async with Simulator(scenario) as simulator, open_smtp(LOCAL) as transport:
        reply = await transport.exchange(
            submission(simulator, b"hi", "ana@example.org", "eve@example.org"), deadline=10
        )

        assert isinstance(reply, SmtpReply)
        assert reply.code == 451
        assert [line["accepted"] for line in simulator.calls] == [False]
