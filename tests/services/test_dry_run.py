"""The dry run of routing: the router's own decision, shown and not carried out."""

import json
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.principal import KeyPrincipal
from gateway.kit.responses import rfc3339
from gateway.routing import service
from router.handler import RoutingHandler
from sluice.bus.messages import Assignment, HealthState
from sluice.model.ids import encode_id
from sluice.model.message import Channel, DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.decision import decide, encode_decision
from sluice.runtime.clock import utc_now
from sluice.store import deliveries, providers
from sluice.store.deliveries import Claim
from tests.examples import NOON, PROJECT, a_candidate, a_config, a_policy, a_task, after, an_id, health_of, seconds
from tests.polling import wait_until
from tests.services.test_gateway import error_of

STATUSES = st.sampled_from(["healthy", "degraded", "unhealthy"])
TIMES = st.none() | st.integers(-60, 60).map(after)


@st.composite
def states(draw):
    """The candidates of a project, their health, and its policy."""
    candidates = [a_candidate(number) for number in range(draw(st.integers(0, 5)))]
    health = {
        one.id: health_of(
            one,
            draw(STATUSES),
            suspended_until=draw(TIMES),
            probe_at=draw(TIMES),
            healthy_since=draw(TIMES),
            full_share_at=draw(TIMES),
            error_rate=draw(st.floats(0, 1)),
            destinations=draw(st.dictionaries(st.just("+44"), st.builds(HealthState, status=STATUSES))),
            seed=draw(st.none() | st.builds(HealthState, status=STATUSES, probe_at=TIMES)),
        )
        for one in candidates
        if draw(st.booleans())
    }
    return candidates, health, draw(st.sampled_from(RoutingPolicy))


def a_router(config, health):
    return RoutingHandler(config=config, health=health, publisher=None, settlements=None, policy=a_policy())


@given(states(), st.sampled_from(["+447700900000", "+4915112345678"]), st.sampled_from(DeliveryClass))
def test_a_dry_run_is_the_routers_decision(state, recipient, delivery_class):
    candidates, health, policy = state
    config = a_config(candidates, policy)
    delivery_id = an_id()
    services = SimpleNamespace(config=config, health=health)

    with patch("gateway.routing.service.uuid7", lambda: delivery_id):
        shown = service.dry_run(
            services,
            KeyPrincipal(an_id(), PROJECT, is_test=False),
            channel=Channel.SMS,
            recipient=recipient,
            delivery_class=delivery_class,
            preferred_provider=None,
            now=NOON,
        )

    task = a_task(
        delivery_id=delivery_id,
        channel=Channel.SMS,
        delivery_class=delivery_class,
        destination=recipient[:3],
        expires_at=after(3600),
    )
    real = a_router(config, health)._select(task, task.encode(), NOON)
    if shown["decision"] == "selected":
        assert json.loads(Assignment.model_validate_json(real).routing_decision) == shown
    else:
        assert shown["decision"] == ("deferred" if candidates else "exhausted")
        assert not isinstance(real, bytes)


# -- POST /v1/route/dry-run ------------------------------------------------------------------------------------------


async def with_providers(gateway, *names):
    """Providers of the gateway's project in priority order, and their ids, once the gateway knows them."""
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
    found = []
    for priority, name in enumerate(names, 1):
        found.append(an_id())
        await providers.create_provider(
            gateway.pool,
            found[-1],
            project_id,
            package="provider-smtp",
            channel=Channel.EMAIL,
            name=name,
            priority=priority,
            encrypted_credentials=b"",
            now=utc_now(),
        )
    await wait_until(lambda: len(gateway.config.candidates(project_id, Channel.EMAIL)) == len(names))
    return found


async def dry_run(gateway, body, **how):
    return await gateway.ask("POST", "/v1/route/dry-run", json=body, **how)


