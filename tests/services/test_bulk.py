"""``/v1/messages/bulk``: uploads, their expansion into messages, progress, results and cancellation."""

import asyncio
import csv
import io
import json
import threading

import pytest
from structlog.testing import capture_logs

from gateway.bulk import expander, service
from gateway.bulk import upload as upload_module
from gateway.bulk.rows import MAX_ROW, Csv, JsonLines
from gateway.errors import ValidationFailed
from sluice.model.ids import encode_id, uuid7
from sluice.runtime.clock import utc_now
from sluice.store import bulk_jobs, projects
from sluice.store.bulk_jobs import NewChunk
from tests.examples import an_id, seconds
from tests.polling import wait_until
from tests.services.fakes import SlowBody
from tests.services.test_gateway import QUEUE_LIMIT, error_of
from tests.services.test_suppressions import suppress

BULK = "/v1/messages/bulk"
SMS = {"channel": "sms", "from": "Shop", "text": "Hello {{name}}"}
EMAIL = {"channel": "email", "from": "Shop <shop@example.com>", "subject": "For {{name}}", "html": "<p>{{name}}</p>"}


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(expander, "_PAUSE_FACTOR", 0.0)
    monkeypatch.setattr(expander, "_MAX_WAIT", 0.0)  # no router takes deliveries from the dispatch queue
    monkeypatch.setattr(expander, "_POLL_INTERVAL", 0.05)


def numbers(count):
    return [{"to": f"+1415555{number:04}"} for number in range(count)]


def lines(message, rows):
    return b"".join(json.dumps(one).encode() + b"\n" for one in [{"message": message}, *rows])


async def upload(gateway, message, rows, *, key=None, **headers):
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    content = rows if isinstance(rows, bytes) else lines(message, rows)
    headers = {"content-type": "application/jsonl"} | named
    return await gateway.ask("POST", BULK, key=key, content=content, headers=headers)


async def upload_form(gateway, message, text, *, name="list.csv", kind="text/csv"):
    files = {"message": (None, json.dumps(message), "application/json"), "recipients": (name, text, kind)}
    return await gateway.ask("POST", BULK, files=files)


