"""Messages with a long history: their answers are bounded, and stop no other request."""

import json

import pytest

from sluice.model.ids import decode_id, uuid7
from tests.loop_lag import LIMIT, loop_lag
from tests.services.test_gateway import error_of


@pytest.fixture
def a_message(gateway):
    """Accepts a text to so many recipients; each gets so many attempts, each with a decision and two events."""

    async def make(recipients, attempts, candidates=2, receipts=0):
        to = [f"+1415555{one:04d}" for one in range(recipients)]
        body = {"channel": "sms", "from": "Shop", "to": to, "text": "x"}
        accepted = (await gateway.ask("POST", "/v1/messages/channel", json=body)).json()
        id_ = decode_id("msg", accepted["id"])
        provider = uuid7()
        decision = {
            "policy": "adaptive",
            "decision": "selected",
            "provider": str(provider),
            "candidates": [{"id": str(uuid7()), "priority": one, "excluded": "unhealthy"} for one in range(candidates)],
        }
        await gateway.pool.execute(
            """
            INSERT INTO attempts (delivery_id, number, provider_id, retry_round, client_reference, started_at,
                                  finished_at, outcome, error, routing_decision, project_id)
            SELECT id, n, $2, 0, 'r', now(), now(), 'provider_fault', '500', $3, project_id
              FROM deliveries, generate_series(1, $4) n WHERE message_id = $1
            """,
            *(id_, provider, json.dumps(decision), attempts),
        )
        await gateway.pool.execute(
            """
            INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, detail)
            SELECT id, n + 1, project_id, CASE WHEN n % 2 = 1 THEN 'sending' ELSE 'attempt_failed' END, 'SENDING',
                   now(), (n + 1) / 2, 'x'
              FROM deliveries, generate_series(1, 2 * $2) n WHERE message_id = $1
            """,
            *(id_, attempts),
        )
        await gateway.pool.execute(
            """
            INSERT INTO receipts (delivery_id, provider_id, receipt_id, project_id, attempt, type, received_at)
            SELECT id, $2, 'r' || n, project_id, 1, 'opened', now()
              FROM deliveries, generate_series(1, $3) n WHERE message_id = $1
            """,
            *(id_, provider, receipts),
        )
        counts = (
            "UPDATE deliveries SET attempt_count = $2::int, last_event_sequence = 2 * $2::int + 1 WHERE message_id = $1"
        )
        await gateway.pool.execute(counts, id_, attempts)
        return accepted["id"]

    return make


async def get(gateway, message_id, cursor=None):
    gateway.client.event_hooks = {}  # which compare a large answer with the document for seconds, on the loop
    query = {} if cursor is None else {"cursor": cursor}
    answer = await gateway.ask("GET", f"/v1/messages/{message_id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize(
    "sizes",
    [(1000, 10), (1, 10_000), (1, 1, 2, 20_000), (100, 10, 100), (1000, 1)],
    ids=["of the finding", "attempts of one", "receipts of one", "candidates", "recipients"],
)
async def test_a_long_history_does_not_stop_the_loop(gateway, a_message, sizes):
    message_id = await a_message(*sizes)
    await get(gateway, message_id)

    async with loop_lag() as lag:
        answer = await get(gateway, message_id)

    assert len(answer.content) < 4_000_000
    assert lag.worst < LIMIT


async def test_a_cancelled_message_with_many_recipients_does_not_stop_the_loop(gateway, a_message):
    message_id = await a_message(1000, 0)
    gateway.client.event_hooks = {}
    await gateway.ask("DELETE", f"/v1/messages/{await a_message(1, 0)}/cancel")  # the first call of a route is slow

    async with loop_lag() as lag:
        answer = await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel")

    cancelled = answer.json()
    assert (answer.status_code, cancelled["status"], len(cancelled["deliveries"])) == (200, "CANCELLED", 50)
    assert {one["status"] for one in cancelled["deliveries"]} == {"CANCELLED"}
    assert lag.worst < LIMIT


async def test_a_list_of_messages_with_many_recipients_does_not_stop_the_loop(gateway, a_message):
    for _ in range(20):
        await a_message(1000, 0)
    gateway.client.event_hooks = {}
    await gateway.ask("GET", "/v1/messages")

    async with loop_lag() as lag:
        answer = await gateway.ask("GET", "/v1/messages")

    assert {len(one["to"]) for one in answer.json()["data"]} == {1000}
    assert lag.worst < LIMIT


async def test_every_delivery_is_on_one_page_and_the_rest_is_about_the_whole_message(gateway, a_message):
    message_id = await a_message(120, 1)
    last = "UPDATE deliveries SET state = 'SENT' WHERE recipient = '+14155550119'"
    await gateway.pool.execute(last)

    pages, cursor = [], None
    while not pages or cursor:
        pages.append((await get(gateway, message_id, cursor)).json())
        cursor = pages[-1]["next_cursor"]

    assert [len(page["deliveries"]) for page in pages] == [50, 50, 20]
    recipients = [one["recipient"] for page in pages for one in page["deliveries"]]
    assert sorted(recipients) == [f"+1415555{one:04d}" for one in range(120)]
    for page in pages:
        assert {one["recipient"] for one in page["deliveries"]} == {one["recipient"] for one in page["events"]}
        assert (page["status"], page["attempts"], len(page["to"])) == ("QUEUED", 120, 120)


async def test_a_delivery_shows_its_first_and_its_newest_attempts_and_events(gateway, a_message):
    message_id = await a_message(1, 700, receipts=600)

    message = (await get(gateway, message_id)).json()

    [delivery] = message["deliveries"]
    numbers = [one["number"] for one in delivery["attempts"]]
    assert numbers == [*range(1, 251), *range(451, 701)]
    sequences = [int(one["id"].rpartition("_")[2]) for one in message["events"]]
    assert sequences == [*range(1, 501), *range(902, 1402)]
    assert (delivery["attempt_count"], delivery["event_count"]) == (700, 1_401)
    assert len(delivery["attempts"][0]["receipts"]) == 500
    assert message["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "dlv_1", "ä"])
async def test_a_cursor_of_something_else_is_refused(gateway, a_message, cursor):
    message_id = await a_message(1, 1)

    error_of(await gateway.ask("GET", f"/v1/messages/{message_id}", params={"cursor": cursor}), 400, "VALIDATION_ERROR")
