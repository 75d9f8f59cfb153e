"""Dead letters: the projection of the event-worker, and ``GET /v1/dead-letters``."""

import json

import pytest

from event_worker.dead_letters import DeadLetterProjection, read_letter
from sluice.bus.dead_letters import REPLAY_HEADER, encode_dead_letter
from sluice.model.ids import encode_id, uuid7
from sluice.runtime.clock import utc_now
from sluice.store import dead_letters, retention
from sluice.store.db import open_pool
from sluice.store.dead_letters import LetterStatus
from sluice.store.logins import EVENT_WORKER
from sluice.store.retention import RetentionLimits
from tests.engine import as_login
from tests.examples import NOON, a_body, a_letter, an_id, as_json, seconds
from tests.services.fakes import FakeRecord

LETTERS = "/v1/dead-letters"


def a_record(value=b"{]", *, offset=17, **fields):
    return FakeRecord(value, topic="send.requests", partition=3, offset=offset, **fields)


def letters(*values):
    return [FakeRecord(value, topic="dead.letters", offset=offset) for offset, value in enumerate(values)]


def invalid(project_id=None, reason="no JSON", **fields):
    return encode_dead_letter(a_record(**fields), reason, at=NOON, project_id=project_id)


def failed(project_id, message_id):
    return json.dumps(
        {
            "kind": "failed_delivery",
            "delivery_id": str(an_id()),
            "message_id": str(message_id),
            "project_id": str(project_id),
            "channel": "email",
            "reason": "all providers failed",
            "at": NOON.isoformat(),
        }
    ).encode()


@pytest.fixture
async def projection(store_database):
    async with open_pool(as_login(store_database, EVENT_WORKER), size=2, name="letters", command_timeout=60.0) as pool:
        yield DeadLetterProjection(pool)


async def listed(gateway, *, key=None, **params):
    answer = await gateway.ask("GET", LETTERS, key=key, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_project_sees_its_own_letters(gateway, projection):
    await gateway.new_project("other")
    own, foreign = [row["id"] for row in await gateway.pool.fetch("SELECT id FROM projects ORDER BY created_at")]
    message_id = an_id()

    await projection.on_letters(letters(invalid(own), invalid(foreign), invalid(None), failed(own, message_id)))

    found = await listed(gateway)
    assert {(one["kind"], one["status"], one["reason"]) for one in found} == {
        ("invalid_record", "open", "no JSON"),
        ("failed_delivery", "open", "all providers failed"),
    }
    record = next(one for one in found if one["topic"])
    assert (record["topic"], record["partition"], record["offset"]) == ("send.requests", 3, 17)
    (delivery,) = await listed(gateway, kind="failed_delivery")
    assert delivery["message_id"] == encode_id("msg", message_id)
    assert await listed(gateway, status="replayed") == []


async def test_a_repeated_letter_is_one_row_and_keeps_its_status(gateway, projection):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    records = letters(invalid(project_id))
    await projection.on_letters(records)
    letter_id = await gateway.pool.fetchval("SELECT id FROM dead_letters")
    await dead_letters.resolve(gateway.pool, letter_id, LetterStatus.REPLAYED, now=NOON)

    await projection.on_letters(records)

    (one,) = await listed(gateway)
    assert (one["status"], one["resolved_at"]) == ("replayed", "2026-08-20T12:00:00.000Z")


async def test_letters_are_listed_in_pages(gateway):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    rows = [a_letter(id=uuid7(1_000 + number), project_id=project_id) for number in range(3)]
    await dead_letters.add(gateway.pool, rows)

    page = (await gateway.ask("GET", LETTERS, params={"limit": 2})).json()
    rest = await listed(gateway, cursor=page["next_cursor"])

    assert [one["id"] for one in [*page["data"], *rest]] == [encode_id("dlt", row.id) for row in reversed(rows)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'{"kind":"other","reason":"x","at":"2026-01-01T00:00:00+00:00"}',
        b'{"kind":"invalid_record","at":"2026-01-01T00:00:00+00:00"}',
        b'{"kind":"invalid_record","reason":"x","at":"yesterday"}',
        b'{"kind":"invalid_record","reason":"x","at":"2026-01-01T00:00:00+00:00","partition":-1}',
        b'{"kind":"invalid_record","reason":"x","at":"2026-01-01T00:00:00+00:00","offset":9223372036854775808}',
        b'{"kind":"invalid_record","reason":"x","at":"2026-01-01T00:00:00+00:00","project_id":"x"}',
    ],
)
def test_what_is_no_letter_leads_to_nothing(value):
    assert read_letter(letters(value)[0]) is None


async def test_a_letter_with_any_text_can_be_stored(gateway, projection):
    await projection.on_letters(letters(invalid(None, reason="\x00" + "x" * 5_000)))

    reason = await gateway.pool.fetchval("SELECT reason FROM dead_letters")
    assert reason.startswith("\ufffdx")


async def test_letters_are_deleted_with_those_of_the_topic(gateway):
    now = utc_now()
    await dead_letters.add(
        gateway.pool,
        [a_letter(occurred_at=now - seconds(31 * 86400)), a_letter(id=uuid7(), occurred_at=now)],
    )

    await retention.delete_expired(gateway.pool, RetentionLimits(None, None), now=now)

    assert await gateway.pool.fetchval("SELECT array_agg(occurred_at) FROM dead_letters") == [now]


# -- records of a project, and their replay ----------------------------------------------------------------------------


async def ingest(gateway, value, *, offset, **headers):
    named = {"x-sendpipe-key": gateway.key} | {name.replace("_", "-"): text for name, text in headers.items()}
    record = a_record(value, offset=offset, headers=tuple((name, text.encode()) for name, text in named.items()))
    await gateway.ingress._accept(record)
    assert record.acked


async def test_a_refused_request_is_a_letter_of_its_project(gateway):
    await ingest(gateway, as_json(a_body(to=["no address"])), offset=1)

    (value,) = gateway.bus.on("dead.letters")
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    assert json.loads(value)["project_id"] == str(project_id)


async def test_a_replayed_request_is_the_one_that_it_repeats(gateway):
    body = as_json(a_body())
    await ingest(gateway, body, offset=1)
    await ingest(gateway, body, offset=9, **{REPLAY_HEADER: "send.requests/3/1@1000"})
    await ingest(gateway, body, offset=10, **{REPLAY_HEADER: "send.requests/3/7@1000"})
    await ingest(gateway, body, offset=11, **{REPLAY_HEADER: "send.requests/3/7@1000"})
    await ingest(gateway, body, offset=12, **{REPLAY_HEADER: "\x1f anything"})

    keys = await gateway.pool.fetch("SELECT key FROM idempotency_keys ORDER BY key")
    assert [row["key"] for row in keys] == [
        "\x1fsend.requests/3/12@1000",
        "\x1fsend.requests/3/1@1000",
        "\x1fsend.requests/3/7@1000",
    ]
    assert await gateway.count() == 3