async def job_of(gateway, job, *, key=None):
    answer = await gateway.ask("GET", f"{BULK}/{job['id']}", key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def finished(gateway, job, status="COMPLETED", *, key=None):
    async def is_there():
        return (await job_of(gateway, job, key=key))["status"] == status

    await wait_until(is_there, within=30)
    return await job_of(gateway, job, key=key)


def accepts(gateway, job, rows):
    """A condition: that many rows of the job are messages."""

    async def are_accepted():
        return (await job_of(gateway, job))["accepted"] == rows

    return are_accepted


async def results_of(gateway, job):
    answer = await gateway.ask("GET", f"{BULK}/{job['id']}/results")
    assert answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


async def contents(gateway):
    rows = await gateway.pool.fetch("SELECT content FROM messages ORDER BY id")
    return [json.loads(row["content"]) for row in rows]


async def test_every_row_of_json_lines_becomes_a_message(gateway):
    rows = [
        {"to": "+14155550001", "variables": {"name": "Ada"}, "metadata": {"order": 1}},
        {"to": ["+14155550002", "+14155550003"], "tags": ["vip"]},
    ]
    created = await upload(gateway, SMS | {"variables": {"name": "you"}, "metadata": {"list": "news"}}, rows)

    assert created.status_code == 202
    assert (created.json()["status"], created.json()["recipients"]) == ("EXPANDING", 2)
    done = await finished(gateway, created.json())
    assert (done["accepted"], done["rejected"], done["deliveries"]) == (2, 0, {"QUEUED": 3})
    assert [one["text"] for one in await contents(gateway)] == ["Hello Ada", "Hello you"]
    stored = await gateway.pool.fetch("SELECT metadata, tags FROM messages ORDER BY id")
    assert [(json.loads(row["metadata"]), row["tags"]) for row in stored] == [
        ({"list": "news", "order": 1}, []),
        ({"list": "news"}, ["vip"]),
    ]
    assert len(gateway.bus.on("deliveries.accepted")) == 3


async def test_every_row_of_a_csv_becomes_a_message_with_its_own_values(gateway):
    text = '\ufeffto,name,metadata.note\r\nada@example.com,"Ada ""A"", <b>",7\r\nbob@example.com,Bob,"two\r\nlines"\r\n'

    created = await upload_form(gateway, EMAIL, text.encode())

    assert created.status_code == 202, created.text
    await finished(gateway, created.json())
    one, two = await contents(gateway)
    assert (one["to"], one["subject"]) == (["ada@example.com"], 'For Ada "A", <b>')
    assert "<b>" not in one["html"]
    assert two["to"] == ["bob@example.com"]
    results = await results_of(gateway, created.json())
    assert [(row["row"], row["to"]) for row in results] == [(1, "ada@example.com"), (2, "bob@example.com")]
    notes = await gateway.pool.fetch("SELECT metadata FROM messages ORDER BY id")
    assert [json.loads(row["metadata"]) for row in notes] == [{"note": "7"}, {"note": "two\r\nlines"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_the_header_decides_about_the_delimiter(gateway, delimiter):
    text = delimiter.join(["name", "to"]) + "\n" + delimiter.join(["Ada", "+14155550001"])

    created = await upload_form(gateway, SMS, text.encode())

    await finished(gateway, created.json())
    assert [one["text"] for one in await contents(gateway)] == ["Hello Ada"]


async def test_a_row_that_cannot_become_a_message_is_rejected_alone(gateway):
    rows = [{"to": "+14155550001"}, {"to": "no number"}, {"to": "+14155550003", "sbject": "x"}, {"to": "+14155550004"}]
    created = await upload(gateway, SMS, rows)

    done = await finished(gateway, created.json())

    assert (done["accepted"], done["rejected"]) == (2, 2)
    results = await results_of(gateway, created.json())
    assert [(row["row"], row["status"], (row["error"] or {}).get("field")) for row in results] == [
        (1, "QUEUED", None),
        (2, None, "to.0"),
        (3, None, "sbject"),
        (4, "QUEUED", None),
    ]
    listed = (await gateway.ask("GET", "/v1/messages", params={"bulk": created.json()["id"]})).json()["data"]
    assert {row["id"] for row in listed} == {row["message_id"] for row in results} - {None}


NULL = {"metadata": None, "variables": None, "tags": None, "send_at": None}


async def test_null_is_the_absence_of_a_field_in_the_message_and_in_a_row(gateway):
    """null in metadata of the message rejected each row with metadata as a fault of ours."""
    rows = [
        {"to": "+14155550001", "metadata": {"order": None}, "variables": None},
        {"to": "+14155550002", "variables": {"name": None}, "channel": None, "idempotency_key": None},
        {"to": "+14155550003", **NULL},
    ]
    nulls = {"to": None, "idempotency_key": None, "template_id": None}

    for message in (SMS | NULL | nulls, SMS | nulls | {"variables": {"name": "Ada"}, "metadata": {"list": None}}):
        created = await upload(gateway, message, rows)
        assert created.status_code == 202, created.text
        assert (await finished(gateway, created.json()))["accepted"] == 3
    created = await upload_form(gateway, SMS | NULL | nulls, b"to,metadata.order\n+14155550004,7\n")
    assert (await finished(gateway, created.json()))["accepted"] == 1

    assert [one["text"] for one in await contents(gateway)] == [
        *("Hello {{name}}", "Hello ", "Hello {{name}}"),
        *("Hello Ada", "Hello ", "Hello Ada"),
        "Hello {{name}}",
    ]
    metadata = await gateway.pool.fetch("SELECT metadata FROM messages ORDER BY id")
    assert [json.loads(row["metadata"] or "null") for row in metadata] == [
        *({"order": None}, None, None),
        *({"list": None, "order": None}, {"list": None}, {"list": None}),
        {"order": "7"},
    ]


async def test_a_template_with_an_error_is_refused_with_its_place(gateway):
    refused = await upload(gateway, SMS | {"text": "a\nb {{#if}", "variables": {}}, numbers(1))

    error = error_of(refused, 400, "VALIDATION_ERROR")
    assert error["field"] == "message.text"
    assert "line 2" in error["message"]


@pytest.mark.parametrize(
    ("message", "rows", "field"),
    [
        (SMS | {"channel": "pigeon"}, numbers(1), "message.channel"),
        (SMS | {"channel": []}, numbers(1), "message.channel"),
        (SMS | {"to": ["+14155550001"]}, numbers(1), "message.to"),
        (SMS | {"idempotency_key": "x"}, numbers(1), "message.idempotency_key"),
        (SMS | {"text": ""}, numbers(1), "message.text"),
        (SMS | {"variables": []}, numbers(1), "message.variables"),
        (SMS, [], "recipients"),
        (SMS, [*numbers(2), {"name": "Ada"}], "recipients.3.to"),
        (SMS, [{"to": []}], "recipients.1.to"),
        (SMS, [{"to": 7}], "recipients.1.to"),
        (SMS, [{"to": "+14155550001", "variables": 7}], "recipients.1.variables"),
        (SMS, [{"to": "+14155550001", "channel": "email"}], "recipients.1.channel"),
        (None, b'{"message": 7}\n{"to":"x"}', "message"),
        (None, b'{"to":"x"}\n', "message"),
        (None, b"no json\n", "message"),
        (None, b"", "message"),
        (None, lines(SMS, []) + b'{"to": "+14155550001"\n', "recipients.1"),
        (None, lines(SMS, []) + b'{"to": "' + b"x" * MAX_ROW, "recipients.1"),
        (None, lines(SMS, []) + b'{"to": "\xff"}', "recipients.1"),
    ],
)
async def test_an_upload_that_cannot_be_read_is_refused_as_a_whole(gateway, message, rows, field):
    refused = await upload(gateway, message, rows)

    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == field
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_jobs") == 0
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_chunks") == 0


async def test_a_row_that_cannot_be_read_after_many_chunks_leaves_nothing(gateway, monkeypatch):
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)

    refused = await upload(gateway, SMS, [*numbers(9), {}])

    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "recipients.10.to"
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_chunks") == 0


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"", "recipients"),
        (b"name\nAda\n", "recipients"),
        (b"to,to\nx,y\n", "recipients"),
        (b"to,\nx,y\n", "recipients"),
        (b"to,name\nx,y,z\n", "recipients.1"),
        (b"to,name\n\xff,y\n", "recipients"),
        (b'to,name\nx,"y\n', "recipients.1"),
        (b'to,name\nx,"y"z\n', "recipients.1"),
        (b"to,name\nx,\x00\n", "recipients.1"),
        (b"to,name\n,Ada\n", "recipients.1.to"),
        (b'to\n"' + b"x\n" * MAX_ROW, "recipients.1"),
    ],
)
async def test_a_csv_that_cannot_be_read_is_refused_as_a_whole(gateway, text, field):
    refused = await upload_form(gateway, SMS, text)

    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == field
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_jobs") == 0


