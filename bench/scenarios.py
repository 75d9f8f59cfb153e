"""The eight benchmark scenarios. Each adds its figures to the report: ratios to a baseline or to itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from statistics import mean, median
from typing import Any

from bench import sink_client, systems
from bench.environment import Environment
from bench.processes import Failed
from bench.profiles import Profile
from bench.report import Report
from bench.runs import Action, Load, Run, collect, first_taken, perform, verify
from bench.saturation import Ladder
from bench.statistics import Spread, longest_gap, ratios
from bench.systems import Competitor, Sluice, Subject, Tenant
from bench.traffic import Shape, Stream
from sluice.bus.topics import Topic, delivery_topic
from sluice.model.message import Channel
from sluice.runtime.percentile import percentile

WINDOW = 1000  # messages in flight that saturate Sluice and Floor K
PEER_WINDOW = 200  # saturates the peers, which need seconds to fill a larger window
TENANTS = 16  # each fault uses one with unused providers
LITTLE_PARTITIONS = (1, 8)
LITTLE_SLOTS = (64, 256)
LITTLE_SECONDS = 0.200
LITTLE_WINDOW = 6  # messages in flight for each slot, so that no slot is idle
OVERLOAD_CONNECTIONS = 400  # of each stream and generator
REFUSED_503 = {"behaviour": "fault", "code": "service_unavailable", "latency": {"median": 0.0}}
HANGING = {"behaviour": "hang", "latency": {"median": 3600.0}}


class Bench:
    """A running measurement: the environment, the systems in it, and the report."""

    def __init__(self, env: Environment, profile: Profile, report: Report) -> None:
        self.env = env
        self.profile = profile
        self.report = report
        self.sluice: Sluice | None = None
        self.competitors: dict[str, Competitor] = {}
        self.saturation: float | None = None  # of Sluice, messages per second
        self.limit: float | None = None  # throughput of a full window in the same minutes
        self._tenants: Iterator[Tenant] = iter(())
        self._call_log_position = 0

    # -- systems

    async def start_sluice(self, *, settings: dict[str, str] | None = None, tenants: int = TENANTS) -> Sluice:
        """Start Sluice on an empty database."""
        self.end_sluice()
        chosen = dict(settings or {})
        if self.profile.receipt_wait is not None:
            chosen.setdefault("SLUICE_UNKNOWN_OUTCOME_WAIT", f"{self.profile.receipt_wait:g}")
        self._call_log_position = self.env.sink.position()
        database = f"bench_{self.env.next_run()}"
        self.sluice = await Sluice.start(self.env, database, tenants=tenants, settings=chosen)
        self._tenants = iter(self.sluice.tenants[1:])
        self.env.say("Sluice runs" + (f" with {settings}" if settings else ""))
        return self.sluice

    def end_sluice(self) -> None:
        """Stop Sluice, if it runs."""
        if self.sluice is not None:
            self.sluice.end()
            self.sluice = None

    async def competitor(self, name: str) -> Competitor:
        """A baseline or a peer, started on first use."""
        if name not in self.competitors:
            start = {
                "floor-k": systems.start_floor_k,
                "floor-c": systems.start_floor_c,
                "celery": systems.start_celery,
            }[name]
            self.competitors[name] = await start(self.env)
            self.env.say(f"{name} runs")
        return self.competitors[name]

    def end_competitors(self, *names: str) -> None:
        """Stop the named ones, or all."""
        for name in names or tuple(self.competitors):
            competitor = self.competitors.pop(name, None)
            if competitor is not None:
                competitor.end()

    @property
    def ours(self) -> Sluice:
        assert self.sluice is not None
        return self.sluice

    def next_tenant(self) -> Tenant:
        """A project with unused providers, whose health is unknown."""
        return next(self._tenants)

    async def check(self, scenario: str) -> None:
        """Run `sluice verify` over the whole database."""
        found = await verify(self.env, self.ours, self._call_log_position)
        self.report.verified(scenario, found)
        if found["violations"]:
            self.env.say(f"scenario {scenario}: verify found {found['broken']} faults: {found['faults'][:2]}")

    # -- runs

    def stream(
        self,
        run: int,
        tenant: Tenant | None,
        rate: float = 0.0,
        *,
        name: str = "all",
        kind: str = "poisson",
        channel: str = "email",
        delivery_class: str = "standard",
        **more: Any,
    ) -> Stream:
        """Requests of one kind."""
        keys = ("none",) if tenant is None else (tenant.key,)
        return Stream(name, Shape(run, channel, delivery_class).template(), rate, kind, keys, **more)

    async def run(self, scenario: str, system: Subject, load: Load, actions: Sequence[Action] = ()) -> Run:
        """Make a run and add it to the report."""
        made = await perform(self.env, system, load, actions)
        self.note(scenario, made)
        return made

    def note(self, scenario: str, run: Run) -> None:
        """Add a run to the report, and print a line about it."""
        self.report.ran(scenario, run)
        shown = run.summary()
        parts = [
            f"scenario {scenario}  {run.system:<8} {shown['offered_per_s']:>7} /s offered, "
            f"{shown['delivered_per_s']:>7} /s delivered",
            f"accept p99 {shown['accept_p99_ms']} ms, provider p99 {shown['provider_p99_ms']} ms",
        ]
        parts += [f"VOID: {reason}" for reason in run.void if not run.load.window]
        parts += [f"FAULT: {fault}" for fault in run.faults]
        self.env.say("; ".join(parts))

    async def at_limit(self, scenario: str, system: Subject, *, warm: float, seconds: float) -> Run:
        """As fast as the sink accepts: a bounded number of messages in flight over the whole pipeline."""
        run = self.env.next_run()
        tenant = self.ours.tenants[0] if isinstance(system, Sluice) else None
        window = WINDOW if system.name in ("sluice", "floor-k") else PEER_WINDOW
        load = Load(
            (self.stream(run, tenant, kind="window"),),
            seconds=warm + seconds,
            warm=warm,
            run=run,
            window=window,
            rest=self.profile.drain,
        )
        return await self.run(scenario, system, load)

    async def at_rate(
        self, scenario: str, system: Subject, rate: float, *, warm: float, seconds: float, urgent: float = 0.0
    ) -> Run:
        """Open loop, Poisson arrivals."""
        run = self.env.next_run()
        tenant = self.ours.tenants[0] if isinstance(system, Sluice) else None
        streams = [self.stream(run, tenant, rate * (1 - urgent), name="standard")]
        if urgent:
            streams.append(self.stream(run, tenant, rate * urgent, name="urgent", delivery_class="urgent"))
        load = Load(tuple(streams), seconds=warm + seconds, warm=warm, run=run, rest=self.profile.drain)
        return await self.run(scenario, system, load)

    async def search(self, scenario: str, system: Subject, guess: float) -> float | None:
        """The highest open-loop rate that a subject sustains."""
        assert self.profile.step is not None
        ladder = Ladder(guess)
        while not ladder.done:
            made = await self.at_rate(
                scenario, system, ladder.rate, warm=min(3.0, self.profile.warm), seconds=self.profile.step
            )
            reasons = [*made.behind, *made.faults]
            if reasons:
                self.env.say(f"    {ladder.rate:.0f} /s is too much: {'; '.join(reasons)}")
            ladder.record(not reasons)
        return ladder.best

    def need_saturation(self) -> float:
        """The saturation of Sluice, from scenario 1.

        Raises:
            Failed: scenario 1 did not run.
        """
        if self.saturation is None:
            raise Failed("the saturation is not known: run scenario 1 as well, or give --saturation")
        return self.saturation

    async def saturation_now(self) -> float:
        """The saturation now: the machine drifts by tens of per cent within the hour since scenario 1."""
        whole = self.need_saturation()
        if self.limit is None:
            return whole
        made = await self.at_limit("drift", self.ours, warm=min(2.0, self.profile.warm), seconds=self.profile.burst)
        return whole * made.rate / self.limit


# -- 1 -----------------------------------------------------------------------------------------------------------


async def saturation(bench: Bench) -> None:
    """1: throughput, against the baselines and the peers."""
    profile, report = bench.profile, bench.report
    await bench.env.sink.behave(sink_client.FAST)
    ours = bench.sluice or await bench.start_sluice()
    await asyncio.sleep(2.0)
    supervisor = ours.supervisor_memory()
    report.measure("memory_idle_mb", [ours.memory() + supervisor])
    competitors = [await bench.competitor(name) for name in ("floor-k", "floor-c", "celery")]
    systems: list[Subject] = [ours, *competitors]
    for system in systems:
        await bench.at_limit("1 warm-up", system, warm=0.5, seconds=min(2.0, profile.burst))
    found: dict[str, list[list[float]]] = {"sluice": []}  # pairs of Sluice's rate and the named system's
    at_limit: list[tuple[Run, Run]] = []
    most_memory = 0.0
    for number in range(max(profile.pairs, profile.peer_pairs)):
        wanted: list[Subject] = [ours]
        wanted += competitors[:1] if number < profile.pairs else []
        wanted += competitors[1:] if number < profile.peer_pairs else []
        runs, rates = await _round(bench, wanted)
        most_memory = max(most_memory, runs["sluice"].python_memory)
        for name, rate in rates.items():
            found.setdefault(name, []).append([rates["sluice"] or 0.0, rate or 0.0])
        if "floor-k" in runs:
            at_limit.append((runs["sluice"], runs["floor-k"]))
    own = [pair[0] for pair in found["sluice"] if pair[0]]
    if own:
        bench.saturation = median(own)
        bench.limit = median([mine.rate for mine, _ in at_limit])
    report.measure("memory_saturation_mb", [most_memory + supervisor])
    _report_saturation(report, found, at_limit)
    bench.end_competitors("celery", "floor-c")


async def _round(bench: Bench, systems: Sequence[Subject]) -> tuple[dict[str, Run], dict[str, float | None]]:
    """One run of each system at a full window, and its highest sustained rate."""
    profile = bench.profile
    runs: dict[str, Run] = {}
    rates: dict[str, float | None] = {}
    for system in systems:
        runs[system.name] = made = await bench.at_limit("1", system, warm=profile.warm, seconds=profile.burst)
        rates[system.name] = made.rate
        if profile.step is not None and made.rate:
            rates[system.name] = await bench.search("1", system, 0.9 * made.rate)
    return runs, rates


def _report_saturation(
    report: Report, found: dict[str, list[list[float]]], at_limit: Sequence[tuple[Run, Run]]
) -> None:
    report.figure("1", "saturation_per_s", {name: _spread([p[1] for p in pairs]) for name, pairs in found.items()})
    for name in ("floor-k", "floor-c", "celery"):
        measure = f"saturation_over_{name.replace('-', '_')}"
        report.measure(measure, ratios([(pair[0], pair[1]) for pair in found.get(name, [])]))
    report.measure(
        "python_cpu_over_floor_k",
        ratios([(a.per_thousand(a.python_cpu), b.per_thousand(b.python_cpu)) for a, b in at_limit]),
    )
    report.measure("postgres_cpu_over_python", ratios([(a.cpu["postgres"], a.python_cpu) for a, _ in at_limit]))
    report.figure("1", "cpu_s_per_1000", _costs([a for a, _ in at_limit]))
    report.figure("1", "cpu_s_per_1000_floor_k", _costs([b for _, b in at_limit]))


def _costs(runs: Sequence[Run]) -> dict[str, Any]:
    names = sorted({name for run in runs for name in run.cpu})
    costs = {
        name: _spread([cost for run in runs if (cost := run.per_thousand(run.cpu.get(name, 0.0))) is not None])
        for name in names
    }
    costs["python"] = _spread([cost for run in runs if (cost := run.per_thousand(run.python_cpu)) is not None])
    return costs


def _spread(values: Sequence[float]) -> dict[str, float | int] | None:
    found = Spread.of(values)
    return None if found is None else found.as_json()


# -- 2 -----------------------------------------------------------------------------------------------------------


async def latency(bench: Bench) -> None:
    """2: latency at fixed loads, against Floor K at the same rate."""
    profile, report = bench.profile, bench.report
    whole = bench.need_saturation()
    await bench.env.sink.behave(sink_client.MODEL)
    ours = bench.sluice or await bench.start_sluice()
    floor = await bench.competitor("floor-k")
    for share in profile.shares:
        pairs: list[tuple[Run, Run]] = []
        for attempt in range(profile.pairs + profile.spare_pairs):
            if len(pairs) == profile.pairs or (attempt >= profile.pairs and not bench.env.time_left(60)):
                break
            made = []
            for system in (ours, floor):
                made.append(
                    await bench.at_rate(
                        f"2 ({share:g} S)", system, share * whole, warm=profile.warm, seconds=profile.fixed, urgent=0.1
                    )
                )
            if not any(run.void for run in made):
                pairs.append((made[0], made[1]))
        if share == 0.5:
            report.measure(
                "accept_p99_over_floor_k", ratios([(_p99(a.accept_times()), _p99(b.accept_times())) for a, b in pairs])
            )
            report.measure(
                "provider_p99_over_floor_k",
                ratios([(_p99(a.provider_times()), _p99(b.provider_times())) for a, b in pairs]),
            )
        report.figure("2", f"at {share:g} S", {"rate_per_s": round(share * whole, 1), **_latencies(pairs)})


def _p99(times: Sequence[float]) -> float | None:
    return percentile(times, 0.99)


def _latencies(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    found: dict[str, Any] = {"pairs_not_void": len(pairs)}
    for position, name in enumerate(("sluice", "floor-k")):
        runs = [pair[position] for pair in pairs]
        for words, times in (
            ("accept", [run.accept_times() for run in runs]),
            ("provider", [run.provider_times() for run in runs]),
            ("provider, urgent", [run.provider_times("urgent") for run in runs]),
            ("recorded", [run.recorded_times() for run in runs]),
        ):
            for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
                values = [1000 * value for each in times if (value := percentile(each, share)) is not None]
                if values:
                    found[f"{name} {words} {label} ms"] = _spread(values)
        costs = [cost for run in runs if (cost := run.per_thousand(run.python_cpu)) is not None]
        found[f"{name} python CPU-s per 1000"] = _spread(costs)
    return found


# -- 3 -----------------------------------------------------------------------------------------------------------


async def concurrency(bench: Bench) -> None:
    """3: calls of a slow provider overlap within a partition."""
    profile, report, env = bench.profile, bench.report, bench.env
    await env.sink.behave(sink_client.SLOW)
    topics = [Topic.ACCEPTED.value, delivery_topic(Channel.EMAIL).value]
    whole = bench.saturation
    found = {}
    for partitions in LITTLE_PARTITIONS:
        bench.end_sluice()
        await systems.recreate_topics(env.addresses["kafka"], topics, partitions)
        for slots in LITTLE_SLOTS:
            ours = await bench.start_sluice(settings={"SLUICE_PROVIDER_CONCURRENCY": str(slots)}, tenants=1)
            run = env.next_run()
            ideal = slots / LITTLE_SECONDS
            load = Load(
                (bench.stream(run, ours.tenants[0], kind="window"),),
                seconds=profile.warm + profile.burst,
                warm=profile.warm,
                run=run,
                window=LITTLE_WINDOW * slots,
                rest=profile.drain,
            )
            made = await bench.run("3", ours, load)
            found[f"{partitions} partitions, {slots} slots"] = {
                "achieved_per_s": round(made.rate, 1),
                "ideal_per_s": ideal,
                "ratio": round(made.rate / ideal, 3),
                "bound_by": "CPU" if whole is not None and ideal > whole else "slots",
            }
            if partitions == 1 and slots == LITTLE_SLOTS[0]:
                report.measure("one_partition_over_littles_law", [made.rate / ideal])
            await bench.check("3")
    report.figure("3", "by partitions and slots", found)
    bench.end_sluice()
    await systems.recreate_topics(env.addresses["kafka"], topics, systems.PARTITIONS)


# -- 4 -----------------------------------------------------------------------------------------------------------


async def failover(bench: Bench) -> None:
    """4: a provider answers 503 at once, and later works again."""
    profile, report, env = bench.profile, bench.report, bench.env
    rate = 0.5 * bench.need_saturation()
    ours = bench.sluice or await bench.start_sluice()
    subjects_: list[Subject] = [ours]
    if profile.step is not None:
        subjects_.append(await bench.competitor("floor-c"))
    begin, end = profile.warm + profile.steady, profile.warm + profile.steady + profile.fault
    for system in subjects_:
        await env.sink.behave(sink_client.MODEL)
        run = env.next_run()
        tenant = bench.next_tenant() if system is ours else None
        load = Load(
            (bench.stream(run, tenant, rate),),
            seconds=end + profile.after,
            warm=profile.warm,
            run=run,
            rest=profile.drain,
        )
        actions: list[Action] = [
            (begin, partial(env.sink.behave, sink_client.MODEL, {"email-a": REFUSED_503})),
            (end, partial(env.sink.behave, sink_client.MODEL)),
        ]
        made = await bench.run("4", system, load, actions)
        shown = _failover_figures(made, begin, end)
        report.figure("4", system.name, shown)
        if system is ours:
            report.measure("failover_throughput_over_before", [shown["throughput in fault / before"]])
            report.measure("failover_late_percent", [shown["late, per cent"]])
            report.measure("failover_lost", [float(made.lost)])
    bench.end_competitors("floor-c")


def _failover_figures(run: Run, begin: float, end: float) -> dict[str, Any]:
    before, during = _kept(run, run.load.warm, begin), _kept(run, begin, end)
    due = run.measured(begin=begin, end=end)
    a_calls = sorted(call.came - run.start for one in run.messages for call in one.calls if call.endpoint == "email-a")
    refused = sum(not call.accepted for one in run.messages for call in one.calls)
    return {
        "throughput in fault / before": round(during / before, 4) if before else 0.0,
        "late, per cent": round(100 * len(run.late(begin=begin, end=end)) / len(due), 3) if due else 0.0,
        "lost": run.lost,
        "duplicates": run.duplicates,
        "calls / message": round(sum(len(one.calls) for one in run.messages) / max(1, len(run.messages)), 3),
        "refused calls": refused,
        "provider p99 before, ms": _milliseconds(_p99(run.provider_times(end=begin))),
        "provider p99 in fault, ms": _milliseconds(_p99(run.provider_times(begin=begin, end=end))),
        "seconds until the provider was abandoned": _abandoned_after(a_calls, begin, end, run),
        "seconds from the repair until it was used again": _used_again(a_calls, end, run),
        "responses of the failing provider": "503 at once",
    }


def _kept(run: Run, begin: float, end: float) -> float:
    """Delivered within a span over due within it: about 1 in a steady state."""
    due = len(run.measured(begin=begin, end=end))
    return run.delivered(begin, end) / due if due else 0.0


def _abandoned_after(calls: Sequence[float], begin: float, end: float, run: Run) -> float | None:
    """From the fault until the provider gets less than a tenth of the traffic (in quarter seconds)."""
    rate = len(run.measured(begin=begin, end=end)) / (end - begin)
    moment = begin
    while moment + 0.25 <= end:
        if sum(moment <= call < moment + 0.25 for call in calls) < 0.1 * rate * 0.25:
            return round(moment - begin, 2)
        moment += 0.25
    return None


def _used_again(calls: Sequence[float], end: float, run: Run) -> float | None:
    rate = len(run.measured(begin=end)) / max(0.001, run.load.seconds - end)
    moment = end
    while moment + 0.5 <= run.load.seconds:
        if sum(moment <= call < moment + 0.5 for call in calls) > 0.5 * rate * 0.5:
            return round(moment - end, 2)
        moment += 0.25
    return None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


# -- 5 -----------------------------------------------------------------------------------------------------------


Spell = tuple[float, float, float]
"""Start of the calm, start and end of the fault, in seconds from the start of the run."""


async def gray_failure(bench: Bench) -> None:
    """5: an SMS provider never responds (in the full form also: is slow; fails sometimes)."""
    profile, report = bench.profile, bench.report
    rate = 0.5 * bench.need_saturation()
    if bench.sluice is None:
        await bench.start_sluice()
    variants: dict[str, tuple[int, dict[str, Any]]] = {"hang": (profile.gray_pairs, HANGING)}
    if profile.step is not None:
        variants["20 x slower"] = 1, {"latency": {"median": 1.0, "sigma": 0.35}}
        variants["15 % 503"] = 1, {"fail": 15.0, "code": "20503"}
    for name, (count, rule) in variants.items():
        made, spells = await _spells(bench, rate, count, rule)
        before = [made.provider_times("email", begin=calm, end=begin) for calm, begin, _ in spells]
        during = [made.provider_times("email", begin=begin, end=end) for _, begin, end in spells]
        report.figure("5", name, _gray_figures(made, spells, before, during))
        if name == "hang":
            pairs = [(_p99(faulty), _p99(calm)) for faulty, calm in zip(during, before, strict=True)]
            report.measure("hang_email_p99_over_before", ratios(pairs))


async def _spells(bench: Bench, rate: float, count: int, rule: dict[str, Any]) -> tuple[Run, list[Spell]]:
    """One run of ``count`` spells of calm and fault, each for a tenant with unused providers."""
    profile, env = bench.profile, bench.env
    await env.sink.behave(sink_client.MODEL)
    run = env.next_run()
    streams: list[Stream] = []
    actions: list[Action] = []
    spells: list[Spell] = []
    for spell in range(count):
        first = spell * (profile.warm + profile.gray_steady + profile.gray_fault)
        calm = first + profile.warm
        begin, end = calm + profile.gray_steady, calm + profile.gray_steady + profile.gray_fault
        spells.append((calm, begin, end))
        tenant = bench.next_tenant()
        for channel in ("email", "sms"):
            streams.append(bench.stream(run, tenant, rate / 2, name=channel, channel=channel, begin=first, end=end))
        actions += [
            (begin, partial(env.sink.behave, sink_client.MODEL, {"sms-a": rule})),
            (end, partial(env.sink.behave, sink_client.MODEL)),
        ]
    load = Load(tuple(streams), seconds=spells[-1][2], warm=profile.warm, run=run, rest=profile.drain)
    return await bench.run("5", bench.ours, load, actions), spells


def _gray_figures(
    run: Run, spells: Sequence[Spell], before: Sequence[Sequence[float]], during: Sequence[Sequence[float]]
) -> dict[str, Any]:
    due = [one for _, begin, end in spells for one in run.measured("sms", begin=begin, end=end)]
    late = [one for _, begin, end in spells for one in run.late("sms", begin=begin, end=end)]
    return {
        "e-mail p99 before, ms": [_milliseconds(_p99(times)) for times in before],
        "e-mail p99 during, ms": [_milliseconds(_p99(times)) for times in during],
        "e-mail p50 before, ms": [_milliseconds(percentile(times, 0.5)) for times in before],
        "e-mail p50 during, ms": [_milliseconds(percentile(times, 0.5)) for times in during],
        "sms late, per cent": round(100 * len(late) / len(due), 2) if due else None,
        "sms lost": sum(one.accepted and first_taken(one) is None for one in run.measured("sms")),
        "most unanswered calls at the provider": _most_held(
            [call for one in run.messages for call in one.calls if call.endpoint == "sms-a"]
        ),
        "duplicates": run.duplicates,
    }


def _most_held(calls: Sequence[Any]) -> int:
    steps = sorted([(call.came, 1) for call in calls] + [(call.ended, -1) for call in calls])
    most = held = 0
    for _, step in steps:
        held += step
        most = max(most, held)
    return most


# -- 6 -----------------------------------------------------------------------------------------------------------


async def backlog(bench: Bench) -> None:
    """6: the e-mail worker was stopped: drain rate of the backlog, latency of urgent messages meanwhile."""
    profile, report, env = bench.profile, bench.report, bench.env
    await env.sink.behave(sink_client.FAST)
    ours = bench.sluice or await bench.start_sluice()
    tenant = bench.next_tenant()
    whole = await bench.saturation_now()
    alone = await bench.at_rate(
        "6 alone", ours, 0.1 * whole, warm=min(2.0, profile.warm), seconds=max(4.0, profile.warm)
    )
    filled, drained, urgent = await drain_backlog(bench, "6", tenant, whole, profile.backlog)
    around = mean([whole, await bench.saturation_now()])
    report.figure("6", "drain", {"saturation before and after, mean, per s": round(around, 1), **drained})
    if drained["drain rate per s"]:
        report.measure("drain_over_saturation", [drained["drain rate per s"] / around])
    # A message before the worker's start waited for the start, not for the backlog.
    beside = urgent.provider_times(begin=drained["first call after, s"], end=drained["last call after, s"])
    report.figure(
        "6",
        "urgent",
        {
            "p99 alone, ms": _milliseconds(_p99(alone.provider_times())),
            "p99 while the backlog drains, ms": _milliseconds(_p99(beside)),
        },
    )
    if filled.faults:
        env.say(f"    {filled.faults}")


async def drain_backlog(
    bench: Bench, scenario: str, tenant: Tenant, whole: float, seconds: float, *, most: int | None = None
) -> tuple[Run, dict[str, Any], Run]:
    """Stop the e-mail worker, let a backlog grow, start it again; urgent messages arrive at 0.1 S meanwhile.

    Returns the run that filled the backlog, the figures of the drain, and the run of the urgent messages.
    """
    env, ours = bench.env, bench.ours
    control = ours.stack.control
    await asyncio.to_thread(control.stop, "email-worker")
    run = env.next_run()
    rate = 0.9 * whole
    length = seconds if most is None else most / rate
    load = Load((bench.stream(run, tenant, rate, kind="constant"),), seconds=length, warm=0.0, run=run)
    filled = await perform(env, ours, load, settle=False)
    size = sum(one.accepted for one in filled.answers)
    env.say(f"    {size} messages wait")
    run = env.next_run()
    stream = bench.stream(run, tenant, 0.1 * whole, name="urgent", delivery_class="urgent")
    load = Load((stream,), seconds=max(3.0, 1.2 * size / whole), warm=0.0, run=run, rest=bench.profile.drain)

    async def start() -> None:
        await asyncio.to_thread(control.start, "email-worker")

    urgent = await bench.run(scenario, ours, load, [(0.0, start)])
    filled.quiet = urgent.quiet
    await collect(env, ours, filled)
    bench.note(scenario, filled)
    return filled, {"messages": size, **_drain_figures(filled, urgent)}, urgent


def _drain_figures(filled: Run, urgent: Run) -> dict[str, Any]:
    """The drain rate, and the first and last call in seconds from the start of the worker."""
    moments = sorted(moment for one in filled.messages if (moment := first_taken(one)) is not None)
    took = moments[-1] - moments[0] if len(moments) > 1 else 0.0
    first, last = (round(moments[at] - urgent.start, 2) if moments else None for at in (0, -1))
    return {
        "drain rate per s": round(len(moments) / took, 1) if took else None,
        "first call after, s": first,
        "last call after, s": last,
        **_drain_costs(urgent, filled),
    }


def _drain_costs(urgent: Run, filled: Run) -> dict[str, float | None]:
    """CPU seconds per 1,000 messages while both were delivered, the worker's start included."""
    begin, end = urgent.start - filled.start, urgent.start - filled.start + urgent.load.seconds
    count = filled.delivered(begin, end) + urgent.delivered(0.0)
    if not count:
        return {}
    return {
        "python": round(1000 * urgent.python_cpu / count, 4),
        "postgres": round(1000 * urgent.cpu["postgres"] / count, 4),
    }


