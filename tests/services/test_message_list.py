"""``GET /v1/messages``: filters, pages and cursors."""

import base64

import pytest

from gateway.messages.cursor import decode_position, encode_position
from sluice.model.ids import encode_id, uuid7
from sluice.runtime.clock import utc_now
from sluice.store.message_list import Position
from tests.examples import a_body, as_json, seconds
from tests.services.test_gateway import error_of

ADA, BOB = "ada@example.com", "bob@example.com"


async def send(gateway, *, key=None, **fields):
    answer = await gateway.post(as_json(a_body(**fields)), key=key)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def listed(gateway, *, key=None, **params):
    answer = await gateway.ask("GET", "/v1/messages", key=key, params=params)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["data"]]


async def test_a_list_shows_messages_newest_first_with_a_cursor_to_the_next_page(gateway):
    sent = [await send(gateway, subject=f"{number}") for number in range(5)]

    pages, cursor = [], {}
    while True:
        answer = (await gateway.ask("GET", "/v1/messages", params={"limit": 2, **cursor})).json()
        pages.append([row["id"] for row in answer["data"]])
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}

    assert [len(page) for page in pages] == [2, 2, 1]
    found = [one for page in pages for one in page]
    assert found == sorted(sent, reverse=True)


async def test_a_row_is_the_message_without_its_events(gateway):
    fields = {"to": [ADA, BOB], "subject": "Grüße", "tags": ["a"], "metadata": {"order": 7}, "from": "Shop <s@x.org>"}
    message_id = await send(gateway, **fields)

    (row,) = (await gateway.ask("GET", "/v1/messages")).json()["data"]

    detail = (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()
    assert row == {name: value for name, value in detail.items() if name not in ("events", "deliveries", "next_cursor")}
    assert (row["to"], row["subject"], row["metadata"]) == ([ADA, BOB], "Grüße", {"order": 7})


async def test_a_message_with_a_nul_that_is_older_than_the_check_of_requests_is_listed(gateway):
    message_id = await send(gateway, subject="a\\u0000b")
    await gateway.pool.execute(r"UPDATE messages SET content = replace(content, '\\u0000', '\u0000')")

    (row,) = (await gateway.ask("GET", "/v1/messages")).json()["data"]

    assert (row["id"], row["subject"]) == (message_id, "a\ufffdb")


async def test_each_filter_finds_what_fits(gateway):
    one = await send(gateway, to=[ADA], cc=["carl@example.com"], tags=["red"], **{"from": "Shop <shop@example.com>"})
    two = await send(gateway, to=[f"Bob <{BOB}>"], tags=["red", "blue"], **{"from": "other@example.com"})
    sms = await gateway.post(as_json({"channel": "sms", "from": "Shop", "to": ["+14155551234"], "text": "x"}))
    sms = sms.json()["id"]
    await gateway.ask("DELETE", f"/v1/messages/{two}/cancel")

    assert await listed(gateway, to="ADA@example.com") == [one]
    assert await listed(gateway, to="carl@example.com") == [one]
    assert await listed(gateway, to=BOB) == [two]
    assert await listed(gateway, to="+14155551234") == [sms]
    assert await listed(gateway, **{"from": "shop@example.com"}) == [one]
    assert await listed(gateway, tag="red") == [two, one]
    assert await listed(gateway, tag="blue", to=ADA) == []
    assert await listed(gateway, channel="sms") == [sms]
    assert await listed(gateway, status="CANCELLED") == [two]
    assert await listed(gateway, status="queued") == [sms, one]
    assert await listed(gateway, status="DELIVERED") == []
    assert await listed(gateway, provider="provider-smtp") == []
    assert await listed(gateway, provider=encode_id("prv", uuid7())) == []
    assert await listed(gateway, bulk="blk_none") == []


async def test_a_range_of_time_has_its_first_moment_and_not_its_last(gateway):
    message_id = await send(gateway)
    created_at = (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()["created_at"]

    assert await listed(gateway, since=created_at) == [message_id]
    assert await listed(gateway, until=created_at) == []
    assert await listed(gateway, until=(utc_now() + seconds(60)).isoformat()) == [message_id]
    assert await listed(gateway, since="0001-01-01T00:00:00Z", until="9999-01-01T00:00:00Z") == [message_id]


async def test_test_and_live_messages_are_apart(gateway):
    test_key = await gateway.another_key(is_test=True)
    live, test = await send(gateway, to=[ADA]), await send(gateway, key=test_key, to=[ADA])

    assert (await listed(gateway), await listed(gateway, key=test_key)) == ([live], [test])
    assert (await listed(gateway, to=ADA), await listed(gateway, key=test_key, to=ADA)) == ([live], [test])


async def test_another_projects_messages_are_not_listed_nor_reached_by_its_cursor(gateway):
    for _ in range(3):
        await send(gateway, to=[ADA])
    cursor = (await gateway.ask("GET", "/v1/messages", params={"limit": 1})).json()["next_cursor"]
    other = await gateway.new_project("other")

    assert await listed(gateway, key=other) == []
    assert await listed(gateway, key=other, cursor=cursor, to=ADA) == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"status": "sideways"}, "status"),
        ({"channel": "pigeon"}, "channel"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-01-01"}, "until"),
        ({"cursor": "x"}, "cursor"),
        ({"to": ""}, "to"),
        ({"tag": "a\nb"}, "tag"),
    ],
)
async def test_a_bad_parameter_is_named(gateway, params, field):
    answer = await gateway.ask("GET", "/v1/messages", params=params)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field


A_POSITION = Position(uuid7(), utc_now().replace(microsecond=0), "10:20:10,15", uuid7(), "12:30:")


def forged(snapshots, late=bytes(16), started_at=1_700_000_000_000):
    head = bytes(16) + late + started_at.to_bytes(8, "big")
    return base64.urlsafe_b64encode(head + snapshots.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "é",
        "A" * 100,
        forged("20:10:"),
        forged("10:20:20"),
        forged("10:20:5"),
        forged("10:20:12,11"),
        forged("0:0:"),
        forged("10:20:x"),
        forged("9" * 19 + ":" + "9" * 19 + ":"),
        forged("10:20: 10:20:"),
        forged("10:20:", late=bytes(15) + b"1"),
        forged("10:20:", started_at=1 << 62),
        forged("10:20:", started_at=0),
    ],
)
async def test_a_forged_cursor_is_the_callers_error(gateway, cursor):
    answer = await gateway.ask("GET", "/v1/messages", params={"cursor": cursor})

    error_of(answer, 400, "VALIDATION_ERROR")


async def test_an_odd_cursor_that_can_be_read_is_no_fault(gateway):
    now = int(utc_now().timestamp() * 1000)
    for cursor in (forged("10:20:"), forged("1:999999999999999999:", started_at=now), forged("10:20: 1:2:", b"1" * 16)):
        assert await listed(gateway, cursor=cursor) == []


def test_a_cursor_is_read_as_it_was_written():
    for position in (A_POSITION, Position(A_POSITION.before, A_POSITION.started_at, "10:10:")):
        assert decode_position(encode_position(position)) == position
