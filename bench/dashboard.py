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
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.percentile import percentile
from sluice.store import providers
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.roles import SERVICES

GOALS = {"longest_stall_ms": 200.0, "rows_in_document": 60, "filter_p95_ms": 300.0}
_WHEEL = 1_500  # pixels
_PAUSE = 0.05  # seconds between two turns of the wheel
_TURNS = 1_000  # at most; the list keeps 5,000 rows of at most 84 pixels
_END = "() => /rows are loaded|The end of the list|not looked at/.test(document.querySelector('main').textContent)"
_ROWS = "() => document.querySelectorAll('[role=table] [data-index]').length"
# A long task is one of more than 50 ms, in which the page neither draws nor answers.
_WATCH = """() => {
    window.stalls = [];
    new PerformanceObserver((found) => window.stalls.push(...found.getEntries().map((one) => one.duration)))
        .observe({ type: 'longtask' });
}"""
_PAGES = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/v1/messages?'))"
_PAGE_TIMES = f"() => {_PAGES}.map((one) => one.duration)"
# As a person who picks a filter: the address changes, the old rows go, the new ones come.
_FILTER = f"""async (address) => {{
    const list = () => document.querySelector('section[aria-label=Messages]');
    const isEnd = () => /The end of|No message fits|not looked at/.test(list().textContent);
    const isShown = () => list().querySelector('[data-index]') || isEnd();
    const began = performance.now();
    const pages = () => {_PAGES}.filter((one) => one.startTime >= began);
    window.history.pushState({{}}, '', address);
    while (pages().length === 0 || list().querySelector('[aria-label=Loading]') || !isShown())
        await new Promise(requestAnimationFrame);
    return {{ answered: pages()[0].duration, shown: performance.now() - began }};
}}"""
_NOTHING = {"to": "nothing@load.example"}


async def measure_dashboard(options: argparse.Namespace) -> int:
    """Fill a database, scroll the log, pick each filter, and print the figures as JSON."""
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
            filters = {name: await _pick(page, log, search, options.reads) for name, search in _filters().items()}
    document = {"messages": options.messages, "reads": options.reads, "goals": GOALS, **scroll, "filters_ms": filters}
    print_line(json.dumps(document))
    faults = [name for name in ("longest_stall_ms", "rows_in_document") if scroll[name] > GOALS[name]]
    faults += [name for name, figures in filters.items() if figures["shown_p95"] > GOALS["filter_p95_ms"]]
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
        "channel push, none": {"channel": "push"},
        "failed over": {"failed_over": "true"},
        "may have arrived twice": {"possible_duplicate": "true"},
        "recipient": {"to": "old000000002@load.example"},
        "sender": {"from": "bench@sluice.example"},
        "provider": {"provider": "mail-1"},
        "provider, none": {"provider": "unused"},
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
    browser = await page.context.new_cdp_session(page)
    # The processor time of the page, which other load of the machine does not lengthen.
    await browser.send("Performance.enable", {"timeDomain": "threadTicks"})
    took: list[float] = []
    rows, before = 0, await _busy(browser)
    while len(took) < _TURNS and not await page.evaluate(_END):
        await page.mouse.wheel(0, _WHEEL)
        await asyncio.sleep(_PAUSE)
        rows = max(rows, await page.evaluate(_ROWS))
        after = await _busy(browser)
        took.append(after - before)
        before = after
    stalls = await page.evaluate("() => window.stalls")
    pages = await page.evaluate(_PAGE_TIMES)
    return {
        "turns_of_the_wheel": len(took),
        "cpu_per_turn_ms": {"p50": _rounded(took, 0.5), "p95": _rounded(took, 0.95), "max": _rounded(took, 1.0)},
        "pages_loaded": len(pages),
        "page_p95_ms": _rounded(pages, 0.95),
        "rows_in_document": rows,
        "stalls": len(stalls),
        "longest_stall_ms": max(stalls, default=0.0),
    }


async def _busy(browser: Any) -> float:
    """Milliseconds of processor time that the tasks of the page have taken so far."""
    metrics = (await browser.send("Performance.getMetrics"))["metrics"]
    return 1_000 * float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


async def _pick(page: Any, log: str, search: Mapping[str, str], reads: int) -> dict[str, float]:
    """Milliseconds from a filter being picked until its first page is answered, and until its rows are shown."""
    answered, shown = [], []
    for _ in range(reads):
        await page.goto(f"{log}?{urlencode(_NOTHING)}")  # a new document has no page in memory
        await page.get_by_text("No message fits these filters.").wait_for()
        times = await page.evaluate(_FILTER, f"{log}?{urlencode(search)}")
        answered.append(times["answered"])
        shown.append(times["shown"])
    return {
        "answered_p95": _rounded(answered, 0.95),
        "shown_p50": _rounded(shown, 0.5),
        "shown_p95": _rounded(shown, 0.95),
    }


def _rounded(times: list[float], share: float) -> float:
    return round(percentile(times, share) or 0.0, 1)