# -- 7 -----------------------------------------------------------------------------------------------------------


async def overload(bench: Bench) -> None:
    """7: one tenant offers twice the saturation, another one a tenth."""
    profile, report = bench.profile, bench.report
    await bench.env.sink.behave(sink_client.FAST)
    if bench.sluice is None:
        await bench.start_sluice()
    whole = await bench.saturation_now()
    tenants = bench.next_tenant(), bench.next_tenant()
    alone = await _two_tenants(bench, "7 alone", tenants, whole, 0.0, profile.fixed)
    # For comparison: the same goodput without rejections, and the limit.
    within = await _two_tenants(bench, "7 without overload", tenants, whole, 0.75, profile.fixed)
    limit = await _two_tenants(bench, "7 at the limit", tenants, whole, 1.1, profile.fixed)
    both = await _two_tenants(bench, "7", tenants, whole, 2.0, profile.fault)
    around = mean([whole, await bench.saturation_now()])
    p99s = [_p99(run.provider_times("quiet")) for run in (alone, within, limit, both)]
    rejections = [one for one in both.measured() if one.status in (429, 503) and one.answered is not None]
    figures = {
        "saturation before and after, mean, per s": round(around, 1),
        "goodput per s at 0.85, 1.2, 2.1 S": [round(run.rate, 1) for run in (within, limit, both)],
        "rejected": len(rejections),
        "rejected of the quiet tenant": sum(one.stream == "quiet" for one in rejections),
        "p99 of a rejection, ms": _milliseconds(
            _p99([one.answered - one.intended for one in rejections if one.answered])
        ),
        "quiet tenant p99 alone and at 0.85, 1.2, 2.1 S, ms": [_milliseconds(p99) for p99 in p99s],
        "CPU-s per s": {name: round(used / profile.fault, 3) for name, used in both.cpu.items()},
        "seconds until the backlog was empty": round(both.rest, 1),
        "memory MB alone": round(alone.python_memory, 1),
        "memory MB": round(both.python_memory, 1),
    }
    report.figure("7", "overload", figures)
    report.measure("overload_goodput_over_saturation", [both.rate / around])
    report.measure("overload_quiet_tenant_p99_over_alone", ratios([(p99s[3], p99s[0])]))


