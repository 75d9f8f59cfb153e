"""Pages of the dashboard in a browser, signed in as a person."""

import asyncio
import os
import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.repository.files import ROOT

NARROW = 360
WAIT = 15_000  # milliseconds
REFUSED = re.compile(r"Content Security Policy|sandbox|preload|Unsafe attempt", re.IGNORECASE)


def is_complaint(said):
    """Is it more than the browser's own note about a request that was answered with an error, or not at all?"""
    return said.type in ("error", "warning") and not said.text.startswith("Failed to load resource")


@dataclass
class Screens:
    """``artefacts``: where the screenshots go, for a person to look at."""

    browser: Any
    testbed: Any
    artefacts: Path
    name: str
    complaints: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The gateway."""
        return str(self.testbed.system.addresses["gateway"])

    async def link(self, *options):
        """A link that signs the first user in, who owns the project of the test."""
        return await run_sluice(self.testbed.system, "setup-link", *options)

    def path(self, rest=""):
        """The address of a view of the project."""
        return f"{self.address}/p/{self.testbed.project.slug}{rest}"

    @asynccontextmanager
    async def open(self, *, width=1280, height=900, theme="light", signed_in=True, blocks_content=False, **options):
        """A page of a browser profile of its own. At the end no error and no warning is on its console.

        ``blocks_content``: the browser may note there what the policy of a mail's document refuses.
        """
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            locale="en-GB",
            timezone_id="UTC",
            **options,
        )
        page = await context.new_page()
        page.set_default_timeout(WAIT)
        complaints = []
        page.on("console", lambda said: is_complaint(said) and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            if signed_in:
                await page.goto(await self.link())
                await page.get_by_role("heading", name="Overview").wait_for()
                await page.goto(self.path())
            yield page
        finally:
            await self.shot(page, "end")
            await context.close()
        unexpected = [said for said in complaints if not (blocks_content and REFUSED.search(said))]
        assert unexpected == [], unexpected

    async def shot(self, page, what):
        """A screenshot of the whole page."""
        self.artefacts.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=self.artefacts / f"{self.name}-{what}.png", full_page=True)


async def axe_violations(page):
    """What axe-core finds on the page: rule and elements."""
    # Past the policy of the page, as an extension of the browser would.
    source = (ROOT / "dashboard/node_modules/axe-core/axe.min.js").read_text()
    await page.evaluate(source)
    # Without frames: what they contain is a mail of a stranger, or has no origin that axe could reach.
    found = await page.evaluate("() => axe.run(document, { iframes: false }).then((result) => result.violations)")
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]


CUT_TABLES = """() => [...document.querySelectorAll('main table')]
    .filter((table) => table.parentElement.scrollWidth > table.parentElement.clientWidth)
    .map((table) => table.getAttribute('aria-label'))"""


async def axe_of_all(page, screens, name="screen"):
    """What axe-core finds on the page in both themes, wide and narrow, and what sticks out; with screenshots."""
    wide = page.viewport_size
    found = []
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        for width in (wide["width"], NARROW):
            await page.set_viewport_size({"width": width, "height": wide["height"]})
            found += [f"{theme} {width}: {one}" for one in await axe_violations(page)]
            if await page.evaluate("() => document.documentElement.scrollWidth") > width:
                found.append(f"{width}: something is wider than the page")
            found += [f"{width}: the table {table} is cut" for table in await page.evaluate(CUT_TABLES)]
            await screens.shot(page, f"{name}-{theme}-{width}")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(wide)
    return found


async def run_sluice(system: Any, *words: str) -> str:
    """The output of a command on the running system."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sluice_cli.main",
        *words,
        env={**os.environ, **system.environment},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, words
    return out.decode().strip()
