"""Twilio's dialect for WhatsApp: ``whatsapp:`` addresses and content templates."""

from __future__ import annotations

import json
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

# Most refusals of WhatsApp are of a message that was created.
STATUSES: Mapping[str, tuple[str, str | None]] = {
    "sent": ("sent", None),
    "delivered": ("delivered", None),
    "bounced": ("undelivered", "63024"),
    "soft_bounce": ("undelivered", "63010"),
    "failed": ("failed", "63016"),
    "read": ("read", None),
}

_ADDRESS = re.compile(r"whatsapp:\+[1-9]\d{5,14}")
_CONTENT = re.compile(r"HX[0-9a-fA-F]{32}")


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A text or a content template with its callback, or Twilio's refusal."""
    found = read_form(request)
    if isinstance(found, FakeResponse):
        return Refused(found)
    form, account, password = found
    problem = _problem(form)
    if problem is not None:
        return Refused(error(problem))
    return ParsedSend(
        recipient=form["To"].removeprefix("whatsapp:"),
        provider_message_id=f"{'SM' if form.get('Body') else 'MM'}{uuid4().hex}",
        reference=reference_of(form),
        account=account,
        secret=password,
        callback=form.get("StatusCallback"),
        fields={
            "to": form["To"],
            "from": form.get("From", ""),
            "service": form.get("MessagingServiceSid", ""),
            "body": form.get("Body", ""),
        },
    )


def _problem(form: Mapping[str, str]) -> int | None:
    to, sender, content = form.get("To", ""), form.get("From", ""), form.get("ContentSid", "")
    checks = (
        (not to, 21604),
        (not (sender or form.get("MessagingServiceSid")), 21603),
        (to.startswith("+") or sender.startswith("+"), 21910),
        (not _ADDRESS.fullmatch(to) or to == sender, 21211),
        (sender and not _ADDRESS.fullmatch(sender), 63007),
        (not form.get("Body") and not content, 21619),
        (len(form.get("Body", "")) > 1600, 21617),
        ("ContentVariables" in form and not content, 92005),
        (content and not _CONTENT.fullmatch(content), 21655),
        ("ContentVariables" in form and not _are_variables(form["ContentVariables"]), 21656),
        (content and form.get("Body"), 21656),
        (bad_callback(form), 21609),
    )
    return next((code for wrong, code in checks if wrong), None)


def _are_variables(text: str) -> bool:
    """Whether this is a JSON object of texts."""
    try:
        variables = json.loads(text)
    except ValueError:
        return False
    return isinstance(variables, dict) and all(isinstance(value, str) for value in variables.values())


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    if context.kind not in STATUSES:
        return None
    status, code = STATUSES[context.kind]
    masked = context.send.recipient[:-4] + "XXXX"
    event = {"EventType": status.upper()} if status in ("read", "delivered", "undelivered") else {}
    channel = {"ChannelPrefix": "whatsapp", "ChannelInstallSid": "XE" + "0" * 32, "ChannelToAddress": masked}
    return write_callback(context, status, code, **channel, **event)


TWILIO_WHATSAPP = Dialect(
    name="twilio-whatsapp",
    package="provider-twilio-whatsapp",
    transport=TransportKind.HTTP,
    default_port=2603,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, sign, "x-twilio-signature", other_body=lambda body: body + b"&Extra=1"),
    dashboard=TwilioDashboard,
)
