"""The SMTP transport over loopback: at every phase, whether an error came before or after the final dot."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Throttled,
    Unknown,
)
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.smtp_types import Phase, SmtpReply, SmtpServer, Submission
from sluice.transports import smtp as smtp_module
from sluice.transports import smtp_session
from sluice.transports.provider_call import NoAnswerError, NotSentError, Transports, call_provider
from sluice.transports.smtp import open_smtp
from sluice_simulator import Behaviour, Latency, Rule, Scenario, Simulator, SmtpSettings
from tests.polling import virtual_time
from tests.transports.conftest import Certificate, server
from tests.unit.providers.examples import an_attachment, an_email, outbound

SHORT = 0.5  # seconds of virtual time: the deadline of a call that is expected never to end


def credentials(address: tuple[str, int], **fields: Any) -> SmtpCredentials:
    """An account without TLS, unless ``fields`` say otherwise."""
    plain = {"host": address[0], "port": address[1], "secure": False, "requireTLS": False}
    return SmtpCredentials.model_validate(plain | fields)


async def send(
    transports: Transports,
    simulator: Simulator,
    message: OutboundMessage | None = None,
    *,
    deadline: float = 10,
    **fields: Any,
) -> Outcome | Divided:
    account = credentials(simulator.address("smtp"), **fields)
    return await call_provider(SMTP, message or outbound(an_email()), account, transports, deadline=deadline)


OUTCOMES: list[tuple[Behaviour, type[Outcome]]] = [
    (Behaviour.ACCEPT, Accepted),
    (Behaviour.REJECT, RecipientRejected),
    (Behaviour.DECLINE, Declined),
    (Behaviour.DECLINE_ACCOUNT, Declined),
    (Behaviour.THROTTLE, Throttled),
    (Behaviour.AUTH, AuthFailed),
    (Behaviour.FAULT, ProviderFault),
    (Behaviour.HANG, Unknown),
    (Behaviour.DRIP, Unknown),
    (Behaviour.RESET, Unknown),
    (Behaviour.GARBAGE, Unknown),
    (Behaviour.ACCEPT_SILENT, Unknown),
    (Behaviour.ACCEPT_RESET, Unknown),
    (Behaviour.ACCEPT_500, Unknown),
]


@pytest.mark.parametrize(("do", "outcome"), OUTCOMES)
async def test_every_behaviour_of_a_server_has_its_outcome(
    transports: Transports, do: Behaviour, outcome: type[Outcome]
) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do))) as simulator:
        with virtual_time():
            assert type(await send(transports, simulator, deadline=SHORT)) is outcome


BEFORE_THE_DOT = [Phase.GREETING, Phase.EHLO, Phase.MAIL, Phase.RCPT, Phase.DATA]


@pytest.mark.parametrize("do", [Behaviour.HANG, Behaviour.RESET, Behaviour.DRIP, Behaviour.GARBAGE, Behaviour.FAULT])
@pytest.mark.parametrize("phase", BEFORE_THE_DOT)
async def test_an_accident_before_the_dot_was_not_sent(transports: Transports, phase: Phase, do: Behaviour) -> None:
    async with Simulator(Scenario(default=Rule(behaviour=do, phase=phase))) as simulator:
        with virtual_time():
            outcome = await send(transports, simulator, deadline=SHORT)

        assert isinstance(outcome, ProviderFault)
        assert not any(line["accepted"] for line in simulator.calls)


async def test_a_connection_lost_in_the_middle_of_the_message_was_not_sent() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok", b"354 go"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.transport.abort()

    async with open_smtp() as transport, server(talk) as port:
        with pytest.raises(NotSentError):
            await transport.exchange(submission(port, b"x" * 30_000_000), deadline=10)


async def test_a_server_that_stops_reading_was_not_sent_to() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        await asyncio.Event().wait()

    async with open_smtp() as transport, server(talk) as port:
        with virtual_time(), pytest.raises(NotSentError):
            await transport.exchange(submission(port, b"x" * 30_000_000), deadline=SHORT)


async def test_a_quit_that_fails_does_not_matter_any_more() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 2.0.0 Ok: queued as Q1\r\n")
        await reader.readline()
        writer.write(b"421 not that\r\n")

    async with open_smtp() as transport, server(talk) as port:
        reply = await transport.exchange(submission(port, b"hi"), deadline=10)

    assert reply == SmtpReply(Phase.END_OF_DATA, 250, "2.0.0 Ok: queued as Q1")


def submission(port: int, message: bytes, **changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "server": SmtpServer("127.0.0.1", port),
        "sender": "no-reply@example.com",
        "recipients": ("ana@example.org",),
        "message": message,
    }
    return Submission(**fields | changes)


# Refusals


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        (Rule(behaviour=Behaviour.FAULT, phase=Phase.GREETING), ProviderFault),
        (Rule(behaviour=Behaviour.THROTTLE, phase=Phase.GREETING), Throttled),
        (Rule(behaviour=Behaviour.AUTH, phase=Phase.MAIL), AuthFailed),
        (Rule(behaviour=Behaviour.REJECT, phase=Phase.MAIL), Declined),
        (Rule(behaviour=Behaviour.REJECT, phase=Phase.DATA), Declined),
        (Rule(behaviour=Behaviour.REJECT, phase=Phase.END_OF_DATA), Declined),
        (Rule(behaviour=Behaviour.THROTTLE, phase=Phase.END_OF_DATA), Throttled),
        (Rule(behaviour=Behaviour.AUTH, phase=Phase.END_OF_DATA), AuthFailed),
        (Rule(behaviour=Behaviour.REJECT, code="550 5.7.1 Relaying denied"), AuthFailed),
        (Rule(behaviour=Behaviour.REJECT, code="451 4.7.1 Greylisted"), Throttled),
    ],
)
async def test_a_refusal_is_understood_where_it_is_said(
    transports: Transports, rule: Rule, outcome: type[Outcome]
) -> None:
    async with Simulator(Scenario(default=rule)) as simulator:
        assert type(await send(transports, simulator)) is outcome


@pytest.mark.parametrize(("refused", "kind"), [("reject", RecipientRejected), ("throttle", Throttled)])
async def test_u1_when_one_recipient_is_refused_the_others_get_the_mail(
    transports: Transports, refused: str, kind: type[Outcome]
) -> None:
    mail = an_email(to=("ana@example.org",), cc=(f"{refused}+ben@example.org",), bcc=("eve@example.org",))
    async with Simulator() as simulator:
        outcome = await send(transports, simulator, outbound(mail))

        assert isinstance(outcome, Divided)
        accepted, other = outcome.parts
        assert (accepted.recipients, type(accepted.outcome)) == (("ana@example.org", "eve@example.org"), Accepted)
        assert (other.recipients, type(other.outcome)) == ((f"{refused}+ben@example.org",), kind)
        assert [line["recipients"] for line in simulator.calls if line["accepted"]] == [2]


async def test_a_mail_larger_than_the_server_takes_is_rejected_unsent(transports: Transports) -> None:
    async with Simulator(smtp=SmtpSettings(size=2000)) as simulator:
        outcome = await send(transports, simulator, outbound(an_email(text="x" * 3000)))

        assert isinstance(outcome, Declined)
        assert outcome.detail.startswith("mail: 552 5.3.4 ")
        assert simulator.calls == []


@pytest.mark.parametrize(("utf8", "outcome"), [(True, Accepted), (False, Declined)])
async def test_a_local_part_that_is_not_ascii_needs_smtputf8(
    transports: Transports, utf8: bool, outcome: type[Outcome]
) -> None:
    async with Simulator(smtp=SmtpSettings(utf8=utf8)) as simulator:
        found = await send(transports, simulator, outbound(an_email(to=("аня@example.org",))))

        assert type(found) is outcome
        assert [line["recipient"] for line in simulator.calls] == ["аня@example.org"] * utf8


async def test_an_international_domain_needs_no_smtputf8(transports: Transports) -> None:
    async with Simulator(smtp=SmtpSettings(utf8=False)) as simulator:
        found = await send(transports, simulator, outbound(an_email(to=("Ana <ana@straße.example>",))))

        assert isinstance(found, Accepted)
        assert [line["recipient"] for line in simulator.calls] == ["ana@xn--strae-oqa.example"]


# TLS and logging in


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize(
    ("tls", "outcome"),
    [
        ({"caFile": "{ca}"}, Accepted),
        ({"rejectUnauthorized": False}, Accepted),
        ({"caFile": "{ca}", "servername": "localhost"}, Accepted),
        ({}, AuthFailed),
        ({"caFile": "{ca}", "servername": "other.example"}, AuthFailed),
        ({"caFile": "/nowhere/ca.pem"}, AuthFailed),
    ],
)
async def test_the_certificate_is_checked_as_configured(
    transports: Transports, certificate: Certificate, implicit: bool, tls: dict[str, Any], outcome: type[Outcome]
) -> None:
    checks = {name: str(certificate.file) if value == "{ca}" else value for name, value in tls.items()}
    settings = SmtpSettings(tls=certificate.context, implicit=implicit)
    async with Simulator(smtp=settings) as simulator:
        auth = {"user": "u", "pass": "p"}
        found = await send(transports, simulator, secure=implicit, tls=checks, auth=auth)

        assert type(found) is outcome
        assert len(simulator.calls) == (outcome is Accepted)


async def test_finding_23_a_server_whose_starttls_was_removed_gets_no_mail(transports: Transports) -> None:
    async with Simulator() as simulator:
        host, port = simulator.address("smtp")
        account = SmtpCredentials.model_validate({"host": host, "port": port})

        outcome = await call_provider(SMTP, outbound(an_email()), account, transports, deadline=5)

        assert isinstance(outcome, AuthFailed)
        assert "STARTTLS is not offered" in outcome.detail
        assert simulator.calls == []


@pytest.mark.parametrize("fields", [{"auth": {"user": "u", "pass": "p"}}, {"requireTLS": True}])
async def test_nothing_secret_is_said_where_starttls_is_missing(transports: Transports, fields: dict[str, Any]) -> None:
    async with Simulator() as simulator:
        outcome = await send(transports, simulator, **fields)

        assert isinstance(outcome, AuthFailed)
        assert "STARTTLS" in outcome.detail
        assert simulator.calls == []


async def test_a_server_without_authentication_is_an_account_fault(
    transports: Transports, certificate: Certificate
) -> None:
    settings = SmtpSettings(tls=certificate.context, auth=False)
    async with Simulator(smtp=settings) as simulator:
        tls = {"caFile": str(certificate.file)}

        assert isinstance(await send(transports, simulator, tls=tls, auth={"user": "u", "pass": "p"}), AuthFailed)


async def test_a_refused_authentication_is_an_account_fault(transports: Transports, certificate: Certificate) -> None:
    scenario = Scenario(default=Rule(behaviour=Behaviour.AUTH, phase=Phase.AUTH))
    async with Simulator(scenario, smtp=SmtpSettings(tls=certificate.context)) as simulator:
        tls = {"caFile": str(certificate.file)}

        outcome = await send(transports, simulator, tls=tls, auth={"user": "u", "pass": "s3cret"})

        assert outcome == AuthFailed("auth: 535 5.7.8 Authentication credentials invalid")


async def test_tls_spoken_to_a_plain_port_is_a_matter_of_configuration(transports: Transports) -> None:
    async with Simulator() as simulator:
        assert isinstance(await send(transports, simulator, secure=True), AuthFailed)


@pytest.mark.parametrize("implicit", [True, False])
async def test_a_tls_handshake_that_breaks_off_was_not_sent(transports: Transports, implicit: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not implicit:
            for reply in (b"220 hi", b"250-me\r\n250 STARTTLS", b"220 go"):
                writer.write(reply + b"\r\n")
                await reader.readline()
        writer.close()
        await writer.wait_closed()

    async with server(talk) as port:
        account = credentials(("127.0.0.1", port), secure=implicit)

        assert isinstance(
            await call_provider(SMTP, outbound(an_email()), account, transports, deadline=5), ProviderFault
        )


async def test_a_plain_greeting_awaited_from_a_tls_port_was_not_sent(
    transports: Transports, certificate: Certificate
) -> None:
    settings = SmtpSettings(tls=certificate.context, implicit=True)
    async with Simulator(smtp=settings) as simulator:
        with virtual_time():
            assert isinstance(await send(transports, simulator, deadline=SHORT), ProviderFault)


async def test_a_refused_connection_is_not_sent(transports: Transports) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()

        outcome = await call_provider(SMTP, outbound(an_email()), credentials(address), transports, deadline=5)

    assert outcome == ProviderFault("not sent: greeting: the connection was refused")


@pytest.mark.parametrize("method", ["AUTH PLAIN", "AUTH LOGIN", "AUTH=LOGIN"])
async def test_the_password_travels_in_the_way_the_server_offers(certificate: Certificate, method: str) -> None:
    received: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            received.append(line.strip())
            writer.write({b"EHLO": f"250-me\r\n250 {method}\r\n".encode()}.get(line[:4], b""))
            writer.write(b"235 ok\r\n" if line.startswith(b"AUTH PLAIN") or line == b"cA==\r\n" else b"")
            writer.write(b"334 \r\n" if line in (b"AUTH LOGIN\r\n", b"dQ==\r\n") else b"")
            writer.write(b"550 no\r\n" if line.startswith(b"MAIL") else b"")

    account = SmtpCredentials.model_validate({"host": "127.0.0.1", "auth": {"user": "u", "pass": "p"}}).server
    async with open_smtp() as transport, server(talk) as port:
        plain = SmtpServer("127.0.0.1", port, user=account.user, password=account.password)
        await transport.exchange(submission(port, b"hi", server=plain), deadline=5)

    said = received[1 : 2 if "PLAIN" in method else 4]
    assert said == ([b"AUTH PLAIN AHUAcA=="] if "PLAIN" in method else [b"AUTH LOGIN", b"dQ==", b"cA=="])


# The pool


@pytest.fixture
def greetings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for every connection that the transport has opened."""
    opened: list[object] = []
    genuine = smtp_session.open_session

    async def counted(*arguments: Any) -> Any:
        opened.append(arguments[0])
        return await genuine(*arguments)

    monkeypatch.setattr(smtp_module, "open_session", counted)
    return opened


