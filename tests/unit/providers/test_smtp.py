"""provider-smtp: credentials, envelope, and every row of the reply rules."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    Part,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials, build, classify
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.responses import MAX_RETRY_AFTER
from sluice.providers.kit.smtp_types import DividedReply, PartReply, Phase, SmtpReply
from tests.unit.providers.examples import HIDDEN, Sample, an_attachment, an_email, an_sms, outbound

SAMPLE = Sample({"host": "mx.example.com", "auth": {"user": "u", "pass": HIDDEN}})
GREETING, EHLO, TLS, AUTH = Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH
MAIL, RCPT, DATA, DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.END_OF_DATA

Expected = type[Outcome] | tuple[type[Outcome], Scope]
DECLINED, BY_ACCOUNT = (Declined, Scope.MESSAGE), (Declined, Scope.ACCOUNT)
GREYLISTED = (Throttled, Scope.RECIPIENT)
THROTTLED = (Throttled, Scope.ACCOUNT)

ROWS: list[tuple[Phase, int, str, Expected]] = [
    # connect, greeting, EHLO
    (GREETING, 421, "Service not available", ProviderFault),
    (GREETING, 521, "5.3.2 No service for you", ProviderFault),
    (GREETING, 554, "5.3.2 No service for you", BY_ACCOUNT),
    (GREETING, 554, "5.7.1 Client host blocked using dnsbl.example", BY_ACCOUNT),
    (GREETING, 550, "5.7.1 Your IP address has a bad reputation", BY_ACCOUNT),
    (GREETING, 421, "4.7.0 Too many concurrent SMTP connections", THROTTLED),
    (EHLO, 502, "What?", ProviderFault),
    (EHLO, 421, "closing", ProviderFault),
    (EHLO, 504, "5.5.2 <vm>: Helo command rejected: need fully-qualified hostname", BY_ACCOUNT),
    (EHLO, 550, "5.7.1 bad HELO", BY_ACCOUNT),
    # TLS
    (TLS, 0, "the certificate is not valid: self-signed certificate", AuthFailed),
    (TLS, 0, "STARTTLS is not offered", AuthFailed),
    (TLS, 0, "TLS failed: WRONG_VERSION_NUMBER", AuthFailed),
    (TLS, 502, "5.5.1 Not implemented", AuthFailed),
    (TLS, 454, "4.7.0 TLS not available due to temporary reason", ProviderFault),
    # AUTH
    (AUTH, 535, "5.7.8 Authentication credentials invalid", AuthFailed),
    (AUTH, 535, "Account not subscribed to SES", AuthFailed),
    (AUTH, 530, "5.7.0 Authentication required", AuthFailed),
    (AUTH, 534, "5.7.9 Mechanism too weak", AuthFailed),
    (AUTH, 538, "5.7.11 Encryption required", AuthFailed),
    (AUTH, 504, "Mechanism not known", AuthFailed),
    (AUTH, 432, "4.7.12 A password transition is needed", AuthFailed),
    (AUTH, 0, "the server offers neither AUTH PLAIN nor AUTH LOGIN", AuthFailed),
    (AUTH, 454, "4.7.0 Temporary authentication failure", ProviderFault),
    (AUTH, 421, "4.3.0 try later", ProviderFault),
    (AUTH, 451, "4.3.0 local error", ProviderFault),
    (AUTH, 451, "Authentication failed: Maximum credits exceeded", AuthFailed),
    # MAIL
    (MAIL, 550, "5.7.1 Sender not allowed", DECLINED),
    (MAIL, 553, "5.7.1 <a@b>: Sender address rejected: not owned by user c", DECLINED),
    (MAIL, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", DECLINED),
    (MAIL, 553, "5.1.8 Bad sender", DECLINED),
    (MAIL, 553, "5.1.7 Bad sender syntax", DECLINED),
    (MAIL, 550, "5.7.23 SPF validation failed", DECLINED),
    (MAIL, 530, "5.7.0 Must issue a STARTTLS command first", AuthFailed),
    (MAIL, 530, "Authentication required", AuthFailed),
    (MAIL, 550, "5.7.1 Client was not authenticated", AuthFailed),
    (MAIL, 403, "You are not authorized to send from that email address", DECLINED),
    (MAIL, 552, "Message is too long.", DECLINED),
    (MAIL, 552, "5.3.4 Message size exceeds fixed limit", DECLINED),
    (MAIL, 500, "5.3.4 too big", DECLINED),
    (MAIL, 553, "5.6.7 the server does not take non-ASCII addresses", DECLINED),
    (MAIL, 555, "5.5.4 Unsupported option: SMTPUTF8", DECLINED),
    (MAIL, 554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", BY_ACCOUNT),
    (MAIL, 554, "5.7.1 no", BY_ACCOUNT),
    (MAIL, 550, "5.4.5 Daily user sending limit exceeded", BY_ACCOUNT),
    (MAIL, 550, "5.7.1 Your account has been suspended", BY_ACCOUNT),
    (MAIL, 451, "4.3.0 busy", ProviderFault),
    (MAIL, 450, "4.7.1 slow down", THROTTLED),
    # RCPT
    (RCPT, 550, "5.1.1 User unknown", RecipientRejected),
    (RCPT, 550, "5.1.2 Bad destination domain", RecipientRejected),
    (RCPT, 550, "<x@y>: Recipient address rejected: User unknown in virtual mailbox table", RecipientRejected),
    (RCPT, 550, "No such user here", RecipientRejected),
    (RCPT, 550, "Unrouteable address", RecipientRejected),
    (RCPT, 553, "Invalid email address", RecipientRejected),
    (RCPT, 551, "User not local", RecipientRejected),
    (RCPT, 553, "5.1.3 Bad address syntax", RecipientRejected),
    (RCPT, 501, "5.1.3 Bad recipient address syntax", RecipientRejected),
    (RCPT, 550, "5.1.6 Mailbox has moved", RecipientRejected),
    (RCPT, 556, "5.1.10 Recipient has a null MX", RecipientRejected),
    (RCPT, 550, "5.2.1 Mailbox disabled", RecipientRejected),
    (RCPT, 552, "5.2.2 Mailbox full", DECLINED),
    (RCPT, 554, "5.7.1 Recipient address rejected: policy", DECLINED),
    (RCPT, 554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using dnsbl.example", BY_ACCOUNT),
    (RCPT, 554, "5.7.1 Client host blocked using (dnsbl)", BY_ACCOUNT),
    (RCPT, 550, "5.7.1 refused", BY_ACCOUNT),
    (RCPT, 554, "refused", BY_ACCOUNT),
    (RCPT, 504, "5.5.2 <vm>: Helo command rejected: need fully-qualified hostname", BY_ACCOUNT),
    (RCPT, 550, "5.4.5 Daily user sending limit exceeded", BY_ACCOUNT),
    (RCPT, 550, "5.7.1 <a@b>: Sender address rejected: not owned by user c", DECLINED),
    (RCPT, 550, "5.7.26 This mail has been blocked because the sender is unauthenticated", DECLINED),
    (RCPT, 550, "5.5.3 Too many recipients", DECLINED),
    (RCPT, 550, "5.7.1 Relaying denied", AuthFailed),
    (RCPT, 554, "5.7.1 Relay access denied", AuthFailed),
    (RCPT, 550, "Please authenticate first", AuthFailed),
    (RCPT, 530, "Authentication required", AuthFailed),
    (RCPT, 521, "does not accept mail", DECLINED),
    (RCPT, 550, "Administrative prohibition", DECLINED),
    (RCPT, 452, "4.5.3 Too many recipients", GREYLISTED),
    (RCPT, 450, "4.2.1 Mailbox receives too fast", GREYLISTED),
    (RCPT, 450, "4.2.0 Greylisted, try again in 300 seconds", GREYLISTED),
    (RCPT, 451, "4.7.1 Greylisted", GREYLISTED),
    (RCPT, 452, "4.2.2 Mailbox full", GREYLISTED),
    (RCPT, 452, "4.3.1 Insufficient system storage", ProviderFault),
    # DATA and the final dot
    (DOT, 552, "5.3.4 too big", DECLINED),
    (DOT, 554, "5.2.3 message length exceeds administrative limit", DECLINED),
    (DOT, 554, "5.6.0 malformed content", DECLINED),
    (DOT, 550, "5.7.1 looks like spam", DECLINED),
    (DOT, 554, "5.7.1 Message refused by policy", DECLINED),
    (DOT, 550, "5.7.26 Unauthenticated email from example.com is not accepted due to DMARC policy", DECLINED),
    (DOT, 554, "5.7.1 You have exceeded your daily sending limit", BY_ACCOUNT),
    (DOT, 554, "5.7.1 Our system has detected a poor reputation of your IP", BY_ACCOUNT),
    (DOT, 554, "Message rejected: Email address is not verified.", DECLINED),
    (DOT, 554, "Access denied: User is not authorized", AuthFailed),
    (DATA, 554, "5.5.1 No valid recipients", DECLINED),
    (DOT, 500, "no", DECLINED),
    # anywhere before acceptance
    (DOT, 421, "4.4.2 timeout", ProviderFault),
    (DOT, 451, "Temporary service failure", ProviderFault),
    (DOT, 451, "Timeout waiting for data from client", ProviderFault),
    (DOT, 451, "4.4.1 no answer from host", ProviderFault),
    (DOT, 454, "Temporary service failure", ProviderFault),
    (DATA, 450, "busy", THROTTLED),
    (DOT, 452, "insufficient storage", THROTTLED),
    (DOT, 454, "Throttling failure: Maximum sending rate exceeded.", THROTTLED),
    (DOT, 421, "Too many concurrent SMTP connections", THROTTLED),
    (MAIL, 421, "4.7.28 rate limited: too many messages", THROTTLED),
    # the enhanced code's class contradicts the basic code: the basic code is believed
    (DOT, 451, "5.7.1 odd", ProviderFault),
    (RCPT, 550, "4.2.2 odd", DECLINED),
    # outside the protocol
    (MAIL, 299, "odd", ProviderFault),
    (DOT, 354, "again?", Unknown),
    (DOT, 199, "odd", Unknown),
]


def kind_of(outcome: Outcome | Divided, expected: Expected) -> object:
    """The outcome's type, and its scope where one is expected."""
    if isinstance(expected, tuple) and isinstance(outcome, Declined | Throttled):
        return type(outcome), outcome.scope
    return type(outcome)


