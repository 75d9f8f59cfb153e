"""The form of Mailgun's messages: read and checked as strictly as Mailgun does."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.utils import getaddresses
from urllib.parse import parse_qs

from multipart import MultipartError, MultipartParser, parse_options_header

from sluice_simulator.dialect import FakeRequest

_ADDRESS = re.compile(r"[!-?A-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_YES_NO = {"o:testmode", "o:tracking", "o:require-tls", "o:skip-verification"}

Form = Mapping[str, list[str]]


class MalformedFormError(Exception):
    """The request has no form that Mailgun reads; the text is what it says."""


def read_form(request: FakeRequest, *, mime: bool) -> Form:
    """The fields. A file without a name is lost, as at Mailgun; of a mail as MIME, three fields are its headers."""
    try:
        form, files = _read_parts(request)
    except (MultipartError, UnicodeDecodeError):
        raise MalformedFormError("malformed multipart/form-data") from None
    if not mime:
        return form
    if "message" not in files:
        raise MalformedFormError("message parameter is missing")
    head = message_from_bytes(files["message"][0].partition(b"\r\n\r\n")[0])
    return form | {"from": [head["From"] or ""], "subject": [head["Subject"] or ""], "text": ["in the MIME"]}


def _read_parts(request: FakeRequest) -> tuple[dict[str, list[str]], dict[str, list[bytes]]]:
    kind, options = parse_options_header(request.headers.get(b"content-type", b"").decode("latin-1"))
    if kind == "application/x-www-form-urlencoded":
        return parse_qs(request.body.decode()), {}
    if kind != "multipart/form-data" or "boundary" not in options:
        raise MultipartError(kind)
    form: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}
    for part in MultipartParser(io.BytesIO(request.body), options["boundary"], strict=True, part_limit=4000):
        if part.filename:
            files.setdefault(part.name, []).append(part.raw)
        elif part.name not in ("attachment", "inline", "message"):
            form.setdefault(part.name, []).append(part.value)
    return form, files


def problems(form: Form) -> Iterator[str]:
    """What Mailgun says about each wrong field."""
    everyone = [getaddresses(form.get(name, [])) for name in ("to", "cc", "bcc")]
    for name in ("from", "to", "subject"):
        if not any(form.get(name, [])):
            yield f"{name} parameter is missing"
    if not any(form.get(name, [""])[0] for name in ("text", "html", "amp-html", "template")):
        yield "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"
    for name in ("from", "to", "cc", "bcc"):
        if not all(_ADDRESS.fullmatch(address) for _, address in getaddresses(form.get(name, []))):
            yield f"{name} parameter is not a valid address. please check documentation"
    if sum(map(len, everyone)) > 1000:
        yield "Too many recipients, max is 1000"
    if not all(name.isascii() for name in form if name.startswith("h:")):
        yield "Header name must be pure ASCII"
    options = [(name, value) for name, values in form.items() for value in values if name[1:2] == ":"]
    if sum(len(name.encode()) + len(value.encode()) for name, value in options) > 16 * 1024:
        yield "'o:', 'v:', 'h:' and 't:' parameters are limited to 16 kB total"
    if any(name in _YES_NO and value not in ("yes", "no", "true", "false") for name, value in options):
        yield "an option must be yes or no"