async def test_mails_one_after_the_other_share_a_connection(transports: Transports, greetings: list[object]) -> None:
    async with Simulator() as simulator:
        outcomes = [await send(transports, simulator) for _ in range(5)]

        assert {type(outcome) for outcome in outcomes} == {Accepted}
        assert len(greetings) == 1


async def test_another_password_is_another_connection(
    transports: Transports, certificate: Certificate, greetings: list[object]
) -> None:
    async with Simulator(smtp=SmtpSettings(tls=certificate.context)) as simulator:
        tls = {"caFile": str(certificate.file)}
        for password in ("old", "old", "new"):
            await send(transports, simulator, tls=tls, auth={"user": "u", "pass": password})

        assert len(greetings) == 2


async def test_a_refused_mail_leaves_a_clean_connection(transports: Transports, greetings: list[object]) -> None:
    async with Simulator() as simulator:
        refused = await send(transports, simulator, outbound(an_email(to=("reject+b@x.org",))))
        accepted = await send(transports, simulator)

        assert (type(refused), type(accepted)) == (RecipientRejected, Accepted)
        assert len(greetings) == 1
        assert simulator.calls[-1]["recipients"] == 1


@pytest.mark.parametrize("fresh", [0.0, 60.0])
async def test_a_pooled_connection_that_died_costs_nothing(
    transports: Transports, greetings: list[object], monkeypatch: pytest.MonkeyPatch, fresh: float
) -> None:
    monkeypatch.setattr(smtp_module, "PROBE_AFTER", fresh)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one mail; to whatever comes next on the same connection it answers by hanging up."""
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 ok\r\n")
        await reader.readuntil(b"\r\n")

    async with server(talk) as port:
        account = credentials(("127.0.0.1", port))
        outcomes = [await call_provider(SMTP, outbound(an_email()), account, transports, deadline=5) for _ in range(3)]

    assert {type(outcome) for outcome in outcomes} == {Accepted}
    assert len(greetings) == 3


async def test_a_pooled_connection_that_the_server_closes_costs_nothing(
    transports: Transports, greetings: list[object]
) -> None:
    async with Simulator() as simulator:
        await send(transports, simulator)
        simulator.apply_scenario(
            Scenario(default=Rule(behaviour=Behaviour.FAULT, code="421 4.4.2 idle too long", phase=Phase.MAIL))
        )
        refused = await send(transports, simulator)
        simulator.apply_scenario(Scenario())
        accepted = await send(transports, simulator)

        assert (type(refused), type(accepted)) == (ProviderFault, Accepted)
        assert len(greetings) == 3  # the first, the second's own try, and the third: 421 closes


async def test_an_old_connection_is_not_used_again(
    transports: Transports, greetings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_module, "MAX_IDLE", 0.0)
    async with Simulator() as simulator:
        for _ in range(3):
            assert isinstance(await send(transports, simulator), Accepted)

    assert len(greetings) == 3


async def test_many_mails_at_once_all_arrive_once(transports: Transports) -> None:
    async with Simulator(Scenario(default=Rule(latency=Latency(median=0.001, sigma=1)))) as simulator:
        messages = [outbound(an_email(), message_id=f"msg_{n}", reference=f"att_{n}") for n in range(100)]

        outcomes = await asyncio.gather(*(send(transports, simulator, message) for message in messages))

        assert {type(outcome) for outcome in outcomes} == {Accepted}
        assert sorted(str(line["message_id"]) for line in simulator.calls) == sorted(
            message.message_id for message in messages
        )
        assert {line["reference"] for line in simulator.calls} == {message.reference for message in messages}


# What arrives


class Kept:
    """An aiosmtpd handler: an SMTP server that shares no code with ours."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 Ok: queued as KEPT1"


