"""The check: what was promised, what left, what was told later, what was broken, against the record.

Five ledgers: the client's, the providers' (calls and receipts, by the simulator), the nemesis', and the record itself,
which ``sluice verify`` checks first. Customer webhooks join them when there are any.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sluice.model import ids
from sluice.model.state import SETTLED
from tests.chaos.db_snapshot import DbSnapshot, Delivery
from tests.chaos.ledgers import moment, read

LOST_WORKER = "the worker was lost"  # how an attempt ends whose worker never reported
LATEST_CALL = timedelta(seconds=13)  # the lease and a second: a call may still be under way so long after its claim
UNKNOWN_BEHAVIOURS = {
    "accept-then-never-answer",
    "accept-then-500",
    "accept-then-reset",
    "reset",
    "hang",
    "drip",
    "garbage",
}
SERVICES = ("postgres", "kafka", "redis")
_LISTED = 50


@dataclass(slots=True)
class Findings:
    """What was counted, and what was broken."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, invariant: str, what: str) -> None:
        self.violations[invariant] += 1
        if len(self.faults) < _LISTED:
            self.faults.append(f"{invariant}: {what}")


@dataclass(slots=True)
class Promises:
    """What the client was told about one order."""

    results: list[dict[str, Any]] = field(default_factory=list)  # of the request itself and its copies
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    cancels: list[dict[str, Any]] = field(default_factory=list)
    invoked: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A fault from its start to its heal: when a role's process runs again (what it then needs to work again is the
    system's own time), and when a backing service answers again. ``ready``: when its target worked again."""

    kind: str
    target: str
    start: datetime
    end: datetime
    ready: datetime


def spans(path: Path) -> list[Span]:
    """The faults of a nemesis ledger."""
    started: dict[int, dict[str, Any]] = {}
    back: dict[int, datetime] = {}
    found = []
    for line in read(path):
        if line["stage"] == "start":
            started[line["number"]] = line
        elif line["stage"] == "back":
            back[line["number"]] = moment(line["at"])
        elif line["stage"] == "healed":
            begun, ready = started.pop(line["number"]), moment(line["at"])
            end = ready if begun["target"] in SERVICES else back[line["number"]]
            found.append(Span(begun["kind"], begun["target"], moment(begun["at"]), end, ready))
    return found


def promises(path: Path) -> dict[int, Promises]:
    """The client's ledger by order."""
    found: dict[int, Promises] = defaultdict(Promises)
    for line in read(path):
        planned = found[line["order"]]
        if line["what"] == "cancel":
            if line["stage"] == "done":
                planned.cancels.append(line)
        elif line["stage"] == "invoke":
            planned.invoked += 1
        else:
            (planned.conflicts if line["what"] == "conflict" else planned.results).append(line)
    return found


def check_client(path: Path, record: DbSnapshot, faults: Iterable[Span]) -> Findings:
    """Every promise is kept: I1 and I4 (and I6 for what was cancelled)."""
    findings = Findings()
    wiped = [fault for fault in faults if (fault.kind, fault.target) == ("wipe", "kafka")]
    killed = [fault for fault in faults if fault.target.startswith("gateway") and fault.kind in ("kill", "restart")]
    known = promises(path)
    for number, planned in known.items():
        _check_order(findings, number, planned, record.by_tag.get(f"o{number}", []), wiped, killed)
    strangers = [tag for tag in record.by_tag if int(tag[1:] or -1) not in known]
    for tag in strangers:
        findings.add("I1", f"the record has a message {tag} that nobody ordered")
    return findings


def _check_order(
    findings: Findings,
    number: int,
    planned: Promises,
    found: list[Delivery],
    wiped: list[Span],
    killed: list[Span],
) -> None:
    every = [*planned.results, *planned.conflicts]
    messages = {delivery.message_id for delivery in found}
    keyed = bool(every and every[0]["key"])
    promised = {line["id"] for line in every if line["result"] == "ok"}
    findings.counts["ok"] += bool(promised)
    for message_id in promised - messages:
        findings.counts["lost"] += 1
        findings.add("I1", f"order {number}: {message_id} was acknowledged and does not exist")
    if keyed and len(promised | messages) > 1:
        findings.add("I4", f"order {number}: one key made {sorted(promised | messages)}")
    if not keyed and len(messages) > planned.invoked - _definite(planned):
        findings.add("I1", f"planned {number}: {len(messages)} messages for {planned.invoked} requests")
    _check_bus(findings, number, planned, messages, wiped)
    _check_refusals(findings, number, planned, found, keyed, killed)
    _check_conflicts(findings, number, planned, found)
    for delivery in found:
        if delivery.state not in SETTLED or not delivery.settled:
            findings.counts["lost"] += 1
            findings.add("I1", f"order {number}: {delivery.id} ends {delivery.state}")
        else:
            findings.counts["terminal"] += 1


