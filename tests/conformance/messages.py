"""Generated messages of every kind: Unicode from everywhere, long texts, every option present and absent."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sluice.model.message import Attachment, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.providers.contract import OutboundMessage
from tests.unit.providers.examples import NOON

# Everything that JSON and UTF-8 can carry; half characters are refused by every package.
CHARACTERS = st.characters(exclude_categories=["Cs"])
AWKWARD = ("\x00", "é", "e\u0301", "\u202egnp.exe", "👩‍👩‍👧‍👦", "İstanbul", "\ufeff", "{{1}}", "'\"\\/&=%+", "\r\n\t")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=80) | st.sampled_from(AWKWARD)
LONG_TEXTS = st.builds(lambda text, times: text * times, TEXTS, st.sampled_from((1, 1, 20, 500)))
NUMBERS = st.from_regex(r"\A\+[1-9][0-9]{6,14}\Z")
REFERENCES = st.from_regex(r"\Aatt_[0-9A-Za-z]{1,40}\Z")


def outbound_messages(
    contents: SearchStrategy[Any], recipients: SearchStrategy[str]
) -> SearchStrategy[OutboundMessage]:
    """These contents to these recipients, with and without a callback."""
    return st.builds(
        OutboundMessage,
        content=contents,
        recipient=recipients,
        reference=REFERENCES,
        message_id=st.from_regex(r"\Amsg_[0-9A-Za-z]{1,40}\Z"),
        created_at=st.just(NOON),
        attempted_at=st.just(NOON),
        callback_url=st.none() | st.just("https://hooks.example.test/v1/receipts/prv_1"),
    )


def sms_messages() -> SearchStrategy[OutboundMessage]:
    return outbound_messages(st.builds(Sms, sender=NUMBERS, text=LONG_TEXTS), NUMBERS)


def whatsapp_messages() -> SearchStrategy[OutboundMessage]:
    names = st.from_regex(r"\A[a-z0-9_]{1,60}\Z")
    languages = st.sampled_from(("en_US", "en", "de", "pt_BR", "zh_CN"))
    templates = st.builds(
        Whatsapp,
        template_name=names,
        template_language=languages,
        template_params=st.lists(TEXTS, max_size=6).map(tuple),
    )
    return outbound_messages(templates | st.builds(Whatsapp, text=LONG_TEXTS), NUMBERS)


def chat_messages(channel: str, recipients: SearchStrategy[str]) -> SearchStrategy[OutboundMessage]:
    contents = st.builds(ChatMessage, channel=st.just(channel), sender=st.none() | NUMBERS, text=LONG_TEXTS)
    return outbound_messages(contents, recipients)


def push_messages() -> SearchStrategy[OutboundMessage]:
    contents = st.builds(
        Push,
        title=st.none() | TEXTS,
        text=st.none() | LONG_TEXTS,
        image=st.none() | st.just("https://example.test/ä.png"),
        data=st.dictionaries(TEXTS, TEXTS, max_size=5),
        platform=st.fixed_dictionaries(
            {},
            optional={
                "android": st.fixed_dictionaries({"priority": st.sampled_from(("HIGH", "NORMAL"))}),
                "apns": st.fixed_dictionaries({"payload": st.just({"aps": {"badge": 3}})}),
                "webpush": st.fixed_dictionaries({"headers": st.just({"Urgency": "high"})}),
            },
        ),
    )
    tokens = st.from_regex(r"\A[0-9A-Za-z_-]{22}:[0-9A-Za-z_-]{40,134}\Z")
    topics = st.from_regex(r"\Atopic:[a-zA-Z0-9._~%-]{1,60}\Z")
    return outbound_messages(contents, tokens | topics)


NAMES = st.sampled_from(
    ("Ana", "Doe, Ana", 'A "B" C', "Zoë Ünder", "世界", "a@b", "=?x", "", "O'Neill; Co.", "🙂 Team")
)
LOCALS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9+_=-]{0,30}\Z")
DOMAINS = st.sampled_from(("example.org", "bücher.example", "mail.example.com", "xn--bcher-kva.example"))
FILES = st.tuples(
    st.sampled_from(("a.pdf", "Grüße.txt", "a b;c.csv", '"q".png', "世界.bin")),
    st.sampled_from(("application/pdf", "text/plain", 'text/csv; charset="utf-8"', "image/png", "text/calendar")),
    st.binary(min_size=1, max_size=200),
    st.none() | st.from_regex(r"\A[A-Za-z0-9._-]{1,20}\Z"),
)


@st.composite
def mailboxes(draw: st.DrawFn) -> str:
    """``Name <local@domain>`` or a bare address."""
    bare = f"{draw(LOCALS)}@{draw(DOMAINS)}"
    name = draw(NAMES)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{bare}>' if name else bare


def an_attachment_of(fields: tuple[str, str, bytes, str | None]) -> Attachment:
    filename, content_type, content, content_id = fields
    digest = sha256(content).hexdigest()
    return Attachment(
        filename=filename, content_type=content_type, sha256=digest, size=len(content), content_id=content_id
    )


@st.composite
def email_messages(draw: st.DrawFn) -> OutboundMessage:
    """Mails with one to many recipients of every kind, text or HTML or both, files and inline images."""
    addresses = st.lists(mailboxes(), max_size=12).map(tuple)
    text, html = draw(st.sampled_from(((True, False), (False, True), (True, True))))
    files = draw(st.lists(FILES, max_size=3))
    subject = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200)
    mail = Email(
        sender=draw(mailboxes()),
        to=draw(st.lists(mailboxes(), min_size=1, max_size=12).map(tuple)),
        cc=draw(addresses),
        bcc=draw(addresses),
        reply_to=draw(st.none() | mailboxes()),
        subject=draw(subject),
        text=draw(LONG_TEXTS) if text else None,
        html=draw(LONG_TEXTS) if html else None,
        attachments=tuple(map(an_attachment_of, files)),
    )
    message = draw(outbound_messages(st.just(mail), st.just(mail.to[0])))
    return replace(message, attachments={sha256(content).hexdigest(): content for _, _, content, _ in files})
