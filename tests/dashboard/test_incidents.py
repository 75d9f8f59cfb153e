"""A provider is killed and comes back: the incident, what became of the messages, and what a person does about it."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.dashboard.screens import NARROW, axe_violations
from tests.polling import wait_until
from tests.system.testbed import DEAD, smtp_at

RETURN = 150  # seconds: the probes, and the time in which the share grows


class Relay:
    """A provider that can be killed: it passes connections to the mail server at ``port`` on."""

    def __init__(self, port):
        self.target, self.port, self.server, self.open = port, 0, None, set()

    async def start(self):
        self.server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def kill(self):
        self.server.close()
        for writer in self.open:
            writer.close()

    async def _connect(self, reader, writer):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.open |= {writer, other_writer}
        await asyncio.gather(self._pass_on(reader, other_writer), self._pass_on(other_reader, writer))

    @staticmethod
    async def _pass_on(reader, writer):
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_relay(testbed):
    relay = Relay(urlsplit(testbed.system.addresses["mailbox"]).port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.kill()


async def send_some(testbed, number=10):
    # To many domains: where one provider fails for one domain only, that domain has a health of its own.
    return await asyncio.gather(*[testbed.send(to=[f"ada@number-{each}.example"]) for each in range(number)])


@pytest.mark.timeout(300)
async def test_a_killed_provider_opens_an_incident_that_counts_what_was_masked_until_it_is_back(screens, testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    async with a_relay(testbed) as relay, screens.open() as page:
        await testbed.add_provider("Frankfurt", smtp_at("127.0.0.1", relay.port))
        await testbed.add_provider("Dublin", smtp_at("127.0.0.1", port))
        await testbed.all_settled(await send_some(testbed))
        await page.goto(screens.path("/incidents"))
        await page.get_by_text("There was no incident yet.").wait_for()
        await screens.shot(page, "none")

        await relay.kill()
        await open_incident(screens, page, testbed)
        await wait_until(lambda: masked_count(page, testbed), within=60)
        await screens.shot(page, "open")
        assert await axe_violations(page) == []
        await look_after(page)
        await relay.start()
        await page.get_by_role("button", name="Probe Frankfurt with the next message").click()

        async def is_resolved():
            await send_some(testbed, 4)
            return await page.get_by_text("Resolved", exact=True).count()

        await wait_until(is_resolved, within=RETURN)
        await page.get_by_text("Frankfurt has its full share again").wait_for()
        await page.get_by_text("1 open").wait_for(state="detached")
        await screens.shot(page, "resolved")
        assert await axe_violations(page) == []
        await page.get_by_role("link", name="Failed over").click()
        await page.get_by_role("table", name="Messages").get_by_text("Failed over").first.wait_for()
        await page.get_by_text("touched by the incident").wait_for()
        assert await axe_violations(page) == []


async def open_incident(screens, page, testbed):
    """Send until the banner of an incident is there, and follow it."""
    await page.goto(screens.path())
    banner = page.get_by_role("status").get_by_role("link", name="Open the incident")

    async def is_open():
        await send_some(testbed)
        return await banner.count()

    await wait_until(is_open, within=60)
    await page.get_by_role("navigation", name="Main").get_by_text("1 open").wait_for()
    await screens.shot(page, "banner")
    assert await axe_violations(page) == []
    await banner.click()
    await page.get_by_role("heading", name="E-mail").wait_for()


async def masked_count(page, testbed):
    """The number of masked deliveries on the page, after one more message."""
    await send_some(testbed, 1)
    masked = page.get_by_role("region", name="Numbers").locator("div").filter(has_text="Masked")
    return int((await masked.locator("b").inner_text()).replace(",", ""))


async def look_after(page):
    """Acknowledge the incident, and add a note."""
    await page.get_by_role("button", name="Look after it").click()
    await page.get_by_role("button", name="Look after it").wait_for(state="detached")
    await page.get_by_label("A note").fill("Called them.\nNext call at noon.")
    await page.get_by_role("button", name="Add the note").click()
    await page.get_by_text("Next call at noon.").first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1280])
async def test_an_incident_without_any_provider_left_says_that_messages_wait(screens, testbed, width, theme):
    await testbed.add_provider("Only one", DEAD)
    async with screens.open(width=width, theme=theme) as page:
        await page.goto(screens.path("/incidents"))
        link = page.get_by_role("region", name="Incidents").get_by_role("link")

        async def is_open():
            await send_some(testbed)
            return await link.count()

        await wait_until(is_open, within=60)
        await screens.shot(page, "list")
        assert await axe_violations(page) == []
        await link.click()

        await page.get_by_role("region", name="Numbers").wait_for()
        await page.get_by_text("No provider of the channel can be used: messages wait").wait_for(timeout=60_000)
        await screens.shot(page, "open")
        assert await axe_violations(page) == []
        assert await page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0


async def test_an_unknown_incident_says_so(screens, testbed):
    async with screens.open() as page:
        await page.goto(screens.path("/incidents/inc_none"))

        await page.get_by_text("The project has no such incident.").wait_for()
        await screens.shot(page, "unknown")
