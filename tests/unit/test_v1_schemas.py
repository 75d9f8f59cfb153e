"""The body of a send request: every fault is one clear refusal that names its field."""

import hashlib
import json
import random
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.rendering import render_v1
from gateway.auth.principal import KeyPrincipal
from gateway.errors import ApiError, ValidationFailed
from gateway.ingest import command
from gateway.ingest.ingest import MessageIngest
from gateway.kit.strict_json import strict_json
from gateway.messages.v1_schemas import parse, to_command
from sluice.model.message import Attachment, ChatMessage, DeliveryClass, Email, Push, Sms, Whatsapp, content_adapter
from sluice.runtime.clock import utc_now
from sluice.store.projects import Project
from tests.examples import NOON, PROJECT, a_body, after, an_id, as_json

KEY = KeyPrincipal(an_id(), PROJECT, is_test=False)


def an_ingest(sender=None):
    config = SimpleNamespace(
        projects={PROJECT: Project(PROJECT, an_id(), "shop", "Shop", sender, NOON)},
        providers={},
        candidates=lambda project, channel: (),
    )
    return MessageIngest(
        None, config, None, requeue_after=timedelta(seconds=8), max_pending=10, dispatch_queue_limit=4000
    )


def accepted(body, *, header_key=None, sender=None):
    """The message that these bytes become, just before it is stored."""
    return an_ingest(sender)._to_new_message(to_command(body, header_key=header_key), KEY)


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
        (a_body(attachments=[{"filename": "a.txt", "content": "???"}]), "attachments.0"),
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
        (a_push(channel_options={"data": {"sms": 1}}), "channel_options.data.sms"),
        (a_push(channel_options={"data": {"push": 1}}), "channel_options.data.push"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_field_is_named_by_its_path(body, field):
    refusal = refusal_of(body)

    assert refusal.field == field
    assert str(refusal).startswith(field)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (a_body(text=None), "html or text is required"),
        (
            a_body(send_at="2099-01-02T00:00:00Z", expires_at="2099-01-01T00:00:00Z"),
            "expires_at must be later than send_at",
        ),
        (a_whatsapp(text=None), "channel_options (a template) or text is required, not both"),
        (a_push(text=None, subject=None), "subject, text or channel_options.data is required"),
    ],
    ids=["content", "times", "whatsapp", "push"],
)
def test_a_fault_of_the_whole_request_names_no_field(body, words):
    refusal = refusal_of(body)

    assert (str(refusal), refusal.field) == (words, None)


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
    "a name that comes twice": b'{"channel":"email","subject":"one",' + as_json(a_body())[1:],
    "a name that comes twice in the metadata": as_json(a_body(metadata={"a": 7})).replace(b'"a": 7', b'"a": 7, "a": 8'),
    "a very long name": as_json(a_body() | {"x" * 1_000_000: 1}),
    "a very long name twice": as_json(a_body(metadata={"y" * 1_000_000: 1, "x" * 1_000_000: 2})).replace(b"y", b"x"),
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
    message = accepted(as_json(a_body(metadata={"a": "\x00", "b": [1.5, "ü", (1 << 63) - 1]})))

    assert json.loads(message.metadata) == {"a": "\x00", "b": [1.5, "ü", (1 << 63) - 1]}
    assert "\x00" not in message.metadata + message.content


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


def is_plain(document):
    """It contains nothing that the parser refuses before the fingerprint."""
    text = repr(document)
    return not any(part in text for part in ("nan", "inf", "\\ud")) and not re.search(r"\d{19}", text)


@given(DOCUMENTS, st.randoms())
def test_white_space_and_key_order_do_not_change_the_fingerprint(document, dice):
    shuffled = dict(dice.sample(list(document.items()), len(document)))

    assert fingerprint(shuffled, indent=3, ensure_ascii=False) == fingerprint(document, separators=(",", ":"))


@given(DOCUMENTS, st.text(max_size=5), JSON)
def test_any_other_value_changes_the_fingerprint(document, name, value):
    changed = document | {name: value}
    if not is_plain(changed):
        return

    same = json.dumps(changed, sort_keys=True) == json.dumps(document, sort_keys=True)
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
    ],
    ids=["email", "sms", "whatsapp text", "whatsapp template", "telegram", "push"],
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


def test_the_parser_itself_refuses_a_body_that_is_no_request():
    with pytest.raises(ValidationFailed):
        parse(b"{}")
