"""The body of a send request: every fault is one clear refusal that names its field."""

import asyncio
import hashlib
import json
import random
import re
import threading
import tracemalloc
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.rendering import render_v1
from gateway.auth.principal import KeyPrincipal
from gateway.domains.checker import DomainChecker
from gateway.errors import ApiError, ValidationFailed
from gateway.ingest import command
from gateway.ingest.ingest import MessageIngest
from gateway.kit.strict_json import strict_json
from gateway.messages import v1_schemas
from gateway.messages.v1_schemas import parse, to_command
from gateway.unsubscribe.links import UnsubscribeLinks
from sluice.model.message import Attachment, ChatMessage, DeliveryClass, Email, Push, Sms, Whatsapp, content_adapter
from sluice.model.routing_policy import RoutingPolicy
from sluice.runtime.clock import utc_now
from sluice.store.config_cache import ConfigCache
from sluice.store.projects import Project
from tests.examples import NOON, PROJECT, a_body, after, an_id, as_json

KEY = KeyPrincipal(an_id(), PROJECT, is_test=False)


def an_ingest(sender=None):
    config = ConfigCache()
    config.projects[PROJECT] = Project(PROJECT, an_id(), "shop", "Shop", sender, RoutingPolicy.ADAPTIVE, NOON)
    return MessageIngest(
        None,
        config,
        None,
        outbox=None,
        templates=None,
        unsubscribe_links=UnsubscribeLinks(lambda: [bytes(32)], public_url=None),
        domains=DomainChecker(),
        requeue_after=timedelta(seconds=8),
        max_pending=10,
        dispatch_queue_limit=4000,
    )


def accepted(body, *, header_key=None, sender=None):
    """The message that these bytes become, just before it is stored."""
    request = to_command(body, header_key=header_key)
    return asyncio.run(an_ingest(sender)._prepare(request, KEY, utc_now()))


def refusal_of(body, **options):
    with pytest.raises(ValidationFailed) as caught:
        accepted(body if isinstance(body, bytes) else as_json(body), **options)
    return caught.value


def refusal_or_none(body, header_key):
    """None if the body was accepted; anything but an ApiError propagates."""
    try:
        accepted(body, header_key=header_key)
    except ApiError as refusal:
        return refusal
    return None


def an_sms(**changes):
    return a_body(**{"channel": "sms", "from": "Shop", "to": "+14155551234", "subject": None} | changes)


def a_push(**changes):
    return a_body(**{"channel": "push", "from": None, "to": "device-token"} | changes)


def a_whatsapp(**changes):
    return a_body(**{"channel": "whatsapp", "from": None, "to": "+14155551234", "subject": None} | changes)


