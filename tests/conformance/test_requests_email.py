"""Every request of the e-mail packages is one of the provider's own description."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from sluice.model.address import parse_address
from sluice.model.message import Email
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from tests.conformance.conftest import Conforms, spec
from tests.conformance.messages import email_messages

SENDGRID = get_package("provider-sendgrid")


def mail_of(message: OutboundMessage) -> Email:
    assert isinstance(message.content, Email)
    return message.content


def recipients(mail: Email) -> set[str]:
    return {parse_address(text).bare.lower() for text in (*mail.to, *mail.cc, *mail.bcc)}


def test_every_request_to_sendgrid_is_a_mail_of_its_description(conforms: Conforms) -> None:
    schema = spec("sendgrid", {"$ref": "#/$defs/PostMailSend"})

    def check(request: httpx.Request, message: OutboundMessage) -> None:
        body: dict[str, Any] = json.loads(request.content)
        mail = mail_of(message)
        schema.validate(body)
        (envelope,) = body["personalizations"]
        emails = [one["email"].lower() for kind in ("to", "cc", "bcc") for one in envelope.get(kind, [])]
        assert sorted(emails) == sorted(recipients(mail))
        # What the description leaves out.
        assert body["subject"] == mail.subject
        assert [part["value"] for part in body["content"]] == [text for text in (mail.text, mail.html) if text]
        assert all(isinstance(value, str) for value in (*envelope["custom_args"].values(), *body["headers"].values()))
        files = [base64.b64decode(file["content"]) for file in body.get("attachments", [])]
        assert files == [message.attachments[file.sha256] for file in mail.attachments]

    conforms(SENDGRID, email_messages(), check)
