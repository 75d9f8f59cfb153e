"""The health of a provider in full, its history, probes on request, orders that are checked, and rehearsals."""

import asyncio
import json
from datetime import datetime

import pytest

from sluice.bus.messages import HealthEvidence, HealthState, ProviderProbeRequested, ReceiptEvidence
from sluice.bus.publisher import PublishResult
from sluice.model.ids import encode_id
from sluice.runtime.clock import utc_now
from sluice.store import provider_health
from sluice.store.provider_health import PublishedHealth
from tests.examples import a_body, a_candidate, an_id, as_json, health_of, seconds
from tests.services.people import a_person
from tests.services.test_dry_run import dry_run, with_providers
from tests.services.test_gateway import error_of
from tests.services.test_message_list import send

PROVIDERS = "/v1/providers"


def public(provider_id):
    return encode_id("prv", provider_id)


async def ask(gateway, provider_id, path="", *, method="GET", **how):
    return await gateway.ask(method, f"{PROVIDERS}/{public(provider_id)}{path}", **how)


def published(provider_id, project_id, at, status="healthy", **changes):
    defaults = {
        **{"provider_id": provider_id, "project_id": project_id, "status": status, "reason": "", "changed_at": at},
        **{"full_share_at": None, "suspended_until": None, "seed_status": "healthy", "seed_reason": ""},
        **{"seed_changed_at": None, "error_rate": 0.0, "samples": 0.0, "updated_at": at},
    }
    return PublishedHealth(**defaults | changes)


@pytest.fixture
async def project_id(gateway):
    return await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")


# -- in full -----------------------------------------------------------------------------------------------------------


async def test_the_health_in_full_says_what_it_rests_on_and_how_it_comes_back(gateway):
    (first,) = await with_providers(gateway, "first")
    now = utc_now()
    gateway.health[first] = health_of(
        a_candidate(id=first),
        "degraded",
        reason="12% errors in about 40 recent attempts",
        since=now - seconds(60),
        error_rate=0.12,
        effective_samples=40.5,
        probe_at=now + seconds(3),
        probe_interval=6.0,
        probe_results=2,
        evidence=HealthEvidence(
            **{"failures": 6.5, "slow_calls": 3, "usual_latency": 0.1504, "consecutive_failures": 1, "cause": "errors"},
            **{"probe_successes": 2, "probes_needed": 8, "degraded_error_rate": 0.06, "unhealthy_error_rate": 0.25},
            not_counted={"recipient_rejected": 7.0},
            receipts=ReceiptEvidence(recent_share=0.1, usual_share=0.9, wait=180, silent_since=now),
        ),
        destinations={"+44": HealthState(status="unhealthy", reason="5 consecutive failures", error_rate=0.9)},
        seed=HealthState(status="unhealthy", reason="30 of 100 attempts failed", effective_samples=100, error_rate=0.3),
    )

    health = (await ask(gateway, first, "/health")).json()["health"]

    silent_since = health["evidence"]["receipts"].pop("silent_since")
    assert datetime.fromisoformat(silent_since) - now < seconds(1)
    assert health["evidence"] == {
        **{"failures": 6.5, "slow_calls": 3, "usual_latency_ms": 150, "consecutive_failures": 1, "cause": "errors"},
        "thresholds": {"degraded": 0.06, "unhealthy": 0.25},
        "not_counted": {"recipient_rejected": 7},
        "receipts": {"recent_share": 0.1, "usual_share": 0.9, "late_failures": 0.0, "wait_s": 180},
    }
    assert health["probes"] == {
        **{"next_at": health["probe_at"], "interval_s": 6, "ended": 2, "successes": 2, "needed": 8}
    }
    assert (health["ramp"], health["destinations"][0]["destination"]) == (None, "+44")
    assert (health["seed"]["status"], health["seed"]["attempts"]) == ("unhealthy", 100)


async def test_a_provider_that_has_returned_has_a_growing_share(gateway):
    (first,) = await with_providers(gateway, "first")
    now = utc_now()
    times = {"healthy_since": now - seconds(500), "full_share_at": now + seconds(500)}
    gateway.health[first] = health_of(a_candidate(id=first), "healthy", **times)

    ramp = (await ask(gateway, first, "/health")).json()["health"]["ramp"]

    assert 0.49 < ramp["share"] < 0.52