@pytest.mark.parametrize(
    "body",
    [
        a_body(),
        a_body(to="ada@example.com"),
        a_body(text=None, html="<p>Hello.</p>"),
        a_body(cc=["Bob <bob@example.com>"], bcc=["eve@example.com"], reply_to="re@example.com"),
        a_body(attachments=[{"filename": "a.txt", "content": "aGVsbG8="}]),
        a_body(tags=["welcome", "größe"], metadata={"order": {"id": 7, "lines": [1, 2.5, None, True]}}),
        a_body(**{"class": "urgent"}),
        an_sms(),
        a_whatsapp(),
        a_whatsapp(text=None, channel_options={"template_name": "hi", "template_language": "de"}),
        a_body(channel="telegram", **{"from": None}, to="12345", subject=None),
        a_body(channel="signal", to="+14155551234", subject=None),
        a_push(),
        a_push(text=None, subject=None, channel_options={"data": {"sms": "1"}}),
    ],
    ids=lambda body: body["channel"],
)
def test_a_request_of_the_contract_is_accepted(body):
    message = accepted(as_json(body))

    assert message.channel.value == body["channel"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (a_body(channel=None), "channel"),
        (a_body(channel="pigeon"), "channel"),
        (a_body(channel=5), "channel"),
        (a_body(to=None), "to"),
        (a_body(to=[]), "to"),
        (a_body(to=["ada@example.com", "no-address"]), "to.1"),
        (a_body(to=["ada@example.com\r\nBcc: eve@example.com"]), "to.0"),
        (a_body(to=["Ada <ada@example.com>\nX: y"]), "to.0"),
        (a_body(to=["Ada\x00 <ada@example.com>"]), "to.0"),
        (a_body(to=["Ada\u2028 <ada@example.com>"]), "to.0"),
        (a_body(to=["@example.com"]), "to.0"),
        (a_body(to=["ada@"]), "to.0"),
        (a_body(to=["ada@example..com"]), "to.0"),
        (a_body(to=[7]), "to.0"),
        (a_body(to={"email": "ada@example.com"}), "to"),
        (a_body(to=["a@example.com"] * 1001), "to"),
        (a_body(cc=["no-address"]), "cc.0"),
        (a_body(bcc=[None]), "bcc.0"),
        (a_body(reply_to="no-address"), "reply_to"),
        (a_body(**{"from": "no-address"}), "from"),
        (a_body(**{"from": None}), "from"),
        (a_body(subject=None), "subject"),
        (a_body(subject=""), "subject"),
        (a_body(subject="two\nlines"), "subject"),
        (a_body(subject="x" * 999), "subject"),
        (a_body(text=""), "text"),
        (a_body(text="NUL \x00"), "text"),
        (a_body(html=5), "html"),
        (a_body(tags="welcome"), "tags"),
        (a_body(tags=["ok", "unit\x1fseparator"]), "tags.1"),
        (a_body(tags=[""]), "tags.0"),
        (a_body(metadata=[]), "metadata"),
        (a_body(idempotency_key=""), "idempotency_key"),
        (a_body(idempotency_key="k" * 256), "idempotency_key"),
        (a_body(idempotency_key="\x00"), "idempotency_key"),
        (a_body(preferred_provider="provider-absent"), "preferred_provider"),
        (a_body(preferred_provider="prv_" + "0" * 26), "preferred_provider"),
        (a_body(**{"class": "royal"}), "class"),
        (a_body(send_at="tomorrow"), "send_at"),
        (a_body(send_at="2099-01-01T00:00:00"), "send_at"),
        (a_body(send_at="2001-01-01T00:00:00Z"), "send_at"),
        (a_body(send_at="9999-12-31T23:59:59Z"), "send_at"),
        (a_body(send_at=1e300), "send_at"),
        (a_body(expires_at="0001-01-01T00:00:00+14:00"), "expires_at"),
        (a_body(expires_at="2001-01-01T00:00:00Z"), "expires_at"),
        (a_body(text=None), "text"),
        (a_body(send_at="2099-01-02T00:00:00Z", expires_at="2099-01-01T00:00:00Z"), "expires_at"),
        (a_body(subject="  "), "subject"),
        (a_body(attachments=[{"filename": "a.txt", "content": 7}]), "attachments.0.content"),
        (a_body(attachments=[{"filename": "a.txt", "content": "", "content_id": "a b"}]), "attachments.0.content_id"),
        (a_body(attachments=[{"filename": "a", "content": "", "content_id": "a"}]), "attachments.0.content_id"),
        (a_body(attachments=[{"filename": "../", "content": ""}]), "attachments.0.filename"),
        (a_body(attachments=[{"filename": "a\u202efdp.exe", "content": ""}]), "attachments.0.filename"),
        (a_body(attachments=[{"filename": "a\n.txt", "content": ""}]), "attachments.0.filename"),
        (a_body(attachments=[{"content": ""}]), "attachments.0.filename"),
        (a_body(attachments=[{"filename": "a", "content": "", "encoding": "rot13"}]), "attachments.0.encoding"),
        (a_body(colour="red"), "colour"),
        (a_body(email="ada@example.com"), "email"),
        (a_body(sms="hello"), "sms"),
        (an_sms(to="0221 12345"), "to.0"),
        (an_sms(to="+14155551234\n"), "to.0"),
        (an_sms(to="+١٤١٥٥٥٥١٢٣٤"), "to.0"),
        (an_sms(subject="no subjects here"), "subject"),
        (a_whatsapp(channel_options={"template_name": "hi"}, text=None), "channel_options.template_language"),
        (a_whatsapp(text=None), "text"),
        (a_whatsapp(channel_options={"template_name": "t", "template_language": "de"}), "text"),
        (a_push(text=None, subject=None), "text"),
        (a_push(channel_options={"data": {"sms": 1}}), "channel_options.data.sms"),
        (a_push(channel_options={"data": {"push": 1}}), "channel_options.data.push"),
        (a_push(channel_options={"platform": "android"}), "channel_options.platform"),
        (a_push(channel_options={"platform": {"android": "high"}}), "channel_options.platform.android"),
        (a_push(channel_options={"platform": {"huawei": {}}}), "channel_options.platform.huawei"),
        (a_push(channel_options={"platform": {"token": "x"}}), "channel_options.platform.token"),
        (a_push(channel_options={"platform": {"apns": {"a": "x" * 16_385}}}), "channel_options.platform.apns"),
        (a_push(text=None, subject=None, channel_options={"platform": {"apns": {"a": 1}}}), "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named_by_its_path(body, field):
    refusal = refusal_of(body)

    assert refusal.field == field
    assert str(refusal).startswith(field)


NESTED = {"attachments": [{"filename": "a.txt", "content": ""}, {"filename": "a.txt", "content": "aGk="}]}


def with_attachment(**changes):
    """A request whose second attachment has these changes."""
    first, second = NESTED["attachments"]
    return a_body(html="<p>", attachments=[first, second | changes])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"content": "???"}, "attachments.1.content"),
        ({"content": "aGk"}, "attachments.1.content"),
        ({"content": "half \ud800", "encoding": "utf-8"}, None),  # the body is not valid JSON to every reader
        ({"content": "NUL \x00", "encoding": "utf-8"}, "attachments.1.content"),
        ({"content_type": "nonsense"}, "attachments.1.content_type"),
        ({"encoding": "gzip"}, "attachments.1.encoding"),
        ({"filename": "a/"}, "attachments.1.filename"),
        ({"content_id": "<a>"}, "attachments.1.content_id"),
        ({"colour": "red"}, "attachments.1.colour"),
    ],
)
def test_f19_the_field_of_an_attachment_is_named_by_its_whole_path(changes, field):
    refusal = refusal_of(with_attachment(**changes))

    assert refusal.field == field
    assert str(refusal).startswith(field or "The body")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to", ["eva@far.example, Bob <bob@far.example>"]),
        *[("to", [text]) for text in ("ana\u200b@far.example", "\u200bana@far.example", "\ufeffana@far.example")],
        ("to", ["ana\u202egpj@far.example"]),
        *[("cc", [f"a@{domain}.example"]) for domain in ("my_host", "-far", "far-")],
        *[("bcc", [text]) for text in ("a@[192.0.2.1]", "a[b]@far.example", "a@192.0.2.1")],
    ],
)
def test_f10_f11_f18_an_address_that_no_provider_can_send_to_is_refused_with_its_field(field, value):
    refusal = refusal_of(a_body(**{field: value}))

    assert refusal.field == f"{field}.0"
    assert "far.example" not in str(refusal)


