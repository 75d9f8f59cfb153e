"""What test keys have sent, as the outbox shows it."""

import pytest

from tests.dashboard.screens import NARROW, axe_violations

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def captured(testbed, **changes):
    message_id = await testbed.send(testbed.sandbox_key, **changes)
    await testbed.settled(message_id, key=testbed.sandbox_key)
    return message_id


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1280])
async def test_a_captured_mail_is_listed_and_shown(screens, testbed, width, theme):
    await captured(testbed, subject="First", html="<h1>Hello</h1>", text="Hello")
    message_id = await captured(
        testbed,
        subject="Second: " + "long " * 30,
        html="<p>See <a href='https://example.com/'>here</a></p>",
        attachments=[{"filename": "order.txt", "content": "b3JkZXI=", "content_type": "text/plain"}],
    )
    async with screens.open(width=width, theme=theme) as page:
        await page.goto(screens.path("/outbox"))
        listed = page.get_by_role("region", name="Captured messages").get_by_role("listitem")
        await listed.nth(1).wait_for()
        await page.get_by_title("The mail as it is rendered").wait_for()
        await page.get_by_role("link", name="order.txt").wait_for()
        await screens.shot(page, "newest")
        assert await axe_violations(page) == []
        assert await page.evaluate(OVERFLOW) <= 0

        await listed.nth(1).get_by_role("link").click()
        await page.get_by_role("heading", name="First").wait_for()
        assert "open=att_" in page.url
        frame = page.frame_locator("iframe")
        await frame.get_by_role("heading", name="Hello").wait_for()

        await page.go_back()
        await page.goto(screens.path("/outbox"))
        await page.get_by_role("link", name="What became of it").click()
        await page.get_by_text(message_id).first.wait_for()
        await page.get_by_text("Sandbox", exact=True).last.wait_for()


async def test_new_ones_show_up_filters_are_in_the_address_and_clearing_asks_first(screens, testbed):
    async with screens.open() as page:
        await page.goto(screens.path("/outbox"))
        await page.get_by_text("Nothing is captured.").wait_for()
        await screens.shot(page, "empty")
        assert await axe_violations(page) == []

        await captured(testbed, to=["ada@example.com"], subject="To Ada")
        await captured(testbed, to=["bob@example.com"], subject="To Bob")
        await page.get_by_role("heading", name="To Bob").wait_for()
        await page.get_by_label("Recipient").fill("ADA@")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("heading", name="To Ada").wait_for()
        assert "to=ADA" in page.url
        await page.get_by_label("Channel").select_option("sms")
        await page.get_by_text("No captured message fits these filters.").wait_for()
        await page.goto(screens.path("/outbox"))

        await page.get_by_role("button", name="Clear the outbox…").click()
        dialog = page.get_by_role("dialog", name="Clear the outbox?")
        await dialog.wait_for()
        await screens.shot(page, "dialog")
        assert await axe_violations(page) == []
        await dialog.get_by_role("button", name="Leave it").click()
        await page.get_by_role("heading", name="To Bob").wait_for()
        await page.get_by_role("button", name="Clear the outbox…").click()
        await dialog.get_by_role("button", name="Clear the outbox").click()

        await page.get_by_text("Nothing is captured.").wait_for()


async def test_one_that_was_deleted_meanwhile_says_so(screens, testbed):
    async with screens.open() as page:
        await page.goto(screens.path("/outbox?open=att_none"))

        await page.get_by_text("The outbox has no such message.").wait_for()
