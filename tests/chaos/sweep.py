"""``python -m tests.chaos sweep``: kill a process at every failpoint, at the first to third hit, on both channels."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from sluice.bus.connection import KafkaConnection
from sluice.bus.topics import Group
from sluice.runtime.errors import SluiceError
from sluice_cli.verification import verify
from sluice_launcher.process_info import Identity
from sluice_launcher.progress import Progress
from sluice_launcher.state import read_state
from tests.chaos.client_session import ANSWER, ClientSession, check
from tests.chaos.cluster import Cluster, cluster, webhooks
from tests.chaos.customer import UNSENT, customer
from tests.chaos.ledgers import now
from tests.chaos.simulation import hooked
from tests.chaos.workloads import POINTS

ROLES = ("gateway", "router", "email-worker", "sms-worker", "health", "event-worker")
ENDPOINTS = {"resend-a": "resend", "smtp-a": "smtp", "twilio-a": "twilio", "twilio-b": "twilio"}
GROUPS = {
    "gateway": Group.INGEST,
    "router": Group.ROUTER,
    "email-worker": Group.EMAIL_WORKER,
    "sms-worker": Group.SMS_WORKER,
    "health": Group.HEALTH,
    "event-worker": Group.EVENT_WORKER,
}
# Shorter than by default: a step waits for leases, rounds and receipts.
TIMING = {
    "SLUICE_ATTEMPT_LEASE": "3",
    "SLUICE_HTTP_TIMEOUT": "1.9",
    "SLUICE_CALL_TIMEOUT": "1.9",
    "SLUICE_URGENT_CALL_TIMEOUT": "1.9",
    "SLUICE_REQUEUE_AFTER": "2",
    "SLUICE_UNKNOWN_OUTCOME_WAIT": "1",
    "SLUICE_SAME_KEY_RETRY_DELAY": "0.5",
    "SLUICE_RETRY_SCHEDULE": "[0.3, 0.5]",
    "SLUICE_RECOVERY_INTERVAL": "0.25",
    "SLUICE_PARTITION_MAINTENANCE_INTERVAL": "1",
    "SLUICE_PROVIDER_QUEUE_TIMEOUT": "0.4",
    "SLUICE_WEBHOOK_TIMEOUT": "1.9",
    "SLUICE_WEBHOOK_LEASE": "3",
    "SLUICE_WEBHOOK_RETRY_SCHEDULE": "[0.3, 0.5, 1, 2]",
}
REACHED_WITHIN = 40.0  # seconds
QUIESCENT_WITHIN = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Step:
    """Kill a process at the ``n``-th hit of ``point``, while ``channel`` is used."""

    point: str
    n: int
    channel: str

    @property
    def name(self) -> str:
        return f"{self.point}:{self.n} {self.channel}"


@dataclass(slots=True)
class Outcome:
    """The result of a step."""

    step: Step
    role: str | None = None  # of the killed process
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def steps(points: Sequence[str], passes: Sequence[int], channels: Sequence[str]) -> list[Step]:
    return [Step(point, n, channel) for n in passes for point in points for channel in channels]


def run(wanted: Sequence[Step], folder: Path, progress: Progress) -> dict[str, Any]:
    """Every step on one system; returns figures and violations."""
    began = time.monotonic()
    crash_file = folder / "crash"
    folder.mkdir(parents=True, exist_ok=True)
    crash_file.unlink(missing_ok=True)
    os.environ["SLUICE_FAILPOINTS_FILE"] = str(crash_file)
    with (
        cluster(
            folder, progress, environment=TIMING, roles=ROLES, endpoints=ENDPOINTS, settings={"concurrency": 2}
        ) as running,
        customer(running),
    ):
        running.simulation.scenario(_script(running))
        outcomes = uvloop.run(_run(running, wanted, crash_file, progress))
    return _figures(outcomes, time.monotonic() - began)


def _script(running: Cluster) -> dict[str, Any]:
    slow = {"behaviour": "accept", "latency": {"median": 1.5}}
    return {
        "default": {"receipts": {"kinds": ["sent", "delivered"], "delay": 0.1, "interval": 0.1}},
        "prefixes": {"slow+": slow, "+1777": slow},
        "endpoints": hooked(*webhooks(running, ENDPOINTS)),
    }


async def _run(running: Cluster, wanted: Sequence[Step], crash_file: Path, progress: Progress) -> list[Outcome]:
    outcomes: list[Outcome] = []
    known: set[str] = set()
    for number, step in enumerate(wanted, start=1):
        began = time.monotonic()
        outcome = await _step(running, step, crash_file, known)
        outcome.seconds = round(time.monotonic() - began, 1)
        outcomes.append(outcome)
        result = "; ".join(outcome.faults) or "ok"
        progress(
            f"{number}/{len(wanted)}  {step.name}: {outcome.role or 'no process'} died, {outcome.seconds} s, {result}"
        )
    return outcomes


# -- one step ------------------------------------------------------------------------------------------------------


async def _step(running: Cluster, step: Step, crash_file: Path, known: set[str]) -> Outcome:
    outcome = Outcome(step)
    before = {role: read_state(running.data_dir).get(role) for role in ROLES}
    async with client(running, f"{step.point}-{step.n}-{step.channel}-{time.monotonic_ns()}") as asking:
        fired = crash_file.with_name("crash.fired")
        _disarm(fired)
        _arm(crash_file, f"{step.point}:{step.n}")
        watching = asyncio.create_task(_restart_role(running, before, fired, outcome))
        try:
            if not await _reach(asking, step, fired):
                outcome.faults.append(f"not reached within {REACHED_WITHIN:.0f} s")
        finally:
            _disarm(crash_file)
            await watching if _exists(fired) else watching.cancel()
        outcome.faults += await _check(running, asking, known)
    return outcome


def _arm(path: Path, text: str) -> None:
    """Atomically: a half-written file would arm another failpoint."""
    draft = path.with_name("crash.new")
    draft.write_text(text)
    draft.replace(path)


def _disarm(path: Path) -> None:
    path.unlink(missing_ok=True)


def _exists(path: Path) -> bool:
    return path.exists()


async def _reach(asking: ClientSession, step: Step, fired: Path) -> bool:
    """Repeat the workload until the failpoint was hit often enough."""
    deadline = time.monotonic() + REACHED_WITHIN
    await asyncio.sleep(0.15)  # the processes read the file twenty times a second
    while not _exists(fired):
        if time.monotonic() > deadline:
            return False
        await POINTS[step.point](asking, step.channel)
        await asyncio.sleep(0.1)
    return True


async def _restart_role(running: Cluster, before: dict[str, Identity | None], fired: Path, outcome: Outcome) -> None:
    """Wait for the death, remove the dead member from its consumer group, and restart the role.

    Both only save time (`make chaos` does neither): otherwise the group waits for the session timeout of the dead
    member, and the supervisor's pause grows with every crash.
    """
    while not _exists(fired):
        await asyncio.sleep(0.02)
    while True:
        dead = [role for role, identity in before.items() if identity is not None and not identity.alive()]
        if dead:
            break
        await asyncio.sleep(0.02)
    outcome.role = dead[0]
    for role in dead:
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await _leave_group(running.kafka, GROUPS[role])
        with contextlib.suppress(SluiceError):
            await asyncio.to_thread(running.stack.control.restart, role)


async def _leave_group(servers: str, group: Group) -> None:
    admin = AIOKafkaAdminClient(**KafkaConnection.to(servers).options(), request_timeout_ms=5_000)
    await admin.start()
    try:
        (described,) = await admin.describe_consumer_groups([group.value])
        coordinator = await admin.find_coordinator(group.value)
        for member in described.groups[0][5]:
            await admin._send_request(LeaveGroupRequest(group.value, member[0]), coordinator)
    finally:
        await admin.close()


async def _check(running: Cluster, asking: ClientSession, known: set[str]) -> list[str]:
    """Quiescence, then the invariants, then the responses. ``known``: violations that an earlier step has reported."""
    faults = []
    connection = await asyncpg.connect(running.postgres, timeout=10, command_timeout=60)
    try:
        if not await _quiet(connection, asking):
            faults.append(f"not quiescent within {QUIESCENT_WITHIN:.0f} s")
        report = await verify(
            connection,
            now=now(),
            at_rest=True,
            grace=timedelta(seconds=60),
            call_logs=[running.simulation.calls] if running.simulation.calls.exists() else [],
            progress=lambda _: None,
        )
        found = await asking.states([request.tag for request in asking.requests])
    finally:
        await connection.close()
    reported = [f"{fault['id']}: {fault['fault']}" for fault in report.faults]
    faults += [text for text in reported if text not in known] + check(asking.requests, found)
    known.update(reported)
    return faults


async def _quiet(connection: Any, asking: ClientSession) -> bool:
    """Nothing due, no outbox row, no open bulk job, and every accepted request is stored."""
    deadline = time.monotonic() + QUIESCENT_WITHIN
    accepted = [request.tag for request in asking.requests if request.result in ("ok", "bus")]
    while time.monotonic() < deadline:
        # In this order: a message that arrives between the two queries is seen by the second.
        there = len(await asking.states(accepted)) == len(accepted)
        left = await connection.fetchval(
            "SELECT (SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL) + (SELECT count(*) FROM event_outbox)"
            f" + (SELECT count(*) FROM bulk_jobs WHERE finished_at IS NULL) + ({UNSENT})"
        )
        if there and not left:
            return True
        await asyncio.sleep(0.1)
    return False


@asynccontextmanager
async def client(running: Cluster, name: str) -> AsyncIterator[ClientSession]:
    """A client with a session and a producer of its own."""
    producer = AIOKafkaProducer(**KafkaConnection.to(running.kafka).options(), enable_idempotence=True)
    await producer.start()
    timeout = aiohttp.ClientTimeout(total=ANSWER)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            yield ClientSession(running, session, producer, name)
    finally:
        await producer.stop()


def _figures(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    failed = [outcome for outcome in outcomes if outcome.faults]
    return {
        "points": len({outcome.step.point for outcome in outcomes}),
        "steps": len(outcomes),
        "passed": len(outcomes) - len(failed),
        "seconds": round(seconds, 1),
        "slowest_s": max((outcome.seconds for outcome in outcomes), default=0.0),
        "violations": {outcome.step.name: outcome.faults for outcome in failed},
        "table": _table(outcomes),
    }


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = ["| point | workload | died | steps | passed |", "| --- | --- | --- | --- | --- |"]
    for point in dict.fromkeys(outcome.step.point for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.step.point == point]
        died = ", ".join(sorted({outcome.role for outcome in own if outcome.role}))
        passed = sum(not outcome.faults for outcome in own)
        lines.append(f"| {point} | {POINTS[point].__name__} | {died} | {len(own)} | {passed} |")
    return "\n".join(lines) + "\n"