async def test_the_answer_names_the_provider_and_the_reason_for_each_other_one(gateway):
    first, second, _ = await with_providers(gateway, "first", "second", "third")
    gateway.health[first] = health_of(
        a_candidate(id=first), "unhealthy", reason="5 consecutive failures", error_rate=0.4, effective_samples=31.5
    )

    answer = await dry_run(gateway, {"channel": "email", "to": "ada@example.com"})

    found = answer.json()
    assert (answer.status_code, found["decision"], found["policy"]) == (200, "selected", "adaptive")
    assert found["provider"] == {"id": encode_id("prv", second), "name": "second"}
    assert found["destination"] == "example.com"
    assert [one["excluded"] for one in found["candidates"]] == [
        "unhealthy: 5 consecutive failures", None, "lower priority",
    ]  # fmt: skip
    assert found["candidates"][0]["evidence"] == {
        "status": "unhealthy", "error_rate": 0.4, "attempts": 31.5, "reason": "5 consecutive failures",
    }  # fmt: skip
    assert await gateway.count() == 0


async def test_a_suspension_of_all_is_a_deferral(gateway):
    (only,) = await with_providers(gateway, "only")
    until = utc_now() + seconds(60)
    gateway.health[only] = health_of(a_candidate(id=only), "healthy", suspended_until=until)

    found = (await dry_run(gateway, {"channel": "email"})).json()

    assert (found["decision"], found["provider"]) == ("deferred", None)
    assert found["until"] == rfc3339(until)


async def test_a_channel_without_providers_is_exhausted(gateway):
    await with_providers(gateway, "only")

    found = (await dry_run(gateway, {"channel": "sms", "to": "+4915112345678"})).json()

    assert (found["decision"], found["candidates"], found["destination"]) == ("exhausted", [], "+49")


async def test_a_test_key_is_shown_the_sandbox(gateway):
    await with_providers(gateway, "only")

    found = (await dry_run(gateway, {"channel": "email"}, key=await gateway.another_key(is_test=True))).json()

    assert (found["provider"]["name"], found["policy"], found["candidates"]) == ("sandbox", None, [])


async def test_another_projects_providers_are_not_shown(gateway):
    (first,) = await with_providers(gateway, "first")
    key = await gateway.new_project("other")

    async def known():
        return (await dry_run(gateway, {"channel": "email"}, key=key)).status_code == 200

    await wait_until(known)
    body = {"channel": "email", "preferred_provider": encode_id("prv", first)}

    assert (await dry_run(gateway, {"channel": "email"}, key=key)).json()["candidates"] == []
    assert error_of(await dry_run(gateway, body, key=key), 400, "VALIDATION_ERROR")["field"] == "preferred_provider"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "channel"),
        ({"channel": "fax"}, "channel"),
        ({"channel": "email", "class": "fast"}, "class"),
        ({"channel": "email", "to": ""}, "to"),
        ({"channel": "email", "to": ["ada@example.com"]}, "to"),
        ({"channel": "email", "preferred_provider": "prv_x"}, "preferred_provider"),
        ({"channel": "email", "text": "x"}, "text"),
    ],
)
async def test_a_bad_request_names_the_field(gateway, body, field):
    assert error_of(await dry_run(gateway, body), 400, "VALIDATION_ERROR")["field"] == field


async def test_the_history_shows_the_decision_of_each_attempt(gateway):
    first, second = await with_providers(gateway, "first", "second")
    message = (await gateway.post()).json()["id"]
    (delivery,) = await gateway.pool.fetch("SELECT id, project_id, message_id FROM deliveries")
    task = a_task(delivery_id=delivery["id"], project_id=delivery["project_id"], message_id=delivery["message_id"])
    health = {first: health_of(a_candidate(id=first), "unhealthy", reason="4 of 9 attempts failed")}
    selection, policy = decide(task, gateway.config, health, NOON, lambda *_: False)
    decision = encode_decision(selection, policy, "example.com")
    claim = Claim(delivery["id"], delivery["project_id"], 1, second, 1, "att_1", decision, False, False)
    assert None not in await deliveries.claim(gateway.pool, [claim], lease=seconds(60))

    events = (await gateway.ask("GET", f"/v1/messages/{message}")).json()["events"]

    assert [(one["type"], one["routing"] is None) for one in events] == [("accepted", True), ("sending", False)]
    routing = events[1]["routing"]
    assert (routing["provider"]["name"], routing["reason"]) == ("second", "priority 2")
    assert routing["candidates"][0]["excluded"] == "unhealthy: 4 of 9 attempts failed"
