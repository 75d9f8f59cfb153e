"""Makes the pictures of the README and of docs/dashboard.md from a run of the demo: ``make pictures``."""

import asyncio
import json
import re
import tempfile
from pathlib import Path

import httpx

from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import default_roles
from tests.dashboard.builder import builder
from tests.dashboard.screens import WAIT, run_sluice
from tests.examples import a_body
from tests.repository.files import ROOT

PICTURES = ROOT / "docs/dashboard"
SIZE = {"width": 1120, "height": 760}
INCIDENT_WITHIN = 120_000  # milliseconds, until the page shows it
MAILS = 30  # until the provider that is dead has an incident


async def make_pictures(system, chromium):
    """The overview, a message, the providers and an incident, as the first user sees them."""
    await run_sluice(system, "demo")
    await send_mails(system)
    page = await chromium.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC", color_scheme="light")
    page.set_default_timeout(WAIT)
    await page.goto(await run_sluice(system, "setup-link"))
    await page.get_by_role("link", name="Open the incident").wait_for(timeout=INCIDENT_WITHIN)
    await page.get_by_role("table").first.wait_for()
    await take(page, "overview")

    await page.get_by_role("link", name="Open the incident").click()
    await page.get_by_role("region", name="Numbers").wait_for()
    await take(page, "incident")

    await page.get_by_role("link", name=re.compile("^Providers")).click()
    await page.get_by_role("grid").wait_for()
    await take(page, "providers")

    await page.get_by_role("link", name="Messages", exact=True).first.click()
    # The last one is the oldest: its first provider was dead.
    await page.get_by_role("table", name="Messages").get_by_role("link").last.click()
    await page.get_by_role("img", name=re.compile("Attempts and receipts over time")).wait_for()
    await page.get_by_text("Why this provider").last.click()
    await page.mouse.wheel(0, -SIZE["height"])
    await take(page, "message")


async def send_mails(system):
    """More mails of the demo project, each to another domain: a failure of one domain only is none of the provider."""
    demo = json.loads((Path(system.environment["SLUICE_DATA_DIR"]) / "demo.json").read_text())
    headers = {"x-sendpipe-key": demo["key"]}
    async with httpx.AsyncClient(base_url=system.addresses["gateway"], headers=headers, trust_env=False) as api:
        for number in range(MAILS):
            body = a_body(to=[f"ada@customer-{number}.example"], subject=f"Your order {1040 + number}", tags=["orders"])
            (await api.post("/v1/messages/channel", json=body)).raise_for_status()


async def take(page, name):
    """A picture of the window, when nothing is loading."""
    await page.get_by_label("Loading").first.wait_for(state="detached")
    await page.wait_for_function("() => scrollY === 0")
    path = PICTURES / f"{name}.png"
    await page.screenshot(path=path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


async def main():
    """Start the system in a directory of its own, and make the pictures."""
    builder.build()
    found = builder.install_browser(builder.install(with_tests=False))
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalStack(Path(folder), roles=default_roles()) as system,
    ):
        async with builder.running_chromium(found) as chromium:
            await make_pictures(system, chromium)


if __name__ == "__main__":
    asyncio.run(main())
