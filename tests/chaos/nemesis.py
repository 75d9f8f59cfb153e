"""The nemesis: injects faults into every process, by a schedule that follows from a seed, and logs them."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from random import Random
from typing import Any

import asyncpg

from sluice.runtime.errors import SluiceError
from sluice.store.db import DATABASE_ERRORS
from sluice_launcher import probes
from sluice_launcher.process_info import Identity, process_tree
from sluice_launcher.state import read_state
from tests.chaos.cluster import Cluster
from tests.chaos.ledgers import Ledger
from tests.chaos.oracle import SERVICES

# Kafka needs five to fifteen seconds to restart: killed as often as the others it would hardly ever run.
WEIGHT = {"postgres": 0.7, "kafka": 0.2, "redis": 0.7, "health": 0.7, "push-worker": 0.5}
TIMEOUT = 180.0  # seconds until a process must be ready again: on a busy machine, other faults come meanwhile
_POLL_INTERVAL = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one process. Times are seconds."""

    number: int
    at: float
    kind: str  # kill, pause, restart, wipe
    target: str
    seconds: float = 0.0  # of a pause


def schedule(seed: int, *, kills: int, seconds: float, targets: Sequence[str]) -> list[Fault]:
    """``kills`` kills, a third as many pauses, a sixth as many restarts, and wipes of Kafka and Redis."""
    dice = Random(f"nemesis {seed}")
    drafts: list[tuple[str, str, float]] = []
    # Every process is killed at least once; the other victims are random.
    victims = [*targets][:kills]
    victims += dice.choices(targets, [WEIGHT.get(target, 1.0) for target in targets], k=kills - len(victims))
    drafts += [("kill", target, 0.0) for target in victims]
    for _ in range(max(1, kills // 3)):
        target = dice.choice(targets)
        drafts.append(("pause", target, _pause(target, dice)))
    drafts += [("restart", dice.choice(targets), 0.0) for _ in range(max(1, kills // 6))]
    wipes = max(1, kills // 50)
    drafts += [("wipe", "kafka", 0.0)] * wipes + [("wipe", "redis", 0.0)] * wipes
    dice.shuffle(drafts)
    step = seconds / len(drafts)
    return [
        Fault(number, (number + dice.random()) * step, kind, target, pause)
        for number, (kind, target, pause) in enumerate(drafts)
    ]


def _pause(target: str, dice: Random) -> float:
    """Mostly short; one in four pauses of a worker or router is longer than its lease and its consumer session."""
    if target in SERVICES:
        return dice.choice((0.5, 2.0, dice.uniform(2, 9)))
    return dice.choice((0.5, 1.0, dice.uniform(1, 6), dice.uniform(12, 18)))


@dataclass(frozen=True, slots=True)
class Target:
    """A process that the nemesis can stop and restart."""

    name: str
    identity: Callable[[], Identity | None]
    ready: Callable[[], Awaitable[bool]]
    restart: Callable[[bool], Awaitable[None]]  # wipe?


def targets_of(cluster: Cluster) -> dict[str, Target]:
    """All targets: services, roles, second replicas; not the simulator, not the supervisor."""
    where = cluster.stack.addresses
    found: dict[str, Target] = {}
    for name in SERVICES:
        port = int(where[name].rpartition(":")[2].partition("/")[0])
        probe = getattr(probes, name)
        if name == "kafka":
            probe = partial(probes.kafka_with_login, cluster.stack.environment["SLUICE_KAFKA_PASSWORD"])
        found[name] = _managed(cluster, name, partial(probe, "127.0.0.1", port))
    for name, port in cluster.ops_ports.items():
        probe = partial(probes.http, "127.0.0.1", port)
        found[name] = _replica(cluster, name, probe) if name in cluster.replicas else _managed(cluster, name, probe)
    return found


def _managed(cluster: Cluster, name: str, ready: Callable[[], Awaitable[bool]]) -> Target:
    async def restart(wipe: bool) -> None:
        await asyncio.to_thread(cluster.stack.control.restart, name, wipe=wipe)

    return Target(name, lambda: read_state(cluster.data_dir).get(name), ready, restart)


def _replica(cluster: Cluster, name: str, ready: Callable[[], Awaitable[bool]]) -> Target:
    replica = cluster.replicas[name]

    async def restart(_: bool) -> None:
        await replica.restart()

    return Target(name, lambda: replica.identity, ready, restart)


class Nemesis:
    """Carries out a schedule. ``counts``: faults by kind; ``unhealed``: targets that did not become ready again."""

    def __init__(self, cluster: Cluster, ledger: Ledger) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._targets = targets_of(cluster)
        self._locks = {name: asyncio.Lock() for name in self._targets}
        self.counts: Counter[str] = Counter()
        self.unhealed: list[str] = []
        self.newest = ""

    @property
    def names(self) -> list[str]:
        """The targets."""
        return list(self._targets)

    async def run(self, faults: Sequence[Fault]) -> None:
        """Inject every fault at its time, or as soon as its target is ready after the fault before."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(began + fault.at - asyncio.get_running_loop().time())
                group.create_task(self.inflict(fault))

    async def inflict(self, fault: Fault) -> None:
        """Inject one fault and wait until the target is ready again."""
        target = self._targets[fault.target]
        async with self._locks[fault.target]:
            victim = await self._alive(target)
            self._ledger.write(
                stage="start",
                **{name: value for name, value in asdict(fault).items() if name != "at"},
                pid=victim.pid if victim else None,
                in_flight=await self._in_flight(),
            )
            self.newest = f"{fault.kind} {fault.target}"
            try:
                await self._act(fault, target, victim)
            except SluiceError as error:
                # The supervisor stopped waiting but continues to start the target, so the wait below continues.
                self._ledger.write(stage="trouble", number=fault.number, error=str(error))
            self.counts[fault.kind] += 1
            if fault.kind != "pause":
                await self._alive(target, other_than=victim)
            self._ledger.write(stage="back", number=fault.number)
            healed = await self._ready(target)
            self._ledger.write(stage="healed", number=fault.number, target=fault.target, kind=fault.kind, healed=healed)
            if not healed:
                self.unhealed.append(f"{fault.target} after {fault.kind} {fault.number}")

    async def heal(self) -> None:
        """Continue what is paused and wait until everything is ready."""
        for target in self._targets.values():
            victim = target.identity()
            if victim is not None:
                _signal_all(victim, signal.SIGCONT)
        for name, ready in zip(
            self._targets, await asyncio.gather(*map(self._ready, self._targets.values())), strict=True
        ):
            if not ready:
                self.unhealed.append(name)
        self._ledger.write(stage="all healed", unhealed=self.unhealed)

    async def _act(self, fault: Fault, target: Target, victim: Identity | None) -> None:
        match fault.kind:
            case "kill" if victim is not None:
                _signal_all(victim, signal.SIGKILL)
                await asyncio.to_thread(victim.wait_exit, 10.0)
            case "pause" if victim is not None:
                stopped = _signal_all(victim, signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                for member in reversed(stopped):
                    member.kill(signal.SIGCONT)
            case "restart" | "wipe":
                await target.restart(fault.kind == "wipe")

    async def _alive(self, target: Target, *, other_than: Identity | None = None) -> Identity | None:
        """Its process; waits for one that is being started."""
        for _ in range(int(TIMEOUT / _POLL_INTERVAL)):
            found = target.identity()
            if found is not None and found != other_than and found.alive():
                return found
            await asyncio.sleep(_POLL_INTERVAL)
        self.unhealed.append(f"{target.name} has no process")
        return None

    async def _ready(self, target: Target) -> bool:
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while not await target.ready():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(_POLL_INTERVAL)
        return True

    async def _in_flight(self) -> dict[str, Any] | None:
        """The attempts in flight now; None if the database does not respond in time."""
        try:
            async with asyncio.timeout(1.0):
                connection = await asyncpg.connect(self._cluster.postgres)
                try:
                    rows = await connection.fetch(
                        "SELECT id, attempt_count FROM deliveries WHERE due_at IS NOT NULL AND in_flight"
                    )
                finally:
                    connection.terminate()
        except DATABASE_ERRORS:
            return None
        return {"n": len(rows), "some": [f"{row['id']}/{row['attempt_count']}" for row in rows[:50]]}


def _signal_all(victim: Identity, number: signal.Signals) -> list[Identity]:
    """The process first, so that it creates no children, then its descendants."""
    victim.kill(number)
    members = [victim]
    for pid in process_tree(victim.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            member = Identity.of(pid)
            if member is not None:
                member.kill(number)
                members.append(member)
    return members
