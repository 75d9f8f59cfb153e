"""Analytics and the state of the system on the screen."""

import asyncio
from urllib.parse import urlsplit

from tests.dashboard.screens import axe_of_all
from tests.polling import wait_until
from tests.system.testbed import smtp_at


async def counted(testbed):
    answer = await testbed.api.get("/v1/analytics", headers={"x-sendpipe-key": testbed.key})
    return sum(one["sent"] for one in answer.json()["totals"]) >= 3


async def test_the_numbers_of_sent_messages_lead_to_these_messages(screens, page, testbed):
    await page.goto(screens.path("/analytics"))
    await page.get_by_text("No message has ended in the last 24 hours").wait_for()
    assert await axe_of_all(page, screens, "empty") == []
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))
    await asyncio.gather(*[testbed.send(tags=["counted"]) for _ in range(3)])
    await wait_until(lambda: counted(testbed), within=60)

    await page.reload()
    groups = page.get_by_role("table", name="Numbers by provider")
    row = groups.get_by_role("row", name="mailbox-smtp")
    await row.get_by_role("cell", name="100 %", exact=True).wait_for()
    await page.get_by_text("The numbers as a table").click()
    assert await axe_of_all(page, screens) == []
    await page.get_by_role("table", name="The numbers by interval").get_by_role("link").last.click()

    await page.get_by_role("table", name="Messages").get_by_role("row").nth(3).wait_for()
    assert "since=" in page.url
    await page.go_back()
    await page.get_by_label("Divided by").select_option("tag")
    await page.get_by_role("table", name="Numbers by tag").get_by_role("row", name="counted").wait_for()


async def test_the_state_of_services_and_roles(screens, page, testbed):
    message_id = await testbed.send()

    await page.goto(screens.path("/system"))
    services = page.get_by_role("table", name="Backing services")
    await services.get_by_role("row", name="PostgreSQL").get_by_text("up", exact=True).wait_for()
    await page.get_by_role("table", name="Roles").get_by_role("row", name="router").get_by_text("up").wait_for()
    await page.get_by_role("table", name="What waits").get_by_role("row", name="E-mail").wait_for()
    await page.get_by_text("No record was refused and no delivery failed.").wait_for()

    assert await axe_of_all(page, screens) == []
    await testbed.api.delete(f"/v1/messages/{message_id}/cancel", headers={"x-sendpipe-key": testbed.key})
