"""Outages as incidents: statuses on the bus, deliveries that they touch, notices to webhooks, and ``/v1/incidents``."""

import asyncio
import json

import pytest

from event_worker import incidents as event_worker
from event_worker.events import Event
from event_worker.incidents import Incidents, in_steps
from event_worker.webhooks.body import webhook_body
from sluice.bus.messages import HealthState, ProviderHealth
from sluice.model.ids import encode_id
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import incident_list, providers, webhook_deliveries
from tests.examples import NOON, PROJECT, a_claim, a_message, a_transition, after, an_id, seconds
from tests.services.fakes import FakeRecord
from tests.services.people import a_person
from tests.services.test_gateway import error_of

REASON = "5 consecutive failures"


class Clock:
    """The clock of the event-worker, from noon on."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(event_worker, "utc_now", clock)
    return clock


@pytest.fixture
async def worker(store, role_pools, clock):
    await store.pool.execute("INSERT INTO organizations VALUES ($1, 'O', now())", PROJECT)
    await store.pool.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $1, 'shop', 'Shop', now())",
        PROJECT,
    )
    return Outage(store, role_pools.event_worker, clock)


class Outage:
    """A project with two providers for e-mail, and an event-worker."""

    def __init__(self, store, pool, clock):
        self.store, self.db, self.clock = store, pool, clock
        self.woken = 0
        self.incidents = self.replica()

    def replica(self):
        return Incidents(self.db, on_notice=self.wake)

    def wake(self):
        self.woken += 1

    async def a_provider(self, priority=1, channel=Channel.EMAIL):
        provider_id = an_id()
        await providers.create_provider(
            *(self.store.pool, provider_id, PROJECT),
            package="provider-smtp",
            channel=channel,
            name=f"smtp {priority}",
            encrypted_credentials=b"",
            priority=priority,
            now=NOON,
        )
        return provider_id

    async def publish(self, *statuses, by=None):
        await (by or self.incidents).on_health([FakeRecord(one.encode(), topic="provider.health") for one in statuses])

    async def at(self, time, *, by=None):
        self.clock.now = after(time)
        await (by or self.incidents).look()

    async def one(self):
        [row] = await self.store.pool.fetch("SELECT * FROM incidents")
        return row

    async def all(self):
        return await self.store.pool.fetch("SELECT * FROM incidents ORDER BY opened_at")

    async def notices(self):
        rows = await self.store.pool.fetch(
            "SELECT status, incident FROM incident_notices ORDER BY occurred_at, status DESC"
        )
        return [tuple(row) for row in rows]

    async def numbers(self):
        row = await self.one()
        names = ("touched", "masked", "late", "failed", "unconfirmed", "doubled", "waiting")
        return {name: row[name] for name in names if row[name]}

    # -- deliveries

    async def a_delivery(self, *attempts, sandbox=False, when=NOON, end=None):
        """A delivery with attempts: (provider, outcome, seconds after noon, seconds of the call, decision)."""
        message = a_message(when, sandbox=sandbox)
        delivery_id = message.deliveries[0].id
        await self.store.accept(message)
        for number, (provider_id, outcome, begins, lasts, decision) in enumerate(attempts, 1):
            claim = a_claim(
                delivery_id, number, provider_id=provider_id, routing_decision=json.dumps(decision), sandbox=sandbox
            )
            assert await self.store.claim(claim, at=after(begins)) == [delivery_id]
            is_last = number == len(attempts)
            type_ = EventType.ATTEMPT_FAILED
            changes = {}
            if is_last and (outcome == "accepted" or end):
                type_ = end or EventType.SENT
                changes = {"due_at": None, "enqueued_at": None}
            await self.store.transitioned(
                a_transition(
                    delivery_id,
                    type_,
                    attempt=number,
                    outcome=outcome,
                    provider_id=provider_id,
                    occurred_at=after(begins + lasts),
                    **changes,
                )
            )
        return delivery_id

    async def events(self, *delivery_ids, by=None, type_="sent"):
        event = {"project_id": PROJECT, "channel": "email", "type": type_, "sequence": 1}
        await (by or self.incidents).apply([Event(delivery_id=one, **event) for one in delivery_ids])


def health(provider_id, status, *, at=0, **changes):
    changes = {"since": after(at), "updated_at": after(at), "reason": "" if status == "healthy" else REASON} | changes
    return ProviderHealth(provider_id=provider_id, project_id=PROJECT, channel="email", status=status, **changes)


def decision(chosen, **excluded):
    """A stored decision over candidates in their order; ``excluded``: reasons by the text of the id."""
    return {"candidates": [{"id": str(one), **({"excluded": why} if why else {})} for one, why in chosen]}


def diverted(first, second):
    return decision([(first, f"unhealthy: {REASON}"), (second, None)])


def first_choice(first, second):
    return decision([(first, None), (second, "lower priority")])


# -- opened and resolved -------------------------------------------------------------------------------------------


async def test_an_outage_opens_one_incident_and_the_full_share_resolves_it(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    await worker.publish(health(first, "healthy", since=None, at=-60))
    assert await worker.all() == []

    worker.clock.now = after(1)
    await worker.publish(health(first, "unhealthy"))
    row = await worker.one()
    assert (row["opened_at"], row["cause"], row["channel"], row["none_left_at"]) == (NOON, REASON, "email", None)

    await worker.publish(health(first, "unhealthy", at=5, since=NOON, error_rate=0.9))
    worker.clock.now = after(100)
    await worker.publish(health(first, "healthy", at=100, healthy_since=after(100), full_share_at=after(120)))
    assert (await worker.one())["resolved_at"] is None
    await worker.at(119)
    assert (await worker.one())["resolved_at"] is None
    await worker.at(121)

    assert (await worker.one())["resolved_at"] == after(120)
    assert await worker.notices() == [("unhealthy", "open"), ("healthy", "resolved")]


async def test_a_repeated_batch_and_several_replicas_change_nothing(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    other = worker.replica()
    outage = [health(first, "unhealthy"), health(first, "healthy", at=50, full_share_at=after(70))]
    worker.clock.now = after(100)

    await asyncio.gather(*(worker.publish(*outage, by=one) for one in (worker.incidents, other, worker.incidents)))
    await asyncio.gather(worker.at(100), worker.at(100, by=other))
    await worker.publish(*outage)

    row = await worker.one()
    assert (row["opened_at"], row["resolved_at"]) == (NOON, after(70))
    assert await worker.notices() == [("unhealthy", "open"), ("healthy", "resolved")]


async def test_an_older_record_changes_nothing(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    worker.clock.now = after(100)
    await worker.publish(health(first, "healthy", at=50))

    await worker.publish(health(first, "unhealthy", at=20))

    assert await worker.all() == []


async def test_a_kill_between_the_record_and_the_incident_is_made_up_for(worker, monkeypatch):
    first = await worker.a_provider()
    monkeypatch.setattr(Incidents, "reconcile", lambda _: asyncio.sleep(0))
    await worker.publish(health(first, "unhealthy"))
    assert await worker.all() == []
    monkeypatch.undo()
    monkeypatch.setattr(event_worker, "utc_now", worker.clock)

    await worker.at(1, by=worker.replica())

    assert (await worker.one())["opened_at"] == NOON


async def test_a_channel_without_a_provider_left_says_since_when_and_until_when(worker):
    first, second = await worker.a_provider(1), await worker.a_provider(2)
    await worker.publish(health(first, "unhealthy"))
    worker.clock.now = after(10)
    await worker.publish(health(second, "unhealthy", at=10))
    await worker.at(11)
    assert metrics.OPEN_INCIDENTS.labels("email", "down")._value.get() == 1

    worker.clock.now = after(40)
    await worker.publish(health(second, "healthy", at=40))
    row = await worker.one()

    assert (row["none_left_at"], row["none_left_until"], row["resolved_at"]) == (after(10), after(40), None)
    await worker.at(41)
    assert metrics.OPEN_INCIDENTS.labels("email", "down")._value.get() == 0
    assert metrics.OPEN_INCIDENTS.labels("email", "degraded")._value.get() == 1


async def test_a_project_with_the_seed_rule_has_incidents_by_that_rule(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    await worker.store.pool.execute("UPDATE projects SET routing_policy = 'seed'")
    await worker.publish(health(first, "unhealthy"))
    assert await worker.all() == []

    seed = HealthState(status="unhealthy", reason="5 in a row", since=after(10))
    await worker.publish(health(first, "unhealthy", at=10, since=NOON, seed=seed))
    assert (await worker.one())["cause"] == "5 in a row"

    worker.clock.now = after(80)
    await worker.publish(health(first, "unhealthy", at=80, since=NOON))
    assert (await worker.one())["resolved_at"] == after(80)


async def test_a_provider_that_is_disabled_ends_it(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    await worker.publish(health(first, "unhealthy"))
    await worker.store.pool.execute("UPDATE providers SET enabled = false WHERE id = $1", first)

    await worker.at(30)

    assert (await worker.one())["resolved_at"] == after(30)
    assert (await worker.notices())[-1] == ("disabled", "resolved")


async def test_a_record_of_an_unknown_provider_and_one_that_cannot_be_read_stop_nothing(worker):
    first = await worker.a_provider()
    unreadable = FakeRecord(b"{]", topic="provider.health")
    removed = FakeRecord(None, topic="provider.health")
    unknown, known = (FakeRecord(health(one, "unhealthy").encode()) for one in (an_id(), first))

    await worker.incidents.on_health([unreadable, removed, unknown, known])

    assert (await worker.one())["cause"] == REASON


def test_a_batch_is_divided_so_that_each_change_is_seen():
    one, other = an_id(), an_id()
    batch = [
        health(one, "unhealthy"),
        health(one, "unhealthy", at=5),
        health(other, "degraded"),
        health(one, "healthy"),
    ]

    steps = in_steps(batch)

    assert [[(row.provider_id, row.status) for row in step] for step in steps] == [
        [(one, "unhealthy"), (other, "degraded")],
        [(one, "healthy")],
    ]
    assert steps[0][0].updated_at == after(5)


# -- the deliveries that it touched --------------------------------------------------------------------------------


async def open_outage(worker):
    first, second = await worker.a_provider(1), await worker.a_provider(2)
    worker.clock.now = after(1)
    await worker.publish(health(first, "unhealthy"))
    await worker.incidents.look()
    return first, second


async def test_what_became_of_each_delivery_is_counted_once(worker):
    first, second = await open_outage(worker)
    choice, other = first_choice(first, second), diverted(first, second)
    touched = [
        await worker.a_delivery((first, "provider_fault", 1, 0.1, choice), (second, "accepted", 1.5, 0.1, other)),
        await worker.a_delivery((second, "accepted", 2, 0.1, other)),
        await worker.a_delivery((first, "unknown", 1, 2, choice), (second, "accepted", 9, 0.1, other)),
        await worker.a_delivery((first, "auth_failed", 1, 0.1, choice), end=EventType.FAILED),
        await worker.a_delivery((first, "unknown", 1, 0.1, choice), end=EventType.UNCONFIRMED),
        await worker.a_delivery((first, "provider_fault", 1, 0.1, choice)),
    ]
    untouched = [
        await worker.a_delivery((second, "accepted", 2, 0.1, first_choice(second, first))),
        await worker.a_delivery((first, "accepted", 2, 0.1, choice)),
        await worker.a_delivery((first, "recipient_rejected", 2, 0.1, choice), end=EventType.FAILED),
        await worker.a_delivery((first, "provider_fault", 1, 0.1, choice), sandbox=True),
        await worker.a_delivery((second, "accepted", 2, 0.1, decision([(second, None), (first, "unhealthy: x")]))),
        await worker.a_delivery((second, "accepted", -900, 0.1, other), when=after(-900)),
    ]

    for _ in range(2):
        await worker.events(*touched, *untouched)
        await worker.at(5)

    assert await worker.numbers() == {
        **{"touched": 6, "masked": 3, "late": 1, "failed": 1, "unconfirmed": 1, "doubled": 1, "waiting": 1}
    }
    rows = await worker.store.pool.fetch("SELECT delivery_id FROM incident_deliveries")
    assert {row["delivery_id"] for row in rows} == set(touched)


async def test_attempts_that_failed_before_the_outage_was_noticed_are_found(worker):
    first, second = await worker.a_provider(1), await worker.a_provider(2)
    choice = first_choice(first, second)
    before = await worker.a_delivery((first, "provider_fault", -10, 0.1, choice), when=after(-11))
    long_before = await worker.a_delivery((first, "provider_fault", -800, 0.1, choice), when=after(-800))
    await worker.events(before, long_before)
    await worker.publish(health(first, "unhealthy"))

    await worker.at(2)
    assert await worker.numbers() == {}
    await worker.at(6)

    rows = await worker.store.pool.fetch("SELECT delivery_id FROM incident_deliveries")
    assert [row["delivery_id"] for row in rows] == [before]
    assert await worker.numbers() == {"touched": 1, "waiting": 1}


async def test_events_that_a_replica_reads_before_its_first_look_count(worker):
    first, second = await open_outage(worker)
    other = worker.replica()
    delivery_id = await worker.a_delivery((second, "accepted", 2, 0.1, diverted(first, second)))

    await worker.events(delivery_id, by=other)
    await worker.at(3, by=other)

    assert await worker.numbers() == {"touched": 1, "masked": 1}


async def test_an_incident_of_a_deleted_project_is_resolved(worker):
    first = await worker.a_provider()
    await worker.publish(health(first, "unhealthy"))
    await worker.store.pool.execute("UPDATE projects SET deleted_at = now()")

    await worker.at(30)

    assert (await worker.one())["resolved_at"] == after(30)


async def test_a_delivery_that_settles_after_the_outage_is_counted_as_it_ended(worker):
    first, second = await open_outage(worker)
    waiting = await worker.a_delivery((first, "provider_fault", 1, 0.1, first_choice(first, second)))
    await worker.events(waiting)
    await worker.publish(health(first, "healthy", at=60, full_share_at=after(80)))
    await worker.at(90)
    assert await worker.numbers() == {"touched": 1, "waiting": 1}

    claim = a_claim(waiting, 2, provider_id=second, routing_decision=json.dumps(first_choice(second, first)))
    assert await worker.store.claim(claim, at=after(1000)) == [waiting]
    sent = {"attempt": 2, "outcome": "accepted", "due_at": None, "occurred_at": after(1001), "provider_id": second}
    await worker.store.transitioned(a_transition(waiting, EventType.SENT, **sent))
    await worker.at(1001)
    await worker.events(waiting)
    await worker.at(1002)

    assert await worker.numbers() == {"touched": 1, "masked": 1, "late": 1}


async def test_a_delivery_that_waits_because_none_is_left_is_touched(worker):
    await open_outage(worker)
    waiting = await worker.store.a_delivery()
    await worker.store.transition(
        a_transition(waiting, EventType.POSTPONED, attempt=0, in_flight=False, occurred_at=after(3), due_at=after(60))
    )

    await worker.events(waiting, type_="postponed")
    await worker.at(5)

    assert await worker.numbers() == {"touched": 1, "waiting": 1}


# -- webhooks ------------------------------------------------------------------------------------------------------


async def an_endpoint(worker, *, events=("provider.health_changed",), channels=(), sandbox=False):
    endpoint_id = an_id()
    await worker.store.pool.execute(
        """
        INSERT INTO webhook_endpoints (id, project_id, sandbox, url, description, events, channels, tags, enabled,
                                       created_at, updated_at)
        VALUES ($1, $2, $3, 'http://shop.example', '', $4, $5, '{}', true, $6, $6)
        """,
        *(endpoint_id, PROJECT, sandbox, list(events), list(channels), NOON),
    )
    return endpoint_id


async def test_each_endpoint_that_asks_gets_one_notice_of_the_beginning_and_one_of_the_end(worker):
    first, _ = await worker.a_provider(1), await worker.a_provider(2)
    asking = await an_endpoint(worker)
    for others in ({"events": ("sent",)}, {"channels": ("sms",)}, {"sandbox": True}):
        await an_endpoint(worker, **others)
    await worker.publish(health(first, "unhealthy"))
    for number in range(3):
        await worker.publish(health(first, "unhealthy", at=number + 1, since=NOON))
    await worker.publish(health(first, "healthy", at=50, full_share_at=after(70)))
    await worker.at(100)

    claimed = await webhook_deliveries.claim(worker.db, {asking: 10}, lease=seconds(60), now=after(101))
    bodies = sorted((json.loads(webhook_body(one)) for one in claimed), key=lambda body: body["timestamp"])

    incident = encode_id("inc", (await worker.one())["id"])
    shared = {"project_id": encode_id("proj", PROJECT), "channel": "email", "provider": encode_id("prv", first)}
    assert [body["data"] for body in bodies] == [
        shared | {"status": "unhealthy", "reason": REASON, "incident": incident, "incident_status": "open"},
        shared | {"status": "healthy", "reason": "", "incident": incident, "incident_status": "resolved"},
    ]
    assert {body["type"] for body in bodies} == {"provider.health_changed"}
    assert len(await worker.store.pool.fetch("SELECT FROM webhook_deliveries")) == 2
    assert worker.woken == 2


# -- /v1/incidents -------------------------------------------------------------------------------------------------


@pytest.fixture
async def outage(gateway, role_pools):
    """An incident of the gateway's project, as of now."""
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
    provider_id, now = an_id(), utc_now()
    await providers.create_provider(
        *(gateway.pool, provider_id, project_id),
        package="provider-smtp",
        channel=Channel.EMAIL,
        name="mail",
        encrypted_credentials=b"",
        now=now,
    )
    status = ProviderHealth(
        **{"provider_id": provider_id, "project_id": project_id, "channel": "email", "status": "unhealthy"},
        **{"reason": REASON, "since": now, "updated_at": now, "error_rate": 0.5},
    )
    incidents = Incidents(role_pools.event_worker, on_notice=lambda: None)
    await incidents.on_health([FakeRecord(status.encode())])
    [row] = await gateway.pool.fetch("SELECT id FROM incidents")
    return encode_id("inc", row["id"])


