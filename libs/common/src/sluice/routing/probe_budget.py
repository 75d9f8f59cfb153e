"""Who is tried again while it is out, and how often: a few messages at a time, whatever the traffic.

A share of the traffic would be too much where a provider hangs (each of its probes waits for the deadline) and too
little where there is one message a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sluice.bus.messages import ProviderHealth

AT_ONCE = 5  # more than it takes to come back, because a rejected recipient proves nothing
_SPAN = timedelta(seconds=10)  # as long as a call may take


class _Sent(NamedTuple):
    probe_at: datetime | None  # of the verdict that allowed them
    begun: datetime
    gone: int


class Probes:
    """The probes that this router has sent."""

    def __init__(self) -> None:
        self._sent: dict[UUID, _Sent] = {}

    def may(self, verdict: ProviderHealth, now: datetime) -> bool:
        """Whether one more message may try this provider, which is out."""
        if verdict.probe_at is None or verdict.probe_at > now:
            return False
        return self._lately(verdict, now).gone < AT_ONCE

    def went(self, verdict: ProviderHealth, now: datetime) -> None:
        """A message is on its way to it."""
        sent = self._lately(verdict, now)
        self._sent[verdict.provider_id] = sent._replace(gone=sent.gone + 1)

    def _lately(self, verdict: ProviderHealth, now: datetime) -> _Sent:
        sent = self._sent.get(verdict.provider_id)
        if sent is None or sent.probe_at != verdict.probe_at or now - sent.begun >= _SPAN:
            return _Sent(verdict.probe_at, now, 0)
        return sent
