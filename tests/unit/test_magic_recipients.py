"""Which recipients are magic."""

import pytest

from sluice.model.message import ChatMessage, Email, Push, Sms, Whatsapp
from sluice.providers.magic_recipients import MagicRecipient, magic_recipient_of

NUMBERED = [Sms(sender="A", text="x"), Whatsapp(text="x"), ChatMessage(channel="signal", text="x")]
NAMED = [ChatMessage(channel="telegram", text="x"), Push(text="x")]


def a_mail(*to, **fields):
    return Email(sender="a@example.com", to=to, subject="x", **fields)


@pytest.mark.parametrize("content", NUMBERED)
def test_numbers_are_magic_recipients_in_order(content):
    found = [magic_recipient_of(content, f"+4477009000{number:02}") for number in range(9)]

    assert found == [None, *MagicRecipient, None]


@pytest.mark.parametrize("content", NAMED)
@pytest.mark.parametrize("magic", MagicRecipient)
def test_names_are_magic_recipients(content, magic):
    assert magic_recipient_of(content, f"magic:{magic}") is magic
    assert magic_recipient_of(content, f"{magic}") is None
    assert magic_recipient_of(content, f"magic:{magic}x") is None


@pytest.mark.parametrize("magic", MagicRecipient)
def test_addresses_are_magic_recipients(magic):
    for text in (
        f"{magic}@sandbox.example",
        f"{magic.upper()}+a+b@SANDBOX.example",
        f"A <{magic}@sandbox.example>",
    ):
        assert magic_recipient_of(a_mail(text), text) is magic


def test_the_first_magic_address_of_a_mail_decides():
    mail = a_mail("ada@example.com", "bounced@sandbox.example", cc=("failed@sandbox.example",))

    assert magic_recipient_of(mail, ", ".join(mail.to)) is MagicRecipient.BOUNCED


@pytest.mark.parametrize("text", ["", "delivered", "@sandbox.example", "delivered@sandbox.example.com", "a@b@c"])
def test_other_addresses_are_ordinary(text):
    assert magic_recipient_of(a_mail(text), text) is None