async def test_a_form_of_another_shape_is_refused(gateway):
    part = (None, json.dumps(SMS), "application/json")
    for files in ({"message": part}, {"recipients": ("a.csv", b"to\nx\n", "text/csv"), "message": part}, {"x": part}):
        refused = await gateway.ask("POST", BULK, files=files)
        assert error_of(refused, 400, "VALIDATION_ERROR")["field"] in ("recipients", "message")
    for kind in ("text/plain", "multipart/form-data", "application/json"):
        refused = await upload(gateway, SMS, numbers(1), content_type=kind)
        assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "Content-Type"


@pytest.mark.parametrize("lists", [1, 2, 4])
async def test_too_many_recipients_are_refused(gateway, monkeypatch, lists):
    monkeypatch.setattr(service, "MAX_RECIPIENTS", 3)
    recipients = [row["to"] for row in numbers(4)]
    rows = [{"to": recipients[start : start + 4 // lists]} for start in range(0, 4, 4 // lists)]

    error_of(await upload(gateway, SMS, numbers(4)), 413, "PAYLOAD_TOO_LARGE")
    error_of(await upload(gateway, SMS, rows), 413, "PAYLOAD_TOO_LARGE")

    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_jobs") == 0


async def test_a_repeated_upload_is_the_first_job(gateway):
    first = await upload(gateway, SMS, numbers(3), idempotency_key="news-7")
    again = await upload(gateway, SMS, numbers(3), idempotency_key="news-7")
    other = await upload(gateway, SMS, numbers(4), idempotency_key="news-7")

    assert again.json()["id"] == first.json()["id"]
    assert [one.headers.get("idempotent-replayed") for one in (first, again)] == [None, "true"]
    error_of(other, 409, "IDEMPOTENCY_CONFLICT")
    await finished(gateway, first.json())
    assert await gateway.count() == 3
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_jobs") == 1


@pytest.mark.parametrize("key", ["заказ-А", "заказ-Я", "я" * 255])
async def test_an_idempotency_key_is_utf_8_as_that_of_a_single_request(gateway, key):
    """Its bytes were read as Latin-1: some letters were control characters then, and each counted twice."""
    first, again = [await upload(gateway, SMS, numbers(1), idempotency_key=key.encode()) for _ in range(2)]

    assert first.status_code == 202, first.text
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize("key", ["clé".encode("latin-1"), ("я" * 256).encode(), b"", b"a\x7f"])
async def test_an_idempotency_key_that_is_no_text_of_255_characters_is_refused(gateway, key):
    refused = await upload(gateway, SMS, numbers(1), idempotency_key=key)

    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "idempotency_key"


async def test_an_idempotency_key_that_is_repeated_with_another_value_is_refused(gateway):
    keys = [("x-sendpipe-key", gateway.key), ("idempotency-key", "one"), ("idempotency-key", "other")]
    headers = [*keys, ("content-type", "application/jsonl")]

    refused = await gateway.client.post(BULK, content=lines(SMS, numbers(1)), headers=headers)

    assert "repeated" in error_of(refused, 400, "VALIDATION_ERROR")["message"]


@pytest.mark.parametrize(("coding", "status"), [("Identity", 202), ("identity, identity", 202), ("gzip", 400)])
async def test_only_an_identical_coding_is_accepted(gateway, coding, status):
    assert (await upload(gateway, SMS, numbers(1), content_encoding=coding)).status_code == status


async def a_slow_upload(gateway, *, key=None):
    """An upload of which the end does not come yet, and its body."""
    body = SlowBody(lines(SMS, numbers(1)), lines(SMS, numbers(2)).splitlines(keepends=True)[-1])
    headers = {"content-type": "application/jsonl"}
    task = asyncio.create_task(gateway.ask("POST", BULK, key=key, content=body, headers=headers))
    await body.is_read.wait()
    return task, body


async def test_slow_uploads_of_one_project_leave_room_for_those_of_others(gateway):
    """Twenty uploads of one project were all that a gateway took."""
    slow = [await a_slow_upload(gateway) for _ in range(4)]

    error_of(await upload(gateway, SMS, numbers(1)), 429, "RATE_LIMIT_EXCEEDED")
    other = await gateway.new_project("other")
    assert (await upload(gateway, SMS, numbers(1), key=other)).status_code == 202

    for task, body in slow:
        body.ends.set()
        assert (await task).json()["recipients"] == 2
    assert (await upload(gateway, SMS, numbers(1))).status_code == 202


async def test_a_chunk_has_a_thousand_recipients_at_most(gateway):
    rows = [{"to": [f"+1415{one * 400 + at:07d}" for at in range(400)]} for one in range(5)]
    created = await upload(gateway, SMS, [*rows, *numbers(1)])

    await finished(gateway, created.json())

    chunks = await gateway.pool.fetch("SELECT first_row, cardinality(message_ids) AS rows FROM bulk_chunks ORDER BY 1")
    assert [tuple(one) for one in chunks] == [(1, 2), (3, 2), (5, 2)]
    assert await gateway.pool.fetchval("SELECT count(*) FROM deliveries") == 2_001


async def test_deliveries_beyond_the_projects_quota_wait_in_its_backlog(gateway, monkeypatch):
    async def not_now(*_):
        """A refresh would not count what is being stored at that moment."""

    monkeypatch.setattr("gateway.ingest.dispatch_quota.DispatchQuota.refresh", not_now)
    monkeypatch.setattr(service, "CHUNK_ROWS", 7)
    created = await upload(gateway, SMS, numbers(QUEUE_LIMIT + 10))

    await finished(gateway, created.json())

    assert len(gateway.bus.on("deliveries.accepted")) == QUEUE_LIMIT
    waiting = await gateway.pool.fetchval("SELECT count(*) FROM deliveries WHERE enqueued_at IS NULL")
    assert waiting == 10


async def test_projects_take_turns(gateway, monkeypatch):
    """The large job of one project and the small one of another: the second is not behind all of the first."""
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)
    order = []
    process = expander.BulkExpander._process

    async def noted(self, job):
        order.append(job.project_id)
        return await process(self, job)

    async def not_yet(self):
        return False

    run_once = expander.BulkExpander.run_once
    monkeypatch.setattr(expander.BulkExpander, "run_once", not_yet)
    large = (await upload(gateway, SMS, numbers(20))).json()
    other = await gateway.new_project("other")
    small = (await upload(gateway, SMS, numbers(4), key=other)).json()
    monkeypatch.setattr(expander.BulkExpander, "_process", noted)
    monkeypatch.setattr(expander.BulkExpander, "run_once", run_once)

    await finished(gateway, large)
    assert (await job_of(gateway, small, key=other))["status"] == "COMPLETED"
    assert len(set(order[:2])) == len(set(order[2:4])) == 2


async def test_rows_wait_while_deliveries_of_their_project_fill_the_dispatch_queue(gateway, monkeypatch):
    """One project's job is not before another project's message in the queue, which is first in, first out."""
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)
    monkeypatch.setattr(expander, "_MAX_ENQUEUED", 3)
    monkeypatch.setattr(expander, "_MAX_WAIT", 3600.0)

    created = (await upload(gateway, SMS, numbers(10))).json()
    await wait_until(accepts(gateway, created, 4))
    other = await gateway.new_project("other")
    await finished(gateway, (await upload(gateway, SMS, numbers(2), key=other)).json(), key=other)
    assert (await job_of(gateway, created))["accepted"] == 4

    await gateway.pool.execute("UPDATE deliveries SET enqueued_at = NULL, in_flight = true")  # claimed by workers
    await wait_until(accepts(gateway, created, 8))
    monkeypatch.setattr(expander, "_MAX_WAIT", 0.0)  # other messages of the project may keep the queue full
    assert (await finished(gateway, created))["accepted"] == 10


async def test_expanders_that_die_and_work_at_once_make_every_message_once(gateway, monkeypatch):
    """A transaction that breaks off is what the death of a process is to PostgreSQL."""
    monkeypatch.setattr(service, "CHUNK_ROWS", 5)
    monkeypatch.setattr(expander, "_RETRY_DELAY", 0.0)
    finish, calls = bulk_jobs.finish_chunk, []

    async def dying(*args, **options):
        await finish(*args, **options)
        calls.append(1)
        if len(calls) % 3 == 0:
            raise ConnectionError("killed before the commit")

    monkeypatch.setattr(bulk_jobs, "finish_chunk", dying)
    async with expander.BulkExpander(gateway.ingest._pool, gateway.ingest, gateway.outbox).running():
        created = (await upload(gateway, SMS, numbers(60))).json()
        done = await finished(gateway, created)

    assert (done["accepted"], done["deliveries"]) == (60, {"QUEUED": 60})
    assert await gateway.pool.fetchval("SELECT count(DISTINCT recipient) FROM deliveries") == 60
    assert len(calls) > 12


async def test_a_fault_of_ours_rejects_its_chunk_and_no_other(gateway, monkeypatch):
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)
    prepare, calls = gateway.ingest.prepare_batch, []

    async def once(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("a bug")
        return await prepare(*args, **options)

    monkeypatch.setattr(gateway.ingest, "prepare_batch", once)
    with capture_logs() as logged:
        created = (await upload(gateway, SMS, numbers(6))).json()
        done = await finished(gateway, created)

    assert [one["exc_info"] for one in logged if one["event"] == "bulk_chunk_failed"] == [True]  # with its traceback
    assert (done["accepted"], done["rejected"]) == (4, 2)
    errors = {(row["error"] or {}).get("code") for row in await results_of(gateway, created)}
    assert errors == {None, "INTERNAL_ERROR"}


async def test_a_job_is_cancelled_with_its_messages_that_no_provider_has(gateway, monkeypatch):
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)
    cancelling = asyncio.Event()
    expand = expander.BulkExpander._expand

    async def first_chunk_only(self, db, job):
        if await gateway.count() >= 2:
            await cancelling.wait()
        return await expand(self, db, job)

    monkeypatch.setattr(expander.BulkExpander, "_expand", first_chunk_only)
    created = (await upload(gateway, SMS, numbers(6))).json()

    async def begun():
        return await gateway.count() == 2

    await wait_until(begun)
    sent = await gateway.pool.fetchval(
        "UPDATE deliveries SET state = 'SENT', due_at = NULL WHERE id = (SELECT min(id::text)::uuid FROM deliveries)"
        " RETURNING message_id"
    )

    answer = await gateway.ask("DELETE", f"{BULK}/{created['id']}/cancel")
    cancelling.set()

    assert answer.json()["status"] == "CANCELLING"
    done = await finished(gateway, created, "CANCELLED")
    states = {
        row["message_id"]: (row["status"], (row["error"] or {}).get("code"))
        for row in await results_of(gateway, created)
    }
    assert states.pop(encode_id("msg", sent)) == ("SENT", None)
    assert set(states.values()) == {("CANCELLED", None), (None, "CANCELLED")}
    assert done["deliveries"]["SENT"] == 1
    cancelled = [json.loads(value) for value in gateway.bus.on("delivery.events")]
    assert {event["type"] for event in cancelled} == {"cancelled"}
    again = await gateway.ask("DELETE", f"{BULK}/{created['id']}/cancel")
    assert again.json()["status"] == "CANCELLED"