@pytest.mark.parametrize(("phase", "code", "text", "outcome"), ROWS)
def test_f1_to_f5_a_reply_is_classified_by_what_it_is_about(
    phase: Phase, code: int, text: str, outcome: Expected
) -> None:
    assert kind_of(classify(SmtpReply(phase, code, text)), outcome) == outcome


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.END_OF_DATA])
@pytest.mark.parametrize("code", [220, 250, 251, 354])
def test_nothing_before_the_final_dot_is_an_acceptance(phase: Phase, code: int) -> None:
    assert not isinstance(classify(SmtpReply(phase, code, "2.0.0 Ok")), Accepted | Unknown)


@pytest.mark.parametrize("code", range(400, 600))
def test_a_refusal_at_end_of_data_is_never_an_unknown_outcome(code: int) -> None:
    assert not isinstance(classify(SmtpReply(Phase.END_OF_DATA, code, "no")), Accepted | Unknown)


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        ("2.0.0 Ok: queued as ABC123", "ABC123"),
        ("Ok: queued as <4f.x-1@mx>", "4f.x-1@mx"),
        ("Ok 0102018f-abc", "0102018f-abc"),
        ("2.6.0 first line\n2.6.0 Queued mail 77", "77"),
        ("", ""),
    ],
)
def test_the_last_word_is_the_providers_reference(text: str, queue_id: str) -> None:
    assert classify(SmtpReply(Phase.END_OF_DATA, 250, text)) == Accepted(queue_id)