async def test_the_list_shows_incidents_with_their_numbers(gateway, outage):
    found = await gateway.ask("GET", "/v1/incidents")

    [incident] = found.json()["data"]
    assert (incident["id"], incident["status"], incident["cause"]) == (outage, "open", REASON)
    assert [one["provider"]["id"][:4] for one in incident["providers"]] == ["prv_"]
    assert incident["without_provider"]["until"] is None
    assert incident["numbers"]["touched"] == 0


@pytest.mark.parametrize(("query", "number"), [("status=open", 1), ("status=resolved", 0), ("channel=sms", 0)])
async def test_the_list_has_filters(gateway, outage, query, number):
    assert len((await gateway.ask("GET", f"/v1/incidents?{query}")).json()["data"]) == number


async def test_the_first_acknowledgement_stays_and_is_audited(gateway, outage):
    ada = await a_person(gateway, "ada@example.com", shop="developer")
    first = await ada.ask("POST", f"/v1/incidents/{outage}/acknowledge", project="shop")
    again = await gateway.ask("POST", f"/v1/incidents/{outage}/acknowledge")

    assert first.json()["acknowledged"]["actor"]["name"] == "ada@example.com"
    assert again.json()["acknowledged"] == first.json()["acknowledged"]
    rows = await gateway.pool.fetch("SELECT action, noun FROM audit_log WHERE noun = 'incident'")
    assert [tuple(row) for row in rows] == [("acknowledged", "incident")]