async def test_a_completed_job_can_be_cancelled(gateway):
    created = (await upload(gateway, SMS, numbers(3))).json()
    await finished(gateway, created)

    await gateway.ask("DELETE", f"{BULK}/{created['id']}/cancel")

    assert (await finished(gateway, created, "CANCELLED"))["deliveries"] == {"CANCELLED": 3}


async def test_a_row_with_a_suppressed_recipient_is_cancelled_for_the_others(gateway):
    await suppress(gateway, "+14155550001", channel="sms")
    created = (await upload(gateway, SMS, [{"to": ["+14155550001", "+14155550002"]}, {"to": "+14155550001"}])).json()
    await finished(gateway, created)

    await gateway.ask("DELETE", f"{BULK}/{created['id']}/cancel")

    assert (await finished(gateway, created, "CANCELLED"))["deliveries"] == {"FAILED": 2, "CANCELLED": 1}
    assert [row["status"] for row in await results_of(gateway, created)] == ["CANCELLED", "FAILED"]


async def project_of(gateway):
    return await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")


async def is_cancelled(gateway):
    return await gateway.pool.fetchval("SELECT status FROM bulk_jobs") == "CANCELLED"


@pytest.mark.parametrize("deleted", ["meanwhile", "before"])
async def test_the_job_of_a_deleted_project_is_cancelled(gateway, monkeypatch, deleted):
    """``before``: as a gateway leaves it that deletes the project without its jobs."""
    monkeypatch.setattr(service, "CHUNK_ROWS", 2)
    goes_on, expand = asyncio.Event(), expander.BulkExpander._expand

    async def first_chunk_only(self, db, job):
        if await gateway.count() >= 2:
            await goes_on.wait()
        return await expand(self, db, job)

    monkeypatch.setattr(expander.BulkExpander, "_expand", first_chunk_only)
    await upload(gateway, SMS, numbers(20))
    await wait_until(gateway.count)
    if deleted == "meanwhile":
        await projects.delete_project(gateway.pool, await project_of(gateway), now=utc_now())
    else:
        await gateway.pool.execute("UPDATE projects SET deleted_at = now() WHERE slug = 'shop'")
    goes_on.set()

    await wait_until(lambda: is_cancelled(gateway))
    assert await gateway.count() <= 4  # one chunk was under way
    assert await gateway.pool.fetchval("SELECT count(*) FROM deliveries WHERE state <> 'CANCELLED'") == 0
    assert await gateway.pool.fetchval("SELECT count(*) FROM bulk_chunks WHERE rows <> ''") == 0


