"""A message in full: deliveries with attempts and receipts, its content as documents, and filters by its attempts."""

import base64
import email
import email.policy
import json

import pytest

from sluice.model.ids import attempt_reference, decode_id, encode_id
from sluice.model.state import EventType
from sluice.store import receipts
from sluice.store.receipts import ReceiptEntry
from tests.examples import a_body, a_claim, a_transition, after, an_id, as_json, seconds
from tests.services.test_dry_run import with_providers
from tests.services.test_gateway import error_of
from tests.services.test_message_list import listed, send


@pytest.fixture
def attempted(gateway, store):
    """Makes the attempts of a message: (provider, outcome), each with its reference unless one is given."""

    async def make(message_id, *attempts):
        row = await gateway.pool.fetchrow(
            "SELECT id, project_id FROM deliveries WHERE message_id = $1", decode_id("msg", message_id)
        )
        shared = {"project_id": row["project_id"]}
        for number, (provider_id, outcome, *reference) in enumerate(attempts, 1):
            references = {"reference": reference[0]} if reference else {}
            decision = json.dumps({"decision": "selected", "provider": str(provider_id), "candidates": []})
            claim = a_claim(
                *(row["id"], number), provider_id=provider_id, routing_decision=decision, **shared, **references
            )
            assert await store.claim(claim, at=after(10 * number)) == [row["id"]]
            is_last = number == len(attempts)
            end = {"due_at": None, "enqueued_at": None} if is_last else {}
            type_ = EventType.SENT if outcome == "accepted" else EventType.ATTEMPT_FAILED
            error = {} if outcome == "accepted" else {"detail": "550 no", "error": "550 no"}
            await store.transitioned(
                a_transition(
                    row["id"],
                    type_,
                    attempt=number,
                    outcome=outcome,
                    unknown=outcome == "unknown",
                    provider_id=provider_id,
                    occurred_at=after(10 * number + 1.5),
                    **shared,
                    **{name: value for name, value in error.items() if name == "detail"},
                    **end,
                )
            )
        return row["id"]

    return make


