"""How the log of the dashboard scrolls in a large project, and how long its filters take: Chromium at a gateway."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
from tests.dashboard.builder import builder
from tests.dashboard.screens import run_sluice

from bench import lists
from bench.report import print_line
from bench.statistics import percentile
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.store import providers
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.roles import SERVICES

GOALS = {"longest_task_ms": 200.0, "rows_in_document": 60, "filter_p95_ms": 300.0}
_WHEEL = 1_500  # pixels
_PAUSE = 0.05  # seconds between two turns of the wheel
_TURNS = 1_000  # at most; the list keeps 5,000 rows of at most 84 pixels
_END = "() => /rows are loaded|The end of the list/.test(document.querySelector('main').textContent)"
_ROWS = "() => document.querySelectorAll('[role=table] [data-index]').length"
_WATCH = """() => {
    window.longTasks = [];
    new PerformanceObserver((found) => window.longTasks.push(...found.getEntries().map((one) => one.duration)))
        .observe({ type: 'longtask' });
}"""
_PAGE_TIMES = """() => performance.getEntriesByType('resource')
    .filter((one) => one.name.includes('/v1/messages?')).map((one) => one.duration)"""


async def measure_dashboard(options: argparse.Namespace) -> int:
    """Fill a database, scroll the log, ask with each filter, and print the figures as JSON."""
    builder.build()
    found = builder.install_browser(builder.install(with_tests=False))
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(Path(folder), services=SERVICES, roles=["gateway"]) as stack,
    ):
        await lists.fill(stack.superuser_dsn, options.messages)
        await _name_providers(stack.superuser_dsn)
        link = await run_sluice(stack, "setup-link")
        async with builder.running_chromium(found) as chromium:
            page = await chromium.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
            page.set_default_timeout(60_000)
            await page.goto(link)
            await page.get_by_role("heading", name="Overview").wait_for()
            log = f"{stack.addresses['gateway']}/p/{lists.SLUG}/messages"
            scroll = await _scroll(page, log)
            filters = {name: await _ask(page, log, search, options.reads) for name, search in _filters().items()}
    document = {"messages": options.messages, "reads": options.reads, "goals": GOALS, **scroll, "filters_ms": filters}
    print_line(json.dumps(document))
    faults = [name for name in ("longest_task_ms", "rows_in_document") if scroll[name] > GOALS[name]]
    faults += [name for name, figures in filters.items() if figures["p95"] > GOALS["filter_p95_ms"]]
    if faults:
        print(f"over the goal: {', '.join(faults)}", file=sys.stderr)
    return 1 if faults else 0


async def _name_providers(dsn: str) -> None:
    """The providers of the filled deliveries, so that they can be filtered by name."""
    connection = await asyncpg.connect(dsn)
    try:
        project_id = await connection.fetchval("SELECT id FROM projects WHERE slug = $1", lists.SLUG)
        for number, provider_id in enumerate(lists.PROVIDERS, 1):
            await providers.create_provider(
                connection,
                provider_id,
                project_id,
                package="provider-smtp",
                channel=Channel.EMAIL,
                name=f"mail-{number}",
                encrypted_credentials=b"none",
                now=utc_now(),
            )
    finally:
        await connection.close()


def _filters() -> Mapping[str, Mapping[str, str]]:
    """The search of the address for each filter of the log."""
    day = [(utc_now() - timedelta(days=days)).isoformat() for days in (7, 6)]
    states = ("QUEUED", "SENT", "DELIVERED", "BOUNCED", "FAILED", "CANCELLED")
    return {
        "none": {},
        **{f"status {state}": {"status": state} for state in states},
        "channel sms": {"channel": "sms"},
        "failed over": {"failed_over": "true"},
        "may have arrived twice": {"possible_duplicate": "true"},
        "recipient": {"to": "old000000002@load.example"},
        "sender": {"from": "bench@sluice.example"},
        "provider": {"provider": "mail-1"},
        "tried at": {"attempted_provider": "mail-2"},
        "tag of half": {"tag": "orders"},
        "tag of few": {"tag": "rare"},
        "a day": {"since": day[0], "until": day[1]},
        "tag and state": {"tag": "orders", "status": "FAILED"},
    }


async def _scroll(page: Any, log: str) -> dict[str, Any]:
    """Turn the wheel until no more rows are loaded."""
    await page.goto(log)
    await page.get_by_role("table", name="Messages").get_by_role("row").nth(10).wait_for()
    await page.evaluate(_WATCH)
    await page.mouse.move(640, 500)
    rows = turns = 0
    while turns < _TURNS and not await page.evaluate(_END):
        await page.mouse.wheel(0, _WHEEL)
        await asyncio.sleep(_PAUSE)
        rows, turns = max(rows, await page.evaluate(_ROWS)), turns + 1
    tasks = await page.evaluate("() => window.longTasks")
    pages = await page.evaluate(_PAGE_TIMES)
    return {
        "turns_of_the_wheel": turns,
        "pages_loaded": len(pages),
        "page_p95_ms": round(percentile(pages, 0.95) or 0.0, 1),
        "rows_in_document": rows,
        "long_tasks": len(tasks),
        "longest_task_ms": max(tasks, default=0.0),
    }


async def _ask(page: Any, log: str, search: Mapping[str, str], reads: int) -> dict[str, float]:
    """Milliseconds of the request for the first page of a filter, as the browser measures it."""
    times = []
    for _ in range(reads):
        async with page.expect_response(lambda answer: "/v1/messages?" in answer.url) as asked:
            await page.goto(f"{log}?{urlencode(search)}")
        answer = await asked.value
        if answer.status != 200:
            raise RuntimeError(f"{answer.url}: answered {answer.status}: {await answer.text()}")
        await answer.finished()
        times.append((await page.evaluate(_PAGE_TIMES))[0])
    return {"p50": round(percentile(times, 0.5) or 0.0, 1), "p95": round(percentile(times, 0.95) or 0.0, 1)}