async def test_what_is_known_of_its_receipts_and_the_changes_of_its_status(gateway, role_pools, project_id):
    (first,) = await with_providers(gateway, "first")
    now = utc_now()
    await gateway.pool.execute(
        "INSERT INTO provider_receipts VALUES ($1, $2, $3, $3, 25, $3, $3, 2)", first, project_id, now
    )
    for at, status in ((-300, "unhealthy"), (-200, "unhealthy"), (-100, "healthy")):
        row = published(first, project_id, now + seconds(at), status, reason="why", error_rate=0.5)
        await provider_health.record(role_pools.event_worker, [row])

    found = (await ask(gateway, first, "/health")).json()

    assert found["provider"] == {"id": public(first), "name": "first"}
    assert (found["receipts"]["accepted_since"], found["receipts"]["refused"]) == (25, 2)
    assert found["receipts"]["silent_since"] is not None
    assert [(one["status"], one["reason"]) for one in found["changes"]] == [("unhealthy", "why"), ("healthy", "why")]


async def test_a_provider_that_was_never_used_is_healthy_without_receipts(gateway):
    (first,) = await with_providers(gateway, "first")

    found = (await ask(gateway, first, "/health")).json()

    assert (found["health"]["status"], found["health"]["updated_at"], found["changes"]) == ("healthy", None, [])
    assert found["receipts"]["received_at"] is None


# -- history -----------------------------------------------------------------------------------------------------------


async def test_the_history_has_the_worst_of_each_step(gateway, role_pools, project_id):
    (first,) = await with_providers(gateway, "first")
    begin = utc_now().replace(minute=0, second=0, microsecond=0) - seconds(7200)
    for at, status, rate, samples in (
        (10, "healthy", 0.01, 30),
        (20, "unhealthy", 0.5, 40),
        (200, "healthy", 0.1, 50),
        (310, "degraded", 0.1, 20),
    ):
        row = published(first, project_id, begin + seconds(at), status, error_rate=rate, samples=samples)
        await provider_health.record(role_pools.event_worker, [row])

    async def steps(**query):
        answer = await ask(gateway, first, "/health/history", params=query)
        return [(one["status"], one["error_rate"], one["samples"]) for one in answer.json()["data"]]

    assert await steps() == [("unhealthy", 0.5, 40), ("degraded", 0.1, 20)]
    assert await steps(step_s=3600) == [("unhealthy", 0.5, 40)]
    assert await steps(until=begin.isoformat()) == []
    assert await steps(since=(begin + seconds(300)).isoformat()) == [("degraded", 0.1, 20)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"step_s": 60}, "step_s"),
        ({"step_s": 450}, "step_s"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-01T00:00:00Z"}, "step_s"),
        ({"until": "yesterday"}, "until"),
    ],
)
async def test_a_range_that_is_none_is_refused(gateway, query, field):
    (first,) = await with_providers(gateway, "first")

    error = error_of(await ask(gateway, first, "/health/history", params=query), 400, "VALIDATION_ERROR")

    assert error["field"] == field


async def test_times_at_the_ends_of_the_calendar_are_a_range(gateway):
    (first,) = await with_providers(gateway, "first")
    query = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T00:00:00Z", "step_s": 3600}

    assert (await ask(gateway, first, "/health/history", params=query)).json()["data"] == []


@pytest.mark.parametrize("path", ["/health", "/health/history"])
async def test_another_projects_health_is_not_found(gateway, path):
    (first,) = await with_providers(gateway, "first")

    error_of(await ask(gateway, first, path, key=await gateway.new_project("other")), 404, "NOT_FOUND")


RIGHT = {"host": "smtp.example.com", "port": 587, "auth": {"user": "shop", "pass": "right"}}

# -- probes ------------------------------------------------------------------------------------------------------------


async def test_a_probe_is_requested_of_the_health_service_and_audited(gateway):
    (first,) = await with_providers(gateway, "first")
    gateway.health[first] = health_of(a_candidate(id=first), "unhealthy")

    answer = await ask(gateway, first, "/probe", method="POST")

    assert answer.status_code == 202
    [value] = gateway.bus.on("delivery.events")
    requested = ProviderProbeRequested.model_validate_json(value)
    assert (requested.provider_id, requested.outcome, requested.type) == (
        first,
        "probe_requested",
        "provider_probe_requested",
    )
    rows = await gateway.pool.fetch("SELECT action FROM audit_log WHERE noun = 'provider'")
    assert [row["action"] for row in rows] == ["probed"]


