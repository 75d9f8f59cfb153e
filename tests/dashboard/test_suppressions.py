"""Suppressed addresses on the screen: added, found, removed."""

from tests.dashboard.screens import axe_of_all


async def addresses(testbed):
    answer = await testbed.api.get("/v1/suppressions", headers={"x-sendpipe-key": testbed.key})
    return {one["address"] for one in answer.json()["data"]}


async def test_addresses_are_suppressed_found_and_removed(screens, page, testbed):
    await page.goto(screens.path("/suppressions"))
    await page.get_by_text("No address is suppressed.").wait_for()
    await page.get_by_role("button", name="Suppress addresses…").click()
    form = page.get_by_role("dialog", name="Suppress addresses")
    await form.get_by_label("Addresses").fill("no address")
    await form.get_by_role("button", name="Suppress them").click()
    await form.locator("[name=addresses][aria-invalid=true]").wait_for()
    await screens.shot(page, "refused")
    file = {"name": "list.csv", "mimeType": "text/csv", "buffer": b"ada@example.com,old\r\nbob@example.com\r\n"}
    await form.get_by_label("From a file").set_input_files(file)
    await form.get_by_label("Note").fill("from the old system")
    await form.get_by_role("button", name="Suppress them").click()
    await form.get_by_text("2 new suppressions of 2 addresses.").wait_for()
    await form.get_by_role("button", name="Close").click()

    await page.get_by_role("cell", name="ada@example.com", exact=True).wait_for()
    assert await addresses(testbed) == {"ada@example.com", "bob@example.com"}
    assert await axe_of_all(page, screens) == []
    await page.get_by_label("Address", exact=True).fill("bob@example.com")
    await page.keyboard.press("Enter")
    await page.get_by_role("cell", name="ada@example.com", exact=True).wait_for(state="detached")
    assert "channel=email" in page.url
    assert "address=bob%40example.com" in page.url
    await page.get_by_role("button", name="Remove bob@example.com").click()
    await page.get_by_role("button", name="Remove the suppression").click()
    await page.get_by_text("No suppression fits these filters.").wait_for()
    assert await addresses(testbed) == {"ada@example.com"}


async def test_all_that_match_are_removed_at_once(screens, page, testbed):
    key = {"x-sendpipe-key": testbed.key}
    for reason, names in (("unsubscribe", "ab"), ("manual", "c")):
        body = {"channel": "email", "reason": reason, "addresses": [f"{name}@example.com" for name in names]}
        await testbed.api.post("/v1/suppressions", headers=key, json=body)
    await page.goto(screens.path("/suppressions"))
    await page.get_by_role("cell", name="c@example.com", exact=True).wait_for()
    assert await page.get_by_role("button", name="Remove all that match…").count() == 0

    await page.get_by_label("Reason").select_option("unsubscribe")
    await page.get_by_role("button", name="Remove all that match…").click()
    await screens.shot(page, "asked")
    await page.get_by_role("button", name="Remove all that match", exact=True).click()

    await page.get_by_text("2 suppressions removed.").wait_for()
    assert await addresses(testbed) == {"c@example.com"}
