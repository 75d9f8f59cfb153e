"""Bulk jobs on the whole system: every row once, whatever dies on the way; and the stream of their events."""

import asyncio
import json
import os
import signal

import httpx
import pytest

from tests.polling import wait_until
from tests.system.test_outages import calls_by_message

pytestmark = pytest.mark.usefixtures("proven")

ROWS = 3_000
BULK = "/v1/messages/bulk"


def lines(rows):
    message = {"channel": "email", "from": "shop@example.com", "subject": "News", "text": "Hello {{name}}"}
    yield json.dumps({"message": message}).encode() + b"\n"
    for number in range(rows):
        yield json.dumps({"to": f"r{number}@example.com", "variables": {"name": f"{number}"}}).encode() + b"\n"


async def upload(testbed, rows):
    """The id of a job; repeated while the gateway is away."""
    headers = {"x-sendpipe-key": testbed.key, "content-type": "application/jsonl", "idempotency-key": "news-7"}

    async def ask():
        try:
            answer = await testbed.api.post(BULK, headers=headers, content=b"".join(lines(rows)))
        except httpx.TransportError:
            return None
        return answer.json()["id"] if answer.status_code == 202 else None

    return await wait_until(ask, 60)


async def job_of(testbed, job_id):
    try:
        answer = await testbed.api.get(f"{BULK}/{job_id}", headers={"x-sendpipe-key": testbed.key})
    except httpx.TransportError:
        return None
    return answer.json() if answer.status_code == 200 else None


@pytest.mark.timeout(180)
async def test_a_gateway_that_is_killed_again_and_again_sends_every_row_once(testbed, fake_provider):
    job_id = await upload(testbed, ROWS)
    for _ in range(3):
        await asyncio.sleep(0.5)
        os.kill(await testbed.pid("gateway"), signal.SIGKILL)
        await wait_until(lambda: job_of(testbed, job_id), 60)

    async def is_done():
        job = await job_of(testbed, job_id)
        return job if job is not None and job["status"] == "COMPLETED" else None

    done = await wait_until(is_done, 90)
    assert (done["recipients"], done["accepted"], done["rejected"]) == (ROWS, ROWS, 0)

    async def are_sent():
        job = await job_of(testbed, job_id)
        return job is not None and job["deliveries"] == {"SENT": ROWS}

    await wait_until(are_sent, 120)
    recipients = await testbed.db.fetchval(
        "SELECT count(DISTINCT recipient) FROM deliveries WHERE project_id = $1", testbed.project.id
    )
    assert recipients == ROWS
    assert len(calls_by_message(fake_provider)) == ROWS


async def test_a_stream_shows_a_message_on_its_way_and_continues_behind_it(testbed, fake_provider):
    async with httpx.AsyncClient(base_url=testbed.api.base_url, timeout=30, trust_env=False) as client:
        headers = {"x-sendpipe-key": testbed.key}
        seen, last = [], None
        async with client.stream("GET", "/v1/events/stream", headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            reading = stream.aiter_lines()
            await anext(reading)
            message_id = await testbed.send()
            async for line in reading:
                if line.startswith("id: "):
                    last = line.removeprefix("id: ")
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                    if seen[-1]["type"] == "sent":
                        break
        assert [(event["type"], event["message_id"]) for event in seen] == [("sent", message_id)]

        second = await testbed.send()
        await testbed.settled(second)
        continued = headers | {"last-event-id": last}
        async with client.stream("GET", "/v1/events/stream?types=sent", headers=continued) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    assert json.loads(line.removeprefix("data: "))["message_id"] == second
                    break


async def test_streams_end_when_the_gateway_stops(testbed):
    async with testbed.api.stream("GET", "/v1/events/stream", headers={"x-sendpipe-key": testbed.key}) as stream:
        reading = stream.aiter_lines()
        await anext(reading)
        stopping = asyncio.create_task(testbed.run_command("restart", "gateway"))
        async with asyncio.timeout(8):
            async for _ in reading:
                pass
    await stopping
