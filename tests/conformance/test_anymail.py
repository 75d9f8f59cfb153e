"""The same mail by django-anymail and by our packages: the two requests mean the same.

Both are read into a :class:`Meaning`. What differs, and why it is taken for the same or is not compared:

- Ours alone carry the attempt's reference, the message id and ``Auto-Submitted``; anymail leaves those to its callers.
- Names beyond ASCII are encoded words in ours at Mailgun and SES, which says so; anymail writes UTF-8 at Mailgun, and
  Mailgun is known to add quotation marks to some of those. At SES anymail's MIME has encoded words, too.
- Commas and semicolons are not in the names of SendGrid's recipients in ours, because SendGrid refuses them.
- SendGrid's ``reply_to`` is a list of one in anymail's, and the default ``disposition`` is not written.
- A mail without files is a form without parts (``x-www-form-urlencoded``) at Mailgun in anymail's.
- Empty texts are written by anymail at Mailgun and Resend, and omitted in ours.
- The name of an inline file is its content id at Mailgun. Names of blind copies, which no one sees, are not compared.
- SES: anymail writes MIME always, ours only with files. The envelope of MIME has bare addresses in both.
- anymail adds ``charset="utf-8"`` to the type of every text file; ours has what the message says.
- MIME: lines end in CRLF, anymail's text has a line end more, and Django folds a long subject before its first word.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.mime.image import MIMEImage
from typing import Any
from urllib.parse import parse_qs

import pytest
from anymail.exceptions import AnymailError
from anymail.message import AnymailMessage
from django.conf import settings
from django.core.mail import get_connection
from multipart import MultipartParser

from sluice.model.message import Email
from sluice.providers.registry import get_package
from tests.conformance.simulator import Inbox
from tests.unit.providers.examples import an_attachment, an_email, credentials_of, outbound

if not settings.configured:
    settings.configure(ANYMAIL={})

Mailbox = tuple[str, str]  # name and address


@dataclass(frozen=True)
class File:
    """``place``: ``inline`` or ``attachment``; ``name``: of an inline file its content id."""

    place: str
    name: str
    kind: str  # without parameters
    content: bytes


@dataclass(frozen=True)
class Meaning:
    """What a provider is asked to send."""

    sender: Mailbox
    to: list[Mailbox]
    cc: list[Mailbox]
    bcc: list[str]
    reply_to: list[Mailbox]
    subject: str
    text: str
    html: str
    files: list[File]


def mailboxes(value: Any) -> list[Mailbox]:
    """Of texts with one or several addresses each; encoded words are decoded."""
    texts = value if isinstance(value, list) else [value] if value else []
    headers = [policy.default.header_factory("to", text) for text in texts]
    return [(address.display_name, address.addr_spec) for header in headers for address in header.addresses]


def file_of(name: str, cid: str | None, kind: str, content: str | bytes) -> File:
    decoded = base64.b64decode(content) if isinstance(content, str) else content
    place, name = ("attachment", name) if cid is None else ("inline", cid)
    return File(place, name, kind.partition(";")[0], decoded)


# SendGrid


def meaning_at_sendgrid(_: Mapping[str, str], content: bytes) -> Meaning:
    body = json.loads(content)
    (envelope,) = body["personalizations"]

    def pairs(found: list[dict[str, str]]) -> list[Mailbox]:
        return [(re.sub("[,;] *", " ", one.get("name", "")), one["email"]) for one in found]

    texts = {part["type"]: part["value"] for part in body["content"]}
    reply_to = body.get("reply_to_list", [body["reply_to"]] if "reply_to" in body else [])
    files = body.get("attachments", [])
    (sender,) = pairs([body["from"]])
    return Meaning(
        sender,
        to=pairs(envelope["to"]),
        cc=pairs(envelope.get("cc", [])),
        bcc=[one["email"] for one in envelope.get("bcc", [])],
        reply_to=pairs(reply_to),
        subject=body["subject"],
        text=texts.get("text/plain", ""),
        html=texts.get("text/html", ""),
        files=[file_of(one["filename"], one.get("content_id"), one["type"], one["content"]) for one in files],
    )


# Mailgun


def form_of(headers: Mapping[str, str], content: bytes) -> tuple[dict[str, list[str]], list[File]]:
    if headers["content-type"] == "application/x-www-form-urlencoded":
        return defaultdict(list, parse_qs(content.decode())), []
    boundary = headers["content-type"].partition("boundary=")[2].strip('"')
    form: dict[str, list[str]] = defaultdict(list)
    files = []
    for part in MultipartParser(io.BytesIO(content), boundary, strict=True):
        if part.filename:
            cid = part.filename if part.name == "inline" else None
            files.append(file_of(part.filename, cid, part.headers["content-type"], part.raw))
        else:
            form[part.name].append(part.value)
    return form, files


def meaning_at_mailgun(headers: Mapping[str, str], content: bytes) -> Meaning:
    form, files = form_of(headers, content)
    (sender,) = mailboxes(form["from"])
    return Meaning(
        sender,
        to=mailboxes(form["to"]),
        cc=mailboxes(form["cc"]),
        bcc=[address for _, address in mailboxes(form["bcc"])],
        reply_to=mailboxes(form["h:Reply-To"]),
        subject="".join(form["subject"]),
        text="".join(form["text"]),
        html="".join(form["html"]),
        files=files,
    )


# Resend


def meaning_at_resend(_: Mapping[str, str], content: bytes) -> Meaning:
    body = json.loads(content)
    (sender,) = mailboxes(body["from"])
    files = body.get("attachments", [])
    return Meaning(
        sender,
        to=mailboxes(body["to"]),
        cc=mailboxes(body.get("cc")),
        bcc=[address for _, address in mailboxes(body.get("bcc"))],
        reply_to=mailboxes(body.get("reply_to")),
        subject=body["subject"],
        text=body.get("text", ""),
        html=body.get("html", ""),
        files=[file_of(one["filename"], one.get("content_id"), one["content_type"], one["content"]) for one in files],
    )


# SES


def meaning_at_ses(_: Mapping[str, str], content: bytes) -> Meaning:
    body = json.loads(content)
    bcc = [address for _, address in mailboxes(body["Destination"].get("BccAddresses"))]
    if "Raw" in body["Content"]:
        return meaning_of_mime(base64.b64decode(body["Content"]["Raw"]["Data"]), body["Destination"], bcc)
    simple, envelope = body["Content"]["Simple"], body["Destination"]
    (sender,) = mailboxes(body["FromEmailAddress"])
    return Meaning(
        sender,
        to=mailboxes(envelope["ToAddresses"]),
        cc=mailboxes(envelope.get("CcAddresses")),
        bcc=bcc,
        reply_to=mailboxes(body.get("ReplyToAddresses")),
        subject=simple["Subject"]["Data"],
        text=simple["Body"].get("Text", {}).get("Data", ""),
        html=simple["Body"].get("Html", {}).get("Data", ""),
        files=[],
    )


def meaning_of_mime(content: bytes, envelope: Mapping[str, list[str]], bcc: list[str]) -> Meaning:
    mail = message_from_bytes(content, policy=policy.default)
    texts = {kind: mail.get_body((kind,)) for kind in ("plain", "html")}
    text, html = (
        "" if part is None else part.get_content().replace("\r\n", "\n").removesuffix("\n") for part in texts.values()
    )
    files = []
    for part in mail.walk():
        if part.get_content_disposition() is not None:
            cid = part["Content-ID"].strip("<>") if part["Content-ID"] else None
            decoded = part.get_payload(decode=True)
            assert isinstance(decoded, bytes)
            files.append(file_of(part.get_filename() or "", cid, part.get_content_type(), decoded))
    (sender,) = mailboxes(str(mail["From"]))
    to, cc = (mailboxes(str(mail[name]) if mail[name] else None) for name in ("To", "Cc"))
    assert [address for _, address in to] == [address for _, address in mailboxes(envelope["ToAddresses"])]
    assert [address for _, address in cc] == [address for _, address in mailboxes(envelope.get("CcAddresses"))]
    reply_to = mailboxes(str(mail["Reply-To"]) if mail["Reply-To"] else None)
    return Meaning(sender, to, cc, bcc, reply_to, str(mail["Subject"]).strip(), text, html, files)


# Both


@dataclass(frozen=True)
class Provider:
    """``options`` of anymail's backend, at this base URL."""

    package: str
    backend: str
    options: Callable[[str], dict[str, Any]]
    meaning: Callable[[Mapping[str, str], bytes], Meaning]