def test_a_daily_quota_is_a_long_pause() -> None:
    reply = SmtpReply(Phase.END_OF_DATA, 454, "Throttling failure: Daily message quota exceeded.")

    outcome = classify(reply)

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == MAX_RETRY_AFTER


# Divided envelopes

TAKEN = SmtpReply(DOT, 250, "2.0.0 Ok: queued as Q1")
TAKEN_TOO = SmtpReply(DOT, 250, "2.0.0 Ok: queued as Q2")
UNKNOWN_USER = SmtpReply(RCPT, 550, "5.1.1 unknown")
REJECTED = RecipientRejected(Reason.UNKNOWN_RECIPIENT, "rcpt: 550 5.1.1 unknown")


def divided(*parts: tuple[str, SmtpReply]) -> Outcome | Divided:
    return classify(DividedReply(tuple(PartReply(tuple(recipients.split()), reply) for recipients, reply in parts)))


def test_u1_each_rejected_recipient_is_a_part_of_its_own() -> None:
    assert divided(("b d", UNKNOWN_USER), ("a c", TAKEN)) == Divided(
        (Part(("a", "c"), Accepted("Q1")), Part(("b",), REJECTED), Part(("d",), REJECTED))
    )


def test_a_mail_that_was_accepted_in_two_transactions_is_accepted() -> None:
    assert divided(("a b", TAKEN), ("c", TAKEN_TOO)) == Accepted("Q1 Q2")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (450, "4.2.0 Greylisted", Throttled("rcpt: 450 4.2.0 Greylisted", None, Scope.RECIPIENT)),
        (451, "4.3.0 busy", Throttled("rcpt: 451 4.3.0 busy", None, Scope.RECIPIENT)),
        (554, "5.7.1 Relay denied", Declined(Reason.POLICY, "rcpt: 554 5.7.1 Relay denied", Scope.MESSAGE)),
        (504, "5.5.2 HELO", Declined(Reason.REPUTATION, "rcpt: 504 5.5.2 HELO", Scope.MESSAGE)),
    ],
)
def test_a_refusal_beside_an_acceptance_is_not_about_the_account(code: int, text: str, expected: Outcome) -> None:
    assert divided(("a", TAKEN), ("b", SmtpReply(RCPT, code, text))) == Divided(
        (Part(("a",), Accepted("Q1")), Part(("b",), expected))
    )