async def test_an_upload_during_which_its_project_is_deleted_leaves_nothing(gateway, monkeypatch):
    complete = service._complete

    async def delete_first(*args, **options):
        await projects.delete_project(gateway.pool, await project_of(gateway), now=utc_now())
        return await complete(*args, **options)

    monkeypatch.setattr(service, "_complete", delete_first)

    refused = await upload(gateway, SMS, numbers(3), idempotency_key="news")

    error_of(refused, 404, "NOT_FOUND")
    for table in ("bulk_jobs", "bulk_chunks", "idempotency_keys", "messages"):
        assert await gateway.pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_results_are_downloaded_as_csv_without_formulas(gateway):
    rows = [{"to": "+14155550001"}, {"to": "=HYPERLINK(1)"}, {"to": "-1+2"}]
    created = (await upload(gateway, SMS, rows)).json()
    await finished(gateway, created)

    answer = await gateway.ask("GET", f"{BULK}/{created['id']}/results", params={"format": "csv"})

    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["to"] for row in found] == ["+14155550001", "'=HYPERLINK(1)", "'-1+2"]
    assert [(row["row"], row["status"], row["error_code"]) for row in found] == [
        ("1", "QUEUED", ""),
        ("2", "", "VALIDATION_ERROR"),
        ("3", "", "VALIDATION_ERROR"),
    ]


