"""One run: offer a load to a subject, measure, wait until everything is settled, and collect the results."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bench import counters, usage
from bench.clock import now, wall_offset
from bench.environment import Environment
from bench.load import Sent
from bench.processes import Failed
from bench.results_db import Settled
from bench.sink_client import Call, calls
from bench.systems import Sluice, Subject
from bench.traffic import STREAM_SPAN, Offer, Stream
from bench.validity import invalid_reasons, lag_reasons
from sluice.runtime.percentile import percentile

LEAD = 0.4  # seconds in which the generators draw their arrivals and connect
LATE = 5.0  # seconds after which a message is late

Action = tuple[float, Callable[[], Awaitable[None]]]  # seconds after the start, and what then happens


@dataclass(frozen=True, slots=True)
class Load:
    """What a run offers. The first ``warm`` seconds are not measured."""

    streams: tuple[Stream, ...]
    seconds: float
    warm: float
    run: int
    window: int = 0
    connections: int = 64
    response_timeout: float = 5.0
    rest: float = 60.0  # seconds to wait for everything to be settled


@dataclass(slots=True)
class Message:
    """One message; times are seconds from the start of the run."""

    stream: str
    intended: float
    lag: float
    answered: float | None
    status: int
    calls: list[Call] = field(default_factory=list)
    settled: Settled | None = None
    recorded: float | None = None

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Run:
    """The results of a run."""

    system: str
    load: Load
    start: float  # of bench.clock
    offset: float  # what makes the time of day of it
    call_log: int  # position in the sink's call log
    answers: list[Sent]
    cpu: dict[str, float]  # CPU seconds by process within the measured span
    memory: dict[str, int]  # largest PSS by process, bytes
    python: tuple[str, ...]  # which of them are the subject's own Python processes
    drawn: int
    sent: int
    messages: list[Message] = field(default_factory=list)
    rest: float = 0.0  # seconds from the last arrival until everything was settled
    quiet: bool = False
    faults: list[str] = field(default_factory=list)  # of the conservation check

    # -- what was measured

    @property
    def span(self) -> tuple[float, float]:
        """The measured part, seconds from the start."""
        return self.load.warm, self.load.seconds

    def measured(self, *streams: str, begin: float | None = None, end: float | None = None) -> list[Message]:
        """Messages that were due in the measured part, or in a part of it; of all streams when none is named."""
        first = self.load.warm if begin is None else begin
        last = self.load.seconds if end is None else end
        return [one for one in self.messages if first <= one.intended < last and (not streams or one.stream in streams)]

    def delivered(self, begin: float | None = None, end: float | None = None) -> int:
        """Calls that a provider accepted within a span of the run, each message once."""
        first = self.load.warm if begin is None else begin
        last = self.load.seconds if end is None else end
        return sum(
            1 for one in self.messages if (taken := first_taken(one)) is not None and first <= taken - self.start < last
        )

    @property
    def rate(self) -> float:
        """Messages per second that a provider accepted."""
        return self.delivered() / (self.load.seconds - self.load.warm)

    @property
    def python_cpu(self) -> float:
        """CPU seconds of the subject's own Python processes."""
        return sum(self.cpu.get(name, 0.0) for name in self.python)

    def per_thousand(self, seconds: float) -> float | None:
        """CPU seconds for 1,000 messages."""
        count = self.delivered()
        return seconds / count * 1000 if count else None

    @property
    def python_memory(self) -> float:
        """PSS of the subject's own processes, in MB."""
        return sum(self.memory.get(name, 0) for name in self.python) / 1e6

    def accept_times(self, *streams: str, begin: float | None = None, end: float | None = None) -> list[float]:
        """Intended send to answer, of what was accepted."""
        return [
            one.answered - one.intended
            for one in self.measured(*streams, begin=begin, end=end)
            if one.accepted and one.answered is not None
        ]

    def provider_times(self, *streams: str, begin: float | None = None, end: float | None = None) -> list[float]:
        """Intended send to the arrival of the call that was taken; of what was accepted and taken."""
        return [
            taken - self.start - one.intended
            for one in self.measured(*streams, begin=begin, end=end)
            if one.accepted and (taken := first_taken(one)) is not None
        ]

    def recorded_times(self, *streams: str) -> list[float]:
        """Intended send to the event ``sent`` in the database."""
        return [
            one.recorded - one.intended for one in self.measured(*streams) if one.accepted and one.recorded is not None
        ]

    # -- validity

    @property
    def lag_p99(self) -> float | None:
        return percentile([one.lag for one in self.measured()], 0.99)

    @property
    def void(self) -> list[str]:
        """Why no percentile may be quoted."""
        return invalid_reasons(self.lag_p99, self.drawn, self.sent)

    @property
    def behind(self) -> list[str]:
        """Why the subject did not keep up."""
        expected = len(self.measured())
        return lag_reasons(expected, self.delivered(), self.provider_times(), self.rest)

    @property
    def accepted(self) -> int:
        return sum(one.accepted for one in self.messages)

    @property
    def lost(self) -> int:
        """Accepted, and neither taken by a provider nor settled otherwise by our own decision."""
        return sum(one.accepted and not _ended(one) for one in self.messages)

    @property
    def duplicates(self) -> int:
        """Calls beyond the first that a provider took."""
        return sum(max(0, sum(call.accepted for call in one.calls) - 1) for one in self.messages)

    def late(self, *streams: str, begin: float | None = None, end: float | None = None) -> list[Message]:
        """Accepted messages that no provider had within five seconds."""
        return [
            one
            for one in self.measured(*streams, begin=begin, end=end)
            if one.accepted and ((taken := first_taken(one)) is None or taken - self.start - one.intended > LATE)
        ]

    def summary(self) -> dict[str, Any]:
        """For machines."""
        groups = sorted({one.stream for one in self.messages})
        return {
            "subject": self.system,
            "seconds": self.load.seconds,
            "warm": self.load.warm,
            "offered_per_s": round(len(self.measured()) / (self.load.seconds - self.load.warm), 1),
            "delivered_per_s": round(self.rate, 1),
            "accepted": self.accepted,
            "answers": {
                str(status): count for status, count in sorted(Counter(m.status for m in self.messages).items())
            },
            "streams": {name: self._latencies(name) for name in groups} if len(groups) > 1 else {},
            **self._latencies(),
            "lag_p99_ms": _ms(self.lag_p99),
            "void": self.void,
            "behind": self.behind,
            "rest_s": round(self.rest, 2),
            "quiet": self.quiet,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "late": len(self.late()),
            "cpu_s_per_1000": {
                name: round(value, 4)
                for name, spent in sorted(self.cpu.items())
                if (value := self.per_thousand(spent)) is not None
            },
            "python_cpu_s_per_1000": _rounded(self.per_thousand(self.python_cpu)),
            "memory_mb": {name: round(value / 1e6, 1) for name, value in sorted(self.memory.items())},
            "faults": self.faults,
        }

    def _latencies(self, *streams: str) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name, times in (
            ("accept", self.accept_times(*streams)),
            ("provider", self.provider_times(*streams)),
            ("recorded", self.recorded_times(*streams)),
        ):
            for word, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
                found[f"{name}_{word}_ms"] = _ms(percentile(times, share))
        return found


