"""backtest: what other routing policies would have made of the recorded traffic."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sluice.model.routing_policy import RoutingPolicy
from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_cli.arguments import past_argument, time_argument
from sluice_cli.terminal import printable, table

if TYPE_CHECKING:
    import asyncpg

    from sluice.health.settings import HealthRuleSettings
    from sluice.model.candidate import Candidate
    from sluice.model.message import Channel
    from sluice.store.projects import Project
    from sluice.store.providers import ProviderRow
    from sluice.store.routing_traffic import RecordedDelivery
    from sluice_cli.backtest.recording import Recording
    from sluice_cli.backtest.run import Replayed

_PAGE = 5000  # messages
_MAX_LIMIT = 1_000_000
_COLUMNS = {
    "first_accepted": "first accepted %",
    "late": "late %",
    "not_accepted": "not accepted %",
    "attempts": "attempts",
    "maybe_twice": "maybe twice",
    "p50": "p50 s",
    "p99": "p99 s",
    "ejections": "ejections",
    "cost": "cost of 1,000",
}


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    backtest = subparsers.add_parser(
        "backtest",
        help="recorded traffic under other routing policies: what would have become of it",
        description="Replays the recorded deliveries of a project through the functions that route, with the providers "
        "as they are configured now, and prints the record beside each policy. A provider answers a delivery as it did "
        "then; where it was not asked, as it answered another delivery at about that time. Thresholds are those of "
        "SLUICE_HEALTH_THRESHOLDS and SLUICE_HEALTH_SEED_THRESHOLDS: set others to try them. Changes nothing.",
    )
    backtest.add_argument(
        "--policy",
        action="append",
        choices=[one.value for one in RoutingPolicy],
        help="a policy to replay; may be repeated (default: each)",
    )
    backtest.add_argument(
        "--since", type=past_argument, default="24h", help="90m, 24h, 7d or a time (default %(default)s)"
    )
    backtest.add_argument("--until", type=time_argument, help="a time (default: now)")
    backtest.add_argument("--project", metavar="SLUG", help="default: the demo's, or the only one")
    backtest.add_argument("--channel", metavar="CHANNEL", help="default: each with traffic")
    backtest.add_argument(
        "--late",
        type=within(float, 0.001, 86_400),
        default=5.0,
        help="seconds after which an acceptance is late (default %(default)g)",
    )
    backtest.add_argument(
        "--limit",
        type=within(int, 1, _MAX_LIMIT),
        default=100_000,
        help="deliveries of a channel, the newest (default %(default)s)",
    )
    backtest.add_argument("--json", action="store_true", help="print one JSON object")
    backtest.set_defaults(run=run_backtest)


def run_backtest(options: argparse.Namespace) -> int:
    """Replay and print.

    Raises:
        SluiceError: an argument does not fit, there is no such project or no traffic, or PostgreSQL cannot be reached.
    """
    from sluice.runtime.clock import utc_now

    until = options.until or utc_now()
    since = options.since if isinstance(options.since, datetime) else until - options.since
    if since >= until:
        raise SluiceError("--since: must be before --until")
    found = asyncio.run(_backtest(options, since, until))
    if options.json:
        print(json.dumps({"project": found[0]["project"], "channels": found}))
    else:
        print("\n\n".join(format_report(one) for one in found))
    return 0


async def _backtest(options: argparse.Namespace, since: datetime, until: datetime) -> list[dict[str, Any]]:
    from sluice.health.settings import HealthRuleSettings
    from sluice.model.message import Channel
    from sluice.runtime.settings import load_from
    from sluice_cli.context import database, environment

    rules = load_from(HealthRuleSettings, environment())
    channels = [one for one in Channel if options.channel in (None, one.value)]
    if not channels:
        raise SluiceError(f"--channel: there is no {options.channel!r}: there are {', '.join(Channel)}")
    found = []
    async with database() as connection:
        project = await _project(connection, options.project)
        for channel in channels:
            deliveries = await _read(connection, project, channel, since, until, options.limit)
            if deliveries:
                found.append(await _compare(connection, project, channel, deliveries, rules, options))
    if not found:
        raise SluiceError(
            f"{project.slug} has no delivery between {since:%Y-%m-%d %H:%M} and {until:%Y-%m-%d %H:%M} UTC"
        )
    return found


async def _project(connection: asyncpg.Connection, slug: str | None) -> Project:
    from sluice.store.projects import find_project_by_slug, list_projects
    from sluice_cli.context import read_demo

    if slug is not None:
        project = await find_project_by_slug(connection, slug)
        if project is None:
            raise SluiceError(f"--project: there is no project {slug!r}")
        return project
    projects = await list_projects(connection)
    demo = read_demo()
    found = [one for one in projects if demo is not None and one.slug == demo.project] or projects
    if len(found) != 1:
        raise SluiceError("--project: there are several projects, or none: `sluice project list` shows them")
    return found[0]


async def _read(
    connection: asyncpg.Connection,
    project: Project,
    channel: Channel,
    since: datetime,
    until: datetime,
    limit: int,
) -> list[RecordedDelivery]:
    from sluice.store.projects import ProjectScope
    from sluice.store.routing_traffic import list_recorded

    scope, before = ProjectScope(project.id, sandbox=False), None
    found: list[RecordedDelivery] = []
    while len(found) < limit:
        page = await list_recorded(
            connection, scope, channel.value, since=since, until=until, before=before, limit=min(_PAGE, limit)
        )
        if not page:
            break
        found += page
        before = page[-1].message_id
        _progress(f"{channel.value}: {len(found):,} deliveries read")
    return found[:limit]


async def _compare(
    connection: asyncpg.Connection,
    project: Project,
    channel: Channel,
    deliveries: Sequence[RecordedDelivery],
    rules: HealthRuleSettings,
    options: argparse.Namespace,
) -> dict[str, Any]:
    from sluice.store.providers import list_providers
    from sluice_cli.backtest.recording import Recording

    recording = Recording.of(deliveries, project_id=project.id, channel=channel)
    if recording is None:
        raise SluiceError(f"{channel.value}: none of {len(deliveries):,} deliveries has an attempt that has ended")
    rows = [one for one in await list_providers(connection, project.id) if one.channel is channel]
    enabled = [one for one in rows if one.enabled and not one.deleted]
    candidates = [one.candidate for one in enabled if one.id in recording.providers()]
    if not candidates:
        raise SluiceError(f"{channel.value}: no enabled provider has an attempt in this time: nothing can be replayed")
    policies, answers = _replay_all(recording, rows, candidates, rules, options)
    return {
        "project": project.slug,
        "channel": channel.value,
        "from": recording.began.isoformat(),
        "until": recording.at_time(recording.journeys[-1].at).isoformat(),
        "deliveries": len(recording.journeys),
        "never_attempted": recording.never_attempted,
        "in_flight": recording.in_flight,
        "limited": len(deliveries) == options.limit,
        "without_answers": [one.name for one in enabled if one.id not in recording.providers()],
        "late_after_s": options.late,
        "own_policy": project.routing_policy.value,
        "policies": policies,
        "answers": answers,
    }


def _replay_all(
    recording: Recording,
    rows: Sequence[ProviderRow],
    candidates: Sequence[Candidate],
    rules: HealthRuleSettings,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of the record and of each policy, and whose answers each policy's are."""
    from sluice.providers.registry import installed
    from sluice_cli.backtest.figures import Price, figures_of
    from sluice_cli.backtest.run import replay

    names = {one.id: f"{one.name} (deleted)" if one.deleted else one.name for one in rows}
    by_segment = {package.name for package in installed().values() if package.segments}
    prices = {one.id: Price(one.candidate.price, one.package in by_segment) for one in rows}
    policies = {"recorded": figures_of(recording.recorded, prices, options.late, None).as_json(names)}
    answers = {}
    for policy in options.policy or [one.value for one in RoutingPolicy]:
        progress = _percent(f"{recording.journeys[0].task.channel.value}, {policy}", recording)
        replayed = replay(recording, candidates, RoutingPolicy(policy), rules, progress)
        policies[policy] = figures_of(replayed.journeys, prices, options.late, replayed.ejections).as_json(names)
        answers[policy] = _answers(replayed)
    _progress("")
    return policies, answers


