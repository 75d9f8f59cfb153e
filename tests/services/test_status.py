"""``/v1/status``: the parts of the installation, and what waits in the project."""

import pytest
from aiokafka.errors import KafkaConnectionError
from redis.asyncio import Redis

from gateway.errors import Unavailable
from gateway.status import monitor
from gateway.status.monitor import StatusMonitor
from sluice.bus.group_status import GroupStatus
from sluice.bus.topics import Group
from sluice_launcher.process_info import free_port
from tests.services.people import a_person

MINUTE = "interval '1 minute'"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Each question is a measurement."""
    monkeypatch.setattr(monitor, "_FRESH", -1.0)


async def status(gateway, **how):
    answer = await gateway.ask("GET", "/v1/status", **how)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_all_parts_are_up(gateway):
    found = await status(gateway)

    assert (found["status"], found["postgres"]["status"], found["kafka"]["status"]) == ("up", "up", "up")
    assert found["kafka"]["latency_ms"] == 1.0  # of one request, not of the survey
    assert (found["redis"], found["waiting"]) == (
        {"status": "unused", "since": None, "latency_ms": None, "error": None},
        [],
    )
    assert {role["role"]: role["status"] for role in found["roles"]} == dict.fromkeys(
        ["gateway", "router", "email-worker", "sms-worker", "push-worker", "health", "event-worker"], "up"
    )


async def test_a_role_that_does_not_run_and_one_that_is_behind_are_seen(gateway):
    gateway.groups |= {Group.ROUTER: GroupStatus(0, 12, 61.23), Group.INCIDENTS: GroupStatus(0, 0, 0.0)}

    found = await status(gateway)

    roles = {role["role"]: role for role in found["roles"]}
    assert found["status"] == "impaired"
    assert roles["router"] == {"role": "router", "status": "down", "consumers": 0, "lag_records": 12, "lag_s": 61.2}
    assert (roles["event-worker"]["status"], roles["health"]["status"]) == ("down", "up")


async def test_what_does_not_answer_is_named_with_the_time_since_when(gateway):
    before = await status(gateway)
    groups, gateway.groups = gateway.groups, KafkaConnectionError("no broker")

    first, second = await status(gateway), await status(gateway)

    assert (first["status"], first["kafka"]["status"], first["kafka"]["error"]) == (
        "impaired",
        "down",
        "KafkaConnectionError",
    )
    assert {role["status"] for role in first["roles"]} == {"unknown"}
    assert first["kafka"]["since"] == second["kafka"]["since"] > before["kafka"]["since"]
    gateway.groups = groups
    assert (await status(gateway))["kafka"]["since"] > first["kafka"]["since"]


async def test_a_redis_that_is_away_is_impaired(gateway, monkeypatch):
    redis = Redis(port=free_port(), socket_connect_timeout=0.1)
    watching = StatusMonitor(gateway.services.pool, redis, gateway._survey_groups)
    monkeypatch.setattr(gateway.status, "status", watching.status)

    found = await status(gateway)

    assert (found["status"], found["redis"]["status"]) == ("impaired", "down")
    await redis.aclose()


async def test_without_postgresql_nothing_is_accepted_and_the_answer_says_so(gateway, monkeypatch):
    class NoPool:
        def acquire(self):
            raise ConnectionRefusedError

        async def fetchval(self, _):
            raise ConnectionRefusedError

    await status(gateway)  # the key is known now
    monkeypatch.setattr(gateway.status, "_pool", NoPool())
    monkeypatch.setattr("gateway.status.service.transaction", _unavailable)

    found = await status(gateway)

    assert (found["status"], found["postgres"]["status"], found["waiting"]) == ("down", "down", None)
    assert found["postgres"]["error"] == "ConnectionRefusedError"


async def test_without_postgresql_a_session_is_not_answered(gateway, monkeypatch):
    person = await a_person(gateway, "ada@example.com", shop="owner")
    assert (await person.ask("GET", "/v1/status", project="shop")).status_code == 200
    monkeypatch.setattr("gateway.auth.sessions.sessions.find_sessions", _no_database)

    gateway.config._terminated(None)  # the connection that brings the ends of sessions is closed

    answer = await person.ask("GET", "/v1/status", project="shop")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")


async def _no_database(*_arguments, **_options):
    raise ConnectionRefusedError


def _unavailable(*_):
    raise Unavailable("The database is unavailable. Retry later.")


async def test_what_waits_is_counted_for_the_own_project_and_mode(gateway):
    other = await gateway.new_project("other")
    for _ in range(3):
        await gateway.post()
    await gateway.pool.execute("UPDATE deliveries SET due_at = now() + interval '1 hour'")
    await gateway.post()
    await gateway.pool.execute(f"UPDATE deliveries SET due_at = now() - {MINUTE} WHERE due_at < now() + {MINUTE}")

    [email] = (await status(gateway))["waiting"]

    assert (email["channel"], email["due"], email["scheduled"], email["in_flight"]) == ("email", 1, 3, 0)
    assert email["oldest_due_at"] is not None
    assert (await status(gateway, key=other))["waiting"] == []
    assert (await status(gateway, key=await gateway.another_key(is_test=True)))["waiting"] == []


async def test_many_questions_are_one_measurement(gateway, monkeypatch):
    monkeypatch.setattr(monitor, "_FRESH", 60.0)
    first = await status(gateway)

    assert (await status(gateway))["measured_at"] == first["measured_at"]
