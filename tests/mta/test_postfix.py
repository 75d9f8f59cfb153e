"""A real Postfix as the server: what it limits, restricts and refuses, and what lies in its mailboxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

import pytest

from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    Part,
    RecipientRejected,
    Scope,
    Throttled,
)
from sluice.model.reasons import Reason
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials, classify
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.smtp_types import SmtpServer, Submission
from sluice.transports.provider_call import Transports, call_provider
from sluice.transports.smtp import open_smtp
from tests.mta import postfix as mta
from tests.mta.postfix import DOMAIN, UNKNOWN, Postfix
from tests.mta.servers import PASSWORD, USER, authentication, greylisting
from tests.polling import wait_until
from tests.transports.conftest import Certificate, certificate, transports
from tests.unit.providers.examples import an_attachment, an_email, outbound

__all__ = ["certificate", "transports"]  # fixtures
pytestmark = [pytest.mark.server, pytest.mark.timeout(120)]

ANA, BEN, EVE, GREY = (f"{name}@{DOMAIN}" for name in ("ana", "ben", "eve", "grey"))


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """The recipients that the greylist lets pass."""
    return set()


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, seen: set[str]) -> Iterator[Postfix]:
    try:
        programs = mta.find_programs(tmp_path_factory.mktemp("postfix-package"))
    except mta.PostfixMissingError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("postfix")
    with (
        greylisting(seen) as policy_port,
        authentication() as auth_port,
        mta.running(programs, folder, certificate, policy=policy_port, auth=auth_port) as started,
    ):
        yield started


async def send(
    transports: Transports, postfix: Postfix, service: str, message: OutboundMessage, **account: Any
) -> Outcome | Divided:
    fields = {"host": "127.0.0.1", "port": postfix.ports[service], "secure": False, "requireTLS": False}
    return await call_provider(SMTP, message, SmtpCredentials.model_validate(fields | account), transports, deadline=60)


def a_mail(*to: str, **changes: Any) -> OutboundMessage:
    """A mail whose subject is its own, so that it can be found in the mailboxes."""
    return outbound(an_email(to=to, **changes))


async def received(postfix: Postfix, recipient: str, subject: str, count: int = 1) -> list[EmailMessage]:
    """The mails with this subject in the mailbox of ``recipient``, once there are ``count``, parsed."""

    def found() -> list[EmailMessage] | None:
        parsed = [message_from_bytes(mail, policy=policy.default) for mail in postfix.mails(recipient)]
        matching = [mail for mail in parsed if mail["Subject"] == subject]
        return matching if len(matching) >= count else None

    return cast(list[EmailMessage], await wait_until(found))


async def test_starttls_and_auth_and_the_bytes_that_arrive(
    transports: Transports, postfix: Postfix, certificate: Certificate
) -> None:
    content = bytes(range(256)) * 2000
    file = an_attachment(content, filename="Übersicht 東京.pdf")
    mail = an_email(
        sender="Acmé GmbH <no-reply@example.com>",
        to=(f"Анна <{ANA}>",),
        cc=(BEN,),
        bcc=(EVE,),
        subject="Grüße aus 東京 ✓",
        text="Zeile 1\n.\n..\nFrom here\n\tÜber = 100 %\n" + "x" * 1500 + "\n",
        html="<p>Grüße</p>\n.\n",
        attachments=(file,),
    )
    outcome = await send(
        transports,
        postfix,
        "submission",
        outbound(mail, attachments={file.sha256: content}),
        tls={"caFile": str(certificate.file)},
        auth={"user": USER, "pass": PASSWORD},
    )

    assert isinstance(outcome, Accepted)
    assert f"{outcome.provider_message_id}: client=" in postfix.log()
    for recipient in (ANA, BEN, EVE):
        (found,) = await received(postfix, recipient, mail.subject)
        assert (found["To"], found["Cc"], found["Bcc"]) == (f"Анна <{ANA}>", BEN, None)
        assert (found["From"], found["Delivered-To"]) == (mail.sender, recipient)
        assert not found.defects
        assert "with ESMTPSA" in found["Received"]
        plain, html = (found.get_body((kind,)) for kind in ("plain", "html"))
        assert plain is not None
        assert html is not None
        texts = [part.get_content().replace("\r\n", "\n") for part in (plain, html)]
        assert texts == [mail.text, mail.html]
        (attached,) = found.iter_attachments()
        assert (attached.get_filename(), attached.get_content()) == ("Übersicht 東京.pdf", content)


async def test_a_wrong_password_is_refused(transports: Transports, postfix: Postfix, certificate: Certificate) -> None:
    outcome = await send(
        transports,
        postfix,
        "submission",
        a_mail(ANA),
        tls={"caFile": str(certificate.file)},
        auth={"user": USER, "pass": "wrong"},
    )

    assert isinstance(outcome, AuthFailed)
    assert outcome.detail.startswith("auth: 535 5.7.8 ")


async def test_f13_recipients_over_the_limit_get_one_mail_each(transports: Transports, postfix: Postfix) -> None:
    recipients = [f"r{number}@{DOMAIN}" for number in range(8)]

    outcome = await send(transports, postfix, "three_recipients", a_mail(*recipients, subject="F13"))

    assert isinstance(outcome, Accepted)
    assert len(outcome.provider_message_id.split()) == 3  # transactions
    for recipient in recipients:
        await received(postfix, recipient, "F13")
    assert Counter(len(postfix.mails(recipient)) for recipient in recipients) == {1: 8}


async def test_u1_the_known_recipients_get_the_mail(transports: Transports, postfix: Postfix) -> None:
    outcome = await send(transports, postfix, "plain", a_mail(ANA, UNKNOWN, BEN, subject="U1"))

    assert isinstance(outcome, Divided)
    accepted, refused = outcome.parts
    assert (accepted.recipients, type(accepted.outcome)) == ((ANA, BEN), Accepted)
    assert isinstance(refused, Part)
    assert isinstance(refused.outcome, RecipientRejected)
    assert (refused.recipients, refused.outcome.reason) == ((UNKNOWN,), Reason.UNKNOWN_RECIPIENT)
    for recipient in (ANA, BEN):
        assert len(await received(postfix, recipient, "U1")) == 1


async def test_a_mail_over_the_size_is_refused_before_it_is_sent(transports: Transports, postfix: Postfix) -> None:
    outcome = await send(transports, postfix, "small", a_mail(ANA, text="x" * 10_000))

    assert isinstance(outcome, Declined | RecipientRejected)
    assert outcome.reason is Reason.TOO_LARGE
    assert outcome.detail.startswith("mail: 552 5.3.4 the server takes 3000 bytes")


async def test_f1_our_name_satisfies_strict_restrictions(postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    async with open_smtp() as transport:
        reply = await transport.exchange(bare_mail(postfix, ehlo_name=None), deadline=60)

    assert isinstance(classify(reply), Accepted)


async def test_f1_a_name_that_postfix_refuses_is_about_the_account(postfix: Postfix) -> None:
    async with open_smtp() as transport:
        outcome = classify(await transport.exchange(bare_mail(postfix, ehlo_name="vm"), deadline=60))

    assert isinstance(outcome, Declined)
    assert outcome.scope is Scope.ACCOUNT
    assert "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname" in outcome.detail


def bare_mail(postfix: Postfix, *, ehlo_name: str | None) -> Submission:
    server = SmtpServer("127.0.0.1", postfix.ports["strict_helo"], ehlo_name=ehlo_name)
    return Submission(server, "no-reply@example.com", (ANA,), b"Subject: F1\r\n\r\nhello\r\n")


async def test_u2_a_greylisted_recipient_waits_and_the_others_do_not(
    transports: Transports, postfix: Postfix, seen: set[str]
) -> None:
    seen.add(ANA)

    first = await send(transports, postfix, "greylisting", a_mail(ANA, GREY, subject="U2"))
    seen.add(GREY)
    again = await send(
        transports, postfix, "greylisting", outbound(an_email(to=(ANA, GREY), subject="U2"), envelope=(GREY,))
    )

    assert isinstance(first, Divided)
    assert [part.recipients for part in first.parts] == [(ANA,), (GREY,)]
    greylisted = first.parts[1].outcome
    assert isinstance(greylisted, Throttled)
    assert (greylisted.scope, "450 4.7.1" in greylisted.detail or "450 4.2.0" in greylisted.detail) == (
        Scope.RECIPIENT,
        True,
    )
    assert isinstance(again, Accepted)
    for recipient in (ANA, GREY):
        (found,) = await received(postfix, recipient, "U2")
        assert found["To"] == f"{ANA}, {GREY}"