def first_taken(message: Message) -> float | None:
    """When the call that was taken came in, by bench.clock."""
    return min((call.came for call in message.calls if call.accepted), default=None)


def _ended(message: Message) -> bool:
    if message.settled is not None and message.settled.state not in ("QUEUED", "SENDING", "SENT"):
        return True
    return first_taken(message) is not None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


# -- making it ---------------------------------------------------------------------------------------------------


async def perform(
    env: Environment, system: Subject, load: Load, actions: Iterable[Action] = (), *, settle: bool = True
) -> Run:
    """Make one run with its actions; unless ``settle``, call :func:`collect` when everything is settled."""
    python = tuple(system.roots())
    call_log = env.sink.position()
    before = env.counters[counters.ACCEPTED]
    start = now() + LEAD
    offset = wall_offset()
    watch = asyncio.create_task(_watch(env, system, start, load))
    acting = [asyncio.create_task(_act(start, action)) for action in actions]
    try:
        sent, summaries = await env.generators.make(_offer(system, load, start))
        cpu, memory = await watch
        for task in acting:
            await task
    finally:
        watch.cancel()
        for task in acting:
            task.cancel()
    run = Run(
        system=system.name,
        load=load,
        start=start,
        offset=offset,
        call_log=call_log,
        answers=sent,
        cpu=cpu,
        memory=memory,
        python=python,
        drawn=sum(summary["drawn"] for summary in summaries),
        sent=sum(summary["sent"] for summary in summaries if summary["drawn"]),
    )
    if settle:
        run.quiet, at = await system.rest(sum(one.accepted for one in sent), before, seconds=load.rest)
        run.rest = max(0.0, at - start - load.seconds)
        await collect(env, system, run)
    return run


