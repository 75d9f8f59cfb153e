"""Replies of real mail servers, in their words: what each one is about decides, not a single word of it."""

from __future__ import annotations

import pytest

from sluice.model.outcome import AuthFailed, Declined, Outcome, RecipientRejected, Scope, Throttled
from sluice.model.reasons import Reason
from sluice.providers.adapters.smtp import classify
from sluice.providers.kit.smtp_types import Phase, SmtpReply

MAIL, RCPT, DATA, DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.END_OF_DATA


def message(reason: Reason) -> Declined:
    return Declined(reason)


def account(reason: Reason) -> Declined:
    return Declined(reason, scope=Scope.ACCOUNT)


CLIENT = account(Reason.REPUTATION)
REPLIES: list[tuple[Phase, str, Outcome]] = [
    # The sender is named beside "blocked", "limit", "host": the enhanced code says what it is about.
    (DOT, "550 5.7.26 This mail has been blocked because the sender is unauthenticated", message(Reason.SENDER)),
    (RCPT, "550 5.7.26 This mail has been blocked because the sender is unauthenticated", message(Reason.SENDER)),
    (RCPT, "550 5.7.23 The message was rejected because of SPF policy, host 192.0.2.1", message(Reason.SENDER)),
    (MAIL, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", message(Reason.SENDER)),
    (MAIL, "550 5.1.8 Access denied, bad outbound sender", message(Reason.SENDER)),
    # Content that was blocked is not a blocked client.
    (
        DOT,
        "550 5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail. To reduce the "
        "amount of spam sent to Gmail, this message has been blocked.",
        message(Reason.SPAM),
    ),
    (DOT, "554 5.7.1 Message blocked due to spam content in the message.", message(Reason.SPAM)),
    (DOT, "552 5.7.0 This message was blocked because its content presents a virus", message(Reason.SPAM)),
    (DOT, "554 5.7.1 Message blocked", message(Reason.POLICY)),
    # The client.
    (RCPT, "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus.", CLIENT),
    (
        RCPT,
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service "
        "provider since part of their network is on our block list (S3150).",
        CLIENT,
    ),
    (RCPT, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]; blocked", CLIENT),
    (MAIL, "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", CLIENT),
    (DOT, "554 5.7.1 The IP address of your server has a poor reputation", CLIENT),
    (RCPT, "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", CLIENT),
    (RCPT, "504 5.5.2 <vm>: Helo command rejected: need fully-qualified hostname", CLIENT),
    (RCPT, "450 4.7.1 Client host rejected: cannot find your hostname", Throttled(scope=Scope.RECIPIENT)),
    # Sizes are not quotas, and neither is the quota of a mailbox.
    (DOT, "550 Message size exceeds limit", message(Reason.TOO_LARGE)),
    (DOT, "554 5.7.1 Message exceeds the size limit of your account", message(Reason.TOO_LARGE)),
    (MAIL, "554 Message too large for this relay", message(Reason.TOO_LARGE)),
    (RCPT, "550 Too many recipients", message(Reason.TOO_LARGE)),
    (RCPT, "550 Mailbox quota exceeded", message(Reason.FULL)),
    (RCPT, "552 5.2.2 The email account that you tried to reach is over quota", message(Reason.FULL)),
    (RCPT, "550 User mailbox is full", message(Reason.FULL)),
    # Quotas of the account.
    (RCPT, "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail", account(Reason.QUOTA)),
    (DOT, "554 5.7.1 You have exceeded your daily sending limit", account(Reason.QUOTA)),
    (DOT, "550 5.7.1 Outgoing mail quota reached", account(Reason.QUOTA)),
    (MAIL, "550 Monthly quota of your plan is used up: limit 10000", account(Reason.QUOTA)),
    # Accounts: the sender's own, or the recipient's.
    (MAIL, "550 5.7.1 Account suspended", CLIENT),
    (RCPT, "550 Your account is disabled, contact support", CLIENT),
    (DOT, "554 Sending disabled: the trial has expired", CLIENT),
    (RCPT, "550 5.2.1 The email account that you tried to reach is disabled", RecipientRejected(Reason.DISABLED)),
    (RCPT, "550 This account has been disabled or discontinued", RecipientRejected(Reason.DISABLED)),
    # The mailbox, in the words of several servers.
    (
        RCPT,
        "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking",
        RecipientRejected(Reason.UNKNOWN_RECIPIENT),
    ),
    (RCPT, "550 Requested action not taken: mailbox unavailable", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; not found", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 5.1.0 <x@y>: unknown user", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "554 5.7.1 <ada@example.com>: Relay access denied", AuthFailed()),
    (RCPT, "550 sorry, no mailbox here by that name. (#5.1.1)", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 mx.example said: 550 5.2.1 <x@y>: closed.", RecipientRejected(Reason.DISABLED)),
    (RCPT, "550 user x@y unknown", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 Recipient unknown", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 Invalid recipient: <x@y>", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 Local mailbox x@y is unavailable: user not found", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 <x@y> does not exist", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 The user that you are trying to contact doesn't exist", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "551 not a valid mailbox", RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (RCPT, "550 User x@y is suspended", RecipientRejected(Reason.DISABLED)),
    # Words of the mailbox in replies about this client, its relaying, the sender or the dialogue.
    (RCPT, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", AuthFailed()),
    (RCPT, "550 POP before SMTP required for this user", AuthFailed()),
    (RCPT, "550 User authentication required", AuthFailed()),
    (RCPT, "550 REJECT: your IP address [192.0.2.1] has no reverse DNS (PTR) record", CLIENT),
    (RCPT, "550 Your IP address 192.0.2.1 is not allowed to send mail here", CLIENT),
    (RCPT, "550 permission denied for unknown host 192.0.2.1", CLIENT),
    (RCPT, "550 Unknown address: cannot find your hostname", CLIENT),
    (RCPT, "550 Address 192.0.2.1 not found", CLIENT),
    (RCPT, "550 No rDNS: invalid address", CLIENT),
    (
        RCPT,
        "550 Requested action not taken: mailbox unavailable. For explanation visit "
        "https://postmaster.example/error-messages?ip=192.0.2.1&c=hd",
        CLIENT,
    ),
    (RCPT, "550 Requested action not taken: mailbox unavailable. Reject due to policy", message(Reason.POLICY)),
    (RCPT, "550 Too many invalid recipients, slow down", CLIENT),
    (RCPT, "550 Protocol violation: invalid command sequence", message(Reason.OTHER)),
    (RCPT, "550 Unknown command", message(Reason.OTHER)),
    (RCPT, "550 The domain of your server does not exist", message(Reason.OTHER)),
    (RCPT, "550 User login disabled", message(Reason.OTHER)),
    (RCPT, "550 No valid recipients", message(Reason.OTHER)),
    (RCPT, "550 #5.7.1 Your access to this mail system from your domain was rejected.", account(Reason.POLICY)),
    (RCPT, "550 Return-path address does not exist", message(Reason.SENDER)),
    (
        RCPT,
        "550 Verification failed for <a@b.example> The mail server could not deliver mail to a@b.example. The account "
        "or domain may not exist, they may be blacklisted, or missing the proper dns entries. Sender verify failed",
        message(Reason.SENDER),
    ),
    # A recipient that refuses one sender is not the account's fault.
    (RCPT, "550 5.7.1 RESOLVER.RST.NotAuthorized; not authorized for this recipient", message(Reason.POLICY)),
    (RCPT, "450 4.1.1 <x@y>: Recipient address rejected: unverified", Throttled(scope=Scope.RECIPIENT)),
    (RCPT, "452 4.5.3 Too many recipients", Throttled(scope=Scope.RECIPIENT)),
    # Also after the data.
    (DOT, "452 4.2.2 Mailbox full", Throttled(scope=Scope.RECIPIENT)),
    (DOT, "450 4.2.0 <x@y>: Recipient address rejected: Greylisted", Throttled(scope=Scope.RECIPIENT)),
    (DOT, "451 4.7.1 Greylisting in action, please come back later", Throttled(scope=Scope.RECIPIENT)),
    (DATA, "451 4.7.1 Gray-listed, try again", Throttled(scope=Scope.RECIPIENT)),
    (DATA, "450 4.2.1 The user receives mail at a rate that prevents more", Throttled(scope=Scope.RECIPIENT)),
    (DOT, "452 Mailbox quota exceeded", Throttled(scope=Scope.RECIPIENT)),
    (DOT, "451 4.7.1 Try again later", Throttled()),
    (DOT, "450 4.7.0 Rate limit", Throttled()),
    (MAIL, "450 4.2.0 slow down", Throttled()),
    (DOT, "452 insufficient storage", Throttled()),
    (RCPT, "452 4.2.2 The recipient's inbox is out of storage", Throttled(scope=Scope.RECIPIENT)),
]


@pytest.mark.parametrize(("phase", "reply", "expected"), REPLIES)
def test_f2_a_reply_is_judged_by_what_it_is_about(phase: Phase, reply: str, expected: Outcome) -> None:
    code, _, text = reply.partition(" ")

    found = classify(SmtpReply(phase, int(code), text))

    assert (type(found), getattr(found, "scope", None), getattr(found, "reason", None)) == (
        type(expected),
        getattr(expected, "scope", None),
        getattr(expected, "reason", None),
    )


@pytest.mark.parametrize("phase", [RCPT, MAIL, DOT])
def test_finding_25_a_long_reply_is_read_in_time_that_grows_with_its_length(phase: Phase) -> None:
    for text in ("account " * 4000 + "ip blocked " * 100, "@" * 32_000, "user " + "x@y " * 8000, "user for is " * 3000):
        assert classify(SmtpReply(phase, 550, text))  # one pattern that backtracks would not end
