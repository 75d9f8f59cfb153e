"""SMTP as a patient client: time limits of steps, addresses of a host, its own name, and limits of the server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from sluice.model.outcome import Accepted, Divided, Outcome, Part, RecipientRejected
from sluice.model.reasons import Reason
from sluice.providers.adapters.smtp import classify
from sluice.providers.kit.smtp_types import DividedReply, PartReply, Phase, SmtpReply, SmtpServer, Submission
from sluice.transports import smtp as smtp_module
from sluice.transports import smtp_connect
from sluice.transports.provider_call import NoAnswerError, NotSentError
from sluice.transports.settings import TransportSettings
from sluice.transports.smtp import SmtpTransport, open_smtp
from tests.loopback import LOCAL, LOOPBACK_NETWORKS
from tests.polling import virtual_time
from tests.transports.conftest import server
from tests.transports.scripted_smtp import Scripted

FOREVER = 100_000.0  # seconds of virtual time: the deadline of a call whose steps decide
LIMITS = TransportSettings(outgoing_allow=LOOPBACK_NETWORKS)


def submission(port: int, recipients: int | tuple[str, ...] = 1, **changes: Any) -> Submission:
    if isinstance(recipients, int):
        recipients = tuple(f"r{number}@example.org" for number in range(recipients))
    fields: dict[str, Any] = {
        "server": SmtpServer(changes.pop("host", "127.0.0.1"), port, ehlo_name=changes.pop("ehlo_name", None)),
        "sender": "no-reply@example.com",
        "recipients": recipients,
        "message": b"Subject: x\r\n\r\nhello\r\n",
    }
    return Submission(**fields | changes)


async def send(transport: SmtpTransport, request: Submission, *, deadline: float = FOREVER) -> Outcome | Divided:
    return classify(await transport.exchange(request, deadline=deadline))


def after(seconds: float, reply: str = "250 ok") -> Callable[[str], Awaitable[str]]:
    async def late(_: str) -> str:
        await asyncio.sleep(seconds)
        return reply

    return late


# F12: time limits of the steps


@pytest.mark.parametrize(
    ("verb", "reply", "seconds"),
    [
        ("greeting", "220 hi", 290),
        ("EHLO", "250 hi", 290),
        ("MAIL", "250 ok", 290),
        ("RCPT", "250 ok", 290),
        ("DATA", "354 go", 115),
        ("dot", "250 2.0.0 Ok: queued as Q1", 590),
    ],
)
async def test_f12_a_server_may_take_the_time_that_rfc_5321_gives_it(verb: str, reply: str, seconds: float) -> None:
    scripted = Scripted(replies={verb: after(seconds, reply)})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with virtual_time():
            assert await send(transport, submission(port)) == Accepted("Q1")

    assert len(scripted.mails) == 1


@pytest.mark.parametrize(
    ("verb", "seconds", "error"),
    [
        ("greeting", 300, NotSentError),
        ("EHLO", 300, NotSentError),
        ("MAIL", 300, NotSentError),
        ("RCPT", 300, NotSentError),
        ("DATA", 120, NotSentError),
        ("dot", 600, NoAnswerError),
    ],
)
async def test_f12_a_server_that_hangs_is_left_at_the_limit_of_the_step(
    verb: str, seconds: float, error: type[Exception]
) -> None:
    scripted = Scripted(replies={verb: ""})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with virtual_time():
            began = asyncio.get_running_loop().time()
            with pytest.raises(error, match="the deadline has passed"):
                await transport.exchange(submission(port), deadline=FOREVER)
            took = asyncio.get_running_loop().time() - began

    assert seconds - 1 < took < seconds + 5


async def test_f12_the_time_for_200_recipients_is_not_that_of_one() -> None:
    scripted = Scripted(replies={"RCPT": after(60)})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with virtual_time():
            request = submission(port, 200, max_recipients=1000)
            assert await send(transport, request) == Accepted("Q1")

    assert len(scripted.recipients) == 200


async def test_f12_a_slow_line_may_take_longer_than_any_limit() -> None:
    """6 MB, of which the server takes 64 KiB every 10 s: 16 minutes, all of them progress."""
    reported: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        tail = b""
        while not tail.endswith(b"\r\n.\r\n"):
            tail = (tail + await reader.read(65536))[-8:]
            await asyncio.sleep(10)
        writer.write(b"250 2.0.0 Ok: queued as Q1\r\n")

    async with open_smtp(LOCAL) as transport, server(talk, receive_buffer=65536) as port:
        with virtual_time():
            request = submission(port, message=b"x" * 62 * 1024 * 100)
            reply = await transport.exchange(request, deadline=FOREVER, on_progress=reported.append)

    assert classify(reply) == Accepted("Q1")
    assert reported.count(LIMITS.smtp_block_timeout) == 97  # blocks of 64 KiB


async def test_the_deadline_of_the_call_is_above_all_steps() -> None:
    scripted = Scripted(replies={"RCPT": after(200)})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with virtual_time(), pytest.raises(NotSentError):
            await transport.exchange(submission(port, 100), deadline=1000)

    assert scripted.mails == []


async def test_a_probe_of_an_idle_connection_that_hangs_costs_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_module, "PROBE_AFTER", 0.0)
    scripted = Scripted(replies={"RSET": ""})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        await send(transport, submission(port))
        with virtual_time():
            assert await send(transport, submission(port), deadline=smtp_module.PROBE_TIMEOUT + 1) == Accepted("Q1")

    assert scripted.connections == 2


# F4: addresses of a host


@contextmanager
def name_with(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> Iterator[str]:
    """A host name with these addresses, in this order."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **more: Any) -> Any:
        if host != "mail.example":
            return await resolve(host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "getaddrinfo", getaddrinfo)
        yield "mail.example"


