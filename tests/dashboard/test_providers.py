"""The order of the providers, changed by keyboard, mouse, touch and menu; nothing counts before it is saved."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest

from tests.dashboard.screens import NARROW, axe_of_all, axe_violations
from tests.polling import wait_until
from tests.system.testbed import DEAD, smtp_at


@pytest.fixture
async def three_providers(testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    for name in ("First", "Second", "Third"):
        await testbed.add_provider(name, smtp_at("127.0.0.1", port))


async def shown_order(page):
    names = await page.get_by_role("grid").get_by_role("row").locator("b").all_inner_texts()
    return [re.sub(r"^\d+\s+", "", name) for name in names if re.match(r"\d", name)]


async def saved_order(testbed):
    answer = await testbed.api.get("/v1/providers", headers={"x-sendpipe-key": testbed.key})
    return [one["name"] for one in answer.json()["data"]]


async def open_providers(screens, page):
    await page.goto(screens.path("/providers/email"))
    await page.get_by_role("grid").wait_for()


async def save(page, testbed, order):
    await page.get_by_role("button", name="Save the order").click()
    await page.get_by_role("region", name="The order that is not saved").wait_for(state="detached")
    assert await shown_order(page) == order
    assert await saved_order(testbed) == order


async def test_reordered_by_keyboard(screens, testbed, three_providers):
    async with screens.open() as page:
        await open_providers(screens, page)

        await page.get_by_role("row", name="Third").focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Insert between Second and Third").wait_for()
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("ArrowUp")
        await screens.shot(page, "moving")
        await page.keyboard.press("Enter")

        draft = page.get_by_role("region", name="The order that is not saved")
        await draft.wait_for()
        await screens.shot(page, "draft")
        assert await saved_order(testbed) == ["First", "Second", "Third"]
        assert "Not saved." in await draft.inner_text()
        assert await shown_order(page) == ["First", "Third", "Second"]
        await save(page, testbed, ["First", "Third", "Second"])


async def test_escape_ends_a_move_without_a_draft(screens, testbed, three_providers):
    async with screens.open() as page:
        await open_providers(screens, page)

        await page.get_by_role("row", name="Third").focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Insert between Second and Third").wait_for()
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Escape")

        assert await page.get_by_role("region", name="The order that is not saved").count() == 0
        assert await shown_order(page) == ["First", "Second", "Third"]


async def test_reordered_by_mouse(screens, testbed, three_providers):
    async with screens.open() as page:
        await open_providers(screens, page)
        first, third = page.get_by_role("row", name="First"), page.get_by_role("row", name="Third")

        await third.drag_to(first, source_position={"x": 60, "y": 30}, target_position={"x": 60, "y": 3})

        await page.get_by_role("region", name="The order that is not saved").wait_for()
        await save(page, testbed, ["Third", "First", "Second"])


async def test_reordered_from_the_menu_with_one_thumb(screens, testbed, three_providers):
    async with screens.open(width=NARROW, height=740, has_touch=True, is_mobile=True) as page:
        await open_providers(screens, page)

        await page.get_by_role("button", name="Actions for Second").tap()
        await page.get_by_role("menuitem", name="Move to the top").tap()

        await page.get_by_role("region", name="The order that is not saved").wait_for()
        await screens.shot(page, "draft")
        await save(page, testbed, ["Second", "First", "Third"])
        assert await axe_violations(page) == []


async def test_a_draft_shows_both_orders_when_another_person_has_saved_one(screens, testbed, three_providers):
    async with screens.open() as page:
        await open_providers(screens, page)
        await page.get_by_role("button", name="Actions for Third").click()
        await page.get_by_role("menuitem", name="Move to the top").click()
        own = {"x-sendpipe-key": testbed.key}
        ids = [one["id"] for one in (await testbed.api.get("/v1/providers", headers=own)).json()["data"]]

        body = {"channel": "email", "providerIds": [ids[1]]}
        await testbed.api.post("/v1/providers/reorder", headers=own, json=body)

        await page.get_by_text("The order was changed meanwhile.").wait_for()
        await screens.shot(page, "conflict")
        assert await shown_order(page) == ["Third", "First", "Second"]


async def test_disabling_asks_first_and_says_what_follows(screens, testbed, three_providers):
    async with screens.open() as page:
        await open_providers(screens, page)
        await page.get_by_role("button", name="Actions for First").click()
        await page.get_by_role("menuitem", name="Disable…").click()
        dialog = page.get_by_role("dialog", name="Disable First?")
        await dialog.wait_for()
        await screens.shot(page, "dialog")
        assert await axe_violations(page) == []

        await dialog.get_by_role("button", name="Disable First").click()

        await dialog.wait_for(state="detached")
        await page.get_by_role("row", name="First").get_by_text("Off", exact=True).wait_for()


async def settings_of(testbed):
    answer = await testbed.api.get("/v1/providers", headers={"x-sendpipe-key": testbed.key})
    return answer.json()["data"][0]["settings"]


async def test_limits_share_and_price_are_shown_and_changed(screens, testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("Limited", smtp_at("127.0.0.1", port), settings={"concurrency": 8, "price": 0.0004})
    async with screens.open() as page:
        await open_providers(screens, page)
        card = page.get_by_role("region", name="Settings")
        shown = await card.inner_text()
        for text in ("Calls at once\n8", "Calls per second\nany number", "Weight\nnot set", "Price\n0.0004"):
            assert text in shown
        await card.get_by_role("button", name="Change the settings…").click()
        dialog = page.get_by_role("dialog", name="Settings of Limited")
        await dialog.get_by_label("Calls per second").fill("25")
        await dialog.get_by_label("Weight").fill("2.5")
        await dialog.get_by_label("Calls at once").fill("")
        await screens.shot(page, "dialog")
        assert await axe_violations(page) == []

        await dialog.get_by_role("button", name="Save the settings").click()

        await dialog.wait_for(state="detached")
        await card.get_by_text("2.5", exact=True).wait_for()
        saved = {"concurrency": None, "calls_per_second": 25, "weight": 2.5, "price": 0.0004}
        assert await settings_of(testbed) == saved | {"segments_per_second": None}
        assert await axe_of_all(page, screens) == []


async def test_settings_that_the_api_refuses_stay_in_the_dialog_with_its_reason(screens, testbed):
    await testbed.add_provider("Limited", DEAD)
    async with screens.open() as page:
        await open_providers(screens, page)
        await page.get_by_role("button", name="Change the settings…").click()
        dialog = page.get_by_role("dialog", name="Settings of Limited")
        await dialog.get_by_label("Weight").fill("0")

        await dialog.get_by_role("button", name="Save the settings").click()

        await dialog.get_by_role("status").get_by_text("weight").first.wait_for()
        assert (await settings_of(testbed))["weight"] is None
        await screens.shot(page, "refused")


async def test_a_dead_provider_becomes_unhealthy_on_the_page_and_messages_take_the_next(screens, testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("Dead", DEAD)
    await testbed.add_provider("Alive", smtp_at("127.0.0.1", port))
    async with screens.open() as page:
        await open_providers(screens, page)

        note = page.get_by_text("Dead is unhealthy. Messages take the next provider.").first

        async def is_unhealthy():
            # To many domains: where one provider fails for one domain only, that domain has a health of its own.
            await asyncio.gather(*[testbed.send(to=[f"ada@number-{number}.example"]) for number in range(10)])
            return await note.count()

        await wait_until(is_unhealthy, within=60)
        await screens.shot(page, "unhealthy")
        assert await axe_violations(page) == []
        await page.get_by_text("Excluded").first.wait_for(timeout=30_000)


async def test_a_channel_without_providers_says_what_follows(screens, testbed):
    async with screens.open() as page:
        await page.goto(screens.path("/providers/sms"))

        await page.get_by_text("There is no provider for SMS yet").wait_for()
        await screens.shot(page, "empty")
        assert await axe_violations(page) == []
