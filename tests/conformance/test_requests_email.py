"""Every request of the e-mail packages is one of the provider's own description."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict
from typing import Any

import httpx
from multipart import MultipartParser

from sluice.model.address import parse_address
from sluice.model.message import Email
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from tests.conformance.conftest import Conforms, spec
from tests.conformance.messages import email_messages

SENDGRID = get_package("provider-sendgrid")
RESEND = get_package("provider-resend")
MAILGUN = get_package("provider-mailgun")
LISTS = ("to", "cc", "bcc", "o:tag", "attachment", "inline")  # of Mailgun's fields


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


def test_every_request_to_resend_is_a_mail_of_its_description(conforms: Conforms) -> None:
    schema = spec("resend", {"$ref": "#/$defs/SendEmailRequest"})

    def check(request: httpx.Request, message: OutboundMessage) -> None:
        body, mail = json.loads(request.content), mail_of(message)
        schema.validate(body)
        everyone = [text for name in LISTS[:3] for text in body.get(name, [])]
        assert {parse_address(text).bare.lower() for text in everyone} == recipients(mail)
        assert (body.get("text"), body.get("html"), body["subject"]) == (mail.text, mail.html, mail.subject)
        files = [base64.b64decode(file["content"]) for file in body.get("attachments", [])]
        assert files == [message.attachments[file.sha256] for file in mail.attachments]

    conforms(RESEND, email_messages(), check)


def form_of(request: httpx.Request) -> dict[str, Any]:
    """The form as the description has it: repeated fields are lists, files are their bytes as text."""
    boundary = request.headers["content-type"].partition("boundary=")[2]
    form: dict[str, Any] = defaultdict(list)
    for part in MultipartParser(io.BytesIO(request.content), boundary, strict=True, part_limit=4000):
        form[part.name].append(part.raw.decode("latin-1") if part.filename else part.value)
    return {name: values if name in LISTS else "".join(values) for name, values in form.items()}


def test_every_request_to_mailgun_is_a_form_of_its_description(conforms: Conforms) -> None:
    patterns = {"^[hv]:": {"type": "string"}}
    only = {"patternProperties": patterns, "unevaluatedProperties": False}
    parts = spec("mailgun", {"$ref": "#/$defs/MessagesForm", **only})
    mime = spec("mailgun", {"$ref": "#/$defs/MimeForm", **only})

    def check(request: httpx.Request, message: OutboundMessage) -> None:
        form, mail = form_of(request), mail_of(message)
        assert form["v:ref"] == message.reference
        if request.url.path.endswith(".mime"):
            mime.validate(form)
            assert {address.lower() for address in form["to"]} == recipients(mail)
            return
        parts.validate(form)
        everyone = {parse_address(text).bare.lower() for name in LISTS[:3] for text in form.get(name, [])}
        assert everyone == recipients(mail)
        assert form["subject"] == mail.subject
        assert (form.get("text"), form.get("html")) == (mail.text or None, mail.html or None)
        files = [message.attachments[file.sha256].decode("latin-1") for file in mail.attachments]
        assert sorted([*form.get("attachment", []), *form.get("inline", [])]) == sorted(files)

    conforms(MAILGUN, email_messages(), check)
