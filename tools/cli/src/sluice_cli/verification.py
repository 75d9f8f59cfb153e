"""``sluice verify``: the invariants I1, I2, I3 and I5 on a live database, and against the call log of the simulator."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sluice.model import ids
from sluice.model.outcome import DEFINITE_FAILURES
from sluice.runtime.errors import SluiceError
from sluice.store import disagreements, invariants
from sluice.store.db import Db
from sluice.store.invariants import DeliveryAttempts, WindowReport

_LISTED = 100  # violations that are listed by id; all are counted
_CHUNK = 5_000  # deliveries of a call log per query


@dataclass(slots=True)
class Report:
    """The result: totals, and at most a hundred violations with their ids (``faults``)."""

    deliveries: int = 0
    attempts: int = 0
    unknown_attempts: int = 0
    unsettled: int = 0
    stale_outbox: int = 0
    calls: int = 0
    extra_calls: int = 0  # beyond the first of each delivery
    duplicates: int = 0  # deliveries that providers accepted more than once
    duplicates_once: int = 0
    duplicates_idempotent: int = 0
    states: Counter[str] = field(default_factory=Counter)
    bus_disagreements: list[dict[str, Any]] = field(default_factory=list)  # the newest hundred; refused, no violation
    violations: int = 0
    faults: list[dict[str, str]] = field(default_factory=list)

    def add_violation(self, identifier: object, fault: str) -> None:
        """Count a violation, and list it if fewer than a hundred are listed."""
        self.violations += 1
        if len(self.faults) < _LISTED:
            self.faults.append({"id": str(identifier), "fault": fault})

    def as_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"states": dict(self.states)}


async def verify(
    db: Db,
    *,
    now: datetime,
    at_rest: bool,
    grace: timedelta,
    call_logs: Iterable[Path],
    progress: Callable[[str], None],
) -> Report:
    """Check every delivery.

    ``at_rest``: every unsettled delivery and every outbox row is a violation; otherwise only what has been due for
    longer than ``grace``. ``call_logs``: files of the simulator to compare with. ``progress`` receives lines of text.

    Raises:
        SluiceError: a call log cannot be read.
    """
    report = Report()
    async for window in invariants.id_windows(db):
        facts = await invariants.check_window(db, window)
        _add_window(report, facts)
        progress(f"{report.deliveries} deliveries, {report.violations} violations")
    for delivery_id in await invariants.overdue(db, before=now - grace):
        report.add_violation(delivery_id, f"I1: due for more than {grace.total_seconds():.0f} s and not enqueued")
    report.stale_outbox = await invariants.count_stale_outbox(db, before=now if at_rest else now - grace)
    if report.stale_outbox:
        report.add_violation("event_outbox", f"{report.stale_outbox} batches of events were not acknowledged in time")
    report.bus_disagreements = await _bus_disagreements(db)
    if at_rest and report.unsettled:
        report.add_violation("deliveries", f"I1: {report.unsettled} are not settled although the system is at rest")
    calls = _by_delivery(call_logs)
    if calls:
        await _check_calls(db, report, calls, progress)
    return report


async def _bus_disagreements(db: Db) -> list[dict[str, Any]]:
    return [
        {
            "id": str(one.delivery_id),
            "field": one.field,
            "records": one.records,
            "last_seen_at": one.last_seen_at.isoformat(),
        }
        for one in await disagreements.newest(db)
    ]


def _add_window(report: Report, facts: WindowReport) -> None:
    report.deliveries += facts.deliveries
    report.attempts += facts.attempts
    report.unknown_attempts += facts.unknown_attempts
    report.unsettled += facts.unsettled
    report.states.update(facts.states)
    for broken in facts.violations:
        for fault in broken["faults"]:
            report.add_violation(broken["id"], fault)


# -- the call log of the fake providers --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the call log."""

    reference: str
    occurred_at: datetime
    accepted: bool
    endpoint: str
    recipient: str | None  # the first one of the mail; of a refusal, the refused one
    has_idempotency_key: bool  # the fake provider honours it


