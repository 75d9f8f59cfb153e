"""``/v1/outbox``: what the sandbox has captured."""

import json

import pytest

from sluice.model.ids import attempt_reference, decode_id, encode_id
from sluice.store import sandbox
from tests.examples import after, an_email, an_id
from tests.services.people import a_person
from tests.services.test_gateway import error_of
from tests.services.test_message_list import send

HTML = "<p>Hello.</p><script>x</script>"


@pytest.fixture
async def test_key(gateway):
    return await gateway.another_key(is_test=True)


@pytest.fixture
def captured(gateway, test_key):
    """Captures a new test message; its id in the outbox."""

    async def capture(at=0, *, to="ada@example.com", content=None, receipts=(), key=None):
        message_id = decode_id("msg", await send(gateway, key=key or test_key))
        reference = attempt_reference(an_id(after(at)), 1)
        await sandbox.capture(
            gateway.pool,
            reference=reference,
            message_id=message_id,
            recipient=to,
            content=content or an_email(to=(to,), html=HTML).model_dump_json(exclude_defaults=True),
            at=after(at),
            timeout=5.0,
            receipts=receipts,
        )
        return reference

    return capture


async def ask(gateway, path="", *, method="GET", **how):
    return await gateway.ask(method, f"/v1/outbox{path}", **how)


async def test_the_list_shows_the_newest_first_in_pages(gateway, captured, test_key):
    made = [await captured(number) for number in range(5)]
    found, cursor = [], ""
    while cursor is not None:
        page = (await ask(gateway, f"?limit=2{cursor and f'&cursor={cursor}'}", key=test_key)).json()
        found += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]

    assert found == made[::-1]


async def test_a_row_has_what_a_list_of_mails_shows(gateway, captured, test_key):
    await captured()

    [row] = (await ask(gateway, key=test_key)).json()["data"]

    assert (row["from"], row["to"], row["subject"]) == ("Shop <shop@example.com>", "ada@example.com", "Grüße aus Köln")
    assert (row["snippet"], row["attachments"], row["channel"]) == ("Hello.", 0, "email")


async def test_the_latest_that_fits_is_what_a_test_asks_for(gateway, captured, test_key):
    ada, bob = await captured(0), await captured(10, to="bob@example.com")

    async def latest(query):
        return await ask(gateway, f"/latest{query}", key=test_key)

    assert (await latest("")).json()["id"] == bob
    assert (await latest("?to=ADA@")).json()["id"] == ada
    assert (await latest("?channel=email")).json()["content"]["text"] == "Hello."
    for query in ("?to=carl", "?channel=sms", "?since=2026-08-20T12:00:11Z"):
        error_of(await latest(query), 404, "NOT_FOUND")
    assert (await latest("?since=2026-08-20T12:00:10Z")).json()["id"] == bob


async def test_one_is_shown_rendered_as_text_and_raw(gateway, captured, test_key):
    reference = await captured()
    message = (await ask(gateway, f"/{reference}", key=test_key)).json()

    html = await ask(gateway, f"/{reference}/content/html", key=test_key)
    raw = await ask(gateway, f"/{reference}/content/raw", key=test_key)

    assert (message["content"]["parts"], message["content"]["to"]) == (["html", "text", "raw"], ["ada@example.com"])
    assert (html.text, html.headers["content-security-policy"][:27]) == (HTML, "sandbox; default-src 'none'")
    assert b"\r\nMIME-Version: 1.0\r\n" in raw.content
    error_of(await ask(gateway, f"/{reference}/attachments/1", key=test_key), 404, "NOT_FOUND")


async def test_other_channels_have_a_text(gateway, captured, test_key):
    push = {"channel": "push", "title": "Hi", "text": "Hello.", "data": {"order": "7"}}
    reference = await captured(to="token", content=json.dumps(push))

    content = (await ask(gateway, f"/{reference}", key=test_key)).json()["content"]

    assert (content["subject"], content["parts"], content["other"]) == ("Hi", ["text"], {"data": {"order": "7"}})


