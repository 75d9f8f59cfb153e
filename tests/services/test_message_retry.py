"""``POST /v1/messages/retry``: failed messages that filters find are sent again."""

import threading

import pytest

from gateway.messages import retry as retrying
from sluice.model.ids import decode_id
from sluice.store import messages
from tests.examples import a_body, as_json
from tests.services.test_gateway import error_of

LONG_AGO = "2020-01-01T00:00:00Z"


async def send(gateway, *, key=None, **fields):
    answer = await gateway.post(as_json(a_body(**fields)), key=key)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def a_failure(gateway, *, state="FAILED", key=None, **fields):
    """A message whose deliveries ended in this state."""
    message_id = await send(gateway, key=key, **fields)
    await gateway.pool.execute(
        "UPDATE deliveries SET state = $2, due_at = NULL, enqueued_at = NULL WHERE message_id = $1",
        decode_id("msg", message_id),
        state,
    )
    return message_id


async def retry(gateway, *, key=None, **params):
    return await gateway.ask("POST", "/v1/messages/retry", key=key, params={"since": LONG_AGO} | params)


async def retried(gateway, **params):
    answer = await retry(gateway, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def count(gateway):
    return await gateway.pool.fetchval("SELECT count(*) FROM messages")


async def test_what_failed_is_sent_again_as_a_new_message_with_the_same_content(gateway):
    first = await a_failure(gateway, subject="Bill", tags=["bills"])

    [row] = await retried(gateway)

    assert (row["message_id"], row["error"]) == (first, None)
    assert row["delivery_id"].startswith("dlv_")
    new = (await gateway.ask("GET", f"/v1/messages/{row['retried_as']['id']}")).json()
    assert (new["status"], new["subject"], new["tags"]) == ("QUEUED", "Bill", ["bills"])
    assert new["id"] != first


async def test_a_repeated_call_sends_nothing_twice_and_names_the_message(gateway):
    await a_failure(gateway)
    [first] = await retried(gateway)
    stored = await count(gateway)

    [again] = await retried(gateway)
    [rehearsed] = await retried(gateway, dry_run=True)

    for row in (again, rehearsed):
        assert row["retried_as"] is None
        assert row["error"]["code"] == "DELIVERY_NOT_RETRYABLE"
        assert str(decode_id("msg", first["retried_as"]["id"])) in row["error"]["message"]
    assert await count(gateway) == stored


async def test_a_dry_run_sends_nothing(gateway):
    first = await a_failure(gateway)

    [row] = await retried(gateway, dry_run=True)

    assert (row["message_id"], row["retried_as"], row["error"]) == (first, None, None)
    assert await count(gateway) == 1


async def test_only_what_the_filters_find_and_what_failed_is_sent_again(gateway):
    red = await a_failure(gateway, tags=["red"])
    bounced = await a_failure(gateway, tags=["red"], state="BOUNCED")
    await a_failure(gateway, tags=["blue"])
    for state in ("DELIVERED", "SENT", "CANCELLED"):
        await a_failure(gateway, tags=["red"], state=state)
    await send(gateway, tags=["red"])

    assert [row["message_id"] for row in await retried(gateway, tag="red")] == [bounced, red]
    assert await retried(gateway, tag="green") == []
    assert await retried(gateway, since="2999-01-01T00:00:00Z") == []


async def test_a_walk_meets_each_failed_message_once_and_not_those_that_it_made(gateway):
    failed = [await a_failure(gateway, subject=f"{number}") for number in range(5)]
    met, cursor = [], {}
    while True:
        page = (await retry(gateway, limit=2, **cursor)).json()
        met += [row["message_id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert met == failed[::-1]
    assert await count(gateway) == 10


async def test_more_deliveries_than_are_read_at_once(gateway, monkeypatch):
    monkeypatch.setattr("gateway.messages.retry._CHUNK", 2)
    failed = [await a_failure(gateway) for _ in range(5)]

    rows = await retried(gateway)

    assert [row["message_id"] for row in rows] == failed[::-1]
    assert all(row["retried_as"] for row in rows)


async def test_a_call_sends_a_bounded_number_of_deliveries_and_its_cursor_leads_to_the_others(gateway, monkeypatch):
    monkeypatch.setattr("gateway.messages.retry._MAX_DELIVERIES", 3)
    sms = {"channel": "sms", "from": "Shop", "subject": None, "text": "Hello"}

    async def to(count):
        return await a_failure(gateway, to=[f"+1415555000{number}" for number in range(count)], **sms)

    failed = [await to(count) for count in (2, 1, 5, 2, 1, 1)]
    pages, cursor = [], {}
    while cursor is not None:
        page = (await retry(gateway, **cursor)).json()
        pages.append([row["message_id"] for row in page["data"]])
        assert all(row["retried_as"] for row in page["data"])
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}

    one, two, five, three, four, last = failed
    assert pages == [[last, four], [three] * 2, [five] * 5, [two, one, one]]


async def test_contents_are_read_by_their_bytes_and_decoded_once_beside_the_event_loop(gateway, monkeypatch):
    monkeypatch.setattr("gateway.messages.retry._CHUNK_BYTES", 10_000)
    failed = [await a_failure(gateway, text="x" * size) for size in (10, 6_000, 6_000, 20_000, 10, 20)]
    read, decoded = [], []
    find_for_retry, decode = messages.find_for_retry, retrying._decoded

    async def finding(db, project, delivery_ids):
        read.append(len(delivery_ids))
        return await find_for_retry(db, project, delivery_ids)

    def decoding(found):
        decoded.append(threading.current_thread())
        return decode(found)

    monkeypatch.setattr(messages, "find_for_retry", finding)
    monkeypatch.setattr(retrying, "_decoded", decoding)

    rows = await retried(gateway)

    assert [row["message_id"] for row in rows] == failed[::-1]
    assert all(row["retried_as"] for row in rows)
    assert read == [2, 1, 1, 2]
    assert len(decoded) == 4
    assert threading.main_thread() not in decoded


async def test_one_whose_content_was_erased_has_an_error_and_keeps_no_other_one_back(gateway):
    erased, kept = await a_failure(gateway), await a_failure(gateway)
    await gateway.pool.execute("UPDATE messages SET content = '{}' WHERE id = $1", decode_id("msg", erased))

    for dry_run in (True, False):
        rows = {row["message_id"]: row for row in await retried(gateway, dry_run=dry_run)}
        assert "content" in rows[erased]["error"]["message"]
        assert rows[kept]["error"] is None
    assert rows[kept]["retried_as"]


async def test_messages_of_others_and_of_test_keys_are_apart(gateway):
    await a_failure(gateway)

    for key in (await gateway.new_project("other"), await gateway.another_key(is_test=True)):
        assert await retried(gateway, key=key) == []
    assert await count(gateway) == 1


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"limit": 101}, "limit"),
        ({"limit": 0}, "limit"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"status": "lost"}, "status"),
        ({"incident": "nonsense"}, "incident"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway, params, field):
    await a_failure(gateway)

    answer = await retry(gateway, **params)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field
    assert await count(gateway) == 1


async def test_the_beginning_of_the_range_is_required(gateway):
    answer = await gateway.ask("POST", "/v1/messages/retry")

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "since"
