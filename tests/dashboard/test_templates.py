"""Templates on the screen: an error at its line, a preview that runs nothing, versions."""

from tests.dashboard.screens import axe_of_all

HOSTILE = (
    "<style>p { color: rgb(1, 2, 3) }</style><p id='shown' onclick='parent.x=1'>Hello {{ name }}</p>"
    "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
    "<meta http-equiv='refresh' content='0;url=/login'><a href='/login'>away</a>"
)


async def saved(testbed):
    key = {"x-sendpipe-key": testbed.key}
    rows = (await testbed.api.get("/v1/templates", headers=key)).json()["data"]
    return (await testbed.api.get(f"/v1/templates/{rows[0]['id']}", headers=key)).json()


async def test_an_error_is_marked_at_its_line_and_the_last_good_preview_stays(screens, page, testbed):
    await page.goto(screens.path("/templates/new"))
    await page.get_by_text("Hello name", exact=True).wait_for()
    source = page.get_by_label("HTML", exact=True)
    await source.fill("<p>Hello {{ name }}</p>\n<p>{{ name</p>\n")

    await page.get_by_text("line 2, column 4").wait_for()
    assert await page.locator("[data-wrong]").filter(has_text="2").last.inner_text() == "2"
    assert await source.get_attribute("aria-invalid") == "true"
    await page.get_by_text("As it was before the error").wait_for()
    await page.get_by_role("button", name="Go there").click()
    place = await source.evaluate("(area) => [area === document.activeElement, area.selectionStart]")
    assert place[0]
    assert place[1] > len("<p>Hello {{ name }}</p>")
    assert await axe_of_all(page, screens) == []


async def test_a_template_is_created_shown_and_saved_as_a_new_version(screens, page, testbed):
    await page.goto(screens.path("/templates"))
    await page.get_by_text("No template yet.").wait_for()
    await page.get_by_role("link", name="Write a template").click()
    await page.get_by_label("Name", exact=True).fill("welcome")
    await page.get_by_role("button", name="Create the template").click()
    await page.get_by_role("heading", name="welcome").wait_for()
    await page.get_by_label("Subject").fill("Welcome {{ user.name }}")
    await page.get_by_label("JSON").fill('{"user": {"name": "Ada"}, "name": "Bob"}')
    await page.get_by_text("Welcome Ada", exact=True).wait_for()
    await page.frame_locator("iframe").get_by_text("Hello Bob").wait_for()
    await page.get_by_role("button", name="Save the template").click()

    await page.get_by_text("Saved as version 2.").wait_for()
    assert (await saved(testbed))["subject"] == "Welcome {{ user.name }}"
    assert await axe_of_all(page, screens) == []
    await page.get_by_role("link", name="All templates").click()
    await page.get_by_role("table", name="Templates").get_by_role("link", name="welcome").wait_for()
    assert await axe_of_all(page, screens, "list") == []


async def test_a_version_that_was_saved_elsewhere_is_a_conflict(screens, page, testbed):
    key = {"x-sendpipe-key": testbed.key}
    body = {"name": "code", "kind": "text", "text": "Code {{ code }}"}
    made = (await testbed.api.post("/v1/templates", headers=key, json=body)).json()
    await page.goto(screens.path(f"/templates/{made['id']}"))
    await page.get_by_label("Text", exact=True).fill("Mine {{ code }}")
    path = f"/v1/templates/{made['id']}"
    assert (await testbed.api.patch(path, headers=key, json={"text": "Theirs"})).status_code == 200

    await page.get_by_role("button", name="Save the template").click()

    await page.get_by_text("saved elsewhere meanwhile").wait_for()
    await screens.shot(page, "conflict")
    assert (await saved(testbed))["text"] == "Theirs"
    await page.get_by_role("button", name="Save mine as the newest version").click()
    await page.get_by_text("Saved as version 3.").wait_for()
    assert (await saved(testbed))["text"] == "Mine {{ code }}"


async def test_hostile_html_runs_nothing_and_goes_nowhere(screens, page, testbed):
    await page.goto(screens.path("/templates/new"))
    await page.get_by_label("HTML", exact=True).fill(HOSTILE.replace("<img src=x", "<img"))
    frame = page.frame_locator("iframe")
    await frame.get_by_text("Hello name").click()
    await frame.get_by_role("link", name="away").click()

    await frame.get_by_text("Hello name").wait_for()
    shown = page.frames[1]
    assert shown.url.endswith("/preview")
    assert await shown.title() != "run"
    assert await shown.locator("#shown").evaluate("(element) => getComputedStyle(element).color") == "rgb(1, 2, 3)"
    assert await shown.evaluate("() => origin") == "null"
    assert await page.evaluate("() => 'x' in window") is False
