"""Each attack in turn, while another tenant sends at a steady rate: what that tenant noticed, what the gateway took.

The tenant is a project with a real (simulated) SMTP server; the attacker another project, in another process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from bench.clock import first_in_line
from sluice.model import ids
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.percentile import percentile
from sluice.store import api_keys, projects
from sluice_simulator.simulator import Simulator
from tests.examples import a_body, as_json
from tests.security.attacks import ATTACKS
from tests.security.bodies import a_large_mail
from tests.security.peers import Target
from tests.system.testbed import Testbed, a_testbed, smtp_at

RATE = 20.0  # requests of the other tenant per second
ANSWER_WITHIN = 10.0  # seconds; a request that has no answer then counts as unanswered
MAX_RSS_MB = 300
MAX_P99_RATIO = 5.0
RECOVERED_WITHIN = 10.0  # seconds
_SETTLED_WITHIN = 60.0  # seconds
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Phase:
    """What the other tenant noticed during an attack, or without one. ``latencies``: seconds."""

    name: str
    latencies: list[float] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)  # ids of messages
    answers_5xx: int = 0
    refused: int = 0  # 4xx
    unanswered: Counter[str] = field(default_factory=Counter)  # by the client's error
    recovery_seconds: float = 0.0
    rss_mb: int = 0
    tcp_mb: int = 0  # the most that the system's TCP buffers took
    attacker: dict[str, int] = field(default_factory=dict)

    @property
    def p99(self) -> float:
        """The latency, in seconds, below which 99 of 100 requests were answered."""
        found = percentile(self.latencies, 0.99)
        return ANSWER_WITHIN if found is None else found


class Tenant:
    """Sends at a steady rate, whatever happens to the answers before."""

    def __init__(self, testbed: Testbed, api: httpx.AsyncClient) -> None:
        self._testbed = testbed
        self._api = api
        self.phase = Phase("none")

    @asynccontextmanager
    async def sending(self, name: str) -> AsyncIterator[Phase]:
        """Send until the block ends; wait then for the answers."""
        self.phase = phase = Phase(name)
        requests: set[asyncio.Task[None]] = set()

        async def send() -> None:
            due = time.monotonic()
            while True:
                requests.add(asyncio.create_task(self._send_one(phase, due)))
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        sender = asyncio.create_task(send())
        try:
            yield phase
        finally:
            sender.cancel()
            await asyncio.gather(*requests)

    async def _send_one(self, phase: Phase, due: float) -> None:
        try:
            headers = {"x-sendpipe-key": self._testbed.key}
            answer = await self._api.post("/v1/messages/channel", headers=headers, content=as_json(a_body()))
        except httpx.HTTPError as error:
            cause = error.__cause__.__cause__ if error.__cause__ else None  # of the operating system
            phase.unanswered[f"{error!r} {cause!r}"] += 1
            return
        phase.latencies.append(time.monotonic() - due)
        if answer.status_code == 201:
            phase.accepted.append(answer.json()["id"])
        elif answer.status_code >= 500:
            phase.answers_5xx += 1
        else:
            phase.refused += 1

    async def normal_after(self, latency: float) -> float:
        """Seconds until five requests in a row were answered within ``latency`` seconds."""
        began = time.monotonic()
        in_a_row = 0
        while in_a_row < 5 and time.monotonic() - began < 6 * RECOVERED_WITHIN:
            one = Phase("recovery")
            sent_at = time.monotonic()
            await self._send_one(one, sent_at)
            self.phase.accepted += one.accepted
            in_a_row = in_a_row + 1 if one.accepted and one.latencies[0] <= latency else 0
        return time.monotonic() - began

    async def lost(self, accepted: Sequence[str]) -> int:
        """How many accepted messages are in no final state after a while."""
        wanted = [ids.decode_id("msg", one) for one in accepted]
        deadline = time.monotonic() + _SETTLED_WITHIN
        while True:
            settled: int = await self._testbed.db.fetchval(
                "SELECT count(*) FROM deliveries WHERE message_id = ANY($1) AND state IN ('SENT', 'DELIVERED')", wanted
            )
            if settled == len(wanted) or time.monotonic() > deadline:
                return len(wanted) - settled
            await asyncio.sleep(0.2)


def _tcp_buffers() -> int:
    """Bytes in the buffers of all TCP connections of this system (proc(5), /proc/net/sockstat)."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * resource.getpagesize()
    return 0