@pytest.mark.parametrize("channel", ["telegram", "push"])
def test_f11_no_recipient_of_any_channel_has_invisible_characters(channel):
    body = an_sms(channel="telegram", to="12345\u200b") if channel == "telegram" else a_push(to="\ufefftoken")

    assert refusal_of(body).field == "to.0"


@pytest.mark.parametrize("field", ["from", "reply_to"])
def test_f18_the_senders_addresses_are_checked_as_well(field):
    assert refusal_of(a_body(**{field: "a@my_host.example"})).field == field


def attachments_of(**changes):
    """The stored attachments of a request with one attachment."""
    file = {"filename": "a.bin", "content": "aGk="} | changes
    message = accepted(as_json(a_body(html="<p>", attachments=[file])))
    return content_adapter.validate_json(message.content).attachments


@pytest.mark.parametrize(
    "content_type",
    [
        "text/calendar; method=REQUEST; charset=UTF-8",
        "text/csv; charset=utf-8",
        'application/x; name="a; b"',
        "APPLICATION/Pdf",
        "text/csv",  # base64: only the caller knows the charset
    ],
)
def test_f7_a_content_type_is_kept_with_its_parameters(content_type):
    (file,) = attachments_of(content_type=content_type)

    assert file.content_type == content_type


def test_f7_white_space_in_a_content_type_does_not_count():
    (file,) = attachments_of(content_type=" text/csv ;charset = utf-8; ")

    assert file.content_type == "text/csv; charset=utf-8"


@pytest.mark.parametrize(
    "content_type",
    [
        *("nonsense", "text/", "/csv", "text/csv/x", "text/csv; charset", "text/csv; =x", "text/csv charset=utf-8"),
        *('text/csv; a="b', "text/csv; a=b c", "text/csv; a=1; A=2", "text/csv,text/plain", "text/csv; a=ü", "*/ *"),
        *("multipart/mixed; boundary=x", "message/rfc822", "MESSAGE/partial"),
    ],
)
def test_f7_a_content_type_that_cannot_be_kept_is_refused(content_type):
    assert refusal_of(with_attachment(content_type=content_type)).field == "attachments.1.content_type"