async def test_clearing_leaves_the_messages_and_what_a_receipt_needs(gateway, captured, test_key):
    await captured()
    pending = await captured(1, receipts=("delivered",))

    cleared = await ask(gateway, method="DELETE", key=test_key)

    assert cleared.json() == {"deleted": 1}
    assert [row["id"] for row in (await ask(gateway, key=test_key)).json()["data"]] == [pending]
    assert await gateway.count() == 2
    audited = await gateway.pool.fetch("SELECT action, noun FROM audit_log WHERE noun = 'outbox'")
    assert [tuple(row) for row in audited] == [("deleted", "outbox")]


@pytest.mark.parametrize("is_test", [True, False])
async def test_a_key_sees_and_clears_the_captures_of_its_mode(gateway, captured, is_test):
    """A live SMS is captured too, by the built-in provider without a link of the operator."""
    own, other = [await gateway.another_key(is_test=mode) for mode in (is_test, not is_test)]
    mine, foreign = await captured(key=own), await captured(1, key=other)

    [shown] = (await ask(gateway, key=own)).json()["data"]
    assert (shown["id"], shown["test"]) == (mine, is_test)
    assert (await ask(gateway, "/latest", key=own)).json()["id"] == mine
    for path in (
        f"/{foreign}",
        f"/{foreign}/content/html",
        f"/{foreign}/attachments/1",
        "/latest?since=2026-08-20T12:00:01Z",
    ):
        error_of(await ask(gateway, path, key=own), 404, "NOT_FOUND")
    assert (await ask(gateway, method="DELETE", key=own)).json() == {"deleted": 1}
    assert [row["id"] for row in (await ask(gateway, key=other)).json()["data"]] == [foreign]


async def test_the_capture_of_a_message_that_was_deleted_is_shown_to_people_only(gateway, captured, test_key):
    reference = await captured()
    ada = await a_person(gateway, "ada@example.com", shop="developer")
    await gateway.pool.execute("DELETE FROM messages")

    shown = (await ada.ask("GET", "/v1/outbox", project="shop")).json()["data"]

    assert [(row["id"], row["test"]) for row in shown] == [(reference, None)]
    for key in (test_key, gateway.key):
        assert (await ask(gateway, key=key)).json()["data"] == []
        assert (await ask(gateway, method="DELETE", key=key)).json() == {"deleted": 0}


async def test_a_live_key_sees_none_and_a_person_sees_it_in_both_modes(gateway, captured):
    reference = await captured()
    ada = await a_person(gateway, "ada@example.com", shop="viewer")

    assert (await ask(gateway)).json()["data"] == []
    assert (await ask(gateway, method="DELETE")).json() == {"deleted": 0}
    for path in (f"/{reference}", "/latest", f"/{reference}/content/html"):
        error_of(await ask(gateway, path), 404, "NOT_FOUND")
    for mode in ("live", "test"):
        shown = await ada.ask("GET", f"/v1/outbox?mode={mode}", project="shop")
        assert [row["id"] for row in shown.json()["data"]] == [reference]
    assert (await ada.ask("DELETE", "/v1/outbox", project="shop")).status_code == 403


async def test_another_project_sees_none(gateway, captured):
    reference, other = await captured(), await gateway.new_project("other")

    assert (await ask(gateway, key=other)).json()["data"] == []
    for path in ("", "/content/html", "/content/raw", "/attachments/1"):
        error_of(await ask(gateway, f"/{reference}{path}", key=other), 404, "NOT_FOUND")
    assert (await ask(gateway, method="DELETE", key=other)).json() == {"deleted": 0}


@pytest.mark.parametrize("cursor", ["x", "YQ", "MDAwMS0wMS0wMVQwMDowMDowMCswMDowMCBhdHRfMQ"])
async def test_a_cursor_of_something_else_is_refused(gateway, test_key, cursor):
    error = error_of(await ask(gateway, f"?cursor={cursor}", key=test_key), 400, "VALIDATION_ERROR")

    assert error["field"] == "cursor"


@pytest.mark.parametrize("text", ["x", "att_1", encode_id("msg", an_id())], ids=["x", "att_1", "of a message"])
async def test_an_id_of_something_else_is_not_found(gateway, test_key, text):
    error_of(await ask(gateway, f"/{text}", key=test_key), 404, "NOT_FOUND")