def test_a_refusal_of_all_keeps_its_scope() -> None:
    found = divided(
        ("a", SmtpReply(RCPT, 504, "5.5.2 <vm>: Helo rejected")), ("b", SmtpReply(RCPT, 504, "5.5.2 <vm>: Helo again"))
    )

    assert found == Declined(Reason.REPUTATION, "rcpt: 504 5.5.2 <vm>: Helo rejected", Scope.ACCOUNT)


def test_recipients_that_are_tried_again_stay_in_one_envelope() -> None:
    found = divided(
        ("a", SmtpReply(RCPT, 450, "4.2.0 Greylisted")), ("b", UNKNOWN_USER), ("c", SmtpReply(RCPT, 450, "4.7.1 later"))
    )

    assert isinstance(found, Divided)
    assert [part.recipients for part in found.parts] == [("a", "c"), ("b",)]


def test_a_transaction_without_a_reply_is_unknown_for_its_recipients_only() -> None:
    found = divided(("a", TAKEN), ("b", SmtpReply(DOT, 0, "gone")), ("c", SmtpReply(MAIL, 0, "not sent")))

    assert found == Divided(
        (
            Part(("a",), Accepted("Q1")),
            Part(("b",), Unknown("end_of_data: gone")),
            Part(("c",), ProviderFault("mail: not sent")),
        )
    )


# Credentials


@pytest.mark.parametrize(
    ("fields", "port", "implicit"),
    [
        ({}, 587, False),
        ({"secure": True}, 465, True),
        ({"secure": False}, 587, False),
        ({"port": 465}, 465, True),
        ({"port": 465, "secure": False}, 465, False),
        ({"port": 25}, 25, False),
        ({"port": 2465, "secure": True}, 2465, True),
    ],
)
def test_port_and_tls_follow_from_each_other(fields: dict[str, Any], port: int, implicit: bool) -> None:
    server = SmtpCredentials.model_validate({"host": "mx", **fields}).server

    assert (server.port, server.implicit_tls) == (port, implicit)


@pytest.mark.parametrize(
    ("fields", "required"),
    [
        ({}, True),
        ({"requireTLS": False}, False),
        ({"auth": {"user": "u", "pass": "p"}}, True),
        ({"requireTLS": False, "auth": {"user": "u", "pass": "p"}}, True),
    ],
)
def test_finding_23_only_an_account_without_a_password_can_do_without_tls(
    fields: dict[str, Any], required: bool
) -> None:
    assert SmtpCredentials.model_validate({"host": "mx", **fields}).server.require_tls is required


def test_every_field_of_the_contract_is_understood() -> None:
    server = SmtpCredentials.model_validate(
        {
            "host": "mx.example.com",
            "port": 2587,
            "secure": False,
            "auth": {"user": "u", "pass": "p"},
            "tls": {"rejectUnauthorized": False, "caFile": "/ca.pem", "servername": "other"},
            "requireTLS": True,
        }
    ).server

    assert (server.host, server.port, server.user) == ("mx.example.com", 2587, "u")
    assert server.password == SecretStr("p")
    assert (server.verify, server.ca_file, server.servername) == (False, "/ca.pem", "other")


@pytest.mark.parametrize("host", ["", "a b", "mx\r\nX", "mx/path", "user@mx"])
def test_a_host_is_only_a_host(host: str) -> None:
    with pytest.raises(ValidationError):
        SmtpCredentials(host=host)