async def _two_tenants(
    bench: Bench, scenario: str, tenants: tuple[Tenant, Tenant], whole: float, factor: float, seconds: float
) -> Run:
    """A loud tenant at ``factor`` S (none at 0) beside a quiet one at 0.1 S."""
    loud, quiet = tenants
    run = bench.env.next_run()
    streams = [bench.stream(run, quiet, 0.1 * whole, name="quiet")]
    if factor:
        streams.insert(0, bench.stream(run, loud, factor * whole, name="loud"))
    load = Load(
        tuple(streams),
        seconds=bench.profile.warm + seconds,
        warm=bench.profile.warm,
        run=run,
        # A thousand connections opened under load would cost seconds of retransmissions.
        connections=OVERLOAD_CONNECTIONS,
        rest=bench.profile.drain,
    )
    return await bench.run(scenario, bench.ours, load)


# -- 8 -----------------------------------------------------------------------------------------------------------


async def crashes(bench: Bench) -> None:
    """8: kill -9 the worker, the router, the gateway; restart the broker."""
    profile, report, env = bench.profile, bench.report, bench.env
    rate = 0.5 * bench.need_saturation()
    await env.sink.behave(sink_client.MODEL)
    ours = bench.sluice or await bench.start_sluice()
    tenant = bench.next_tenant()
    every = profile.crash_every

    async def kill(name: str) -> None:
        os.kill(ours.roots()[name], signal.SIGKILL)

    async def restart_broker() -> None:
        await asyncio.to_thread(env.services.control.restart, "kafka")

    faults: dict[str, Callable[[], Awaitable[None]]] = {
        **{name: partial(kill, name) for name in ("email-worker", "router", "gateway")},
        "broker": restart_broker,
    }
    moments = {name: profile.warm + every * (number + 1) for number, name in enumerate(faults)}
    run = env.next_run()
    load = Load(
        (bench.stream(run, tenant, rate),),
        seconds=profile.warm + every * (len(faults) + 2),
        warm=profile.warm,
        run=run,
        rest=profile.drain,
    )
    made = await bench.run("8", ours, load, [(moments[name], fault) for name, fault in faults.items()])
    report.figure("8", "crashes", _crash_figures(made, moments, every))


def _crash_figures(run: Run, moments: dict[str, float], every: float) -> dict[str, Any]:
    calls = [(call.came - run.start, call.ended - run.start) for one in run.messages for call in one.calls]
    came = [begin for begin, _ in calls]
    return {
        "lost": run.lost,
        "duplicates": run.duplicates,
        "calls repeated under the same key": sum(max(0, len(one.calls) - 1) for one in run.messages),
        "calls in flight at the kill": {
            name: sum(begin < moment < end for begin, end in calls) for name, moment in moments.items()
        },
        "longest gap between calls, s": {
            name: round(longest_gap(came, moment, moment + every), 2) for name, moment in moments.items()
        },
        "requests without a response": sum(one.status == 0 for one in run.messages),
        "requests rejected": sum(one.status >= 400 for one in run.messages),
        "seconds until everything was settled": round(run.rest, 1),
    }


Scenario = Callable[[Bench], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    "1": saturation,
    "2": latency,
    "3": concurrency,
    "4": failover,
    "5": gray_failure,
    "6": backlog,
    "7": overload,
    "8": crashes,
}
QUICK_SCENARIOS = ("1", "2", "4", "5")
