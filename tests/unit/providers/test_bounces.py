"""The cause of a bounce, from the words of the mail server."""

from __future__ import annotations

import pytest

from sluice.model.reasons import Reason
from sluice.providers.kit.bounces import bounce_reason


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
        (("5.9.9",), Reason.OTHER),
        (("the address 10.5.1.1 or version 1.5.1.12",), Reason.OTHER),
        ((None, 7, "550"), Reason.OTHER),
        ((), Reason.OTHER),
    ],
)
def test_the_enhanced_status_names_the_reason(words: tuple[object, ...], reason: Reason) -> None:
    assert bounce_reason(*words) is reason