@pytest.mark.parametrize(
    ("filename", "content_type"),
    [
        ("logs.tar.gz", "application/gzip"),
        ("logs.tgz", "application/gzip"),
        ("dump.csv.gz", "application/gzip"),
        ("site.svgz", "application/gzip"),
        ("DUMP.CSV.GZ", "application/gzip"),
        ("dump.csv.bz2", "application/x-bzip2"),
        ("dump.csv.xz", "application/x-xz"),
        ("dump.csv.Z", "application/x-compress"),
        ("dump.csv.br", "application/octet-stream"),
        ("a.csv", "text/csv"),
        ("a.pdf", "application/pdf"),
        ("a.ics", "text/calendar"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("mail.eml", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("http:evil.html?x=y.png", "image/png"),
        ("a.b.nothing", "application/octet-stream"),
    ],
)
def test_f8_the_type_of_a_file_is_guessed_from_its_whole_name(filename, content_type):
    (file,) = attachments_of(filename=filename)

    assert file.content_type == content_type


@pytest.mark.parametrize(
    ("file", "content_type"),
    [
        ({"filename": "a.txt"}, "text/plain; charset=utf-8"),
        ({"filename": "a.ics", "content_type": "text/calendar; method=REQUEST"}, None),
        ({"filename": "a.txt", "content_type": "text/x; Charset=UTF-8"}, "text/x; Charset=UTF-8"),
        ({"filename": "a.json"}, "application/json"),
    ],
)
def test_f9_a_text_that_is_encoded_here_says_its_charset(file, content_type):
    (found,) = attachments_of(content="naïve ü\n", encoding="utf-8", **file)

    assert found.content_type == (content_type or "text/calendar; method=REQUEST; charset=utf-8")


def test_f9_another_charset_than_that_of_the_encoding_is_refused():
    changes = {"content": "ü", "encoding": "utf-8", "content_type": "text/csv; charset=iso-8859-1"}

    assert refusal_of(with_attachment(**changes)).field == "attachments.1.content_type"


def test_an_inline_image_has_its_content_id():
    (file,) = attachments_of(content_id="logo@shop")

    assert file.content_id == "logo@shop"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"content_id": "a"}, "content_id"), ({"content_type": "text/calendar; method=REPLY"}, "content_type")],
)
def test_two_attachments_cannot_have_one_place(changes, field):
    file = {"filename": "a.ics", "content": ""} | changes

    assert refusal_of(a_body(html="<p>", attachments=[file, file])).field == f"attachments.1.{field}"


@pytest.mark.parametrize(
    "content",
    ["aGVs\nbG8=", "aGVs\r\nbG8=\r\n", " aGVsbG8= ", "aGVsbG8=\n"],
)
def test_u4_base64_in_lines_is_accepted(content):
    message = accepted(as_json(a_body(attachments=[{"filename": "a", "content": content}])))

    assert message.attachments[0][1] == b"hello"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("data:text/plain;base64,aGVsbG8=", "data URL"),
        ("_-8=", "alphabet of URLs"),
        ("aGVsbG8", "padding"),
        ("aGVs=bG8=", "base64"),
        ("aGVsbG8==", "base64"),
        ("=", "base64"),
        ("aGVsbG8=ü", "base64"),
    ],
)
def test_u4_another_form_of_base64_is_refused_with_its_cause(content, cause):
    refusal = refusal_of(with_attachment(content=content))

    assert refusal.field == "attachments.1.content"
    assert cause in str(refusal)


NULLABLE = ["cc", "bcc", "reply_to", "html", "attachments", "tags", "idempotency_key", "preferred_provider"]
NULLABLE += ["send_at", "expires_at", "metadata", "class"]


@pytest.mark.parametrize("field", NULLABLE)
def test_u5_null_is_the_absence_of_a_field(field):
    assert parse(as_json(a_body() | {field: None}))[0] == parse(as_json(a_body()))[0]


@pytest.mark.parametrize("field", ["encoding", "content_type", "content_id"])
def test_u5_null_is_the_absence_of_a_field_of_an_attachment(field):
    assert parse(as_json(with_attachment(**{field: None})))[0] == parse(as_json(with_attachment()))[0]


def test_u5_null_is_the_absence_of_an_option():
    options = {"template_name": "t", "template_language": "de"}
    whole = a_whatsapp(text=None, channel_options=options)

    assert (
        parse(as_json(a_whatsapp(text=None, channel_options=options | {"template_params": None}) | {"text": None}))[0]
        == parse(as_json(whole))[0]
    )
    assert parse(as_json(a_push(channel_options={"data": None, "image": None})))[0] == parse(as_json(a_push()))[0]


@pytest.mark.parametrize("field", ["to", "subject", "channel"])
def test_u5_null_in_a_required_field_is_its_absence(field):
    assert refusal_of(a_body() | {field: None}).field == field


def test_u5_null_in_a_list_is_no_absence():
    assert refusal_of(a_body(bcc=[None])).field == "bcc.0"


def test_u5_null_stays_in_metadata():
    assert json.loads(accepted(as_json(a_body(metadata={"a": None, "b": [None]}))).metadata) == {"a": None, "b": [None]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"to": "ada@example.com"}, {"to": ["ada@example.com"]}),
        ({"cc": []}, {}),
        ({"tags": None}, {}),
        (
            {"attachments": [{"filename": "a", "content": "", "content_type": None}]},
            {"attachments": [{"filename": "a", "content": ""}]},
        ),
    ],
)
def test_u6_two_spellings_of_one_request_have_one_fingerprint(one, other):
    requests = [to_command(json.dumps(a_body() | change).encode(), header_key="k") for change in (one, other)]

    assert requests[0].fingerprint == requests[1].fingerprint


def test_u6_metadata_is_compared_as_it_is_written():
    requests = [to_command(as_json(a_body(metadata={"x": x})), header_key="k") for x in (1, 1.0)]

    assert requests[0].fingerprint != requests[1].fingerprint


