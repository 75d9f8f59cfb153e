"""Twilio's dialect for SMS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import uuid4

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
    Dialect,
    FakeRequest,
    FakeResponse,
    ParsedSend,
    ReceiptContext,
    ReceiptDialect,
    ReceiptPayload,
    Refused,
)
from sluice_simulator.dialects._twilio import (
    TwilioDashboard,
    bad_callback,
    error,
    read_form,
    reference_of,
    respond,
    sign,
    write_callback,
)
from sluice_simulator.scenario import Behaviour

# Twilio's own test numbers, with their fixed errors.
TEST_FROM: Mapping[str, int] = {"+15005550001": 21212, "+15005550007": 21606, "+15005550008": 21611}
TEST_TO: Mapping[str, int] = {
    "+15005550001": 21211,
    "+15005550002": 21612,
    "+15005550003": 21408,
    "+15005550004": 21610,
    "+15005550009": 21614,
}
STATUSES: Mapping[str, tuple[str, str | None]] = {
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "bounced": ("undelivered", "30005"),
    "soft_bounce": ("undelivered", "30003"),
    "failed": ("failed", "30008"),
    "read": ("read", None),
}


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A text with its callback, or Twilio's refusal."""
    found = read_form(request)
    if isinstance(found, FakeResponse):
        return Refused(found)
    form, account, password = found
    problem = _problem(form)
    if problem is not None:
        return Refused(error(problem))
    test = TEST_FROM.get(form.get("From", "")) or TEST_TO.get(form["To"])
    return ParsedSend(
        recipient=form["To"],
        provider_message_id=f"SM{uuid4().hex}",
        reference=reference_of(form),
        account=account,
        secret=password,
        callback=form.get("StatusCallback"),
        forced_response=error(test) if test else None,
        fields={
            "from": form.get("From", ""),
            "service": form.get("MessagingServiceSid", ""),
            "body": form["Body"],
        },
    )


def _problem(form: Mapping[str, str]) -> int | None:
    to, sender = form.get("To", ""), form.get("From", "")
    checks = (
        (not to, 21604),
        (not (sender or form.get("MessagingServiceSid")), 21603),
        (not form.get("Body"), 21602),
        (len(form.get("Body", "")) > 1600, 21617),
        (not re.fullmatch(r"\+[1-9]\d{5,14}", to) or to == sender, 21211),
        (bad_callback(form), 21609),
    )
    return next((code for wrong, code in checks if wrong), None)


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    if context.kind not in STATUSES:
        return None
    status, code = STATUSES[context.kind]
    done = {"RawDlrDoneDate": context.at.strftime("%y%m%d%H%M")} if status in ("delivered", "undelivered") else {}
    return write_callback(context, status, code, **done)


TWILIO = Dialect(
    name="twilio",
    package="provider-twilio",
    transport=TransportKind.HTTP,
    default_port=2581,
    read=read,
    respond=respond,
    declines={
        Behaviour.DECLINE: "21617",
        Behaviour.DECLINE_ACCOUNT: '400 {"code":21608,"message":"The number is unverified. Trial accounts cannot '
        'send messages to unverified numbers.","status":400}',
    },
    receipts=ReceiptDialect(_write, sign, "x-twilio-signature", other_body=lambda body: body + b"&Extra=1"),
    dashboard=TwilioDashboard,
)
