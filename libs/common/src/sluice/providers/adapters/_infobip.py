"""Infobip's status ids and error ids: two number spaces, the same in every channel.

Source: https://www.infobip.com/docs/essentials/response-status-and-error-codes, read 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from sluice.model.outcome import Declined, ProviderFault, RecipientRejected, Refusal, Scope, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.kit.responses import MAX_RETRY_AFTER

V = TypeVar("V")


def _rows(value: V, *ids: int) -> dict[int, V]:
    return dict.fromkeys(ids, value)


DUPLICATE = 23  # the message id was used before: an earlier call under it was taken
UNCONFIRMED = 29  # EXPIRED_DLR_UNKNOWN: the operator sent no report
TAKEN = frozenset({2, 3, 5, 7, 26})
TAKEN_GROUPS = frozenset({0, 1, 3})  # accepted, pending, delivered

# By status id, in the response to a send.
ERROR_CODES: Mapping[int, Refusal] = {
    4: Declined(Reason.BLOCKED),  # by the operator on this route
    6: Declined(Reason.UNSUPPORTED),  # no coverage
    8: RecipientRejected(Reason.INVALID_ADDRESS),
    9: RecipientRejected(Reason.UNREACHABLE),
    10: Declined(Reason.POLICY),  # do-not-disturb register: another provider's transactional route may deliver
    **_rows(Declined(Reason.SENDER), 11, 13),
    **_rows(Declined(Reason.QUOTA, scope=Scope.ACCOUNT), 12, 17),
    14: RecipientRejected(Reason.BLOCKED),
    18: Declined(Reason.REPUTATION, scope=Scope.ACCOUNT),  # a trial account
    19: Declined(Reason.UNSUPPORTED),  # no route to this country
    20: Throttled(retry_after=MAX_RETRY_AFTER, scope=Scope.RECIPIENT),  # counted per number and hour
    24: Declined(Reason.INVALID_CONTENT),
    25: Declined(Reason.TOO_LARGE),
    UNCONFIRMED: Unknown(),
    51: Declined(Reason.INVALID_CONTENT),
    52: RecipientRejected(Reason.INVALID_ADDRESS),
    87: Declined(Reason.POLICY),  # fraud filter
    **_rows(ProviderFault(), 15, 21, 31, 100),
}
# By group, where the status id is not known: undeliverable, expired, rejected.
GROUP_FALLBACK: Mapping[int, Refusal] = {2: Declined(), 4: ProviderFault(), 5: ProviderFault()}

_EXPIRED = (EventType.SOFT_BOUNCE, Reason.EXPIRED)
# By status id, in a receipt. 4 and 9 are BOUNCED when the error is permanent.
EVENT_TYPES: Mapping[int, tuple[EventType, Reason | None]] = {
    **_rows((EventType.SENT, None), 2, 3, 7, 26),
    5: (EventType.DELIVERED, None),
    4: (EventType.FAILED, Reason.BLOCKED),
    6: (EventType.FAILED, Reason.UNSUPPORTED),
    8: (EventType.BOUNCED, Reason.INVALID_ADDRESS),
    9: (EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
    10: (EventType.BOUNCED, Reason.POLICY),
    **_rows((EventType.FAILED, Reason.SENDER), 11, 13),
    **_rows((EventType.FAILED, Reason.QUOTA), 12, 17, 20),
    14: (EventType.BOUNCED, Reason.BLOCKED),
    15: _EXPIRED,
    18: (EventType.FAILED, Reason.REPUTATION),
    19: (EventType.FAILED, Reason.UNSUPPORTED),
    **_rows((EventType.FAILED, Reason.NETWORK), 21, 31, 100),
    **_rows((EventType.FAILED, Reason.INVALID_CONTENT), 24, 51),
    25: (EventType.FAILED, Reason.TOO_LARGE),
    UNCONFIRMED: _EXPIRED,
    52: (EventType.BOUNCED, Reason.INVALID_ADDRESS),
    87: (EventType.FAILED, Reason.POLICY),
}
# By group, where the status id is not known.
GROUP_EVENT_TYPES: Mapping[int, tuple[EventType, Reason | None]] = {
    **_rows((EventType.SENT, None), 0, 1),
    2: (EventType.SOFT_BOUNCE, Reason.UNREACHABLE),  # BOUNCED when the error is permanent
    3: (EventType.DELIVERED, None),
    4: _EXPIRED,
    5: (EventType.FAILED, Reason.OTHER),
}


def perhaps_delivered(status: int, group: int) -> bool:
    """Whether a report leaves open if the message arrived, whatever its error id is.

    Such a report is no FAILED, which would allow another attempt after an unknown outcome. An expired message with an
    unknown status id is one too.
    """
    return status == UNCONFIRMED or (status not in EVENT_TYPES and GROUP_EVENT_TYPES.get(group) == _EXPIRED)


# By error id, which says more than the status of a message that was not delivered.
ASYNC_ERROR_CODES: Mapping[int, tuple[EventType, Reason]] = {
    1: (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    **_rows((EventType.BOUNCED, Reason.DISABLED), 9, 11, 12, 629),
    **_rows((EventType.SOFT_BOUNCE, Reason.UNREACHABLE), 5, 6, 27, 31, 33, 256, 581),
    13: (EventType.BOUNCED, Reason.BLOCKED),
    **_rows((EventType.FAILED, Reason.NETWORK), 32, 34, 255, 500, 502, 503, 504, 507, 508, 509, *range(1024, 1797)),
    **_rows((EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT), 351, 352, 568, 569, 3041, 2049),
    **_rows((EventType.BOUNCED, Reason.UNSUBSCRIBED), 573, 603),
    **_rows((EventType.BOUNCED, Reason.BLOCKED), 604, 560, 566, 2050, 2052),
    **_rows((EventType.FAILED, Reason.SENDER), 368, 375, 2053, 562, 563, 564, 572, 594, 597, 488),
    **_rows((EventType.FAILED, Reason.QUOTA), 433, 4099, 609, 541, 542, 4202, 4103, 4104, 630),
    355: (EventType.FAILED, Reason.TOO_LARGE),
    **_rows((EventType.FAILED, Reason.SPAM), 607, 561, 608),
    **_rows((EventType.FAILED, Reason.POLICY), *range(4106, 4147)),
    **_rows((EventType.SOFT_BOUNCE, Reason.EXPIRED), 4098, 4101, 811, 2048),
    4100: (EventType.FAILED, Reason.OTHER),  # cancelled
    5492: (EventType.FAILED, Reason.OTHER),  # the same message was sent to this number before
}