# Building


def test_the_envelope_holds_each_recipient_once_and_the_message_no_blind_copy() -> None:
    mail = an_email(to=("Ana <ana@example.org>", "ben@example.org"), cc=("ana@example.org",), bcc=("eve@example.org",))

    request = build(outbound(mail), SmtpCredentials(host="mx"))

    assert request.recipients == ("ana@example.org", "ben@example.org", "eve@example.org")
    assert request.sender == "no-reply@example.com"
    assert b"eve" not in request.message


def test_mailboxes_whose_names_differ_in_case_are_two() -> None:
    """Only their server knows whether they are one (RFC 5321, 2.4): each gets the mail."""
    mail = an_email(to=("ana@example.org", "Ana@example.org"), cc=(), bcc=())

    request = build(outbound(mail), SmtpCredentials(host="mx"))

    assert request.recipients == ("ana@example.org", "Ana@example.org")


def test_a_divided_delivery_has_the_whole_mail_and_its_own_envelope() -> None:
    mail = an_email(to=("Ana <ana@example.org>", "ben@example.org"), bcc=("eve@example.org",))

    whole = build(outbound(mail), SmtpCredentials(host="mx"))
    part = build(outbound(mail, envelope=("eve@example.org", "ben@example.org")), SmtpCredentials(host="mx"))

    assert part.recipients == ("ben@example.org", "eve@example.org")
    assert part.message == whole.message


@pytest.mark.parametrize(
    "name", ["vm", "", "a b.example", "host_1.example", "-a.example", "192.0.2.1]", "[mail.example]"]
)
def test_f1_an_ehlo_name_is_fully_qualified_or_a_literal(name: str) -> None:
    with pytest.raises(ValidationError):
        SmtpCredentials(host="mx", name=name)


@pytest.mark.parametrize("name", ["mail.example.com", "a.b", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_f1_the_account_names_itself(name: str) -> None:
    assert SmtpCredentials(host="mx", name=name).server.ehlo_name == name


def test_bounces_go_to_the_configured_address() -> None:
    credentials = SmtpCredentials.model_validate({"host": "mx", "envelopeFrom": "bounces@example.com"})

    request = build(outbound(an_email()), credentials)

    assert request.sender == "bounces@example.com"
    assert b"bounces" not in request.message


def test_every_attempt_sends_the_same_bytes() -> None:
    content = b"%PDF"
    file = an_attachment(content)
    mail = an_email(html="<p>é</p>", attachments=(file,))
    contents = {file.sha256: content}

    first = build(outbound(mail, attachments=contents), SmtpCredentials(host="a"))
    second = build(outbound(mail, attachments=contents, reference="att_2"), SmtpCredentials(host="b"))

    assert first.message == second.message


@pytest.mark.parametrize(("to", "utf8"), [("ana@example.org", False), ("аня@example.org", True)])
def test_an_address_that_is_not_ascii_asks_for_smtputf8(to: str, utf8: bool) -> None:
    assert build(outbound(an_email(to=(to,))), SmtpCredentials(host="mx")).utf8 is utf8


@pytest.mark.parametrize(
    "fields",
    [
        {"to": ("аня@example.org", "ben@example.org")},
        {"to": ("ben@example.org",), "cc": ("аня@example.org",)},
        {"to": ("ben@example.org",), "reply_to": "аня@example.org"},
        {"to": ("ben@example.org",), "sender": "аня@example.org"},
    ],
)
def test_the_rest_of_a_divided_mail_asks_for_smtputf8_as_its_header_does(fields: dict[str, Any]) -> None:
    request = build(outbound(an_email(**fields), envelope=("ben@example.org",)), SmtpCredentials(host="mx"))

    assert request.recipients == ("ben@example.org",)
    assert "аня@example.org".encode() in request.message
    assert request.utf8


def test_a_blind_copy_outside_the_envelope_asks_for_nothing() -> None:
    mail = an_email(to=("ben@example.org",), bcc=("аня@example.org",))

    request = build(outbound(mail, envelope=("ben@example.org",)), SmtpCredentials(host="mx"))

    assert request.message.isascii()
    assert not request.utf8


@pytest.mark.parametrize("content", [an_sms(), an_email(to=())])
def test_a_message_that_is_no_mail_is_refused(content: Any) -> None:
    request = outbound(content, recipient="x")

    with pytest.raises(UnsupportedMessageError):
        SMTP.build(request, SmtpCredentials(host="mx"))
