"""provider-sandbox: the message as it is, and always accepted."""

from __future__ import annotations

from sluice.model.outcome import Accepted
from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult, SandboxCredentials, build, classify
from tests.unit.providers.examples import Sample, an_sms, outbound

SAMPLE = Sample({})


def test_the_message_is_captured_as_it_is() -> None:
    captured = build(outbound(an_sms()), SandboxCredentials())

    assert captured == CaptureRequest("att_01HX", "msg_01HX", "+15005550100", an_sms())


def test_a_captured_message_is_accepted_under_its_id() -> None:
    assert classify(CaptureResult("att_01HX")) == Accepted("att_01HX")