def _definite(planned: Promises) -> int:
    """Requests that certainly left nothing behind: never delivered to anybody, or refused for what they say."""
    return sum(line["result"] in ("unreached", "fail") for line in planned.results)


def _check_bus(findings: Findings, number: int, planned: Promises, messages: set[str], wiped: list[Span]) -> None:
    """What Kafka took is there, unless Kafka's data were wiped before it was read.

    A request that was put there after its own send_at or expires_at is rightly refused.
    """
    taken = [
        line
        for line in planned.results
        if line["result"] == "bus" and not (line["late_after"] and moment(line["late_after"]) <= moment(line["at"]))
    ]
    if not taken or messages:
        return
    last = max(moment(line["at"]) for line in taken)
    if any(fault.ready > last - timedelta(seconds=1) for fault in wiped):
        findings.counts["wiped_before_read"] += 1
        return
    findings.counts["lost"] += 1
    findings.add("I1", f"order {number}: Kafka acknowledged the request and there is no message")


def _check_refusals(
    findings: Findings, number: int, planned: Promises, found: list[Delivery], keyed: bool, killed: list[Span]
) -> None:
    """A definite refusal left nothing; a 503 left nothing, or something that was taken back before it was sent."""
    refused = [line for line in planned.results if line["result"] == "refused"]
    for line in planned.results:
        # What was made later was made by another request of the order: a copy that came too late for its own send_at
        # is refused while the first one still waits on the topic.
        existed = [delivery for delivery in found if delivery.created_at <= moment(line["at"])]
        if line["result"] == "fail" and existed and not (line["status"] == 409 and existed[0].changed):
            findings.add("I1", f"order {number}: refused with {line['status']} {line['code']}, and it exists")
    if keyed or not refused or {line["result"] for line in planned.results} - {"refused", "unreached"}:
        return
    sent = [delivery for delivery in found if delivery.state != "CANCELLED" or delivery.attempts]
    if not sent:
        findings.counts["revoked"] += len(found)
        return
    told = moment(refused[-1]["at"])
    # The gateway holds its doubts in memory: if it dies before it could take the message back, both have happened.
    if any(told - timedelta(seconds=1) < fault.start < told + timedelta(seconds=40) for fault in killed):
        findings.counts["refused_yet_sent"] += 1
    else:
        findings.add("I1", f"order {number}: told 503, and it was sent ({sent[0].state})")


def _check_conflicts(findings: Findings, number: int, planned: Promises, found: list[Delivery]) -> None:
    """Under one key only one body is ever accepted, whichever came first; the other is told so, with 409."""
    for line in [*planned.results, *planned.conflicts]:
        changed = line["what"] == "conflict"
        if line["result"] == "ok" and found and found[0].changed != changed:
            findings.add("I4", f"order {number}: a request was accepted under the key of another body")
    for line in planned.conflicts:
        findings.counts["conflicts"] += line["status"] == 409
        if line["result"] == "fail" and line["status"] != 409:
            findings.add("I4", f"order {number}: a changed body was refused with {line['status']}, not 409")


def check_calls(path: Path, clients: Path, record: DbSnapshot) -> Findings:
    """What left, against what was promised: I2, I3, I6, I7 (the bounds of each delivery are ``sluice verify``'s)."""
    findings = Findings()
    known = promises(clients)
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read(path):
        findings.counts["calls"] += 1
        try:
            found, _ = ids.parse_attempt_reference(line.get("reference") or "")
        except ids.InvalidIdError:
            findings.add("I2", f"call {line['n']} at {line['door']} carries none of our references")
            continue
        calls[found.hex].append(line)
    for delivery_id, made in calls.items():
        delivery = record.by_id.get(delivery_id)
        if delivery is None:
            findings.add("I2", f"a call for {delivery_id}, which is not in the record")
            continue
        _check_expiry(findings, delivery, made)
        _check_doubles(findings, delivery, made)
    _check_cancels(findings, known, calls, record)
    return findings


