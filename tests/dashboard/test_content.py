"""What was sent, as its screen shows it: a hostile mail loads nothing, runs nothing and leads nowhere."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.dashboard.hostile_mails import LINKS, MAILS
from tests.dashboard.screens import NARROW, axe_violations
from tests.system.testbed import smtp_at

SETTLES = 0.4  # seconds in which a browser begins what a document asks for


@pytest.fixture
async def mailbox(testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))


class Listener:
    """Counts the connections to it, of which it answers none."""

    def __init__(self):
        self.connections = 0

    @classmethod
    @asynccontextmanager
    async def running(cls):
        listener = cls()
        server = await asyncio.start_server(listener.accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        listener.host = f"{host}:{port}"
        async with server:
            yield listener

    def accept(self, reader, writer):
        self.connections += 1
        writer.close()


async def shown_frame(screens, page, message_id):
    """The frame of the content, and its document, when it has loaded."""
    await page.goto(screens.path(f"/messages/{message_id}"))
    frame = page.get_by_title("The mail as it is rendered")
    await frame.wait_for()
    document = await (await frame.element_handle()).content_frame()
    await document.wait_for_load_state("load")
    await asyncio.sleep(SETTLES)
    return frame, document


async def test_a_hostile_mail_loads_nothing_and_changes_nothing_around_it(screens, testbed, mailbox):
    async with Listener.running() as listener, screens.open(blocks_content=True) as page:
        reached = {}
        for name, html in MAILS.items():
            message_id = await testbed.send(subject=f"Hostile: {name}", html=html.format(host=listener.host))
            before = listener.connections
            await shown_frame(screens, page, message_id)
            if listener.connections > before:
                reached[name] = listener.connections - before
            assert urlsplit(page.url).path.endswith(message_id), name
            assert await page.title() == f"Hostile: {name} · Sluice"
            assert len(page.context.pages) == 1, name

        assert reached == {}


async def test_a_click_in_a_mail_leads_nowhere(screens, testbed, mailbox):
    async with Listener.running() as listener, screens.open(blocks_content=True) as page:
        for name, html in LINKS.items():
            message_id = await testbed.send(subject=f"Hostile: {name}", html=html.format(host=listener.host))
            frame, _ = await shown_frame(screens, page, message_id)
            await frame.click()
            await asyncio.sleep(SETTLES)

            assert listener.connections == 0, name
            assert urlsplit(page.url).path.endswith(message_id), name
            assert len(page.context.pages) == 1, name


async def test_remote_images_are_loaded_when_a_person_asks_for_them_and_once(screens, testbed, mailbox):
    async with Listener.running() as listener, screens.open(blocks_content=True) as page:
        html = (
            f"<p>Hello</p><img src='https://{listener.host}/x.png'><script src='https://{listener.host}/x.js'></script>"
        )
        message_id = await testbed.send(subject="With an image", html=html)
        await shown_frame(screens, page, message_id)
        assert listener.connections == 0

        await page.get_by_role("button", name="Load images once").click()
        await page.get_by_text("Remote images were loaded this once").wait_for()
        await asyncio.sleep(SETTLES)

        assert listener.connections > 0
        reached = listener.connections
        await shown_frame(screens, page, message_id)
        assert listener.connections == reached


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1280])
async def test_the_content_of_a_mail_is_shown_with_its_links_source_and_files(screens, testbed, mailbox, theme, width):
    message_id = await testbed.send(
        subject="Your order",
        html="<h1>Hello Ada</h1><p><a href='https://shop.example@evil.example/pay?x=1'>shop.example</a></p>",
        text="Hello Ada\nYour order\u202e is here",
        attachments=[{"filename": "order.txt", "content": "b3JkZXI=", "content_type": "text/plain"}],
    )
    async with screens.open(width=width, theme=theme) as page:
        frame, document = await shown_frame(screens, page, message_id)
        await document.get_by_role("heading", name="Hello Ada").wait_for()
        await page.get_by_text("evil.example", exact=True).wait_for()
        # Chromium draws no frame outside the window: nothing inside of it can be asked to scroll.
        await frame.scroll_into_view_if_needed()
        await screens.shot(page, "rendered")
        assert await axe_violations(page) == []

        await page.get_by_role("button", name="Text", exact=True).click()
        await page.get_by_text("Your order[U+202E] is here").wait_for()
        await page.get_by_role("button", name="Source", exact=True).click()
        await page.get_by_text("Content-Type: multipart/mixed").wait_for()
        await screens.shot(page, "source")
        assert await axe_violations(page) == []
        async with page.expect_download() as download:
            await page.get_by_role("link", name="order.txt").click()
        assert (await download.value).suggested_filename == "order.txt"