@contextmanager
def deaf(host: str, port: int) -> Iterator[None]:
    """An address that drops every SYN: a listener whose queue is full."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((host, port))
            waiting.append(client)
        yield
        for client in waiting:
            client.close()


async def test_f4_an_address_that_drops_connections_does_not_hide_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted()
    async with open_smtp(LOCAL) as transport, scripted.serving("127.0.0.77") as port:
        with deaf("127.0.0.79", port), name_with(monkeypatch, "127.0.0.79", "127.0.0.77") as host:
            assert await send(transport, submission(port, host=host), deadline=8) == Accepted("Q1")


@pytest.mark.parametrize(
    "greeting", ["", "close", "421 4.3.2 not now", "554 5.3.2 no service", "welcome to the hotel"], ids=str
)
async def test_f4_an_address_that_does_not_greet_does_not_hide_the_next(
    monkeypatch: pytest.MonkeyPatch, greeting: str
) -> None:
    bad, good = Scripted(replies={"greeting": greeting}), Scripted()
    async with (
        open_smtp(LOCAL) as transport,
        good.serving("127.0.0.77") as port,
        bad.serving("127.0.0.78", port),
    ):
        with name_with(monkeypatch, "127.0.0.78", "127.0.0.77") as host, virtual_time():
            assert await send(transport, submission(port, host=host), deadline=15) == Accepted("Q1")

    assert (bad.connections, len(good.mails)) == (1, 1)


async def test_f4_a_refused_and_a_hanging_address_are_both_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, good = Scripted(replies={"greeting": ""}), Scripted()
    async with (
        open_smtp(LOCAL) as transport,
        good.serving("127.0.0.77") as port,
        hanging.serving("127.0.0.78", port),
    ):
        with name_with(monkeypatch, "127.0.0.79", "127.0.0.78", "127.0.0.77") as host, virtual_time():
            assert await send(transport, submission(port, host=host), deadline=15) == Accepted("Q1")


async def test_f4_the_last_address_may_delay_its_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Scripted(replies={"greeting": after(200, "220 hi")})
    async with (
        open_smtp(LOCAL) as transport,
        slow.serving("127.0.0.77") as port,
        slow.serving("127.0.0.78", port),
    ):
        with name_with(monkeypatch, "127.0.0.78", "127.0.0.77") as host, virtual_time():
            assert await send(transport, submission(port, host=host)) == Accepted("Q1")


async def test_when_no_address_greets_the_mail_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Scripted(replies={"greeting": "close"})
    async with (
        open_smtp(LOCAL) as transport,
        bad.serving("127.0.0.77") as port,
        bad.serving("127.0.0.78", port),
    ):
        with name_with(monkeypatch, "127.0.0.78", "127.0.0.77") as host, pytest.raises(NotSentError):
            await transport.exchange(submission(port, host=host), deadline=10)

    assert bad.connections == 2


async def test_a_wrong_certificate_is_no_reason_to_try_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def refuse(server: SmtpServer, sock: socket.socket, *_: Any) -> Any:
        tried.append(sock.getpeername()[0])
        sock.close()
        raise smtp_connect.SmtpRefusedError(Phase.TLS, 0, "the certificate is not valid")

    monkeypatch.setattr(smtp_connect, "_start_protocol", refuse)
    scripted = Scripted()
    async with (
        open_smtp(LOCAL) as transport,
        scripted.serving("127.0.0.77") as port,
        scripted.serving("127.0.0.78", port),
    ):
        with name_with(monkeypatch, "127.0.0.78", "127.0.0.77") as host:
            reply = await transport.exchange(submission(port, host=host), deadline=10)

    assert (reply, len(tried)) == (SmtpReply(Phase.TLS, 0, "the certificate is not valid"), 1)


# F1: our own name


@pytest.mark.parametrize(
    ("machine", "installation", "account", "name"),
    [
        ("vm", None, None, "[127.0.0.1]"),
        ("4f2a91c0aa11", None, None, "[127.0.0.1]"),
        ("host_1.example", None, None, "[127.0.0.1]"),
        ("mail.example.com", None, None, "mail.example.com"),
        ("mail.example.com", "relay.example.com", None, "relay.example.com"),
        ("mail.example.com", "relay.example.com", "other.example.com", "other.example.com"),
    ],
)
async def test_f1_the_name_in_ehlo(
    monkeypatch: pytest.MonkeyPatch, machine: str, installation: str | None, account: str | None, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    scripted = Scripted()
    async with (
        open_smtp(LOCAL.model_copy(update={"smtp_ehlo_name": installation})) as transport,
        scripted.serving() as port,
    ):
        await send(transport, submission(port, ehlo_name=account))

    assert scripted.commands[0] == f"EHLO {name}"


async def test_f1_the_literal_of_an_ipv6_connection() -> None:
    scripted = Scripted()
    try:
        async with open_smtp(LOCAL) as transport, scripted.serving("::1") as port:
            transport._ehlo_name = None
            await send(transport, submission(port, host="::1"))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    assert scripted.commands[0] == "EHLO [IPv6:::1]"


@pytest.mark.parametrize("name", ["vm", "a b.example", "[999]x", "x\r\nMAIL"])
def test_f1_the_installations_name_is_checked(name: str) -> None:
    with pytest.raises(ValueError, match="fully qualified name or an address literal"):
        TransportSettings(outgoing_allow=LOOPBACK_NETWORKS, smtp_ehlo_name=name)


# Pipelining


@pytest.mark.parametrize("pipelining", [True, False])
async def test_commands_travel_together_only_where_the_server_allows_it(pipelining: bool) -> None:
    scripted = Scripted(features=["PIPELINING"] if pipelining else ["8BITMIME"])
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        assert await send(transport, submission(port, 50)) == Accepted("Q1")

    assert max(scripted.packets) == (51 if pipelining else 1)
    assert scripted.commands.index("DATA") == 52  # EHLO, MAIL, 50 RCPT


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_refused_sender_leaves_a_usable_connection(pipelining: bool) -> None:
    answers = iter(["550 5.7.1 no", "250 ok"])
    scripted = Scripted(
        features=["PIPELINING"] if pipelining else ["8BITMIME"], replies={"MAIL": lambda _: next(answers)}
    )
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        first = await transport.exchange(submission(port, 20), deadline=10)
        second = await transport.exchange(submission(port, 20), deadline=10)

    assert (first, scripted.connections) == (SmtpReply(Phase.MAIL, 550, "5.7.1 no"), 1)
    assert classify(second) == Accepted("Q1")
    assert len(scripted.recipients) == 20


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_connection_that_ends_among_pipelined_replies_was_not_sent_to(verb: str) -> None:
    scripted = Scripted(features=["PIPELINING"], replies={verb: "close"})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with pytest.raises(NotSentError, match="the server closed the connection"):
            await transport.exchange(submission(port, 20), deadline=10)


async def test_a_reply_that_is_not_smtp_among_pipelined_ones_was_not_sent() -> None:
    scripted = Scripted(features=["PIPELINING"], replies={"RCPT": "hello there"})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with pytest.raises(NotSentError, match="the reply was not SMTP"):
            await transport.exchange(submission(port, 20), deadline=10)


async def test_421_among_the_recipients_is_the_reply_to_all_that_are_left() -> None:
    said = iter(["250 ok", "550 5.1.1 unknown", "421 4.7.0 too many errors"])
    scripted = Scripted(features=["PIPELINING"], replies={"RCPT": lambda _: next(said, "close")})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        reply = await transport.exchange(submission(port, 5), deadline=10)

    assert reply == DividedReply(
        (
            PartReply(
                ("r0@example.org", "r2@example.org", "r3@example.org", "r4@example.org"),
                SmtpReply(Phase.RCPT, 421, "4.7.0 too many errors"),
            ),
            PartReply(("r1@example.org",), SmtpReply(Phase.RCPT, 550, "5.1.1 unknown")),
        )
    )


# F13: limits of the server


def at_most(limit: int, reply: str, scripted: Scripted) -> Callable[[str], str]:
    """A reply to RCPT that takes ``limit`` recipients in a transaction."""

    def say(_: str) -> str:
        begun = max(at for at, line in enumerate(scripted.commands) if line.startswith("MAIL"))
        return "250 ok" if len(scripted.commands) - begun - 1 <= limit else reply

    return say


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    "reply", ["452 4.5.3 Error: too many recipients", "452 Too many recipients", "552 Too many", "550 5.5.3 Too many"]
)
async def test_f13_recipients_over_the_servers_limit_are_sent_to_in_further_transactions(
    reply: str, pipelining: bool
) -> None:
    scripted = Scripted(features=["PIPELINING"] if pipelining else ["8BITMIME"])
    scripted.replies["RCPT"] = at_most(3, reply, scripted)
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        assert await send(transport, submission(port, 8)) == Accepted("Q1")

    assert [len(recipients) for recipients, _ in scripted.mails] == [3, 3, 2]
    assert sorted(scripted.recipients) == [f"r{number}@example.org" for number in range(8)]
    assert scripted.connections == 1


async def test_f13_our_own_limit_and_the_one_that_the_server_states() -> None:
    scripted = Scripted(features=["LIMITS RCPTMAX=4 MAILMAX=2"])
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        assert await send(transport, submission(port, 10, max_recipients=6)) == Accepted("Q1")

    assert [len(recipients) for recipients, _ in scripted.mails] == [4, 4, 2]
    assert (len(set(scripted.recipients)), scripted.connections) == (10, 2)


async def test_f13_a_server_that_takes_no_recipient_is_not_asked_for_ever() -> None:
    scripted = Scripted(replies={"RCPT": "452 4.5.3 too many recipients"})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        reply = await transport.exchange(submission(port, 5), deadline=10)

    assert isinstance(reply, DividedReply)
    (part,) = reply.parts
    assert (len(part.recipients), part.reply) == (5, SmtpReply(Phase.RCPT, 452, "4.5.3 too many recipients"))
    assert sum(line.startswith("RCPT") for line in scripted.commands) == 5
    assert scripted.mails == []


async def test_f13_a_later_transaction_that_is_refused_concerns_its_recipients() -> None:
    said = iter(["250 2.0.0 Ok: queued as Q1", "451 4.3.0 disk full"])
    scripted = Scripted(replies={"dot": lambda _: next(said)})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        reply = await transport.exchange(submission(port, 6, max_recipients=2), deadline=10)

    assert reply == DividedReply(
        (
            PartReply(
                ("r0@example.org", "r1@example.org"), SmtpReply(Phase.END_OF_DATA, 250, "2.0.0 Ok: queued as Q1")
            ),
            PartReply(
                ("r2@example.org", "r3@example.org", "r4@example.org", "r5@example.org"),
                SmtpReply(Phase.END_OF_DATA, 451, "4.3.0 disk full"),
            ),
        )
    )


@pytest.mark.parametrize("first", [True, False], ids=["in the first transaction", "in the second"])
async def test_f13_a_missing_reply_is_unknown_for_its_transaction_only(first: bool) -> None:
    said = iter(["close"] if first else ["250 2.0.0 Ok: queued as Q1", "close"])
    scripted = Scripted(replies={"dot": lambda _: next(said)})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        outcome = await send(transport, submission(port, 5, max_recipients=2), deadline=10)

    assert isinstance(outcome, Divided)
    found = [(type(part.outcome).__name__, len(part.recipients)) for part in outcome.parts]
    assert found == (
        [("Unknown", 2), ("ProviderFault", 3)] if first else [("Accepted", 2), ("Unknown", 2), ("ProviderFault", 1)]
    )


async def test_a_refused_sender_ends_the_submission() -> None:
    scripted = Scripted(replies={"MAIL": "550 5.7.1 not yours"})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        reply = await transport.exchange(submission(port, 6, max_recipients=2), deadline=10)

    assert reply == SmtpReply(Phase.MAIL, 550, "5.7.1 not yours")
    assert sum(line.startswith("MAIL") for line in scripted.commands) == 1


async def test_u1_the_data_is_not_begun_when_no_recipient_is_accepted() -> None:
    scripted = Scripted(features=["PIPELINING"], replies={"RCPT": lambda path: f"550 5.1.1 {path} unknown"})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        outcome = await send(transport, submission(port, 2), deadline=10)

    assert outcome == Divided(
        tuple(
            Part(
                (f"r{number}@example.org",),
                RecipientRejected(Reason.UNKNOWN_RECIPIENT, f"rcpt: 550 5.1.1 r{number}@example.org unknown"),
            )
            for number in range(2)
        )
    )
    assert "DATA" not in scripted.commands


# U10: AUTH in two lines


@pytest.mark.parametrize(
    "lines", [("AUTH LOGIN", "AUTH=CRAM-MD5"), ("AUTH=CRAM-MD5", "AUTH LOGIN"), ("AUTH CRAM-MD5", "auth login")]
)
async def test_u10_the_lines_with_mechanisms_count_together(lines: tuple[str, str]) -> None:
    scripted = Scripted(features=list(lines), replies={"AUTH": "334 ", "dQ==": "334 ", "CA==": "235 ok"})
    scripted.replies["DQ=="], scripted.replies["CA=="] = "334 ", "235 ok"
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        account = SmtpServer("127.0.0.1", port, user="u", password=SecretStr("p"))
        assert await send(transport, submission(port, server=account)) == Accepted("Q1")

    assert scripted.commands[1:4] == ["AUTH LOGIN", "dQ==", "cA=="]
