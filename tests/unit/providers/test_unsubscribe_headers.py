"""Every package for e-mail passes the headers of RFC 8058 on."""

from __future__ import annotations

import json
from base64 import b64decode
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest

from sluice.model.message import Channel
from sluice.providers import registry
from sluice.providers.contract import AnyPackage, TransportKind, UnsupportedMessageError
from sluice.providers.kit.mime import unsubscribe_headers
from sluice.providers.kit.smtp_types import Submission
from tests.unit.providers.examples import an_attachment, an_email, credentials_of, outbound

URL = "https://sluice.example.com/unsubscribe/" + "Ab-_9" * 90
HEADERS = {"List-Unsubscribe": f"<{URL}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
PACKAGES = [
    package
    for package in registry.installed().values()
    if Channel.EMAIL in package.channels and package.transport is not TransportKind.SANDBOX
]


def headers_of_json(document: Any) -> dict[str, str]:
    """The mail's own headers in the body of an API: an object, or a list of names and values."""
    if isinstance(document, dict):
        if "List-Unsubscribe" in document:
            return {name: document[name] for name in HEADERS}
        if document.get("Name") in HEADERS:
            return {document["Name"]: document["Value"]}
        if isinstance(document.get("Raw"), dict):
            return headers_of_mime(document["Raw"]["Data"])
        document = list(document.values())
    found: dict[str, str] = {}
    for part in document if isinstance(document, list) else []:
        found |= headers_of_json(part)
    return found


def headers_of_mime(text: str | bytes) -> dict[str, str]:
    mail = message_from_bytes(b64decode(text) if isinstance(text, str) else text, policy=policy.SMTP)
    return {name: str(mail[name]).replace(" ", "") for name in HEADERS if mail[name] is not None}


def headers_of_form(content_type: str, content: bytes) -> dict[str, str]:
    form = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + content, policy=policy.HTTP)
    found: dict[str, str] = {}
    for part in form.iter_parts():
        assert isinstance(part, EmailMessage)
        name = str(part.get_param("name", header="content-disposition")).removeprefix("h:")
        if name in HEADERS:
            found[name] = part.get_content().strip()
    return found


def sent_headers(package: AnyPackage, **changes: Any) -> dict[str, str]:
    content = an_email(html="<p>hi</p>", **changes)
    contents = {file.sha256: b"x" for file in content.attachments}
    request = package.build(outbound(content, attachments=contents), credentials_of(package))
    if isinstance(request, Submission):
        return headers_of_mime(request.message)
    if "json" in request.headers["content-type"]:
        return headers_of_json(json.loads(request.content))
    return headers_of_form(request.headers["content-type"], request.content)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
@pytest.mark.parametrize("files", [(), (an_attachment(b"x"),)], ids=["alone", "with a file"])
def test_a_mail_with_a_link_has_both_headers(package: AnyPackage, files: tuple[Any, ...]) -> None:
    assert sent_headers(package, attachments=files, unsubscribe_url=URL) == HEADERS
    assert sent_headers(package, attachments=files) == {}


@pytest.mark.parametrize(
    "url",
    ["https://a.example/x>, <mailto:b@a.example", "https://a.example/\r\nBcc: x", "ftp://a", "https://a/" + "x" * 900],
)
def test_a_link_that_breaks_the_header_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedMessageError):
        unsubscribe_headers(an_email(unsubscribe_url=url))