@pytest.mark.parametrize("field", ["send_at", "expires_at"])
@pytest.mark.parametrize(
    "value",
    [
        *(1795834935, "1795834935", 1795834935000, 1795834935.5, True),
        *("2026-12-01", "2026-12-01T10:00:00", "2026-12-01T10:00Z", "2026-W49-2T10:00:00Z", "20261201T100000Z"),
        *("2026-12-01T10:00:00+0100", "٢٠٢٦-12-01T10:00:00Z", "PT1H", ""),
    ],
)
def test_u7_a_time_is_rfc_3339_with_an_offset(field, value):
    refusal = refusal_of(a_body(**{field: value}))

    assert refusal.field == field
    assert "RFC 3339" in str(refusal)


@pytest.mark.parametrize("zone", ["Z", "z", "+01:00", "-00:00"])
@pytest.mark.parametrize("fraction", ["", ".5", ".123456789"])
def test_u7_every_form_of_rfc_3339_is_understood(zone, fraction):
    later = (utc_now() + timedelta(days=2)).strftime("%Y-%m-%dt%H:%M:%S")

    assert accepted(as_json(a_body(send_at=later + fraction + zone))).send_at is not None


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\tmp\\a.txt", "a.txt"),
        ("/a/b.txt", "b.txt"),
        ("..\\a.txt", "a.txt"),
        ("a b.txt", "a b.txt"),
        (".bashrc", ".bashrc"),
    ],
)
def test_u11_a_path_like_name_keeps_its_last_part(filename, kept):
    (file,) = attachments_of(filename=filename)

    assert file.filename == kept


@pytest.mark.parametrize("filename", ["/", "a/", "..", "a/..", ".", "\\", " "])
def test_u11_a_name_without_a_file_is_refused(filename):
    assert refusal_of(with_attachment(filename=filename)).field == "attachments.1.filename"


def test_u12_everyone_gets_one_copy():
    body = a_body(
        to=["Ana <Ana@Far.example>", "ana@far.example"],
        cc=["Ana@FAR.example", "ben@bücher.example"],
        bcc=["ana@far.EXAMPLE", "b@xn--bcher-kva.example", "ben@xn--bcher-kva.example", '"ana"@far.example'],
    )

    mail = content_adapter.validate_json(accepted(as_json(body)).content)

    # The local part's case is its own server's business, RFC 5321 2.4.
    assert (mail.to, mail.cc, mail.bcc) == (
        ("Ana <Ana@Far.example>", "ana@far.example"),
        ("ben@bücher.example",),
        ("b@xn--bcher-kva.example",),
    )


@pytest.mark.parametrize("text", ["   ", "\n\t ", "\u2003"])
@pytest.mark.parametrize("request_of", [an_sms, a_whatsapp, lambda **changes: an_sms(channel="signal", **changes)])
def test_u13_a_text_of_blanks_is_refused(request_of, text):
    assert refusal_of(request_of(text=text)).field == "text"