@pytest.mark.parametrize(
    ("status", "enabled", "changes", "types"),
    [
        ("unhealthy", True, {"credentials": RIGHT}, ["provider_probe_requested"]),
        ("unhealthy", False, {"enabled": True}, ["provider_probe_requested"]),
        ("unhealthy", False, {"credentials": RIGHT}, []),
        ("unhealthy", True, {"enabled": False}, []),
        ("unhealthy", True, {"name": "another", "priority": 7}, []),
        ("healthy", True, {"credentials": RIGHT}, []),
        (None, True, {"credentials": RIGHT}, []),
    ],
)
async def test_a_provider_whose_account_was_mended_is_probed(gateway, status, enabled, changes, types):
    (first,) = await with_providers(gateway, "first")
    await gateway.pool.execute("UPDATE providers SET enabled = $1", enabled)
    if status:
        gateway.health[first] = health_of(a_candidate(id=first), status)

    assert (await ask(gateway, first, "", method="PATCH", json=changes)).status_code == 200

    assert [json.loads(value)["type"] for value in gateway.bus.on("delivery.events")] == types


async def test_credentials_are_changed_although_the_bus_is_unavailable(gateway):
    (first,) = await with_providers(gateway, "first")
    gateway.health[first] = health_of(a_candidate(id=first), "unhealthy")
    gateway.bus.unavailable = True

    answer = await ask(gateway, first, "", method="PATCH", json={"credentials": RIGHT})

    assert answer.status_code == 200


async def test_the_answer_to_a_change_does_not_wait_for_the_bus(gateway, monkeypatch):
    (first,) = await with_providers(gateway, "first")
    gateway.health[first] = health_of(a_candidate(id=first), "unhealthy")
    requested = PublishResult("delivery.events", None, None, [])  # of a broker that does not answer
    monkeypatch.setattr(gateway.bus, "publish", lambda *_: requested)

    async with asyncio.timeout(10):
        answer = await ask(gateway, first, "", method="PATCH", json={"credentials": RIGHT})

    assert (answer.status_code, requested.done) == (200, False)


@pytest.mark.parametrize("status", [None, "healthy"])
async def test_a_healthy_provider_is_not_probed(gateway, status):
    (first,) = await with_providers(gateway, "first")
    if status:
        gateway.health[first] = health_of(a_candidate(id=first), status)

    error_of(await ask(gateway, first, "/probe", method="POST"), 409, "NOT_PROBEABLE")
    assert gateway.bus.on("delivery.events") == []


async def test_a_disabled_provider_is_not_probed(gateway):
    (first,) = await with_providers(gateway, "first")
    gateway.health[first] = health_of(a_candidate(id=first), "unhealthy")
    await gateway.pool.execute("UPDATE providers SET enabled = false")

    error_of(await ask(gateway, first, "/probe", method="POST"), 409, "NOT_PROBEABLE")


async def test_without_the_bus_no_probe_is_audited(gateway):
    (first,) = await with_providers(gateway, "first")
    gateway.health[first] = health_of(a_candidate(id=first), "unhealthy")
    gateway.bus.unavailable = True

    error_of(await ask(gateway, first, "/probe", method="POST"), 503, "UNAVAILABLE")

    assert await gateway.pool.fetchval("SELECT count(*) FROM audit_log WHERE action = 'probed'") == 0


# -- orders ------------------------------------------------------------------------------------------------------------


async def test_an_order_that_was_changed_meanwhile_is_a_conflict(gateway):
    first, second = [public(one) for one in await with_providers(gateway, "first", "second")]

    async def reorder(*wanted, expected):
        body = {"channel": "email", "providerIds": wanted, "expectedIds": expected}
        return await gateway.ask("POST", f"{PROVIDERS}/reorder", json=body)

    assert (await reorder(second, first, expected=[first, second])).status_code == 200
    error = error_of(await reorder(first, second, expected=[first, second]), 409, "VERSION_CONFLICT")
    assert error["field"] == "expectedIds"
    error_of(await reorder(first, expected=[second]), 409, "VERSION_CONFLICT")
    rows = (await gateway.ask("GET", PROVIDERS)).json()["data"]
    assert [row["id"] for row in rows] == [second, first]