PROVIDERS = [
    Provider("provider-sendgrid", "sendgrid", lambda url: {"api_key": "SG.1", "api_url": url}, meaning_at_sendgrid),
    Provider(
        "provider-mailgun",
        "mailgun",
        lambda url: {"api_key": "key-1", "api_url": url, "sender_domain": "mg.example.com"},
        meaning_at_mailgun,
    ),
    Provider("provider-resend", "resend", lambda url: {"api_key": "re_1", "api_url": url}, meaning_at_resend),
    Provider(
        "provider-ses",
        "amazon_ses",
        lambda url: {
            "client_params": {
                "endpoint_url": url,
                "region_name": "eu-west-1",
                "aws_access_key_id": "AKIDEXAMPLE",
                "aws_secret_access_key": "secret",
            }
        },
        meaning_at_ses,
    ),
]
CONTENTS = {"a.pdf": b"%PDF\x00\r\n\xff", "Grüße.csv": "ä;b\n".encode(), "l.png": b"\x89PNG"}
PDF = an_attachment(CONTENTS["a.pdf"])
CSV = an_attachment(CONTENTS["Grüße.csv"], filename="Grüße.csv", content_type="text/csv; charset=utf-8")
LOGO = an_attachment(CONTENTS["l.png"], filename="l.png", content_type="image/png", content_id="logo@example.com")
MAILS = [
    an_email(),
    an_email(text=None, html="<p>hi</p>"),
    an_email(text="Grüße\n\n.\nEnde 🙂", html="<p>Grüße</p>", subject="Grüße aus 東京 🙂 " + "lang " * 30 + "end"),
    an_email(
        sender='"Acme, Inc." <no-reply@bücher.example>',
        to=("Zoë Ünder <ana@example.org>", '"Doe, Ben" <ben@bücher.example>', "c@example.org"),
        cc=("世界 <d@example.org>",),
        bcc=("Eve <e@example.org>", "f@example.org"),
        reply_to='"Help; Desk" <help@example.com>',
    ),
    an_email(attachments=(PDF, CSV)),
    an_email(html='<img src="cid:logo@example.com">', attachments=(LOGO, PDF)),
]