DEEP = 100_000
HUGE = "9" * 5_000
HOSTILE = {
    "nothing": b"",
    "white space": b" \n ",
    "no JSON": b"{]",
    "an array": b"[]",
    "null": b"null",
    "a number": b"7",
    "a string": b'"channel"',
    "half of it": as_json(a_body())[:-1],
    "more than it": as_json(a_body()) + b"x",
    "a byte order mark": b"\xef\xbb\xbf" + as_json(a_body()),
    "no UTF-8": as_json(a_body()).replace(b"Hello", b"Hell\xff"),
    "Latin-1": json.dumps(a_body(), ensure_ascii=False).encode("latin-1"),
    "UTF-16": json.dumps(a_body()).encode("utf-16"),
    "NUL": as_json(a_body(text="\x00")),
    "a raw NUL": as_json(a_body()).replace(b"Hello", b"Hell\x00"),
    "half a surrogate pair": as_json(a_body(text="\ud800")),
    "half a surrogate pair in the metadata": as_json(a_body(metadata={"a": "\udc00"})),
    "half a surrogate pair as a key": as_json(a_body(metadata={"\ud800": 1})),
    "NaN": as_json(a_body(metadata={"a": float("nan")})),
    "Infinity": as_json(a_body(metadata={"a": float("inf")})),
    "1e999": as_json(a_body(metadata={"a": 7})).replace(b": 7", b": 1e999"),
    "-1e999": as_json(a_body(metadata={"a": 7})).replace(b": 7", b": -1e999"),
    "a number of 5,000 digits": as_json(a_body(metadata={"a": 7})).replace(b": 7", f": {HUGE}".encode()),
    "2 to the 63rd": as_json(a_body(metadata={"a": 1 << 63})),
    "2 to the 64th": as_json(a_body(metadata={"a": 1 << 64})),
    "minus 2 to the 64th": as_json(a_body(metadata={"a": -(1 << 64)})),
    "100,000 brackets": b"[" * DEEP,
    "100,000 levels": b'{"channel":"email","metadata":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "150 levels": b'{"channel":"email","metadata":{"a":' + b"[" * 150 + b"]" * 150 + b"}}",
    "230 levels": b'{"channel":"email","metadata":{"a":' + b"[" * 230 + b"]" * 230 + b"}}",
    "300 levels": as_json(a_body(metadata={"a": 7})).replace(b"7", b"[" * 300 + b"]" * 300),
    "253 levels": as_json(a_body(metadata={"a": 7})).replace(b"7", b"[" * 251 + b"]" * 251),
    "a name that comes twice": b'{"channel":"email","subject":"one",' + as_json(a_body())[1:],
    "a name that comes twice in the metadata": as_json(a_body(metadata={"a": 7})).replace(b'"a": 7', b'"a": 7, "a": 8'),
    "a very long name": as_json(a_body() | {"x" * 1_000_000: 1}),
    "a very long name twice": as_json(a_body(metadata={"y" * 1_000_000: 1, "x" * 1_000_000: 2})).replace(b"y", b"x"),
    "NUL below 150 long names": b'{"metadata":' + b'{"%s":' % (b"x" * 300) * 150 + b'"\\u0000"' + b"}" * 151,
    "a very long word": as_json({"channel": "x" * 1_000_000}),
}


@pytest.mark.parametrize("header_key", [None, "order-7"])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_accepted_or_refused_with_400(body, header_key):
    refusal = refusal_or_none(body, header_key)

    assert refusal is None or refusal.status == 400
    assert refusal is None or 0 < len(json.dumps(render_v1(refusal))) < 2_000


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "an array",
        "no UTF-8",
        "NUL",
        "half a surrogate pair",
        "NaN",
        "1e999",
        "100,000 brackets",
        "100,000 levels",
        "a number of 5,000 digits",
        "2 to the 64th",
        "minus 2 to the 64th",
        "a name that comes twice",
        "a name that comes twice in the metadata",
    ],
)
@pytest.mark.parametrize("header_key", [None, "order-7"])
def test_json_that_two_parsers_may_read_differently_is_refused(name, header_key):
    assert refusal_of(HOSTILE[name], header_key=header_key).code == "VALIDATION_ERROR"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(body):
    assert refusal_of(body).status == 400


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([1 << 63, 1 << 64, 1e308, "\x00", "email", "sms", "push", "+14155551234", "ada@example.com"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = sorted({*a_body(), "cc", "attachments", "channel_options", "metadata", "tags", "send_at", "class"})


@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_any_value_in_any_field_is_accepted_or_refused_with_400(changes, keyed):
    refusal = refusal_or_none(as_json(a_body() | changes), "k" if keyed else None)

    assert refusal is None or refusal.status == 400


def test_an_accepted_message_can_be_stored():
    message = accepted(as_json(a_body(metadata={"a": "\x01", "b": [1.5, "ü", (1 << 63) - 1]})))

    assert json.loads(message.metadata) == {"a": "\x01", "b": [1.5, "ü", (1 << 63) - 1]}
    assert "\x00" not in message.metadata + message.content


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"text": "a\x00b"}, "text"),
        ({"tags": ["a", "b\x00"]}, "tags.1"),
        ({"metadata": {"a": {"b": [{}, {"c": "\x00"}]}}}, "metadata.a.b.1.c"),
        ({"metadata": {"a": {"b\x00": 1}}}, "metadata.a"),
        ({"a\x00": 1}, None),
        ({"metadata": {"a": "\x00" + "x" * 100_000}}, "metadata.a"),
    ],
)
def test_a_nul_in_any_text_is_refused_with_its_path(changes, field):
    refusal = refusal_of(as_json(a_body(**changes)))

    assert (refusal.field, "NUL" in str(refusal)) == (field, True)


def test_a_nul_in_the_data_of_a_push_is_refused_with_its_path():
    refusal = refusal_of(as_json(a_push(channel_options={"data": {"order": "\x00"}})))

    assert refusal.field == "channel_options.data.order"


def test_the_letters_of_an_escape_are_no_nul():
    assert accepted(as_json(a_body(metadata={"a": "\\u0000"}))).metadata == '{"a":"\\\\u0000"}'


def test_paths_of_a_wide_object_are_not_written_for_each_value():
    body = as_json({"x" * 20_000: {str(number): 0 for number in range(4_000)}, "y": "\x00"})
    tracemalloc.start()

    with pytest.raises(ValidationFailed):
        strict_json(body)

    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@given(JSON.filter(lambda value: "\x00" not in repr(value)))
def test_metadata_is_stored_unchanged(value):
    body = as_json(a_body(metadata={"a": value}))
    try:
        message = accepted(body)
    except ValidationFailed:
        return

    assert json.loads(message.metadata) == json.loads(body)["metadata"]


def fingerprint(document, **style):
    return command.fingerprint(strict_json(json.dumps(document, **style).encode()))