class Attacker:
    """The attacking process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Attacker]:
        """The process runs until the block ends."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.security.attacker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield cls(process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def attack(self, name: str, target: Target) -> dict[str, int]:
        """Run an attack; returns how often the gateway gave which status.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"attack": name, "target": asdict(target)}).encode() + b"\n")
        async with asyncio.timeout(target.seconds + 60):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the attacker ended during {name}")
        answers: dict[str, int] = json.loads(line)
        return answers


class Campaign:
    """The attacks against one running system."""

    def __init__(self, tenant: Tenant, attacker: Attacker, target: Target, gateway_pid: int) -> None:
        self._tenant = tenant
        self._attacker = attacker
        self._target = target
        self._gateway = psutil.Process(gateway_pid)
        self.phases: list[Phase] = []
        self.quiet = Phase("quiet")

    async def run(self, names: Sequence[str], progress: Callable[[str], None]) -> dict[str, Any]:
        """Each attack; returns the figures."""
        async with self._tenant.sending("warm-up"):
            await asyncio.sleep(max(1.0, self._target.seconds / 6))
        self.quiet = await self._undisturbed()
        accepted = [*self.quiet.accepted]
        for name in names:
            phase = await self._attack(name)
            accepted += phase.accepted
            self.phases.append(phase)
            progress(f"{name}: {json.dumps(self.figures(phase))}")
        # The machine may have become quicker or slower since the beginning.
        afterwards = await self._undisturbed()
        accepted += afterwards.accepted
        progress(f"quiet p99 before and after: {1_000 * self.quiet.p99:.1f} and {1_000 * afterwards.p99:.1f} ms")
        self.quiet.latencies += afterwards.latencies
        return self._result(await self._tenant.lost(accepted))

    async def _undisturbed(self) -> Phase:
        async with self._tenant.sending("quiet") as phase:
            await asyncio.sleep(max(3.0, self._target.seconds / 2))
        return phase

    async def _attack(self, name: str) -> Phase:
        async with self._tenant.sending(name) as phase, self._watching_memory(phase):
            phase.attacker = await self._attacker.attack(name, self._target)
        phase.recovery_seconds = await self._tenant.normal_after(max(0.05, 2 * self.quiet.p99))
        return phase

    @asynccontextmanager
    async def _watching_memory(self, phase: Phase) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                phase.rss_mb = max(phase.rss_mb, self._gateway.memory_info().rss >> 20)
                phase.tcp_mb = max(phase.tcp_mb, _tcp_buffers() >> 20)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()

    def figures(self, phase: Phase) -> dict[str, Any]:
        """The figures of one attack."""
        return {
            "p99_ratio": round(phase.p99 / self.quiet.p99, 1),
            "requests": len(phase.latencies),
            "5xx": phase.answers_5xx,
            "refused": phase.refused,
            "unanswered": dict(phase.unanswered),
            "rss_mb": phase.rss_mb,
            "tcp_mb": phase.tcp_mb,
            "recovery_seconds": round(phase.recovery_seconds, 1),
            "attacker": phase.attacker,
        }

    def _bounded(self, phase: Phase) -> bool:
        return (
            not phase.answers_5xx
            and not phase.refused
            and not phase.unanswered
            and phase.p99 <= MAX_P99_RATIO * self.quiet.p99
            and phase.rss_mb <= MAX_RSS_MB
            and phase.recovery_seconds <= RECOVERED_WITHIN
        )

    def _result(self, lost: int) -> dict[str, Any]:
        phases = self.phases
        return {
            "attacks": len(phases),
            "bounded": sum(self._bounded(phase) for phase in phases),
            "not_bounded": [phase.name for phase in phases if not self._bounded(phase)],
            "seconds_each": self._target.seconds,
            "other_tenant_p99_ratio": max(round(phase.p99 / self.quiet.p99, 1) for phase in phases),
            "other_tenant_quiet_p99_ms": round(1_000 * self.quiet.p99, 1),
            "other_tenant_requests": sum(len(phase.latencies) for phase in phases),
            "other_tenant_lost": lost,
            "other_tenant_unanswered": sum(phase.unanswered.total() for phase in phases),
            "other_tenant_5xx": sum(phase.answers_5xx for phase in phases),
            "other_tenant_refused": sum(phase.refused for phase in phases),
            "gateway_rss_mb": max(phase.rss_mb for phase in phases),
            "tcp_mb": max(phase.tcp_mb for phase in phases),
            "recovery_seconds": max(round(phase.recovery_seconds, 1) for phase in phases),
        }


async def run(
    system: Any,
    *,
    seconds: float,
    names: Sequence[str] = (),
    answer_within: float = ANSWER_WITHIN,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Run the named attacks, all by default, each for ``seconds``, against a running system.

    ``answer_within``: seconds that the other tenant waits for an answer.

    Raises:
        RuntimeError: an attacker failed, or the gateway ended.
    """
    async with a_testbed(system) as testbed, Simulator(endpoints={"smtp": "smtp"}) as simulator:
        await testbed.add_provider("simulator", smtp_at(*simulator.address("smtp")))
        target = await _attackers_target(system, testbed, seconds)
        pid = await asyncio.to_thread(system.control.pid, "gateway")
        limits = httpx.Limits(max_connections=200)
        address = system.addresses["gateway"]
        async with (
            httpx.AsyncClient(base_url=address, timeout=answer_within, trust_env=False, limits=limits) as api,
            Attacker.running() as attacker,
        ):
            first_in_line(real_time=False)  # what the client waits for a processor is no latency of the gateway
            campaign = Campaign(Tenant(testbed, api), attacker, target, pid)
            figures = await campaign.run(names or list(ATTACKS), progress)
        if await asyncio.to_thread(system.control.pid, "gateway") != pid:
            raise RuntimeError("the gateway ended during an attack and was restarted")
        return figures


async def _attackers_target(system: Any, testbed: Testbed, seconds: float) -> Target:
    """A project of the attacker's own, with a large message and a provider with signed receipts."""
    now = utc_now()
    project = await projects.create_project(
        testbed.db, organization="Attacker", slug=f"attacker-{ids.uuid7().hex[-12:]}", name="Attacker", now=now
    )
    key = await api_keys.create_key(testbed.db, project.id, name="attacker", is_test=True, now=now)
    provider = await testbed.add_provider(
        "resend",
        {"apiKey": "re_attacker", "webhookSecret": SECRET},
        package="provider-resend",
        channel=Channel.EMAIL,
        project_id=project.id,
    )
    answer = await testbed.api.post(
        "/v1/messages/channel", headers={"x-sendpipe-key": key}, content=a_large_mail(20_000_000)
    )
    if answer.status_code != 201:
        raise RuntimeError(f"the large message was answered with {answer.status_code}: {answer.text}")
    address = urlsplit(system.addresses["gateway"])
    return Target(
        host=str(address.hostname),
        port=int(address.port or 0),
        key=key,
        message=answer.json()["id"],
        provider=ids.encode_id("prv", provider),
        seconds=seconds,
    )