async def detail(gateway, message_id):
    answer = await gateway.ask("GET", f"/v1/messages/{message_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def provider_of(gateway, message_id):
    """Of the message, which the list shows as the message itself does."""
    listed_ones = (await gateway.ask("GET", "/v1/messages")).json()["data"]
    [row] = [one for one in listed_ones if one["id"] == message_id]
    message = await detail(gateway, message_id)
    assert row["provider"] == message["provider"]
    return None if row["provider"] is None else row["provider"]["name"]


@pytest.mark.parametrize(
    ("outcomes", "taken"),
    [
        ([], None),
        (["accepted"], "first"),
        (["provider_fault"], None),
        (["recipient_rejected"], None),
        (["unknown"], None),
        (["provider_fault", "accepted"], "second"),
        (["unknown", "accepted"], "second"),
        (["provider_fault", "throttled"], None),
    ],
)
async def test_the_provider_of_a_message_is_the_one_that_took_it(gateway, attempted, outcomes, taken):
    providers = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    await attempted(message_id, *zip(providers, outcomes, strict=False))

    assert await provider_of(gateway, message_id) == taken


@pytest.mark.parametrize("state", ["FAILED", "EXPIRED", "UNCONFIRMED"])
async def test_a_message_that_none_took_has_no_provider_when_it_has_ended(gateway, attempted, state):
    first, second = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    await attempted(message_id, (first, "unknown"), (second, "provider_fault"))
    await gateway.pool.execute("UPDATE deliveries SET state = $1, in_flight = false, due_at = NULL", state)

    assert await provider_of(gateway, message_id) is None


async def test_a_call_that_has_begun_makes_no_provider(gateway, store):
    first, *_ = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    row = await gateway.pool.fetchrow("SELECT id, project_id FROM deliveries")
    assert await store.claim(a_claim(row["id"], 1, provider_id=first, project_id=row["project_id"])) == [row["id"]]

    assert await provider_of(gateway, message_id) is None


@pytest.mark.parametrize("type_", [EventType.DELIVERED, EventType.BOUNCED, EventType.SOFT_BOUNCE, EventType.OPENED])
async def test_a_receipt_for_an_unknown_attempt_shows_who_took_it(gateway, store, attempted, type_):
    """Also where another provider was called since."""
    first, second = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    delivery_id = await attempted(message_id, (first, "unknown"), (second, "provider_fault"))
    receipt = ReceiptEntry(
        **{"delivery_id": delivery_id, "attempt": 1, "provider_id": first, "receipt_id": "r"},
        **{"type": type_, "occurred_at": after(30)},
    )
    async with store.rows_of(await gateway.pool.fetchval("SELECT id FROM projects")) as db:
        await receipts.apply(db, [receipt], now=after(30), outbox_retry_after=seconds(10))

    assert await provider_of(gateway, message_id) == "first"


async def test_a_provider_that_took_a_message_keeps_it_when_its_receipt_says_failed(gateway, attempted):
    [first] = await with_providers(gateway, "first")
    message_id = await send(gateway)
    await attempted(message_id, (first, "accepted"))
    await gateway.pool.execute("UPDATE deliveries SET state = 'FAILED'")

    assert await provider_of(gateway, message_id) == "first"


async def test_each_attempt_has_its_outcome_its_answer_its_decision_and_its_receipts(gateway, store, attempted):
    first, second = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    delivery_id = await attempted(message_id, (first, "provider_fault"), (second, "accepted"))
    receipt = ReceiptEntry(
        delivery_id=delivery_id,
        attempt=2,
        provider_id=second,
        receipt_id="r",
        type=EventType.DELIVERED,
        occurred_at=after(30),
    )
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    async with store.rows_of(project_id) as db:
        await receipts.apply(db, [receipt], now=after(30), outbox_retry_after=seconds(10))

    message = await detail(gateway, message_id)

    [delivery] = message["deliveries"]
    one, two = delivery["attempts"]
    assert (delivery["id"], delivery["status"], delivery["due_at"]) == (
        encode_id("dlv", delivery_id),
        "DELIVERED",
        None,
    )
    assert (one["outcome"], one["detail"], one["duration_ms"], one["receipts"]) == (
        "provider_fault",
        "550 no",
        1500,
        [],
    )
    assert one["provider"] == {"id": encode_id("prv", first), "name": "first"}
    assert one["routing"]["provider"]["name"] == "first"
    assert (two["id"], two["outcome"], two["number"]) == (attempt_reference(delivery_id, 2), "accepted", 2)
    assert [receipt["type"] for receipt in two["receipts"]] == ["delivered"]
    assert (message["failed_over"], message["possible_duplicate"]) == (True, False)


async def test_an_attempt_in_flight_has_no_outcome(gateway, store):
    (first,) = await with_providers(gateway, "first")
    message_id = await send(gateway)
    row = await gateway.pool.fetchrow("SELECT id, project_id FROM deliveries")
    await store.claim(a_claim(row["id"], project_id=row["project_id"], provider_id=first))

    [attempt] = (await detail(gateway, message_id))["deliveries"][0]["attempts"]

    assert (attempt["outcome"], attempt["finished_at"], attempt["duration_ms"]) == (None, None, None)


@pytest.mark.parametrize(
    ("attempts", "doubled"),
    [
        ([(0, "unknown"), (1, "accepted")], True),
        ([(0, "unknown"), (1, "unknown")], True),
        ([(0, "unknown"), (1, "provider_fault")], False),
        ([(0, "unknown", "att_same"), (0, "accepted", "att_same")], False),
        ([(0, "accepted")], False),
    ],
)
async def test_two_calls_that_may_have_reached_a_provider_may_be_two_messages(gateway, attempted, attempts, doubled):
    known = await with_providers(gateway, "first", "second")
    message_id = await send(gateway)
    await attempted(message_id, *[(known[place], *rest) for place, *rest in attempts])

    message = await detail(gateway, message_id)
    (row,) = (await gateway.ask("GET", "/v1/messages")).json()["data"]

    assert (message["possible_duplicate"], row["possible_duplicate"]) == (doubled, doubled)
    assert message["deliveries"][0]["possible_duplicate"] is doubled
    assert message["failed_over"] is row["failed_over"] is (len({place for place, *_ in attempts}) > 1)


async def test_the_list_has_filters_by_attempts(gateway, attempted):
    first, second = await with_providers(gateway, "first", "second")
    plain, over, doubled = await send(gateway), await send(gateway), await send(gateway)
    await attempted(plain, (first, "accepted"))
    await attempted(over, (first, "provider_fault"), (second, "accepted"))
    await attempted(doubled, (second, "unknown"), (first, "accepted"))

    assert await listed(gateway, failed_over="true") == [doubled, over]
    assert await listed(gateway, failed_over="false") == [plain]
    assert await listed(gateway, possible_duplicate="true") == [doubled]
    assert await listed(gateway, possible_duplicate="false") == [over, plain]
    assert await listed(gateway, attempted_provider="second") == [doubled, over]
    assert await listed(gateway, attempted_provider=encode_id("prv", first)) == [doubled, over, plain]
    assert await listed(gateway, attempted_provider="second", provider="first") == [doubled]
    assert await listed(gateway, attempted_provider="third") == []


async def test_the_list_has_filters_by_incident_and_template(gateway):
    template = {"name": "x", "kind": "email", "subject": "Hi", "text": "Hello."}
    template_id = (await gateway.ask("POST", "/v1/templates", json=template)).json()["id"]
    body = {name: value for name, value in a_body().items() if name not in ("subject", "text")}
    plain, made = await send(gateway), await gateway.post(as_json(body | {"template_id": template_id}))
    made, incident_id = made.json()["id"], an_id()
    await gateway.pool.execute(
        "INSERT INTO incident_deliveries SELECT id, $1, project_id, message_id, true, true, false, false, false, false"
        " FROM deliveries WHERE message_id = $2",
        *(incident_id, decode_id("msg", plain)),
    )
    incident = encode_id("inc", incident_id)

    assert await listed(gateway, template=template_id) == [made]
    assert await listed(gateway, incident=incident) == [plain]
    assert await listed(gateway, incident=incident, to="ada@example.com", status="queued") == [plain]
    assert await listed(gateway, incident=incident, template=template_id) == []
    assert await listed(gateway, incident=encode_id("inc", an_id())) == []
    assert await listed(gateway, key=await gateway.new_project("other"), incident=incident) == []


async def test_a_walk_with_the_filter_of_an_incident_shows_each_message_once(gateway):
    incident_id = an_id()
    sent = [await send(gateway) for _ in range(5)]
    await gateway.pool.execute(
        "INSERT INTO incident_deliveries SELECT id, $1, project_id, message_id, true, true, false, false, false, false"
        " FROM deliveries",
        incident_id,
    )
    found, cursor = [], {}
    while True:
        params = {"incident": encode_id("inc", incident_id), "limit": 2, **cursor}
        answer = (await gateway.ask("GET", "/v1/messages", params=params)).json()
        found += [row["id"] for row in answer["data"]]
        await gateway.pool.execute("UPDATE incident_deliveries SET late = NOT late")
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}

    assert found == sorted(sent, reverse=True)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"incident": "x_1"}, "incident"),
        ({"template": "inc_1"}, "template"),
        ({"failed_over": "perhaps"}, "failed_over"),
    ],
)
async def test_a_filter_that_cannot_be_read_is_named(gateway, params, field):
    error = error_of(await gateway.ask("GET", "/v1/messages", params=params), 400, "VALIDATION_ERROR")

    assert error["field"] == field


