"""The log and one message: states, filters, live changes, narrow screens, the dark theme."""

import asyncio
from urllib.parse import urlsplit

import pytest

from sluice_simulator.simulator import Simulator
from tests.dashboard.screens import NARROW, axe_violations
from tests.system.testbed import smtp_at

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
async def mailbox(testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))


async def rows_of(page):
    return await page.get_by_role("table", name="Messages").get_by_role("row").count() - 1


async def test_an_unknown_outcome_after_which_another_provider_sent_it_may_have_arrived_twice(screens, testbed):
    async with Simulator(endpoints={"smtp": "smtp"}) as simulator:
        await testbed.add_provider("never-answers", smtp_at(*simulator.address("smtp")))
        port = urlsplit(testbed.system.addresses["mailbox"]).port
        await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))
        body = {"to": ["accept-then-never-answer+ada@example.com"], "class": "urgent"}
        message_id = await testbed.send(**body)
        await testbed.settled(message_id, within=90)

    async with screens.open() as page:
        await page.goto(screens.path(f"/messages/{message_id}"))
        await page.get_by_text("may have received this twice").wait_for()
        await page.get_by_text("never-answers did not answer attempt 1").wait_for()
        await page.get_by_text("Unknown", exact=True).first.wait_for()
        await screens.shot(page, "message")
        assert await axe_violations(page) == []


async def test_a_repeat_under_one_reference_at_one_provider_is_one_message(screens, testbed):
    answer = await testbed.post(testbed.sandbox_key, to=["unknown@sandbox.example"], **{"class": "urgent"})
    message_id = answer.json()["id"]
    settled = await testbed.settled(message_id, key=testbed.sandbox_key, within=90)
    assert settled["attempts"] > 1

    async with screens.open() as page:
        await page.goto(screens.path(f"/messages/{message_id}?mode=test"))
        await page.get_by_text("Unknown", exact=True).first.wait_for()
        await page.get_by_text("Not confirmed: a provider gave no answer").wait_for()
        assert await page.get_by_text("may have received this twice").count() == 0


async def test_the_log_scrolls_through_pages_and_keeps_few_rows_in_the_document(screens, testbed, mailbox):
    ids = await testbed.send_many(350, tags=["scroll"])
    await testbed.all_settled(ids)
    async with screens.open() as page:
        await page.goto(screens.path("/messages?tag=scroll"))
        await page.get_by_role("table", name="Messages").wait_for()
        for _ in range(60):
            await page.mouse.wheel(0, 2_000)
            await asyncio.sleep(0.1)
            if await page.get_by_text("The end of the list.").count():
                break

        await page.get_by_text("The end of the list.").wait_for()
        assert await rows_of(page) <= 60
        await screens.shot(page, "end-of-list")


async def test_new_messages_wait_above_the_list_until_they_are_asked_for(screens, testbed, mailbox):
    await testbed.settled(await testbed.send(subject="Before"))
    async with screens.open() as page:
        await page.goto(screens.path("/messages"))
        await page.get_by_text("Before").wait_for()
        await page.locator("[data-kind=live]").wait_for()

        await testbed.settled(await testbed.send(subject="After"))

        waiting = page.get_by_role("button", name="1 new")
        await waiting.wait_for(timeout=15_000)
        assert await page.get_by_text("After", exact=True).count() == 0
        await screens.shot(page, "waiting")
        await waiting.click()
        await page.get_by_text("After", exact=True).wait_for()


async def test_rows_are_reached_and_opened_by_keyboard(screens, testbed, mailbox):
    for subject in ("One", "Two", "Three"):
        await testbed.settled(await testbed.send(subject=subject))
    async with screens.open() as page:
        await page.goto(screens.path())
        await page.get_by_role("heading", name="Overview").wait_for()
        await page.keyboard.press("g")
        await page.keyboard.press("m")
        await page.get_by_role("table", name="Messages").get_by_text("Three").wait_for()

        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")

        await page.get_by_role("heading", name="Two").wait_for()
        await page.keyboard.press("]")
        await page.get_by_role("heading", name="One").wait_for()
        await page.keyboard.press("?")
        await page.get_by_role("dialog", name="Keys").wait_for()
        await screens.shot(page, "keys")
        assert await axe_violations(page) == []


async def test_filters_are_in_the_address_and_an_empty_result_offers_to_clear_them(screens, testbed, mailbox):
    await testbed.settled(await testbed.send(subject="Only one"))
    async with screens.open() as page:
        await page.goto(screens.path("/messages"))
        await page.get_by_label("State").select_option("FAILED")

        await page.get_by_text("No message fits these filters.").wait_for()
        assert "status=FAILED" in page.url
        await page.get_by_label("Mark").select_option("may have arrived twice")
        await page.wait_for_url("**possible_duplicate=true**")
        await page.get_by_label("Loading").first.wait_for(state="detached")
        await page.get_by_text("No message fits these filters.").wait_for()
        await screens.shot(page, "nothing-fits")
        assert await axe_violations(page) == []
        await page.get_by_role("button", name="Clear the filters").last.click()
        await page.get_by_text("Only one").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 1280])
async def test_every_screen_is_accessible_and_fits(screens, testbed, mailbox, theme, width):
    long = "a" * 120
    message_id = await testbed.send(subject=f"One word: {long}", to=["ada@example.com", f"{'b' * 60}@example.com"])
    await testbed.settled(message_id)
    async with screens.open(width=width, theme=theme) as page:
        for name, path in {
            "overview": "",
            "messages": "/messages",
            "message": f"/messages/{message_id}",
            "providers": "/providers/email",
            "no-provider": "/providers/push",
            "unknown-message": "/messages/msg_none",
        }.items():
            await page.goto(screens.path(path))
            await page.get_by_role("main").wait_for()
            await page.get_by_role("main").get_by_role("heading").first.wait_for()
            await page.get_by_label("Loading").first.wait_for(state="detached")
            await screens.shot(page, name)
            assert await axe_violations(page) == [], name
            assert await page.evaluate(OVERFLOW) <= 0, name
