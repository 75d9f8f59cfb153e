"""The cause of a bounce, from the words of the mail server."""

from __future__ import annotations

import pytest

from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.model.suppression import suppression_reason
from sluice.providers.kit.bounces import bounce_reason

# What is about the content, the size, the policy or the dialogue suppresses no address.
HARMLESS = [
    (("5.6.0",), Reason.INVALID_CONTENT),
    (("550 5.6.1 media not supported",), Reason.INVALID_CONTENT),
    (("5.3.0",), Reason.UNREACHABLE),
    (("554 5.3.2 not accepting messages",), Reason.UNREACHABLE),
    (("5.4.6 routing loop",), Reason.UNREACHABLE),
    (("550 5.4.300 Message expired",), Reason.UNREACHABLE),
    (("5.5.0",), Reason.NETWORK),
    (("5.7.509 DMARC",), Reason.POLICY),
    (("5.2.0",), Reason.UNREACHABLE),
    (("5.2.4 expansion of a list",), Reason.UNREACHABLE),
    (("550 Message rejected as spam by Content Filtering.",), Reason.SPAM),
    (("5.0.0", "554 virus found"), Reason.SPAM),
    (("552 message size exceeds the limit",), Reason.TOO_LARGE),
    (("550 mailbox is full",), Reason.FULL),
    (("554 host on a black list",), Reason.BLOCKED),
    (("550 Blocked by the recipient's server",), Reason.BLOCKED),
    (("550 rejected by our policy",), Reason.POLICY),
    (("554 DKIM failed",), Reason.POLICY),
]


@pytest.mark.parametrize(("words", "reason"), HARMLESS)
def test_a_bounce_that_is_not_about_the_address_suppresses_nothing(words: tuple[object, ...], reason: Reason) -> None:
    assert bounce_reason(*words) is reason
    assert suppression_reason(EventType.BOUNCED, reason) is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("5.1.1",), Reason.UNKNOWN_RECIPIENT),
        (("550 5.1.1 no such user",), Reason.UNKNOWN_RECIPIENT),
        (("smtp; 550-5.2.1 disabled",), Reason.DISABLED),
        (("", "452 4.2.2 full"), Reason.FULL),
        (("552 5.3.4 too big",), Reason.TOO_LARGE),
        (("5.1.10",), Reason.UNKNOWN_RECIPIENT),
        (("4.4.7 expired",), Reason.EXPIRED),
        (("5.7.26 unauthenticated",), Reason.POLICY),
        (("550 5.7.1 blocked, see 5.1.1",), Reason.BLOCKED),
        (("550 sorry, no mailbox here by that name. (#5.1.1)",), Reason.UNKNOWN_RECIPIENT),
        (("smtp; 550 5.1.1.",), Reason.UNKNOWN_RECIPIENT),
        (("5.1.0 address rejected",), Reason.OTHER),
        (("5.1.7 bad address of the sender",), Reason.SENDER),
        (("5.9.9",), Reason.OTHER),
        (("the address 10.5.1.1 or version 1.5.1.12",), Reason.OTHER),
        ((None, 7, "550"), Reason.OTHER),
        ((), Reason.OTHER),
    ],
)
def test_the_enhanced_status_names_the_reason(words: tuple[object, ...], reason: Reason) -> None:
    assert bounce_reason(*words) is reason