DOCUMENTS = st.dictionaries(st.text(max_size=5), JSON, max_size=5).filter(lambda document: is_plain(document))


def meaning(document):
    return {name: value for name, value in document.items() if value != []}


def is_plain(document):
    """It contains nothing that the parser refuses before the fingerprint."""
    text = repr(document)
    return not any(part in text for part in ("nan", "inf", "\\ud", "\\x00")) and not re.search(r"\d{19}", text)


@given(DOCUMENTS, st.randoms())
def test_white_space_and_key_order_do_not_change_the_fingerprint(document, dice):
    shuffled = dict(dice.sample(list(document.items()), len(document)))

    assert fingerprint(shuffled, indent=3, ensure_ascii=False) == fingerprint(document, separators=(",", ":"))


@given(DOCUMENTS, st.text(max_size=5), JSON)
def test_any_other_value_changes_the_fingerprint(document, name, value):
    changed = document | {name: value}
    if not is_plain(changed):
        return

    same = json.dumps(meaning(changed), sort_keys=True) == json.dumps(meaning(document), sort_keys=True)
    assert (fingerprint(changed) == fingerprint(document)) == (same or name == "idempotency_key")


def test_the_idempotency_key_does_not_change_the_fingerprint():
    assert fingerprint(a_body(idempotency_key="order-7")) == fingerprint(a_body())


def test_the_same_key_in_header_and_body_is_one_key():
    message = accepted(as_json(a_body(idempotency_key="order-7")), header_key="order-7")

    assert message.idempotency_key == "order-7"


def test_two_different_keys_are_refused():
    assert refusal_of(a_body(idempotency_key="order-7"), header_key="order-8").field == "idempotency_key"


@pytest.mark.parametrize("header", ["", "k" * 256, "\x00", "a\tb", "\x85"])
def test_a_key_that_is_no_printable_text_is_refused(header):
    assert refusal_of(a_body(), header_key=header).field == "idempotency_key"


def test_the_projects_sender_is_used_where_the_request_names_none():
    message = accepted(as_json(a_body(**{"from": None})), sender="Shop <default@example.com>")

    assert message.sender == "Shop <default@example.com>"


def test_an_email_is_one_delivery_for_the_whole_envelope():
    message = accepted(as_json(a_body(to=["a@example.com", "b@example.com"], cc=["c@example.com"])))

    assert [delivery.recipient for delivery in message.deliveries] == ["a@example.com, b@example.com"]


def test_elsewhere_every_recipient_gets_one_delivery():
    message = accepted(as_json(an_sms(to=["+14155550001", "+14155550002", "+14155550001"])))

    assert [delivery.recipient for delivery in message.deliveries] == ["+14155550001", "+14155550002"]


def test_everything_of_a_message_lies_in_one_millisecond():
    message = accepted(as_json(an_sms(to=["+14155550001", "+14155550002"])))

    assert {delivery.id.int >> 80 for delivery in message.deliveries} == {message.id.int >> 80}


def a_message_at(now):
    return command.to_new_message(
        to_command(as_json(a_body())),
        project_id=PROJECT,
        sender=None,
        sandbox=False,
        preferred_provider_id=None,
        now=now,
        requeue_after=timedelta(seconds=8),
        unsubscribe_link=lambda delivery_id, address: "",
        with_addresses=False,
    )


def test_the_time_of_a_message_is_the_time_in_its_id():
    moments = [NOON + timedelta(milliseconds=random.randrange(10**9)) for _ in range(500)]

    found = [a_message_at(moment).id.int >> 80 for moment in moments]

    assert found == [round(moment.timestamp() * 1000) for moment in moments]


def test_a_message_falls_due_after_the_requeue_delay():
    message = a_message_at(NOON)

    assert (message.due_at, message.send_at) == (after(8), None)


def test_a_scheduled_message_falls_due_at_its_time():
    later = utc_now() + timedelta(days=2)

    message = accepted(as_json(a_body(send_at=later.isoformat())))

    assert message.due_at == message.send_at == later
    assert message.expires_at == later + command.DEFAULT_LIFETIME[DeliveryClass.STANDARD]


@pytest.mark.parametrize("delivery_class", DeliveryClass)
def test_a_message_lives_as_long_as_its_class(delivery_class):
    message = accepted(as_json(a_body(**{"class": delivery_class.value})))

    assert message.expires_at - message.created_at == command.DEFAULT_LIFETIME[delivery_class]