def _by_delivery(call_logs: Iterable[Path]) -> dict[UUID, list[Call]]:
    calls: dict[UUID, list[Call]] = {}
    for path in call_logs:
        for line in _lines(path):
            reference = line.get("reference")
            if not reference:
                continue
            try:
                delivery_id, _ = ids.parse_attempt_reference(reference)
            except ids.InvalidIdError:
                continue
            calls.setdefault(delivery_id, []).append(
                Call(
                    reference,
                    datetime.fromisoformat(line["at"]),
                    bool(line["accepted"]),
                    line["endpoint"],
                    line.get("recipient"),
                    bool(line.get("key")),
                )
            )
    return {delivery_id: merge_transactions(made) for delivery_id, made in calls.items()}


def merge_transactions(calls: list[Call]) -> list[Call]:
    """The calls, where several lines can belong to one.

    A call over SMTP is several transactions when the server limits the recipients of one, and each recipient that is
    refused has a line of its own. The same recipient twice is two calls.
    """
    merged: dict[tuple[str, str, int], Call] = {}
    repeats: Counter[tuple[str, str, str | None]] = Counter()
    for call in calls:
        number = repeats[call.endpoint, call.reference, call.recipient]
        repeats[call.endpoint, call.reference, call.recipient] += 1
        key = (call.endpoint, call.reference, number)
        first = merged.setdefault(key, call)
        if call.accepted and not first.accepted:
            merged[key] = call
    return list(merged.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                try:
                    yield json.loads(text)
                except ValueError:
                    raise SluiceError(f"line {number} of call log {path} is not JSON") from None
    except OSError as error:
        raise SluiceError(f"call log {path} cannot be read: {error.strerror}") from None


async def _check_calls(db: Db, report: Report, calls: dict[UUID, list[Call]], progress: Callable[[str], None]) -> None:
    wanted = sorted(calls)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        known = await invariants.attempts_of(db, chunk)
        for delivery_id in chunk:
            _check_delivery_calls(report, delivery_id, calls[delivery_id], known.get(delivery_id))
        progress(f"{report.calls} calls compared, {report.violations} violations")


def _check_delivery_calls(report: Report, delivery_id: UUID, calls: list[Call], known: DeliveryAttempts | None) -> None:
    report.calls += len(calls)
    report.extra_calls += len(calls) - 1
    if known is None:
        report.add_violation(delivery_id, "I2: a provider was called for a delivery that is not in the database")
        return
    for call in calls:
        started = [at for at, _, reference in known.attempts.values() if reference == call.reference]
        if not started or min(started) > call.occurred_at:
            report.add_violation(
                delivery_id, f"I2: the call {call.reference} has no attempt that was committed before it"
            )
    outcomes = [outcome for _, outcome, _ in known.attempts.values()]
    unknown = outcomes.count("unknown") + outcomes.count(None)
    definite = sum(outcome in DEFINITE_FAILURES for outcome in outcomes)
    if len(calls) > 1 + definite + unknown:
        report.add_violation(delivery_id, f"I3: {len(calls)} calls, {definite} definite failures, {unknown} unknown")
    _check_duplicates(report, delivery_id, calls, known)


def _check_duplicates(report: Report, delivery_id: UUID, calls: list[Call], known: DeliveryAttempts) -> None:
    accepted = Counter(call.endpoint for call in calls if call.accepted)
    if accepted.total() <= 1:
        return
    report.duplicates += 1
    if known.delivery_class == "once":
        report.duplicates_once += 1
        report.add_violation(delivery_id, "I3: a delivery of class once was accepted more than once")
    keyed = {call.endpoint for call in calls if call.has_idempotency_key}
    if any(count > 1 for endpoint, count in accepted.items() if endpoint in keyed):
        report.duplicates_idempotent += 1
        report.add_violation(delivery_id, "I3: a provider with an idempotency key accepted it more than once")