async def test_a_dry_run_of_an_order_that_is_not_saved(gateway):
    first, second, third = await with_providers(gateway, "first", "second", "third")

    found = (await dry_run(gateway, {"channel": "email", "order": [public(third), public(first)]})).json()

    assert [one["provider"]["name"] for one in found["candidates"]] == ["third", "first", "second"]
    assert (found["provider"]["id"], found["reason"]) == (public(third), "priority 1")
    body = {"channel": "email", "order": [public(first), public(an_id())]}
    assert error_of(await dry_run(gateway, body), 400, "VALIDATION_ERROR")["field"] == "order.1"
    assert second


async def rehearse(gateway, *order, key=None, **fields):
    body = {"channel": "email", "order": [public(one) for one in order]} | fields
    answer = await gateway.ask("POST", "/v1/route/rehearse", json=body, key=key)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    shares = [
        {(one["provider"] or {"name": None})["name"]: one["deliveries"] for one in found[name]}
        for name in ("current", "proposed")
    ]
    return found["deliveries"], *shares


async def test_a_rehearsal_counts_which_provider_would_be_first_for_the_recent_deliveries(gateway):
    first, second = await with_providers(gateway, "first", "second")
    for _ in range(3):
        await send(gateway)
    await send(gateway, preferred_provider=public(first))

    assert await rehearse(gateway, second) == (4, {"first": 4}, {"second": 3, "first": 1})
    assert await rehearse(gateway, first, second) == (4, {"first": 4}, {"first": 4})
    assert await rehearse(gateway, second, channel="sms", order=[]) == (0, {}, {})


async def test_a_rehearsal_counts_with_the_health_of_now(gateway):
    first, second = await with_providers(gateway, "first", "second")
    await send(gateway, to=["ada@example.com"])
    await send(gateway, to=["bob@example.org"])
    there = {"example.org": HealthState(status="unhealthy")}
    gateway.health[second] = health_of(a_candidate(id=second), "healthy", destinations=there)

    assert await rehearse(gateway, second) == (2, {"first": 2}, {"first": 1, "second": 1})
    paused = utc_now() + seconds(60)
    for one in (first, second):
        gateway.health[one] = health_of(a_candidate(id=one), "healthy", suspended_until=paused)
    assert await rehearse(gateway, second) == (2, {None: 2}, {None: 2})


async def test_a_rehearsal_counts_the_own_projects_recent_deliveries_only(gateway):
    (first,) = await with_providers(gateway, "first")
    await gateway.post(as_json(a_body()), key=await gateway.new_project("other"))
    await send(gateway, key=await gateway.another_key(is_test=True))

    assert (await rehearse(gateway, first))[0] == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": 1441}, "minutes"),
        ({"order": ["x"]}, "order.0"),
        ({"channel": "pigeon"}, "channel"),
    ],
)
async def test_a_rehearsal_that_cannot_be_read_is_refused(gateway, fields, field):
    body = {"channel": "email", "order": []} | fields
    error = error_of(await gateway.ask("POST", "/v1/route/rehearse", json=body), 400, "VALIDATION_ERROR")

    assert error["field"] == field


async def test_a_viewer_sees_no_health_and_probes_nothing(gateway):
    (first,) = await with_providers(gateway, "first")
    viewer = await a_person(gateway, "v@example.com", shop="viewer")

    for method, path in (("GET", "/health"), ("GET", "/health/history"), ("POST", "/probe")):
        answer = await viewer.ask(method, f"{PROVIDERS}/{public(first)}{path}", project="shop")
        assert answer.status_code == 403
    body = {"channel": "email", "order": []}
    assert (await viewer.ask("POST", "/v1/route/rehearse", project="shop", json=body)).status_code == 403


def test_a_probe_request_is_an_attempt_report_to_its_readers():
    value = ProviderProbeRequested(
        project_id=an_id(), channel="email", provider_id=an_id(), occurred_at=utc_now()
    ).encode()

    assert json.loads(value)["type"] == "provider_probe_requested"