async def test_an_incident_has_a_limit_of_notes(gateway, outage, monkeypatch):
    monkeypatch.setattr(incident_list, "MAX_NOTES", 2)
    notes = f"/v1/incidents/{outage}/notes"
    for text in ("first", "second"):
        assert (await gateway.ask("POST", notes, json={"text": text})).json()["text"] == text

    error_of(await gateway.ask("POST", notes, json={"text": "third"}), 400, "VALIDATION_ERROR")

    shown = (await gateway.ask("GET", f"/v1/incidents/{outage}")).json()
    assert [note["text"] for note in shown["notes"]] == ["first", "second"]


async def test_notes_are_shown_in_order_with_their_authors(gateway, outage):
    for text in ("Their status page confirms it.", "Back."):
        added = await gateway.ask("POST", f"/v1/incidents/{outage}/notes", json={"text": text})
        assert (added.status_code, added.json()["text"]) == (201, text)

    shown = (await gateway.ask("GET", f"/v1/incidents/{outage}")).json()

    assert [(note["text"], note["actor"]["kind"]) for note in shown["notes"]] == [
        ("Their status page confirms it.", "key"),
        ("Back.", "key"),
    ]
    assert [(one["status"], one["error_rate"]) for one in shown["changes"]] == [("unhealthy", 0.5)]


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "a\u0000b"}, {"text": 7}, {"text": "x", "more": 1}])
async def test_a_note_without_a_text_is_refused(gateway, outage, body):
    error_of(await gateway.ask("POST", f"/v1/incidents/{outage}/notes", json=body), 400, "VALIDATION_ERROR")


async def test_an_incident_of_another_project_is_unknown(gateway, outage):
    other = await gateway.new_project("other")
    for method, path in (("GET", ""), ("POST", "/acknowledge"), ("POST", "/notes")):
        body = {"json": {"text": "x"}} if path == "/notes" else {}
        error_of(await gateway.ask(method, f"/v1/incidents/{outage}{path}", key=other, **body), 404, "NOT_FOUND")
    assert (await gateway.ask("GET", "/v1/incidents", key=other)).json()["data"] == []