def _check_expiry(findings: Findings, delivery: Delivery, made: list[dict[str, Any]]) -> None:
    for attempt in delivery.attempts:
        if attempt["started_at"] >= delivery.expires_at:
            findings.add("I7", f"{delivery.id}: attempt {attempt['number']} was claimed after expires_at")
    for line in made:
        if moment(line["at"]) > delivery.expires_at + LATEST_CALL:
            findings.add("I7", f"{delivery.id}: a call long after expires_at")
    if delivery.send_at and any(moment(line["at"]) < delivery.send_at for line in made):
        findings.add("I7", f"{delivery.id}: a call before send_at")


def _check_doubles(findings: Findings, delivery: Delivery, made: list[dict[str, Any]]) -> None:
    """A message that was taken twice must be one of which the record says that it may have been."""
    taken = sum(bool(line["accepted"]) for line in made)
    findings.counts["duplicates"] += taken > 1
    ambiguous = [attempt for attempt in delivery.attempts if attempt["outcome"] in ("unknown", None)]
    findings.counts["possible_doubles"] += bool(ambiguous)
    if taken > 1 and not ambiguous:
        findings.add("I3", f"{delivery.id}: taken {taken} times and no attempt says that a duplicate is possible")


def _check_cancels(
    findings: Findings, known: dict[int, Promises], calls: dict[str, list[dict[str, Any]]], record: DbSnapshot
) -> None:
    for number, planned in known.items():
        for line in planned.cancels:
            findings.counts[f"cancel {line['status'] or line['result']}"] += 1
            if line["result"] != "ok":
                continue
            for delivery in record.by_tag.get(f"o{number}", []):
                if delivery.state != "CANCELLED":
                    findings.add("I6", f"order {number}: cancelled with 200, and {delivery.state}")
                made = calls.get(delivery.id, [])
                if any(one["accepted"] or moment(one["at"]) > moment(line["at"]) for one in made):
                    findings.add("I6", f"order {number}: cancelled with 200, and sent")


def check_receipts(path: Path, record: DbSnapshot) -> Findings:
    """Genuine ones that we acknowledged are in the history once, forged ones nowhere: I10."""
    findings = Findings()
    told: set[tuple[str, int, str]] = set()
    for line in read(path):
        status = line["status"]
        if line["forged"]:
            findings.counts["forged"] += 1
            if status is not None and status < 400:
                findings.add("I10", f"a forged receipt ({line['forged']}) was answered {status}")
        elif status is not None and status < 300:
            delivery_id, number = ids.parse_attempt_reference(line["reference"])
            told.add((delivery_id.hex, number, line["kind"]))
    heard: Counter[tuple[str, int, str]] = Counter()
    for delivery in record.by_id.values():
        for event in delivery.events:
            if event["type"] in ("sent", "delivered", "bounced"):  # "sent" is said by the worker as well
                heard[delivery.id, event["attempt"], event["type"]] += 1
            if event["type"] == "bounced":
                findings.add("I10", f"{delivery.id}: a bounce that only a forged receipt claims")
    findings.counts["receipts"] = len(told)
    for one in told:
        if not heard[one]:
            findings.add("I10", f"{one}: acknowledged and not in the history")
    for one, times in heard.items():
        if one[2] == "delivered" and times > 1:
            findings.add("I10", f"{one}: {times} events for one receipt")
    return findings


def check_ambiguity(path: Path, record: DbSnapshot, faults: list[Span]) -> Findings:
    """Every ambiguous attempt has a cause that a ledger names: the provider's script, or a fault of the nemesis."""
    findings = Findings()
    scripted = {line["reference"] for line in read(path) if line["behaviour"] in UNKNOWN_BEHAVIOURS}
    for delivery in record.by_id.values():
        for attempt in delivery.attempts:
            if attempt["outcome"] not in ("unknown", None):
                continue
            findings.counts["unknown_attempts"] += 1
            if attempt["client_reference"] in scripted:
                findings.counts["unknown_by_scenario"] += 1
            elif _hit(attempt, faults):
                findings.counts["unknown_by_fault"] += 1
            else:
                findings.add("I3", f"{delivery.id}: attempt {attempt['number']} is ambiguous without a cause")
    return findings


def _hit(attempt: dict[str, Any], faults: list[Span]) -> bool:
    """Whether a fault lay over the attempt's life; a graceful restart of a role is no excuse."""
    finished = attempt["finished_at"] or datetime.max.replace(tzinfo=attempt["started_at"].tzinfo)
    return any(
        fault.start <= finished and fault.ready >= attempt["started_at"] - timedelta(seconds=1)
        for fault in faults
        if fault.target in ("postgres", "kafka") or ("worker" in fault.target and fault.kind in ("kill", "pause"))
    )
