"""The oracle: compares responses, calls, receipts and faults with the database.

Six ledgers: the client's, the providers' (calls and receipts, by the simulator), the nemesis', the customer's (of
webhooks, see :mod:`tests.chaos.customer`), and the database, which ``sluice verify`` checks first. The rollups of
analytics are compared with the database in :mod:`tests.chaos.analytics`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sluice.model import ids
from sluice.model.state import SETTLED
from sluice_simulator.dialect import Dialect
from sluice_simulator.registry import DIALECTS
from tests.chaos.db_snapshot import DbSnapshot, Delivery
from tests.chaos.ledgers import moment, read

LOST_WORKER = "the worker was lost"  # error of an attempt whose worker did not report an outcome
LATEST_CALL = timedelta(seconds=13)  # from the claim: the lease and a second
UNKNOWN_BEHAVIOURS = {
    "accept-then-never-answer",
    "accept-then-500",
    "accept-then-reset",
    "reset",
    "hang",
    "drip",
    "garbage",
}
DEFINITE_OUTCOMES = {
    "accept": {"accepted"},
    "reject": {"recipient_rejected", "declined"},  # some providers refuse messages only
    "decline": {"declined"},
    "decline-account": {"declined"},
    "throttle": {"throttled"},
    "fault": {"provider_fault"},
    "auth": {"auth_failed"},
}
SERVICES = ("postgres", "kafka", "redis")
_SESSION_ENDS = {"reset", "accept-then-reset", "accept-then-500"}  # of SMPP
_LISTED = 50
_SMPP_OK = 0  # command_status of a deliver_sm_resp


@dataclass(slots=True)
class Findings:
    """Counters, and the violations by invariant."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, invariant: str, what: str) -> None:
        """Count a violation; the first fifty are listed."""
        self.violations[invariant] += 1
        if len(self.faults) < _LISTED:
            self.faults.append(f"{invariant}: {what}")


@dataclass(slots=True)
class Responses:
    """The client's ledger lines of one planned request."""

    results: list[dict[str, Any]] = field(default_factory=list)  # of the request itself and its copies
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    cancels: list[dict[str, Any]] = field(default_factory=list)
    invoked: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A fault from its start to its heal: until a role's process runs again (its time to readiness is the system's),
    or until a backing service responds again. ``ready``: the target's readiness."""

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


def responses(path: Path) -> dict[int, Responses]:
    """The client's ledger by planned request."""
    found: dict[int, Responses] = defaultdict(Responses)
    for line in read(path):
        planned = found[line["request"]]
        if line["what"] == "cancel":
            if line["stage"] == "done":
                planned.cancels.append(line)
        elif line["stage"] == "invoke":
            planned.invoked += 1
        else:
            (planned.conflicts if line["what"] == "conflict" else planned.results).append(line)
    return found


def check_client(path: Path, snapshot: DbSnapshot, faults: Iterable[Span]) -> Findings:
    """Every response holds: I1 and I4."""
    findings = Findings()
    wiped = [fault for fault in faults if (fault.kind, fault.target) == ("wipe", "kafka")]
    killed = [fault for fault in faults if fault.target.startswith("gateway") and fault.kind in ("kill", "restart")]
    known = responses(path)
    for number, planned in known.items():
        _check_request(findings, number, planned, snapshot.by_tag.get(f"o{number}", []), wiped, killed)
    strangers = [tag for tag in snapshot.by_tag if int(tag[1:] or -1) not in known]
    for tag in strangers:
        findings.add("I1", f"the database has a message {tag} that was not requested")
    return findings


