"""Links, passwords and roles."""

import re

from tests.dashboard.screens import axe_of_all, axe_violations, run_sluice
from tests.system.testbed import DEAD

PASSWORD = "correct horse battery staple"


async def test_a_viewer_sets_a_password_by_link_and_sees_messages_and_analytics_only(screens, testbed):
    address = f"viewer@{testbed.project.slug}.example"
    words = ("user", "create", address, "--project", testbed.project.slug, "--role", "viewer")
    link = await run_sluice(testbed.system, *words)
    async with screens.open(signed_in=False) as page:
        await page.goto(link)
        assert await axe_of_all(page, screens, "new-password") == []
        assert "#" not in page.url
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Set the password and log in").click()
        await page.get_by_role("heading", name="Overview").wait_for()

        links = page.get_by_role("navigation", name="Main").get_by_role("link")
        assert await links.all_inner_texts() == ["Overview", "Messages", "Analytics"]
        assert await page.evaluate("() => document.cookie") == ""
        await page.goto(screens.path("/providers/email"))
        await page.get_by_text("An ADMIN can change the role.").wait_for()
        await screens.shot(page, "forbidden")
        await page.goto(screens.path("/incidents"))
        await page.get_by_text("An ADMIN can change the role.").wait_for()

        await page.get_by_role("button", name="Log out").click()
        await page.get_by_role("heading", name="Log in").wait_for()
        assert await axe_of_all(page, screens, "login") == []


async def test_a_viewer_sees_a_message_but_no_action(screens, testbed):
    # Without a provider it waits, so a DEVELOPER could cancel it.
    message_id = await testbed.send(subject="Waits")
    await testbed.send(testbed.sandbox_key, subject="Captured")
    async with screens.open() as owner:
        await owner.goto(screens.path(f"/messages/{message_id}"))
        await owner.get_by_role("button", name="Cancel the message…").wait_for()
    address = f"viewer@{testbed.project.slug}.example"
    words = ("user", "create", address, "--project", testbed.project.slug, "--role", "viewer")
    link = await run_sluice(testbed.system, *words)
    async with screens.open(signed_in=False) as page:
        await page.goto(link)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Set the password and log in").click()
        await page.get_by_role("heading", name="Overview").wait_for()

        await page.goto(screens.path(f"/messages/{message_id}"))
        await page.get_by_role("heading", name="Waits").wait_for()
        await page.get_by_role("button", name="Copy as curl").wait_for()
        assert await page.get_by_role("button", name="Cancel the message…").count() == 0
        await screens.shot(page, "message")
        await page.goto(screens.path("/outbox"))
        await page.get_by_role("heading", name="Captured").wait_for()
        assert await page.get_by_role("button", name="Clear the outbox…").count() == 0
        assert await axe_violations(page) == []


async def test_two_tabs_share_the_session_and_see_each_others_changes(screens, testbed):
    for name in ("First", "Second"):
        await testbed.add_provider(name, DEAD, enabled=False)
    async with screens.open() as page:
        other = await page.context.new_page()
        await page.goto(screens.path("/providers/email"))
        await other.goto(screens.path("/providers/email"))
        rows = other.get_by_role("grid").get_by_role("row")
        await rows.filter(has_text="First").filter(has_text="1").first.wait_for()

        await page.bring_to_front()
        await page.get_by_role("button", name="Actions for Second").click()
        await page.get_by_role("menuitem", name="Move to the top").click()
        await page.get_by_role("button", name="Save the order").click()
        await page.get_by_role("region", name="The order that is not saved").wait_for(state="detached")

        await other.bring_to_front()
        await other.get_by_text("1 Second").wait_for()
        await page.bring_to_front()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_role("heading", name="Log in").wait_for()
        await other.bring_to_front()
        await other.get_by_role("heading", name="Log in").wait_for()


async def test_a_session_that_ended_leads_to_the_login_and_back_to_the_same_view(screens, testbed):
    address = f"dev@{testbed.project.slug}.example"
    words = ("user", "create", address, "--project", testbed.project.slug)
    link = await run_sluice(testbed.system, *words)
    async with screens.open(signed_in=False) as page:
        await page.goto(link)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Set the password and log in").click()
        await page.get_by_role("heading", name="Overview").wait_for()
        await page.context.clear_cookies()

        await page.goto(screens.path("/messages?status=FAILED"))
        await page.get_by_role("heading", name="Log in").wait_for()
        await page.get_by_label("E-mail").fill(address)
        await page.get_by_label("Password").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("status").get_by_text("UNAUTHORIZED").wait_for()
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()

        await page.get_by_role("heading", name="Messages").wait_for()
        await page.get_by_text("No message fits these filters.").wait_for()
        assert re.search(r"/messages\?status=FAILED$", page.url)


async def test_a_link_works_once(screens, testbed):
    link = await screens.link()
    async with screens.open(signed_in=False) as page:
        await page.goto(link)
        await page.get_by_role("heading", name="Overview").wait_for()
    async with screens.open(signed_in=False) as page:
        await page.goto(link)

        await page.get_by_text("prints a new one.").wait_for()
        await screens.shot(page, "used-link")
        assert await axe_violations(page) == []