# -- content ---------------------------------------------------------------------------------------------------------

HOSTILE = (
    "<script>fetch('https://evil.example')</script><img src=https://evil.example/pixel onerror=alert(1)>"
    "<a href='https://evil.example/?a=1&amp;b=2'>bank.example</a><a href=javascript:alert(1)>x</a>"
    "<form action=https://evil.example><base href=https://evil.example><meta http-equiv=refresh content=0>"
)


async def a_mail(gateway, **fields):
    file = {"filename": "r\u00e4t.csv", "content": base64.b64encode(b"a,b").decode(), "content_type": "text/csv"}
    mail = {"html": HOSTILE, "attachments": [file], "bcc": ["eve@example.com"]} | fields
    return await send(gateway, **mail)


async def test_the_content_lists_its_parts_links_and_files(gateway):
    content = (await gateway.ask("GET", f"/v1/messages/{await a_mail(gateway)}/content")).json()

    assert (content["from"], content["to"], content["bcc"]) == (
        "Shop <shop@example.com>",
        ["ada@example.com"],
        ["eve@example.com"],
    )
    assert content["parts"] == ["html", "text", "raw"]
    assert content["links"] == ["https://evil.example/?a=1&b=2", "javascript:alert(1)", "https://evil.example"]
    assert [(file["number"], file["filename"], file["size"]) for file in content["attachments"]] == [(1, "rät.csv", 3)]
    assert "html" not in content


