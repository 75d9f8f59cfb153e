"""Endpoints on the screen: added with a secret that is shown once, failing, replayed, removed."""

from urllib.parse import urlsplit

import pytest

from tests.dashboard.screens import axe_of_all
from tests.polling import wait_until
from tests.services.customer_endpoint import customer_endpoint
from tests.system.testbed import smtp_at


@pytest.fixture
async def endpoint():
    async with customer_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def webhook(testbed, endpoint):
    """An endpoint for what is sent and delivered."""
    body = {"url": f"{endpoint.url}/hook", "events": ["sent", "delivered"]}
    answer = await testbed.api.post("/v1/webhooks", headers={"x-sendpipe-key": testbed.key}, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_failed_event_is_sent_again_from_the_page_with_its_id(screens, page, testbed, endpoint, webhook):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))
    endpoint.answers["/hook"] = 410
    await testbed.settled(await testbed.send())

    await page.goto(screens.path(f"/webhooks?open={webhook['id']}"))
    await page.get_by_text("Sluice disabled").wait_for(timeout=30_000)
    await page.get_by_text("EXHAUSTED").last.wait_for()
    await screens.shot(page, "disabled")
    endpoint.answers["/hook"] = 200
    await page.get_by_role("button", name="Enable the endpoint").click()
    await page.get_by_text("Sluice disabled").wait_for(state="detached")
    row = page.get_by_role("list", name="Deliveries").get_by_role("listitem").first
    await row.get_by_role("button", name="Send again: sent").click()

    await row.get_by_text("DELIVERED", exact=True).wait_for(timeout=30_000)
    await row.locator("summary").click()
    await row.get_by_label("Answer to attempt 2").get_by_text("status 200").wait_for()
    assert len({request.id for request in endpoint.at("/hook")}) == 1
    await screens.shot(page, "replayed")
    assert await axe_of_all(page, screens) == []


async def test_an_endpoint_is_added_tested_rotated_and_removed(screens, page, testbed, endpoint):
    await page.goto(screens.path("/webhooks"))
    await page.get_by_text("No endpoint yet.").wait_for()
    assert await axe_of_all(page, screens, "empty") == []
    await page.get_by_role("button", name="Add an endpoint…").click()
    form = page.get_by_role("dialog", name="Add an endpoint")
    await form.get_by_label("Address").fill("ftp://shop.example/hook")
    await form.get_by_role("button", name="Add the endpoint").click()
    await form.locator("[name=url][aria-invalid=true]").wait_for()
    await screens.shot(page, "refused")
    await form.get_by_label("Address").fill(f"{endpoint.url}/hook")
    await form.get_by_role("button", name="Add the endpoint").click()

    first = await kept_secret(page)
    await page.get_by_role("link", name=endpoint.url).click()
    await page.get_by_role("button", name="Send a test event").click()
    await page.get_by_role("list", name="Deliveries").get_by_text("DELIVERED", exact=True).wait_for(timeout=30_000)
    await page.get_by_role("button", name="Rotate the secret…").click()
    await page.get_by_role("button", name="Make a new secret").click()
    second = await kept_secret(page)
    await page.get_by_role("button", name="Remove…").click()
    await page.get_by_role("button", name="Remove the endpoint").click()

    await page.get_by_text("No endpoint yet.").wait_for()
    assert first.startswith("whsec_")
    assert second.startswith("whsec_")
    assert first != second
    assert len(endpoint.at("/hook")) == 1


async def kept_secret(page):
    """The secret of the dialog, which stays open until it is confirmed."""
    dialog = page.get_by_role("dialog", name="The signing secret")
    secret = await dialog.get_by_label("Signing secret").inner_text()
    await page.keyboard.press("Escape")
    close = dialog.get_by_role("button", name="Close")
    assert await close.is_disabled()
    await dialog.get_by_label("I have kept it.").check()
    await close.click()
    await dialog.wait_for(state="detached")
    return secret


async def test_what_was_missed_in_a_time_is_sent_again(screens, page, testbed, endpoint, webhook):
    key = {"x-sendpipe-key": testbed.key}
    for _ in range(3):
        await testbed.api.post(f"/v1/webhooks/{webhook['id']}/test", headers=key, json={})
    await page.goto(screens.path(f"/webhooks?open={webhook['id']}"))
    await page.get_by_text("3 of the newest 3 delivered").wait_for(timeout=30_000)

    await page.get_by_role("button", name="Send again…").click()
    dialog = page.get_by_role("dialog", name="Send events again")
    await dialog.get_by_label("DELIVERED").check()
    await screens.shot(page, "recover")
    await dialog.get_by_role("button", name="Send them again").click()

    await dialog.get_by_text("3 events due again.").wait_for()

    async def have_come():
        return len(endpoint.at("/hook")) == 6

    await wait_until(have_come)
    assert len({request.id for request in endpoint.at("/hook")}) == 3