def by_anymail(provider: Provider, mail: Email, inbox: Inbox) -> Meaning:
    """What anymail sends, received over a socket."""
    url = inbox.url.removesuffix("receipts")
    connection = get_connection(f"anymail.backends.{provider.backend}.EmailBackend", **provider.options(url))
    reply_to = [mail.reply_to] if mail.reply_to else []
    message = AnymailMessage(
        mail.subject, mail.text or "", mail.sender, [*mail.to], [*mail.bcc], cc=[*mail.cc], reply_to=reply_to,
        connection=connection,
    )  # fmt: skip
    if mail.html:
        message.attach_alternative(mail.html, "text/html")
    for file in mail.attachments:
        if file.content_id is None:
            message.attach(file.filename, CONTENTS[file.filename], file.content_type.partition(";")[0])
            continue
        image = MIMEImage(CONTENTS[file.filename], "png")
        image.add_header("Content-Disposition", "inline", filename=file.filename)
        image.add_header("Content-ID", f"<{file.content_id}>")
        message.attach(image)
    with suppress(AnymailError):  # the response is empty
        message.send()
    ((headers, content),) = inbox.calls
    return provider.meaning(headers, content)


def by_us(provider: Provider, mail: Email) -> Meaning:
    package = get_package(provider.package)
    contents = {file.sha256: CONTENTS[file.filename] for file in mail.attachments}
    request = package.build(outbound(mail, attachments=contents), credentials_of(package))
    return provider.meaning(request.headers, request.content)


@pytest.mark.filterwarnings("ignore:django-anymail has dropped official support for SendGrid")
@pytest.mark.parametrize("mail", MAILS, ids=["plain", "html", "unicode", "addresses", "files", "inline"])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.backend)
def test_both_requests_mean_the_same(provider: Provider, mail: Email, inbox: Inbox) -> None:
    ours = by_us(provider, mail)

    assert by_anymail(provider, mail, inbox) == ours
    assert ours.to
    assert len(ours.files) == len(mail.attachments)
