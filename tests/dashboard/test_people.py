"""Links, passwords and roles."""

import re

from tests.dashboard.screens import axe_violations, run_sluice

PASSWORD = "correct horse battery staple"


async def test_a_viewer_sets_a_password_by_link_and_sees_messages_and_analytics_only(screens, testbed):
    address = f"viewer@{testbed.project.slug}.example"
    words = ("user", "create", address, "--project", testbed.project.slug, "--role", "viewer")
    link = await run_sluice(testbed.system, *words)
    async with screens.open(signed_in=False) as page:
        await page.goto(link)
        await screens.shot(page, "new-password")
        assert await axe_violations(page) == []
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

        await page.get_by_role("button", name="Log out").click()
        await page.get_by_role("heading", name="Log in").wait_for()
        await screens.shot(page, "login")
        assert await axe_violations(page) == []


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
        await page.get_by_role("button", name="Log in").and_(page.locator(":enabled")).wait_for()
        assert await page.get_by_role("status").count() == 1
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