async def test_results_of_rows_that_were_not_processed_are_open(gateway, monkeypatch):
    async def never(self):
        return False

    monkeypatch.setattr(expander.BulkExpander, "run_once", never)
    created = (await upload(gateway, SMS, numbers(2))).json()

    assert [(row["to"], row["status"], row["error"]) for row in await results_of(gateway, created)] == [
        ("+14155550000", None, None),
        ("+14155550001", None, None),
    ]


async def test_jobs_are_listed_newest_first(gateway):
    created = [(await upload(gateway, SMS, numbers(1))).json()["id"] for _ in range(3)]

    page = (await gateway.ask("GET", BULK, params={"limit": 2})).json()

    rest = (await gateway.ask("GET", BULK, params={"cursor": page["next_cursor"]})).json()
    assert [row["id"] for row in [*page["data"], *rest["data"]]] == created[::-1]


async def test_a_job_of_another_project_or_mode_is_unknown(gateway):
    created = (await upload(gateway, SMS, numbers(1))).json()
    other = await gateway.new_project("other")
    test_key = await gateway.another_key(is_test=True)

    for key in (other, test_key):
        for method, path in (("GET", ""), ("GET", "/results"), ("DELETE", "/cancel")):
            foreign = await gateway.ask(method, f"{BULK}/{created['id']}{path}", key=key)
            unknown = await gateway.ask(method, f"{BULK}/{encode_id('blk', uuid7())}{path}", key=key)
            error_of(foreign, 404, "NOT_FOUND")
            assert foreign.json() == unknown.json()
        assert (await gateway.ask("GET", BULK, key=key)).json()["data"] == []