def _answers(replayed: Replayed) -> dict[str, Any]:
    borrowed = sorted(replayed.borrowed)
    return {
        "own": replayed.own_answers,
        "of_others": len(borrowed),
        "median_distance_s": round(statistics.median(borrowed), 1) if borrowed else None,
        "largest_distance_s": round(borrowed[-1], 1) if borrowed else None,
    }


def format_report(found: Mapping[str, Any]) -> str:
    """One channel: the figures under headings, the shares of the providers, and what limits the comparison."""
    policies: Mapping[str, Mapping[str, Any]] = found["policies"]
    columns = {key: title for key, title in _COLUMNS.items() if any(one[key] is not None for one in policies.values())}
    figures = [["", *columns.values()]]
    for name, values in policies.items():
        figures.append([_title(name, found), *(_cell(values[column]) for column in columns)])
    providers = sorted({name for one in policies.values() for name in one["shares"]})
    shares = [["first attempts %", *(_title(name, found) for name in policies)]]
    for provider in providers:
        shares.append([printable(provider), *(_cell(one["shares"].get(provider, 0)) for one in policies.values())])
    head = (
        f"{found['project']}, {found['channel']}: {found['deliveries']:,} deliveries, "
        f"{found['from'][:16].replace('T', ' ')} to {found['until'][:16].replace('T', ' ')} UTC"
    )
    return "\n".join([head, "", *table(figures, numbers=True), "", *table(shares, numbers=True), "", *_notes(found)])


def _notes(found: Mapping[str, Any]) -> list[str]:
    notes = ["* the project's policy"] if found["own_policy"] in found["policies"] else []
    notes.append(f"late: not accepted {found['late_after_s']:g} s after the first attempt began")
    for policy, answers in found["answers"].items():
        if answers["of_others"]:
            share = 100 * answers["of_others"] / (answers["own"] + answers["of_others"])
            notes.append(
                f"{policy}: {share:.1f} % of the answers are those to other deliveries, half of them within "
                f"{answers['median_distance_s']:g} s, all within {answers['largest_distance_s']:g} s"
            )
    if found["never_attempted"] or found["in_flight"]:
        notes.append(f"excluded: {found['never_attempted']:,} without an attempt, {found['in_flight']:,} in flight")
    if found["without_answers"]:
        names = ", ".join(printable(name) for name in found["without_answers"])
        notes.append(f"excluded, since no attempt says how they answer: {names}")
    if found["limited"]:
        notes.append("there may be more deliveries: --limit reads more of them")
    return notes


def _title(policy: str, found: Mapping[str, Any]) -> str:
    return f"{policy} *" if policy == found["own_policy"] else policy


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _percent(what: str, recording: Recording) -> Callable[[int], None]:
    step = max(1, len(recording.journeys) // 100)

    def progress(number: int) -> None:
        if number % step == 0:
            _progress(f"{what}: {100 * number / len(recording.journeys):.0f} % replayed")

    return progress


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:60}", end="" if text else "\r", file=sys.stderr, flush=True)