HELLO = Attachment(filename="a.txt", content_type="text/plain", sha256=hashlib.sha256(b"hello").hexdigest(), size=5)


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (
            a_body(cc="Bob <bob@example.com>", attachments=[{"filename": "a.txt", "content": "aGVsbG8="}]),
            Email(
                sender="Shop <shop@example.com>",
                to=("ada@example.com",),
                cc=("Bob <bob@example.com>",),
                subject="Grüße aus Köln",
                text="Hello.",
                attachments=(HELLO,),
            ),
        ),
        (an_sms(text="Hi"), Sms(sender="Shop", text="Hi")),
        (a_whatsapp(text="Hi"), Whatsapp(text="Hi")),
        (
            a_whatsapp(
                text=None,
                channel_options={"template_name": "t", "template_language": "de", "template_params": ["1"]},
            ),
            Whatsapp(template_name="t", template_language="de", template_params=("1",)),
        ),
        (an_sms(channel="telegram", to="@ada", text="Hi"), ChatMessage(channel="telegram", sender="Shop", text="Hi")),
        (
            a_push(subject="Ho", text="Hi", channel_options={"data": {"a": ""}}),
            Push(title="Ho", text="Hi", data={"a": ""}),
        ),
        (
            a_push(
                subject=None,
                text="Hi",
                channel_options={
                    "platform": {
                        "android": {"priority": "high", "ttl": None},
                        "apns": {"payload": {"aps": {"badge": 3}}},
                    }
                },
            ),
            Push(
                text="Hi",
                platform={"android": {"priority": "high"}, "apns": {"payload": {"aps": {"badge": 3}}}},
            ),
        ),
    ],
    ids=["email", "sms", "whatsapp text", "whatsapp template", "telegram", "push", "push with platforms"],
)
def test_a_worker_reads_the_requested_content(body, content):
    assert content_adapter.validate_json(accepted(as_json(body)).content) == content


def test_an_attachment_is_stored_by_its_content():
    files = [{"filename": name, "content": "aGVsbG8="} for name in ("a.txt", "b.bin")]

    message = accepted(as_json(a_body(attachments=files)))

    assert [content for _, content in message.attachments] == [b"hello", b"hello"]
    assert len({digest for digest, _ in message.attachments}) == 1


def test_a_text_attachment_is_stored_as_utf_8():
    message = accepted(as_json(a_body(attachments=[{"filename": "a.txt", "content": "Grüße", "encoding": "utf-8"}])))

    assert message.attachments[0][1] == "Grüße".encode()


@pytest.mark.parametrize(
    ("body", "threads"),
    [
        (as_json(a_body()), 0),
        (as_json(a_body(text="x" * 1_000_000)), 1),
        (as_json(a_body(to=[f"a{number}@bücher.example" for number in range(301)])), 1),
        (as_json(a_body(to=[f"a{number}@bücher.example" for number in range(301)])).replace(b"@", b"\\u0040"), 1),
    ],
    ids=["usual", "large", "many addresses", "many escaped addresses"],
)
async def test_a_body_that_takes_long_is_parsed_in_a_thread(monkeypatch, body, threads):
    parsed_in = []

    def to_command_here(body, **options):
        parsed_in.append(threading.current_thread())
        return to_command(body, **options)

    monkeypatch.setattr(v1_schemas, "to_command", to_command_here)

    command = await v1_schemas.read_command(body, header_key="k")

    assert command == to_command(body, header_key="k")
    assert [thread is not threading.main_thread() for thread in parsed_in] == [bool(threads)]


async def test_a_fault_that_is_found_in_a_thread_is_a_refusal():
    with pytest.raises(ValidationFailed):
        await v1_schemas.read_command(as_json(a_body(text="x" * 1_000_000, colour="red")))


def test_the_parser_itself_refuses_a_body_that_is_no_request():
    with pytest.raises(ValidationFailed):
        parse(b"{}")


# -- templates and links to unsubscribe --------------------------------------------------------------------------------


def a_templated(**changes):
    return a_body(subject=None, text=None, template_id="tpl_1") | changes


def test_variables_are_bounded():
    within, above = [as_json(a_templated(variables={"a": "x" * length})) for length in (262_135, 262_144)]

    assert to_command(within).template.variables["a"].startswith("x")
    assert refusal_of(above).field == "variables"


def test_null_in_variables_is_kept():
    body = as_json(a_templated(variables={"a": None, "b": [{"c": None}]}, subject=None))

    assert to_command(body).template.variables == {"a": None, "b": [{"c": None}]}


@pytest.mark.parametrize(
    "changes",
    [{"cc": ["bob@example.com"]}, {"bcc": ["bob@example.com"]}, {"to": ["a@example.com", "b@example.com"]}],
)
def test_a_link_to_unsubscribe_is_for_one_recipient(changes):
    assert refusal_of(a_body(unsubscribe=True, **changes)).field == "unsubscribe"


@pytest.mark.parametrize("value", ["yes", 1, "true", []])
def test_unsubscribe_is_true_or_false(value):
    assert refusal_of(a_body(unsubscribe=value)).field == "unsubscribe"


def test_a_link_to_unsubscribe_needs_a_public_address():
    assert refusal_of(a_body(unsubscribe=True)).field == "unsubscribe"
