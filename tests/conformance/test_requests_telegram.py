"""Every request of the Telegram package is a call of ``sendMessage`` as the description of the Bot API has it."""

from __future__ import annotations

import json

import httpx
from hypothesis import strategies as st

from sluice.model.message import ChatMessage
from sluice.providers.contract import OutboundMessage
from sluice.providers.registry import get_package
from tests.conformance.conftest import Conforms, spec
from tests.conformance.messages import chat_messages

SEND = spec("telegram", {"$ref": "#/$defs/sendMessage"})
CHATS = st.integers(-(10**15), 10**15).map(str) | st.from_regex(r"\A@[A-Za-z][A-Za-z0-9_]{4,31}\Z")


def test_every_request_fits_the_description(conforms: Conforms) -> None:
    def check(request: httpx.Request, message: OutboundMessage) -> None:
        assert isinstance(message.content, ChatMessage)
        body = json.loads(request.content)
        SEND.validate(body)
        assert request.url.path.endswith("/sendMessage")
        assert (str(body["chat_id"]), body["text"]) == (message.recipient, message.content.text)

    conforms(get_package("provider-telegram"), chat_messages("telegram", CHATS), check)


def test_a_request_with_a_misspelt_field_does_not() -> None:
    assert SEND.is_valid({"chat_id": 1, "text": "x"})
    assert not SEND.is_valid({"chat_id": 1, "text": "x", "parseMode": "HTML"})
    assert not SEND.is_valid({"chat_id": 1})