async def test_an_upload_whose_process_died_is_deleted(gateway):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    old, new = an_id(utc_now() - seconds(30_000)), an_id(utc_now())
    for job_id, age in ((old, 30_000), (new, 0)):
        await bulk_jobs.add_chunks(gateway.pool, project_id, job_id, [NewChunk(0, 1, "[]")])
        await gateway.pool.execute(
            "INSERT INTO bulk_jobs (id, project_id, sandbox, status, message, recipients, created_at, served_at)"
            " VALUES ($1, $2, false, 'UPLOADING', '{}', 0, $3, $3)",
            job_id,
            project_id,
            utc_now() - seconds(age),
        )

    async def is_gone():
        left = await gateway.pool.fetch("SELECT id FROM bulk_jobs")
        return [row["id"] for row in left] == [new]

    await wait_until(is_gone)
    assert await gateway.pool.fetchval("SELECT array_agg(job_id) FROM bulk_chunks") == [new]


def rows_of(reader, pieces):
    found = [row for piece in pieces for row in reader.feed(piece)]
    return [*found, *reader.end()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_rows_do_not_depend_on_the_pieces_in_which_they_arrive(size):
    text = 'to,name\n"a",ä\r\nb,"x\n""y"\n\nc,\n'.encode()
    as_lines = b'{"to":"a"}\n\n{"to":["b","c"]}\r\n{"to":"\xc3\xa4"}'

    def pieces(data):
        return [data[start : start + size] for start in range(0, len(data), size)]

    assert rows_of(Csv(), pieces(text)) == [
        {"to": "a", "variables": {"name": "ä"}},
        {"to": "b", "variables": {"name": 'x\n"y'}},
        {"to": "c", "variables": {"name": ""}},
    ]
    assert rows_of(JsonLines(), pieces(as_lines)) == [{"to": "a"}, {"to": ["b", "c"]}, {"to": "ä"}]


def test_a_text_that_never_ends_is_not_collected():
    pieces = [b'to\n"', *[b"x" * 1000] * MAX_ROW]

    with pytest.raises(ValidationFailed):
        rows_of(Csv(), pieces)


class Counted(str):
    """A text that counts the characters of it, and of what is made of it, that are read again."""

    read = 0

    def count(self, *args):
        Counted.read += len(self)
        return super().count(*args)

    def split(self, *args):
        return [Counted(part) for part in super().split(*args)]

    def __add__(self, other):
        return Counted(super().__add__(other))

    def __radd__(self, other):
        return Counted(other + str(self))


def test_the_lines_of_a_text_are_read_once(monkeypatch):
    """A text of 60,000 empty lines was copied and read again for each of them: 0.6 s for every such record."""
    monkeypatch.setattr(Counted, "read", 0)
    decode = Csv._decode
    monkeypatch.setattr(Csv, "_decode", lambda *args, **options: Counted(decode(*args, **options)))
    record = b'+14155551234,"' + b"\n" * 60_000 + b'"\n'

    found = rows_of(Csv(), [b"to,x\n", record, record])

    assert [len(row["variables"]["x"]) for row in found] == [60_000, 60_000]
    assert Counted.read < 3 * 2 * len(record)


@pytest.mark.parametrize("as_form", [True, False], ids=["form", "lines"])
async def test_an_upload_is_read_in_small_pieces_beside_the_event_loop(gateway, monkeypatch, as_form):
    """A message of numbers, rows of 64 KiB and a million blank lines would each keep the event loop for long."""
    readers, pieces = set(), []
    decode = upload_module.strict_json

    def noted(body, data):
        readers.add(threading.get_ident())
        pieces.append(len(data))
        return feeds[type(body)](body, data)

    def noted_json(data):
        readers.add(threading.get_ident())
        return decode(data)

    feeds = {kind: kind.feed for kind in (upload_module._Form, upload_module._Lines)}
    for kind in feeds:
        monkeypatch.setattr(kind, "feed", noted)
    monkeypatch.setattr(upload_module, "strict_json", noted_json)
    rows = lines(None, numbers(3)).partition(b"\n")[2] + b"\n" * 200_000

    if as_form:
        created = await upload_form(gateway, SMS, rows, name="list.jsonl", kind="application/jsonl")
    else:
        created = await upload(gateway, None, lines(SMS, []) + rows)

    assert created.status_code == 202, created.text
    assert threading.get_ident() not in readers
    assert sum(pieces) > 200_000
    assert max(pieces) <= upload_module._PIECE


async def test_a_message_that_is_expensive_to_decode_is_refused_before(gateway):
    message = SMS | {"metadata": {"a": [0] * 300_000}}

    for refused in (await upload(gateway, message, numbers(1)), await upload_form(gateway, message, b"to\nx\n")):
        assert error_of(refused, 413, "PAYLOAD_TOO_LARGE")["field"] == "message"


@pytest.mark.parametrize("size", [1, 1000])
def test_a_message_may_arrive_in_any_pieces(size):
    data = lines(SMS, numbers(1))
    body = upload_module._Lines()

    found = [row for start in range(0, len(data), size) for row in body.feed(data[start : start + size])]

    assert (body.message, found) == (SMS, numbers(1))
