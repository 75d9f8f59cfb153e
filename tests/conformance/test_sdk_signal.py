"""pysignalclirestapi, the client that the wrapper's own author maintains, at the simulator's dialect."""

from __future__ import annotations

import re
import warnings

import pytest

from tests.conformance.simulator import ThreadedSimulator

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of the escape sequences in its docstrings
    from pysignalclirestapi import SignalCliRestApi, SignalCliRestApiError

OURS, THEIRS = "+4915550000001", "+4915550000002"


@pytest.fixture
def client(simulator: ThreadedSimulator) -> SignalCliRestApi:
    return SignalCliRestApi(simulator.url("signal"), OURS)


def test_it_recognises_the_wrapper(client: SignalCliRestApi) -> None:
    assert client.mode() == "json-rpc"
    assert client.api_info() == (["v1", "v2"], 2)


@pytest.mark.parametrize("recipients", [THEIRS, [THEIRS], "group.QUJDRA==", "ann.07"])
def test_it_sends(client: SignalCliRestApi, recipients: str | list[str]) -> None:
    sent = client.send_message("Grüße 🙂", recipients, text_mode="normal")

    assert re.fullmatch("[0-9]{13}", sent["timestamp"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("unregistered", f'Unregistered user "{THEIRS}"'),
        ("own", f"User {OURS} is not registered"),
        ("untrusted", "untrusted recipient keys"),
        ("network", "Network failure"),
        ("captcha", "CAPTCHA proof required"),
        ("rate", "due to rate limiting"),
        ("hidden", "Failed to send message"),
    ],
)
def test_it_understands_a_refusal(
    client: SignalCliRestApi, simulator: ThreadedSimulator, code: str, words: str
) -> None:
    with (
        simulator.behaving("signal", behaviour="reject", code=code),
        pytest.raises(SignalCliRestApiError, match=re.escape(words)),
    ):
        client.send_message("x", THEIRS)


def test_it_understands_that_a_message_is_empty(client: SignalCliRestApi) -> None:
    with pytest.raises(SignalCliRestApiError, match="empty message"):
        client.send_message("", THEIRS)
