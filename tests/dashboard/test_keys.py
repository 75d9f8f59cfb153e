"""Keys and people on the screen: a key is shown once, roles end at once, a VIEWER has none of it."""

import pytest

from tests.dashboard.screens import axe_of_all, run_sluice

PASSWORD = "correct horse battery staple"


async def works(testbed, key):
    answer = await testbed.api.get("/v1/messages", headers={"x-sendpipe-key": key})
    return answer.status_code == 200


async def signed_in_as(screens, testbed, page, role):
    words = ("user", "create", f"{role}@{testbed.project.slug}.example", "--project", testbed.project.slug)
    await page.goto(await run_sluice(testbed.system, *words, "--role", role))
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Set the password and log in").click()
    await page.get_by_role("heading", name="Overview").wait_for()


async def test_a_key_is_shown_once_and_ends_when_it_is_revoked(screens, page, testbed):
    await page.goto(screens.path("/keys"))
    await page.get_by_role("button", name="Create a key…").click()
    await page.get_by_label("Name").fill("the shop")
    await page.get_by_role("button", name="Create the key").click()
    dialog = page.get_by_role("dialog", name="The key the shop")
    key = await dialog.get_by_label("API key").inner_text()
    await screens.shot(page, "secret")
    await dialog.get_by_label("I have kept it.").check()
    await dialog.get_by_role("button", name="Close").click()

    await page.get_by_role("button", name="Revoke the shop").wait_for()
    assert await works(testbed, key)
    assert key not in await page.content()
    assert await axe_of_all(page, screens) == []
    await page.get_by_role("button", name="Revoke the shop").click()
    await page.get_by_role("button", name="Revoke the key").click()
    await page.get_by_role("button", name="Revoke the shop").wait_for(state="detached")
    row = page.get_by_role("table", name="Who changed what").get_by_role("row").nth(1)
    await page.reload()
    await row.get_by_text("revoked key").wait_for()


async def test_a_person_is_invited_and_a_role_changes(screens, page, testbed):
    slug = testbed.project.slug
    await run_sluice(testbed.system, "user", "create", f"dev@{slug}.example", "--project", slug)
    await page.goto(screens.path("/keys"))
    await page.get_by_role("button", name=f"Change the role of dev@{slug}.example").click()
    await page.get_by_role("radio", name="VIEWER").check()
    await screens.shot(page, "role")
    await page.get_by_role("button", name="Save the role").click()
    members = page.get_by_role("table", name="Members")
    await members.get_by_role("cell", name="VIEWER", exact=True).wait_for()

    await page.get_by_role("button", name="Add a person…").click()
    await page.get_by_label("E-mail").fill(f"new@{slug}.example")
    await page.get_by_role("button", name="Add the person").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_text(f"new@{slug}.example").wait_for()
    if await dialog.get_by_label("I have kept it.").count():
        await dialog.get_by_label("I have kept it.").check()
    await dialog.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name=f"Revoke the invitation of new@{slug}.example").click()
    await page.get_by_role("button", name="Revoke the invitation", exact=True).click()

    await page.get_by_text("No invitation waits for an answer.").wait_for()


WRITES = """() => [...document.querySelectorAll('main :is(button, input, textarea, select, a[download])')]
    .filter((one) => document.querySelector('h1').compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING)
    .filter((one) => !one.disabled && !one.readOnly && !one.closest('[role=search]'))
    .map((one) => one.textContent || one.name)"""


@pytest.mark.parametrize("screen", ["webhooks", "suppressions", "keys", "templates"])
async def test_a_viewer_reads_which_right_is_missing_and_finds_nothing_that_writes(screens, testbed, screen):
    async with screens.open(signed_in=False) as page:
        await signed_in_as(screens, testbed, page, "viewer")

        await page.goto(screens.path(f"/{screen}"))

        await page.get_by_text("An ADMIN can change the role.").first.wait_for()
        await screens.shot(page, screen)
        assert await page.evaluate(WRITES) == []
        assert await axe_of_all(page, screens) == []
        await page.get_by_role("navigation", name="Main").get_by_role("link", name="Messages").click()
        await page.get_by_role("heading", name="Messages").wait_for()


async def test_a_viewer_can_neither_write_nor_save_a_template(screens, testbed):
    async with screens.open(signed_in=False) as page:
        await signed_in_as(screens, testbed, page, "viewer")

        await page.goto(screens.path("/templates/new"))

        await page.get_by_text("An ADMIN can change the role.").first.wait_for()
        for label in ("Name", "Subject", "HTML"):
            assert await page.get_by_label(label, exact=True).get_attribute("readonly") is not None, label
        assert await page.get_by_label("Kind").is_disabled()
        assert await page.get_by_role("button", name="Create the template").count() == 0
        await screens.shot(page, "template")
        assert await axe_of_all(page, screens) == []
