"""`python -m bench`: the full form, the quick form, the growth, the profile."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import traceback
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.analytics import measure_analytics
from bench.dashboard import measure_dashboard
from bench.environment import Environment
from bench.lists import measure_lists
from bench.measures import MEASURES
from bench.plots import draw
from bench.processes import Failed, bench_program
from bench.profiles import FULL, QUICK, Profile, paced
from bench.report import DOCS, Report, peer_versions, print_line
from bench.scenarios import QUICK_SCENARIOS, SCENARIOS, Bench
from bench.waiting import measure_waiting
from sluice.runtime.errors import SluiceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_bounded(options.command(options), options.limit))
    except (Failed, SluiceError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"bench: it took longer than {options.limit:.0f} s", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: interrupted", file=sys.stderr)
        return 130


async def _bounded(work: Awaitable[int], limit: float) -> int:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(limit):
        return await task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures Sluice against two floors and a baseline: open loop, same run, ratios. "
        "Everything runs on loopback in a temporary directory (TMPDIR) and ends with the command.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _scenario_command(commands, "full", FULL, tuple(SCENARIOS), 3 * 3600)
    _scenario_command(commands, "quick", QUICK, QUICK_SCENARIOS, 900)
    _growth_command(commands)
    _profile_command(commands)
    _lists_command(commands)
    _dashboard_command(commands)
    _waiting_command(commands)
    _analytics_command(commands)
    return parser


def _waiting_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "waiting",
        help="POST /email/send over two gateways, with Redis and without it",
        description="Sends at a rate through a provider that takes 20 ms; prints JSON. Exit code 1 where the answers "
        "take longer than 60 ms at p50 or 250 ms at p99.",
    )
    parser.add_argument("--limit", type=float, default=600, help="time limit in seconds (%(default)s)")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each part (%(default)s)")
    parser.set_defaults(command=measure_waiting)


def _lists_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "lists",
        help="pages of GET /v1/messages in a large project",
        description="Fills a database of its own and times pages with each filter; prints JSON. Exit code 1 where a "
        "filter takes longer than 50 ms at p95.",
    )
    parser.add_argument("--limit", type=float, default=3600, help="time limit in seconds (%(default)s)")
    parser.add_argument("--messages", type=int, default=2_000_000, help="messages of the project (%(default)s)")
    parser.add_argument("--pages", type=int, default=200, help="pages of each filter (%(default)s)")
    parser.set_defaults(command=measure_lists)


def _dashboard_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "dashboard",
        help="the log of the dashboard in a large project, in a browser",
        description="Fills a database of its own, scrolls the log in Chromium and picks each filter; prints JSON. Exit "
        "code 1 where the page stalls for longer than 200 ms, more than 60 rows are in the document, or the rows of a "
        "filter take longer than 300 ms at p95.",
    )
    parser.add_argument("--limit", type=float, default=3600, help="time limit in seconds (%(default)s)")
    parser.add_argument("--messages", type=int, default=100_000, help="messages of the project (%(default)s)")
    parser.add_argument("--reads", type=int, default=10, help="of each filter (%(default)s)")
    parser.set_defaults(command=measure_dashboard)


def _analytics_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "analytics",
        help="GET /v1/analytics in a large project",
        description="Fills a database of its own, counts its deliveries and times questions; prints JSON. Exit code 1 "
        "where a question takes longer than 100 ms at p95, or the numbers are not those of a recount.",
    )
    parser.add_argument("--limit", type=float, default=7200, help="time limit in seconds (%(default)s)")
    parser.add_argument("--deliveries", type=int, default=2_000_000, help="of the project (%(default)s)")
    parser.add_argument("--reads", type=int, default=100, help="of each question (%(default)s)")
    parser.add_argument("--recount", action="store_true", help="compare the rollups with a recount; takes minutes")
    parser.set_defaults(command=measure_analytics)


def _common(parser: argparse.ArgumentParser, limit: float) -> None:
    parser.add_argument("--limit", type=float, default=limit, help="time limit in seconds (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory")
    parser.add_argument(
        "--provisional", action="store_true", help="mark the figures as not to be quoted: the machine is busy"
    )
    parser.add_argument("--no-docs", action="store_true", help="write nothing into docs/benchmarks")


def _scenario_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    profile: Profile,
    chosen: tuple[str, ...],
    limit: float,
) -> None:
    about = "; ".join((SCENARIOS[each].__doc__ or "").strip().rstrip(".") for each in chosen)
    parser = commands.add_parser(name, help=f"scenarios {', '.join(chosen)}", description=about)
    _common(parser, limit)
    parser.add_argument(
        "--only", type=lambda text: tuple(text.split(",")), default=chosen, help="scenarios, separated by commas"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every run to this file, as JSON")
    parser.add_argument("--pace", type=float, default=1.0, help="factor for every duration; not 1: not to be quoted")
    parser.add_argument("--pairs", type=int, help=f"pairs of ours and Floor K (default {profile.pairs})")
    parser.add_argument("--saturation", type=float, help="messages per second, if scenario 1 does not run")

    async def run(options: argparse.Namespace) -> int:
        unknown = [each for each in options.only if each not in SCENARIOS]
        if unknown:
            raise Failed(f"there is no scenario {unknown[0]}: there are {', '.join(SCENARIOS)}")
        return await _scenarios(name, paced(profile, options.pace), options)

    parser.set_defaults(command=run)


async def _scenarios(name: str, profile: Profile, options: argparse.Namespace) -> int:
    if options.pairs:
        profile = replace(profile, pairs=options.pairs, peer_pairs=min(profile.peer_pairs, options.pairs))
    report = Report(profile.name, provisional=options.provisional or options.pace != 1.0)
    report.add_versions(peer_versions(bench_program("python")))
    async with Environment(keep=options.keep, limit=options.limit) as env:
        bench = Bench(env, profile, report)
        bench.saturation = options.saturation
        try:
            for number in options.only:
                env.say(f"scenario {number}: {(SCENARIOS[number].__doc__ or '').partition(': ')[2].strip()}")
                if profile.step is not None:
                    bench.end_sluice()
                try:
                    await SCENARIOS[number](bench)
                    if bench.sluice is not None:
                        await bench.check(number)
                except Exception as error:
                    # One failed scenario does not discard an hour of figures; the run counts as failed.
                    traceback.print_exc()
                    report.failures.append(f"scenario {number} failed: {type(error).__name__}: {error}")
                    bench.end_sluice()
                report.seconds = env.took
        finally:
            bench.end_sluice()
            bench.end_competitors()
        report.seconds = env.took
    if options.out:
        options.out.write_text(json.dumps(report.whole(), indent=2) + "\n")
    if not options.no_docs:
        for path in report.write(name):
            print(f"written: {path.relative_to(DOCS.parent.parent)}", file=sys.stderr)
        draw(DOCS / f"{name}.json", report.whole(), name)
    print(report.markdown() if name != "quick" else _short_table(report), file=sys.stderr)
    print_line(json.dumps(report.short()))
    return 1 if report.short()["faults"] else 0


def _short_table(report: Report) -> str:
    ratios = report.ratios
    rows = [
        f"{measure.words:<72} {ratios[measure.name]:>8.3g}   must {measure.must:g}, goal {measure.goal:g}"
        for measure in MEASURES
        if ratios[measure.name] is not None
    ]
    rows += [f"FAULT: {fault}" for fault in report.short()["faults"]]
    return "\n".join(rows)


def _growth_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "growth", help="cost per message as the database, the configuration and the backlog grow"
    )
    _common(parser, 2 * 3600)
    parser.add_argument("--rows", type=_numbers, default=(10**4, 10**5, 10**6), help="deliveries in the database")
    parser.add_argument("--accounts", type=_numbers, default=(1, 100, 10_000), help="projects, with providers each")
    parser.add_argument("--weeks", type=_numbers, default=(1, 10, 100), help="weekly partitions of every table")
    parser.add_argument("--backlogs", type=_numbers, default=(10**3, 10**4, 10**5), help="messages that wait")
    parser.add_argument("--rounds", type=int, default=5, help="how often each size is measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="measured part of a run")
    parser.add_argument("--rate", type=float, help="messages per second; by default half the saturation")

    async def run(options: argparse.Namespace) -> int:
        from bench.growth import grow

        return await grow(options)

    parser.set_defaults(command=run)


def _profile_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("profile", help="flame graph of each role under load, and the budget per step")
    _common(parser, 1800)
    parser.add_argument("--rate", type=float, default=0.0, help="messages per second; 0: the saturation")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each recording")
    parser.add_argument("--roles", type=lambda text: tuple(text.split(",")), help="only these, separated by commas")
    parser.add_argument("--native", action="store_true", help="show C extensions, too (slower)")

    async def run(options: argparse.Namespace) -> int:
        from bench.profile import record_profiles

        return await record_profiles(options)

    parser.set_defaults(command=run)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(float(part)) for part in text.split(","))


if __name__ == "__main__":
    raise SystemExit(main())
