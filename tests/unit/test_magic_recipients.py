"""Which recipients are magic."""

import pytest

from sluice.model.message import ChatMessage, Email, Push, Sms, Whatsapp
from sluice.providers.magic_recipients import Scenario, scenario_of

NUMBERED = [Sms(sender="A", text="x"), Whatsapp(text="x"), ChatMessage(channel="signal", text="x")]
NAMED = [ChatMessage(channel="telegram", text="x"), Push(text="x")]


def a_mail(*to, **fields):
    return Email(sender="a@example.com", to=to, subject="x", **fields)


@pytest.mark.parametrize("content", NUMBERED)
def test_numbers_stand_for_the_scenarios_in_order(content):
    found = [scenario_of(content, f"+4477009000{number:02}") for number in range(9)]

    assert found == [None, *Scenario, None]


@pytest.mark.parametrize("content", NAMED)
@pytest.mark.parametrize("scenario", Scenario)
def test_names_stand_for_the_scenarios(content, scenario):
    assert scenario_of(content, f"magic:{scenario}") is scenario
    assert scenario_of(content, f"{scenario}") is None
    assert scenario_of(content, f"magic:{scenario}x") is None


@pytest.mark.parametrize("scenario", Scenario)
def test_addresses_stand_for_the_scenarios(scenario):
    for text in (
        f"{scenario}@sandbox.example",
        f"{scenario.upper()}+a+b@SANDBOX.example",
        f"A <{scenario}@sandbox.example>",
    ):
        assert scenario_of(a_mail(text), text) is scenario


def test_the_first_magic_address_of_a_mail_decides():
    mail = a_mail("ada@example.com", "bounced@sandbox.example", cc=("failed@sandbox.example",))

    assert scenario_of(mail, ", ".join(mail.to)) is Scenario.BOUNCED


@pytest.mark.parametrize("text", ["", "delivered", "@sandbox.example", "delivered@sandbox.example.com", "a@b@c"])
def test_other_addresses_are_ordinary(text):
    assert scenario_of(a_mail(text), text) is None
