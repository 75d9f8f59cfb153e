"""From the link of `make up` to the timeline of the first message."""

import re
from urllib.parse import urlsplit

from tests.dashboard.screens import axe_violations
from tests.system.testbed import DEAD, smtp_at


async def test_the_sign_in_link_leads_to_the_first_message_and_its_failover(screens, testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("dead-smtp", DEAD)
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))
    await testbed.settled(await testbed.send(subject="The first mail"))

    async with screens.open() as page:
        await page.get_by_role("heading", name="Your first message").wait_for()
        await screens.shot(page, "overview")
        assert await axe_violations(page) == []
        await page.get_by_role("link", name="See its timeline").click()

        await page.get_by_role("heading", name="The first mail").wait_for()
        await page.get_by_role("img", name=re.compile("Attempts and receipts over time")).wait_for()
        assert await page.get_by_text("through the second provider, mailbox-smtp").count() == 1
        events = page.get_by_role("table", name="All events")
        await events.get_by_role("cell", name="sending, attempt 2").wait_for()
        await page.get_by_text("Why this provider").last.click()
        await screens.shot(page, "message")
        assert await axe_violations(page) == []

        await page.get_by_role("link", name="Messages", exact=True).first.click()
        await page.get_by_role("table", name="Messages").wait_for()
        await screens.shot(page, "messages")
        assert await axe_violations(page) == []

        await page.get_by_role("link", name=re.compile("Providers")).click()
        await page.get_by_role("grid").wait_for()
        await screens.shot(page, "providers")
        assert await axe_violations(page) == []
