"""Finding 4: one tenant's large request does not stop the gateway for all others."""

import asyncio
import time
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from gateway.errors import PayloadTooLarge, TooManyRequests
from gateway.kit.body_cost import BodyBudget, check_cost
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY
from tests.engine import as_login
from tests.examples import a_body, as_json
from tests.security.bodies import HOSTILE, SIZE, a_large_mail
from tests.services.fakes import with_a_patient_gateway
from tests.services.test_gateway import Gateway

MAX_BODY = 26_214_400
MOST_WORK = 1.0  # seconds of processor time: 0.05 is the aim; without the limits it was 13 to 40


@pytest.fixture
async def gateway(pool, role_pools, store_database, bus, monkeypatch):
    with_a_patient_gateway(monkeypatch)
    async with ConfigCache().subscribed(as_login(store_database, GATEWAY)) as config:
        gateway = Gateway(pool, role_pools.gateway, config, bus, max_body=MAX_BODY)
        gateway.key = await gateway.new_project()
        async with gateway.authenticator.running(), gateway.ingest.running():
            yield gateway
        await gateway.client.aclose()


@asynccontextmanager
async def heartbeat():
    """A list with the processor time, in seconds, that the process used between two turns of a task.

    The processor's time, not the clock's: other tests share the machine.
    """
    used = [0.0]

    async def beat():
        while True:
            began = time.process_time()
            await asyncio.sleep(0.005)
            used.append(time.process_time() - began)

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    yield used
    await asyncio.sleep(0.01)
    task.cancel()


@pytest.mark.parametrize("body_of", HOSTILE.values(), ids=HOSTILE)
async def test_finding_4_a_hostile_body_is_refused_and_stops_nothing(gateway, body_of):
    body = body_of(SIZE)

    async with heartbeat() as used:
        response = await gateway.post(body)

    assert response.status_code in (400, 413)
    assert max(used) < MOST_WORK
    assert await gateway.count() == 0


async def test_finding_4_a_large_mail_is_accepted_and_read_back_without_its_attachment(gateway):
    body = a_large_mail()

    async with heartbeat() as used:
        response = await gateway.post(body)
        message = await gateway.ask("GET", f"/v1/messages/{response.json()['id']}")

    assert (response.status_code, message.status_code) == (201, 200)
    assert len(message.content) < 10_000
    assert max(used) < MOST_WORK


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"metadata": {str(number): 0 for number in range(101)}}, "metadata"),
        ({"metadata": {"a": [{str(number): 0} for number in range(101)]}}, "metadata"),
        ({"metadata": {"a": "x" * 16_384}}, "metadata"),
        ({"metadata": {"a": [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}}, "metadata"),
        ({"text": "x" * 1_048_577}, "text"),
    ],
    ids=["names", "names below", "bytes", "levels", "text"],
)
async def test_what_is_not_an_attachment_has_limits_of_its_own(gateway, changes, field):
    response = await gateway.post(as_json(a_body(**changes)))

    assert (response.status_code, response.json()["error"]["field"]) == (400, field)


async def test_metadata_at_its_limits_is_accepted(gateway):
    names = {f"{number:03}": "x" * 150 for number in range(100)}

    assert (await gateway.post(as_json(a_body(metadata=names)))).status_code == 201


async def test_many_attachments_of_every_size_are_accepted(gateway):
    files = [{"filename": "a", "encoding": "utf-8", "content": f'"{n}",\n' * 3_000} for n in range(50)]

    assert (await gateway.post(as_json(a_body(attachments=files)))).status_code == 201


async def test_html_and_text_have_one_limit_together(gateway):
    response = await gateway.post(as_json(a_body(html="x" * 600_000, text="y" * 600_000)))

    assert (response.status_code, response.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("end", [b'"', b'\\"', b"\\", b""], ids=["text", "escape", "backslash", "nothing"])
def test_the_scan_ends_for_any_bytes(end):
    check_cost(b'{"a": "' + b"\\\\" * 700_000 + end)


def test_the_scan_reads_a_text_with_escapes_over_its_pieces():
    check_cost(b'{"a": "' + b'x\\"' * 1_000_000 + b'"}')  # the escapes lie across the pieces' borders
    with pytest.raises(PayloadTooLarge):
        check_cost(b'{"a": "' + b'x\\"' * 1_000_000 + b'", "b": [' + b"0," * 200_000 + b"]}")


def test_finding_13_the_bytes_under_way_are_bounded_for_each_project_and_in_all():
    one, other, third = (UUID(int=number) for number in range(3))
    budget = BodyBudget(total=20, per_project=10)
    budget.hold(one, 10)
    with pytest.raises(TooManyRequests):
        budget.hold(one, 1)
    budget.hold(other, 10)
    with pytest.raises(TooManyRequests):
        budget.hold(third, 1)

    budget.release(one, 10)

    budget.hold(third, 10)


def test_a_body_that_arrives_in_small_pieces_is_counted_as_a_whole():
    """Each piece was compared by itself with the size from which a body counts: a slow body of any size was free."""
    budget = BodyBudget(total=90_000, per_project=60_000)
    body, small = budget.body(UUID(int=1)), budget.body(UUID(int=1))

    for _ in range(60):
        body(1_000)
        small(500)
    with pytest.raises(TooManyRequests):
        body(1_000)
    small(1_000)  # never counted
    body.release()
    small.release()

    budget.hold(UUID(int=1), 60_000)


async def test_a_body_gives_back_what_it_held(gateway):
    body = a_large_mail(20_000_000)  # two of them are more than a project may have under way
    for _ in range(2):
        assert (await gateway.post(body)).status_code == 201