def _offer(system: Subject, load: Load, start: float) -> Offer:
    return Offer(
        host="127.0.0.1",
        port=system.port,
        start=start,
        seconds=load.seconds,
        streams=load.streams,
        result="",
        seed=load.run,
        connections=load.connections,
        window=load.window,
        response_timeout=load.response_timeout,
    )


async def collect(env: Environment, system: Subject, run: Run) -> None:
    """Collect the results of a run's messages, and check that nothing was lost."""
    found = {
        one.number: Message(
            stream=run.load.streams[one.number // STREAM_SPAN].name,
            intended=one.intended - run.start,
            lag=one.lag,
            answered=one.answered - run.start if one.answered else None,
            status=one.status,
        )
        for one in run.answers
    }
    for call in calls(env.sink.lines(run.call_log)):
        if call.run == run.load.run and call.number in found:
            found[call.number].calls.append(call)
    settled = await system.settled(run.load.run, run.start + run.offset)
    for row in settled or ():
        message = found.get(row.number)
        if message is not None:
            message.settled = row
            message.recorded = None if row.at is None else row.at - run.offset - run.start
    run.messages = list(found.values())
    run.faults = conservation(run, record=settled is not None)


async def _act(start: float, action: Action) -> None:
    moment, what = action
    await asyncio.sleep(max(0.0, start + moment - now()))
    await what()


async def _watch(
    env: Environment, system: Subject, start: float, load: Load
) -> tuple[dict[str, float], dict[str, int]]:
    """CPU between the ends of the measured part; memory looked at in its middle and at its end."""
    roots = env.roots() | system.roots()
    await asyncio.sleep(max(0.0, start + load.warm - now()))
    first = usage.cpu_seconds(roots)
    await asyncio.sleep(max(0.0, start + (load.warm + load.seconds) / 2 - now()))
    memory = usage.memory_bytes(roots)
    await asyncio.sleep(max(0.0, start + load.seconds - now()))
    last = usage.cpu_seconds(roots)
    for name, value in usage.memory_bytes(roots).items():
        memory[name] = max(value, memory.get(name, 0))
    return {name: last[name] - first[name] for name in last}, memory


def conservation(run: Run, *, record: bool) -> list[str]:
    """Faults: accepted and not stored, stored and rejected, not settled, delivered and not stored."""
    faults = []
    if run.lost:
        faults.append(f"{run.lost} accepted messages were lost")
    if not run.quiet:
        faults.append("not everything was settled in time")
    if record:
        missing = sum(one.accepted and one.settled is None for one in run.messages)
        # 503 with an idempotency key leaves open whether the message was stored: a repeat of the request finds out.
        refused = sum(one.settled is not None and one.status >= 400 and one.status != 503 for one in run.messages)
        open_ = sum(one.settled is not None and one.settled.state in ("QUEUED", "SENDING") for one in run.messages)
        unrecorded = sum(one.settled is None and bool(one.calls) for one in run.messages)
        for count, words in (
            (missing, "were accepted and are not in the database"),
            (refused, "were refused and are in the database"),
            (open_, "are not settled"),
            (unrecorded, "reached a provider and are not in the database"),
        ):
            if count:
                faults.append(f"{count} messages {words}")
    return faults


async def verify(env: Environment, system: Sluice, call_log: int) -> dict[str, Any]:
    """Run `sluice verify --at-rest` with the sink's call log from the position ``call_log`` on.

    Raises:
        Failed: it could not be run.
    """
    path = env.folder / "verify.jsonl"
    path.write_bytes(env.sink.lines(call_log))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluice_cli.main", "verify", "--at-rest", "--json", "--call-log", str(path)),
        env={"SLUICE_POSTGRES_DSN": system.dsn, "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        raise Failed(f"`sluice verify` failed: {errors.decode(errors='replace')[-500:]}") from None
    found["faults"] = found["faults"][:5]
    return found
