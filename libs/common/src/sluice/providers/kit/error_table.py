"""From a provider's error to an outcome: the code decides, the HTTP status only where the code is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

import httpx

from sluice.model.outcome import AuthFailed, Declined, RecipientRejected, Refusal, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.providers.kit.responses import describe, retry_after

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class ErrorTable(Generic[K]):
    """``codes`` and ``fallback`` (by HTTP status) name refusals as prototypes: outcomes without their detail."""

    codes: Mapping[K, Refusal]
    fallback: Mapping[int, Refusal]

    def outcome(
        self, response: httpx.Response, code: K | None, detail: object = None, *, wait: timedelta | None = None
    ) -> Refusal:
        """The refusal that ``response`` states; Unknown where nothing documented fits.

        ``code`` is the table's key. ``wait``: what the body says about when to come back, before ``Retry-After`` and
        before the table's own wait.
        """
        found = None if code is None else self.codes.get(code)
        prototype: Refusal = found or self.fallback.get(response.status_code) or Unknown()
        if response.is_success:  # a 2xx is no refusal whatever it says: the message may be on its way
            prototype = Unknown()
        named = code[-1] if isinstance(code, tuple) else code
        words = [detail] if str(named).lower() in str(detail).lower() else [named, detail]
        return fill(prototype, describe(response, *words), wait or retry_after(response))


def rows(refusal: Refusal, *codes: K) -> dict[K, Refusal]:
    """Rows of a table that end alike."""
    return dict.fromkeys(codes, refusal)


def reason_of(refusal: Refusal) -> Reason:
    """The cause that a refusal names in a receipt."""
    match refusal:
        case RecipientRejected(reason) | Declined(reason):
            return reason
        case AuthFailed():
            return Reason.CREDENTIALS
        case Throttled():
            return Reason.QUOTA
        case _:
            return Reason.NETWORK


def fill(prototype: Refusal, detail: str, wait: timedelta | None = None) -> Refusal:
    """The prototype with its detail; a throttled one with the provider's own wait, if it named one."""
    if isinstance(prototype, Throttled):
        return replace(prototype, detail=detail, retry_after=wait or prototype.retry_after)
    return replace(prototype, detail=detail)


def find_text(table: Mapping[tuple[K, str], Refusal], code: K, words: str) -> tuple[K, str] | None:
    """The row of this code or status whose text (in lower case) is a part of ``words``; the longest of several."""
    said = words.lower()
    known = [part for row_code, part in table if row_code == code and part in said]
    return (code, max(known, key=len)) if known else None
