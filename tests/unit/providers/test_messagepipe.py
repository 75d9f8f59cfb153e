"""provider-messagepipe: what it builds without a link and over SMPP, and every command_status."""

from __future__ import annotations

import pytest

from sluice.model.message import ChatMessage
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, RecipientRejected, Throttled
from sluice.model.reasons import Reason
from sluice.providers.adapters.messagepipe import (
    CAPTURED,
    MessagePipeCredentials,
    SmppLinkCredentials,
    build_capture,
    build_submission,
    classify_capture,
    classify_submission,
)
from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.smpp_status import StatusClass, status_class
from sluice.providers.kit.smpp_types import SmppResponse, SmppSubmission
from tests.unit.providers.examples import Sample, an_sms, outbound

SAMPLE = Sample({})
NONE = MessagePipeCredentials()
BUILDERS = pytest.mark.parametrize(
    ("build", "account"), [(build_capture, NONE), (build_submission, SmppLinkCredentials())]
)


def test_without_a_link_the_text_is_captured_and_the_outcome_says_so() -> None:
    content = an_sms(text="Grüße 😀")

    request = build_capture(outbound(content), NONE)

    assert request == CaptureRequest("att_01HX", "msg_01HX", "+15005550100", content)
    assert classify_capture(CaptureResult("att_01HX")) == Accepted("att_01HX", detail=CAPTURED)


@pytest.mark.parametrize("text", ["Hello", "Grüße 😀", "x" * 2000])
def test_over_smpp_the_text_is_submitted_as_it_is(text: str) -> None:
    request = build_submission(outbound(an_sms(sender="ACME", text=text)), SmppLinkCredentials())

    assert request == SmppSubmission("att_01HX", "ACME", "+15005550100", text)
    assert text not in repr(request)


@pytest.mark.parametrize(
    ("link", "own", "submitted"),
    [("LINK", "ACME", "LINK"), ("LINK", None, "LINK"), ("", "ACME", "ACME"), ("", None, "")],
)
def test_the_links_sender_comes_before_the_messages(link: str, own: str | None, submitted: str) -> None:
    request = build_submission(outbound(an_sms(sender=own)), SmppLinkCredentials(sender=link))

    assert request.sender == submitted


@BUILDERS
def test_only_sms_are_carried(build, account) -> None:
    with pytest.raises(UnsupportedMessageError, match="SMS only"):
        build(outbound(ChatMessage(channel="telegram", text="Hello")), account)


@BUILDERS
def test_a_text_is_needed(build, account) -> None:
    with pytest.raises(UnsupportedMessageError, match="text"):
        build(outbound(an_sms(text="")), account)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("0A1B",), Accepted("0A1B", ("A1B",))),
        (("0A", "0B"), Accepted("0A", ("A", "B"))),
        (("", "0B"), Accepted("0B", ("B",))),
        (("",), Accepted("")),
    ],
)
def test_an_accepted_message_has_the_ids_of_its_parts(ids: tuple[str, ...], expected: Outcome) -> None:
    receipt_ids = tuple(each.lstrip("0") for each in ids if each)

    assert classify_submission(SmppResponse(0, None, "", ids, receipt_ids)) == expected


CONTENT = Declined(Reason.INVALID_CONTENT)
OUTCOMES: dict[int, Outcome] = {
    0x01: Declined(Reason.TOO_LARGE),
    **dict.fromkeys((0x02, 0x03, 0x06, 0x07, 0x33, 0x34, 0x40, 0x42, 0x43, 0x44, 0x54, 0x55), CONTENT),
    **dict.fromkeys((0x61, 0x62, 0x63, 0x104, *range(0x105, 0x113)), CONTENT),
    **dict.fromkeys((0x65, 0x66, 0xFE), Declined(Reason.OTHER)),
    0x0A: Declined(Reason.SENDER),
    0x0B: RecipientRejected(Reason.INVALID_ADDRESS),
    **dict.fromkeys((0x50, 0x51), Declined(Reason.INVALID_ADDRESS)),
    **dict.fromkeys((0x14, 0x58), Throttled()),
    **dict.fromkeys((0x05, 0x0D, 0x0E, 0x0F, 0x15, 0x48, 0x49, 0x53), AuthFailed()),
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0x100, 0x101, 0x103), AuthFailed()),
    **dict.fromkeys((0x04, 0x08, 0x0C, 0x11, 0x13, 0x45, 0x64, 0x67, 0xFF, 0x102), ProviderFault()),
    **dict.fromkeys((0x09, 0x10, 0x200, 0x400, 0x4FF, 0x500, 0xFFFFFFFF), ProviderFault()),  # vendor's and reserved
}


@pytest.mark.parametrize(("status", "expected"), OUTCOMES.items(), ids=[f"{status:#x}" for status in OUTCOMES])
def test_every_status_has_its_outcome(status: int, expected: Outcome) -> None:
    outcome = classify_submission(SmppResponse(status, status_class(status), "no"))

    assert type(outcome) is type(expected)
    assert getattr(outcome, "reason", None) == getattr(expected, "reason", None)
    assert not isinstance(outcome, Accepted)
    assert f"({status:#04x}): no" in outcome.detail


def test_the_class_of_a_link_wins_over_the_table() -> None:
    outcome = classify_submission(SmppResponse(0x08, StatusClass.THROTTLED))

    assert outcome == Throttled("ESME_RSYSERR (0x08)")


def test_a_message_that_does_not_fit_is_declined() -> None:
    outcome = classify_submission(SmppResponse(None, StatusClass.DECLINED, "source_addr is too long"))

    assert outcome == Declined(Reason.UNSUPPORTED, "source_addr is too long")