@pytest.mark.parametrize(("query", "images"), [("", "data:"), ("?images=1", "data: https:")])
async def test_html_may_run_and_load_nothing(gateway, query, images):
    found = await gateway.ask("GET", f"/v1/messages/{await a_mail(gateway)}/content/html{query}")

    assert (found.text, found.headers["content-type"]) == (HOSTILE, "text/html; charset=utf-8")
    assert found.headers["content-security-policy"] == (
        f"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src {images}; form-action 'none';"
        " base-uri 'none'; frame-ancestors 'self'"
    )
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "no-store"


async def test_the_raw_mail_is_what_is_sent_without_bcc(gateway):
    message_id = await a_mail(gateway)

    found = await gateway.ask("GET", f"/v1/messages/{message_id}/content/raw")

    mail = email.message_from_bytes(found.content, policy=email.policy.default)
    assert found.headers["content-type"] == "message/rfc822"
    assert (mail["To"], mail["Bcc"], mail["X-Sluice-Message-Id"]) == ("ada@example.com", None, message_id)
    assert [part.get_content_type() for part in mail.iter_attachments()] == ["text/csv"]


async def test_an_attachment_is_a_file_to_save(gateway):
    found = await gateway.ask("GET", f"/v1/messages/{await a_mail(gateway)}/attachments/1")

    assert (found.content, found.headers["content-type"]) == (b"a,b", "application/octet-stream")
    assert found.headers["content-disposition"] == "attachment; filename*=UTF-8''r%C3%A4t.csv"


@pytest.mark.parametrize("path", ["attachments/2", "attachments/0", "attachments/-1"])
async def test_what_a_message_has_not_is_not_found(gateway, path):
    error_of(await gateway.ask("GET", f"/v1/messages/{await a_mail(gateway)}/{path}"), 404, "NOT_FOUND")


async def test_a_text_message_has_a_text_only(gateway):
    sms = await gateway.post(as_json({"channel": "sms", "from": "Shop", "to": ["+14155551234"], "text": "x <b>"}))
    path = f"/v1/messages/{sms.json()['id']}/content"

    content = (await gateway.ask("GET", path)).json()

    assert (content["to"], content["parts"], content["text"]) == (["+14155551234"], ["text"], "x <b>")
    text = await gateway.ask("GET", f"{path}/text")
    assert (text.text, text.headers["content-type"]) == ("x <b>", "text/plain; charset=utf-8")
    for part in ("html", "raw"):
        error_of(await gateway.ask("GET", f"{path}/{part}"), 404, "NOT_FOUND")


async def test_a_content_that_was_erased_is_not_found(gateway):
    message_id = await a_mail(gateway)
    await gateway.pool.execute("UPDATE messages SET content = '{}'")

    for path in ("content", "content/html", "attachments/1"):
        error = error_of(await gateway.ask("GET", f"/v1/messages/{message_id}/{path}"), 404, "NOT_FOUND")
        assert error["message"] == "The content of this message was erased."


async def test_a_mail_whose_attachment_was_deleted_has_no_raw_form(gateway):
    message_id = await a_mail(gateway)
    await gateway.pool.execute("DELETE FROM attachments")

    error_of(await gateway.ask("GET", f"/v1/messages/{message_id}/content/raw"), 404, "NOT_FOUND")
    error_of(await gateway.ask("GET", f"/v1/messages/{message_id}/attachments/1"), 404, "NOT_FOUND")


async def test_another_projects_and_the_other_modes_content_is_not_found(gateway):
    message_id, other = await a_mail(gateway), await gateway.new_project("other")
    test_key = await gateway.another_key(is_test=True)

    for path in ("content", "content/html", "content/raw", "attachments/1"):
        for key in (other, test_key):
            error_of(await gateway.ask("GET", f"/v1/messages/{message_id}/{path}", key=key), 404, "NOT_FOUND")