@pytest.fixture
def independent() -> Iterator[tuple[Kept, tuple[str, int]]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    kept = Kept()
    controller = Controller(kept, hostname="127.0.0.1", port=port, enable_SMTPUTF8=True)
    controller.start()
    yield kept, ("127.0.0.1", port)
    controller.stop()


async def test_an_independent_server_gets_exactly_what_was_asked_for(
    transports: Transports, independent: tuple[Kept, tuple[str, int]]
) -> None:
    kept, address = independent
    content = bytes(range(256)) * 40
    file = an_attachment(content, filename="Übersicht.pdf")
    mail = an_email(
        sender="Acmé GmbH <no-reply@example.com>",
        to=("Анна <ana@example.org>",),
        bcc=("eve@example.org",),
        subject="Grüße aus 東京 ✓",
        text="Zeile 1\n.\n..\nFrom here\n\tÜber = 100 %\n",
        html="<p>Grüße</p>\n.\n",
        attachments=(file,),
    )
    message = outbound(mail, attachments={file.sha256: content})

    outcome = await call_provider(SMTP, message, credentials(address), transports, deadline=10)

    (envelope,) = kept.envelopes
    found = message_from_bytes(envelope.content, policy=policy.default)
    plain, html = (found.get_body((kind,)) for kind in ("plain", "html"))
    assert outcome == Accepted("KEPT1")
    assert (envelope.mail_from, envelope.rcpt_tos) == (
        "no-reply@example.com",
        ["ana@example.org", "eve@example.org"],
    )
    assert (found["Subject"], found["To"], found["From"], found["Bcc"]) == (
        mail.subject,
        mail.to[0],
        mail.sender,
        None,
    )
    assert plain is not None
    assert html is not None
    assert plain.get_content().replace("\r\n", "\n") == mail.text
    assert html.get_content().replace("\r\n", "\n") == mail.html
    (attached,) = found.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("Übersicht.pdf", content)


async def test_u8_quoted_local_parts_reach_two_independent_servers(
    transports: Transports, independent: tuple[Kept, tuple[str, int]]
) -> None:
    kept, address = independent
    mail = an_email(to=('Ana <"a b, c"@far.example>', '"<x>"@far.example', '"ben"@far.example', "ben@FAR.example"))

    async with Simulator() as simulator:
        for port in (address[1], simulator.endpoints["smtp"].port):
            found = await call_provider(SMTP, outbound(mail), credentials((address[0], port)), transports, deadline=10)
            assert isinstance(found, Accepted)

        (envelope,) = kept.envelopes
        assert envelope.rcpt_tos == ['"a b, c"@far.example', '"<x>"@far.example', "ben@far.example"]
        assert [(line["recipient"], line["recipients"]) for line in simulator.calls] == [('"a b, c"@far.example', 3)]


SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\nevil\r\n.\r\n"


@pytest.mark.parametrize(
    "end", [b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\r.\r\n", b"\n\n.\r\n"]
)
async def test_no_message_can_smuggle_in_a_second_one(independent: tuple[Kept, tuple[str, int]], end: bytes) -> None:
    kept, address = independent
    async with Simulator() as simulator, open_smtp() as transport:
        for port in (address[1], simulator.endpoints["smtp"].port):
            message = b"Subject: x\r\n\r\nhello" + end + SMUGGLED
            reply = await transport.exchange(submission(port, message), deadline=10)
            assert isinstance(reply, SmtpReply)
            assert reply.code == 250

        assert len(kept.envelopes) == len(simulator.calls) == 1
        assert b"evil" in kept.envelopes[0].content


async def test_every_line_end_is_sent_as_crlf() -> None:
    received: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        received.append(await reader.readuntil(b"\r\n.\r\n"))
        writer.write(b"250 ok\r\n")

    async with open_smtp() as transport, server(talk) as port:
        await transport.exchange(submission(port, b"a\n.\nb\r.\rc\r\n.d\n\re\r"), deadline=10)

    assert received == [b"a\r\n..\r\nb\r\n..\r\nc\r\n..d\r\n\r\ne\r\n.\r\n"]


@pytest.mark.parametrize(
    "recipient", ["ana@example.org>\r\nRCPT TO:<eve@example.org", "ana\n@example.org", "a\x00@b.c"]
)
async def test_no_command_can_smuggle_in_a_second_one(recipient: str) -> None:
    async with Simulator() as simulator, open_smtp() as transport:
        with pytest.raises(NotSentError):
            await transport.exchange(
                submission(simulator.endpoints["smtp"].port, b"hi", recipients=(recipient,)), deadline=10
            )

        assert simulator.calls == []


async def test_a_half_written_reply_to_the_dot_is_no_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in (b"220 hi", b"250 ok", b"250 ok", b"250 ok"):
            writer.write(reply + b"\r\n")
            await reader.readuntil(b"\r\n")
        writer.write(b"354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 2.0.0 O")
        await writer.drain()

    async with open_smtp() as transport, server(talk) as port:
        with pytest.raises(NoAnswerError):
            await transport.exchange(submission(port, b"hi"), deadline=10)