def _check_request(
    findings: Findings,
    number: int,
    planned: Responses,
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
        findings.add("I1", f"request {number}: {message_id} was acknowledged and does not exist")
    if keyed and len(promised | messages) > 1:
        findings.add("I4", f"request {number}: one key made {sorted(promised | messages)}")
    if not keyed and len(messages) > planned.invoked - _definite(planned):
        findings.add("I1", f"request {number}: {len(messages)} messages for {planned.invoked} requests")
    _check_bus(findings, number, planned, messages, wiped)
    _check_refusals(findings, number, planned, found, keyed, killed)
    _check_conflicts(findings, number, planned, found)
    for delivery in found:
        if delivery.state not in SETTLED or not delivery.settled:
            findings.counts["lost"] += 1
            findings.add("I1", f"request {number}: {delivery.id} ends {delivery.state}")
        else:
            findings.counts["terminal"] += 1


def _definite(planned: Responses) -> int:
    """Requests that certainly created nothing: not sent, or rejected."""
    return sum(line["result"] in ("unreached", "fail") for line in planned.results)


def _check_bus(findings: Findings, number: int, planned: Responses, messages: set[str], wiped: list[Span]) -> None:
    """A record that Kafka acknowledged is stored, unless Kafka's data were wiped before it was consumed.

    A request that was published after its own send_at or expires_at is rightly rejected.
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
    findings.add("I1", f"request {number}: Kafka acknowledged the request and there is no message")


def _check_refusals(
    findings: Findings, number: int, planned: Responses, found: list[Delivery], keyed: bool, killed: list[Span]
) -> None:
    """A 4xx stored nothing; a 503 stored nothing, or a message that was revoked before it was sent."""
    refused = [line for line in planned.results if line["result"] == "refused"]
    for line in planned.results:
        # A later message belongs to another copy: one that was late for its own send_at is rejected while the first
        # one still waits on the topic.
        existed = [delivery for delivery in found if delivery.created_at <= moment(line["at"])]
        if line["result"] == "fail" and existed and not (line["status"] == 409 and existed[0].changed):
            findings.add("I1", f"request {number}: rejected with {line['status']} {line['code']}, and it exists")
    if keyed or not refused or {line["result"] for line in planned.results} - {"refused", "unreached"}:
        return
    sent = [delivery for delivery in found if delivery.state != "CANCELLED" or delivery.attempts]
    if not sent:
        findings.counts["revoked"] += len(found)
        return
    answered = moment(refused[-1]["at"])
    # In-doubt messages are in the gateway's memory: if it dies before it revoked the message, the message is sent.
    if any(answered - timedelta(seconds=1) < fault.start < answered + timedelta(seconds=40) for fault in killed):
        findings.counts["refused_yet_sent"] += 1
    else:
        findings.add("I1", f"request {number}: answered 503, and it was sent ({sent[0].state})")


def _check_conflicts(findings: Findings, number: int, planned: Responses, found: list[Delivery]) -> None:
    """Under one key only one body is accepted; another one is rejected with 409."""
    for line in [*planned.results, *planned.conflicts]:
        changed = line["what"] == "conflict"
        if line["result"] == "ok" and found and found[0].changed != changed:
            findings.add("I4", f"request {number}: a request was accepted under the key of another body")
    for line in planned.conflicts:
        findings.counts["conflicts"] += line["status"] == 409
        if line["result"] == "fail" and line["status"] != 409:
            findings.add("I4", f"request {number}: a changed body was rejected with {line['status']}, not 409")


def check_calls(path: Path, clients: Path, snapshot: DbSnapshot) -> Findings:
    """The calls against the responses: I2, I3, I6, I7 (``sluice verify`` checks each delivery's bounds)."""
    findings = Findings()
    known = responses(clients)
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read(path):
        findings.counts["calls"] += 1
        try:
            found, _ = ids.parse_attempt_reference(line.get("reference") or "")
        except ids.InvalidIdError:
            findings.add("I2", f"call {line['n']} at {line['endpoint']} has no attempt reference")
            continue
        calls[found.hex].append(line)
    for delivery_id, made in calls.items():
        delivery = snapshot.by_id.get(delivery_id)
        if delivery is None:
            findings.add("I2", f"a call for {delivery_id}, which is not in the database")
            continue
        _check_expiry(findings, delivery, made)
        _check_duplicates(findings, delivery, made)
    _check_cancels(findings, known, calls, snapshot)
    return findings


def _check_expiry(findings: Findings, delivery: Delivery, made: list[dict[str, Any]]) -> None:
    for attempt in delivery.attempts:
        if attempt["started_at"] >= delivery.expires_at:
            findings.add("I7", f"{delivery.id}: attempt {attempt['number']} was claimed after expires_at")
    for line in made:
        if moment(line["at"]) - timedelta(seconds=line["waited"]) > delivery.expires_at + LATEST_CALL:
            findings.add("I7", f"{delivery.id}: a call long after expires_at")
    if delivery.send_at and any(moment(line["at"]) < delivery.send_at for line in made):
        findings.add("I7", f"{delivery.id}: a call before send_at")


def _check_duplicates(findings: Findings, delivery: Delivery, made: list[dict[str, Any]]) -> None:
    """A message that was accepted twice must have an unknown attempt."""
    taken = sum(bool(line["accepted"]) for line in made)
    findings.counts["duplicates"] += taken > 1
    unknown = [attempt for attempt in delivery.attempts if attempt["outcome"] in ("unknown", None)]
    findings.counts["possible_duplicates"] += bool(unknown)
    if taken > 1 and not unknown:
        findings.add("I3", f"{delivery.id}: accepted {taken} times, and no attempt is unknown")


def _check_cancels(
    findings: Findings, known: dict[int, Responses], calls: dict[str, list[dict[str, Any]]], snapshot: DbSnapshot
) -> None:
    for number, planned in known.items():
        for line in planned.cancels:
            findings.counts[f"cancel {line['status'] or line['result']}"] += 1
            if line["result"] != "ok":
                continue
            for delivery in snapshot.by_tag.get(f"o{number}", []):
                if delivery.state != "CANCELLED":
                    findings.add("I6", f"request {number}: cancelled with 200, and {delivery.state}")
                made = calls.get(delivery.id, [])
                if any(one["accepted"] or moment(one["at"]) > moment(line["at"]) for one in made):
                    findings.add("I6", f"request {number}: cancelled with 200, and sent")


def check_receipts(path: Path, snapshot: DbSnapshot) -> Findings:
    """Acknowledged genuine receipts are in the history once, forged ones are not: I10."""
    findings = Findings()
    acknowledged: set[tuple[str, int, str]] = set()
    for line in read(path):
        status = line["status"]
        if line["forged"]:
            findings.counts["forged"] += 1
            if status is not None and status < 400:
                findings.add("I10", f"a forged receipt ({line['forged']}) was answered {status}")
        elif status is not None and (status == _SMPP_OK or 200 <= status < 300):
            delivery_id, number = ids.parse_attempt_reference(line["reference"])
            acknowledged.add((delivery_id.hex, number, line["kind"]))
    recorded: Counter[tuple[str, int, str]] = Counter()
    for delivery in snapshot.by_id.values():
        for event in delivery.events:
            if event["type"] in ("sent", "delivered", "bounced"):  # the worker reports "sent", too
                recorded[delivery.id, event["attempt"], event["type"]] += 1
            if event["type"] == "bounced":
                findings.add("I10", f"{delivery.id}: a bounce that only a forged receipt contains")
    findings.counts["receipts"] = len(acknowledged)
    for one in acknowledged:
        if not recorded[one]:
            findings.add("I10", f"{one}: acknowledged and not in the history")
    for one, times in recorded.items():
        if one[2] == "delivered" and times > 1:
            findings.add("I10", f"{one}: {times} events for one receipt")
    return findings


def check_unknown_attempts(path: Path, snapshot: DbSnapshot, faults: list[Span]) -> Findings:
    """Every unknown attempt has a cause in a ledger: the simulator's scenario, or a fault of the nemesis.

    An SMPP session that the scenario of one message ends takes the responses to others with it, and those messages of
    which the provider has not read anything.
    """
    findings = Findings()
    lines = list(read(path))
    scripted = {
        line["reference"]
        for line in lines
        if line["behaviour"] in UNKNOWN_BEHAVIOURS or (line["dialect"] == "smpp" and not line["answered"])
    }
    arrived = {line["reference"] for line in lines}
    ends = [moment(line["at"]) for line in lines if line["dialect"] == "smpp" and line["behaviour"] in _SESSION_ENDS]
    for delivery in snapshot.by_id.values():
        for attempt in delivery.attempts:
            if attempt["outcome"] not in ("unknown", None):
                continue
            findings.counts["unknown_attempts"] += 1
            reference = attempt["client_reference"]
            if reference in scripted or (reference not in arrived and _was_cut(attempt, ends)):
                findings.counts["unknown_by_scenario"] += 1
            elif _hit(attempt, faults):
                findings.counts["unknown_by_fault"] += 1
            else:
                findings.add("I3", f"{delivery.id}: attempt {attempt['number']} is unknown without a cause")
    return findings


def _was_cut(attempt: Mapping[str, Any], ends: list[datetime]) -> bool:
    """Whether a session ended during the attempt."""
    finished = attempt["finished_at"]
    return finished is not None and any(attempt["started_at"] <= end <= finished for end in ends)


def check_outcomes(path: Path, snapshot: DbSnapshot) -> Findings:
    """Every definite outcome is the one that the provider's answer means.

    Attempts with several calls are not compared.
    """
    findings = Findings()
    calls: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in read(path):
        calls[line["reference"]].append(line)
    for delivery in snapshot.by_id.values():
        for attempt in delivery.attempts:
            found = calls.get(attempt["client_reference"], [])
            if attempt["outcome"] in ("unknown", None) or len(found) != 1:
                continue
            findings.counts[f"outcome {attempt['outcome']}"] += 1
            if attempt["outcome"] not in _meant(found[0], attempt["outcome"]):
                answer = f"the provider's answer {_behaviour(found[0])}"
                findings.add("I3", f"{delivery.id}: attempt {attempt['number']} is {attempt['outcome']}, and {answer}")
    return findings


def _meant(call: Mapping[str, Any], recorded: str) -> set[str]:
    """The definite outcomes that a call can have.

    A worker that was paused may not have read the answer. With SMTP, before the end of data, nothing was sent then: it
    is a fault of the provider.
    """
    meant = DEFINITE_OUTCOMES.get(_behaviour(call), {recorded})
    is_before_data = call["dialect"] == "smtp" and call["status"] != "end_of_data"
    return meant | {"provider_fault"} if is_before_data else meant


def _behaviour(call: Mapping[str, Any]) -> str:
    """What the call was answered with: a provider without an error of that kind rejects."""
    behaviour: str = call["behaviour"]
    if (call["dialect"], behaviour) == ("smpp", "decline-account"):
        return "auth"  # ESME_RPROHIBITED: this account may not
    dialect = DIALECTS[call["dialect"]]
    declines = behaviour in ("decline", "decline-account") and isinstance(dialect, Dialect)
    return "reject" if declines and behaviour not in dialect.declines else behaviour


def check_failovers(snapshot: DbSnapshot) -> Findings:
    """A delivery fails only when its recipient was rejected, or when every provider was tried in its last round."""
    findings = Findings()
    for delivery in snapshot.by_id.values():
        if delivery.state != "FAILED" or delivery.sandbox:
            continue
        findings.counts["failed"] += 1
        if any(attempt["outcome"] == "recipient_rejected" for attempt in delivery.attempts):
            continue
        last_round = max((attempt["retry_round"] for attempt in delivery.attempts), default=0)
        tried = {one["provider_id"] for one in delivery.attempts if one["retry_round"] == last_round}
        if not snapshot.providers[delivery.channel] <= tried:
            findings.add("failover", f"{delivery.id}: failed before every provider was tried")
    return findings


def _hit(attempt: dict[str, Any], faults: list[Span]) -> bool:
    """Whether a fault overlaps the attempt; a graceful restart of a role is no excuse."""
    finished = attempt["finished_at"] or datetime.max.replace(tzinfo=attempt["started_at"].tzinfo)
    return any(
        fault.start <= finished and fault.ready >= attempt["started_at"] - timedelta(seconds=1)
        for fault in faults
        if fault.target in ("postgres", "kafka") or ("worker" in fault.target and fault.kind in ("kill", "pause"))
    )
