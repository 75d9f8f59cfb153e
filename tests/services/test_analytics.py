"""Analytics: the projection of events, also when its process is killed, ``GET /v1/analytics`` and the command."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from event_worker.analytics import AnalyticsProjection
from event_worker.service import EventService
from gateway.analytics.service import range_of
from gateway.errors import ValidationFailed
from sluice.model.ids import encode_id
from sluice.model.state import EventType
from sluice.runtime.clock import utc_now
from sluice.store import analytics, partitions
from sluice.store.analytics import Interval
from sluice.store.logins import EVENT_WORKER, OPERATOR
from sluice_cli.main import main
from tests.analytics_recount import DIFFERENCES
from tests.engine import as_login
from tests.examples import NOON, PROJECT, after
from tests.polling import wait_until
from tests.services.fakes import FakeRecord
from tests.services.people import a_person
from tests.services.test_gateway import error_of
from tests.store.test_analytics import ADA, SENT, a_delivery, append, counts, differences

KILLED = 137
URL = "/v1/analytics"


def records_of(events):
    return [FakeRecord(json.dumps(event).encode(), topic="delivery.events") for event in events]


async def events_of(store, *delivery_ids):
    """The events of deliveries as the bus has them: in an order of its own, and some of them twice."""
    rows = await store.pool.fetch(
        "SELECT delivery_id::text, sequence, project_id::text, type, 'email' AS channel FROM events"
        " WHERE delivery_id = ANY($1::uuid[]) ORDER BY md5(delivery_id::text || sequence)",
        delivery_ids,
    )
    events = [dict(row) for row in rows]
    return [*events, *events[::3]]


@pytest.fixture
def service(bus, role_pools):
    return EventService(bus, [AnalyticsProjection(role_pools.event_worker)])


# -- the projection --------------------------------------------------------------------------------------------------


async def test_events_are_counted_in_any_order_and_once(store, service):
    made = [await a_delivery(store, *SENT, ("delivered", ADA, n), tags=["a"]) for n in range(20)]
    records = records_of(await events_of(store, *made))

    for first in range(0, len(records), 7):
        await service.on_events(records[first : first + 7])
    await service.on_events(records)

    assert await counts(store) == {"settled": 20, "sent": 20, "delivered": 20}
    assert await differences(store) == []


async def test_events_that_change_no_number_are_not_looked_up(store, service):
    made = await a_delivery(store, *SENT)
    quiet = {"accepted", "sending", "postponed", "deferred"}
    events = await events_of(store, made)

    for type_ in quiet:
        await service.on_events(records_of([events[0] | {"type": type_}]))
    assert await store.count("analytics_progress") == 0

    for type_ in set(EventType) - quiet:
        await store.pool.execute("DELETE FROM analytics_progress; DELETE FROM analytics_rollups")
        await service.on_events(records_of([events[0] | {"type": type_}]))
        assert await counts(store) == {"settled": 1, "sent": 1}, type_


async def test_events_of_no_delivery_are_ignored(store, service):
    rejected = {"type": "request_rejected", "project_id": str(PROJECT), "occurred_at": NOON.isoformat()}
    unknown = (await events_of(store, await a_delivery(store, *SENT)))[0] | {"delivery_id": str(UUID(int=5))}

    await service.on_events(records_of([rejected, {"type": "of_a_newer_version"}, unknown | {"type": "sent"}]))

    assert await counts(store) == {}


@pytest.mark.parametrize("point", ["analytics.before_count:1", "analytics.counted:2", None])
async def test_a_killed_process_counts_nothing_twice_and_omits_nothing(
    store, store_database, tmp_path, monkeypatch, point
):
    """Killed at a failpoint, or wherever it is after two batches; then another one counts the same events."""
    made = [await a_delivery(store, *SENT, tags=["a", "b"]) for _ in range(60)]
    (tmp_path / "events").write_text(json.dumps(await events_of(store, *made)))
    (tmp_path / "failpoint").write_text(point or "")
    environment = os.environ | {"SLUICE_POSTGRES_DSN": as_login(store_database, EVENT_WORKER)}
    armed = {"SLUICE_FAILPOINTS_FILE": str(tmp_path / "failpoint")} if point else {}

    async def start():
        program = (sys.executable, "-m", "tests.services.analytics_process", str(tmp_path / "events"))
        return await create_subprocess_exec(*program, env=environment | armed, stdout=PIPE)

    first = await start()
    if point is None:
        await first.stdout.readline()
        first.kill()
    assert await first.wait() in (KILLED, -9)
    for one in made[:30]:
        await append(store, one, ("delivered", ADA, 9))
    second = await start()
    for _ in range(2 + len(await events_of(store, *made)) // 30):
        assert await second.stdout.readline()
    second.kill()
    await second.wait()

    assert await differences(store) == []
    assert await counts(store) == {"settled": 60, "sent": 60, "delivered": 30}


# -- GET /v1/analytics -------------------------------------------------------------------------------------------------


async def project_of(gateway):
    return await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")


async def a_counted(gateway, store, *histories, **fields):
    """Deliveries of the key's project, accepted an hour ago unless ``at`` says otherwise."""
    project = await project_of(gateway)
    fields = {"project": project, "at": utc_now() - timedelta(hours=1)} | fields
    made = [await a_delivery(store, *history, **fields) for history in histories]
    await analytics.count(store.event_worker, made)
    return made


async def asked(gateway, key=None, **params):
    answer = await gateway.ask("GET", URL, key=key, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_numbers_of_the_last_day_are_shown_by_the_hour(gateway, store):
    await a_counted(gateway, store, SENT, (*SENT, ("delivered", ADA, 4)), ("accepted", "failed"))
    await a_counted(gateway, store, SENT, at=utc_now() - timedelta(hours=30))

    found = await asked(gateway)

    assert found["interval"] == "hour"
    [total], [point] = found["totals"], found["data"]
    numbers = {name: value for name, value in total.items() if isinstance(value, int)}
    assert {name: value for name, value in numbers.items() if value} == {
        "settled": 3, "sent": 2, "delivered": 1, "failed": 1
    }  # fmt: skip
    assert total["failure_rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert total["sent_to_delivered_ms"]["p50"] == pytest.approx(2000, rel=0.032)
    assert (total["channel"], total["provider"], total["tag"]) == (None, None, None)
    starts_at = point.pop("starts_at")
    assert point == total
    assert starts_at.endswith(":00:00.000Z")
    assert found["from"] <= starts_at < found["to"]


@pytest.mark.parametrize(
    ("costs", "shown"),
    [
        ([7_500, 7_500], (0.015, 0, 0.015)),  # of two that are sent one is delivered
        ([7_500, None], (0.0075, 1, None)),
        ([0, 0], (0.0, 0, 0.0)),
    ],
)
async def test_the_cost_is_shown_by_delivered_message(gateway, store, costs, shown):
    for cost, receipts in zip(costs, ([("delivered", ADA, 4)], []), strict=True):
        await a_counted(gateway, store, (*SENT, *receipts), costs={ADA: cost})

    [total] = (await asked(gateway, group_by="provider"))["totals"]

    assert (total["cost"], total["unpriced"], total["cost_per_delivered"]) == shown


async def test_nothing_delivered_has_no_cost_per_delivered(gateway, store):
    await a_counted(gateway, store, SENT, costs={ADA: 7_500})

    [total] = (await asked(gateway))["totals"]

    assert (total["cost"], total["cost_per_delivered"]) == (0.0075, None)


async def test_a_range_is_widened_to_whole_intervals(gateway, store):
    await a_counted(gateway, store, SENT, at=utc_now().replace(minute=0, second=0) - timedelta(hours=5, minutes=1))
    six = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=6)

    last = (six + timedelta(minutes=59)).isoformat()
    found = await asked(gateway, **{"from": last, "to": last.replace("+00:00", ".9Z")})

    assert (found["from"], found["to"]) == (rfc(six), rfc(six + timedelta(hours=1)))
    assert len(found["data"]) == 1


def rfc(when):
    return when.strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def test_filters_and_groups(gateway, store):
    created = await gateway.ask(
        "POST", "/v1/providers", json={"packageName": "provider-messagepipe", "name": "own link"}
    )
    provider_id = created.json()["id"]
    own = await gateway.pool.fetchval("SELECT id FROM providers")
    await wait_until(lambda: own in gateway.config.providers)
    sent = ("accepted", ("sending", own, 1), ("sent", own, 2))
    await a_counted(gateway, store, sent, channel="sms", tags=["orders"])
    await a_counted(gateway, store, SENT, tags=["orders", "news"])

    def shown(found):
        return [
            ((one["channel"], one["provider"] and one["provider"]["name"], one["tag"]), one["sent"])
            for one in found["totals"]
        ]

    assert shown(await asked(gateway, channel="sms")) == [((None, None, None), 1)]
    assert shown(await asked(gateway, tag="orders")) == [((None, None, None), 2)]
    for named in (provider_id, "own link", "provider-messagepipe"):
        assert shown(await asked(gateway, provider=named)) == [((None, None, None), 1)]
    assert shown(await asked(gateway, provider="another")) == []
    assert shown(await asked(gateway, group_by="tag")) == [((None, None, "news"), 1), ((None, None, "orders"), 2)]
    by_both = await asked(gateway, group_by=["provider", "channel"])
    assert sorted(shown(by_both)) == [(("email", "removed", None), 1), (("sms", "own link", None), 1)]
    assert {one["provider"]["id"] for one in by_both["data"]} == {provider_id, encode_id("prv", ADA)}


async def test_test_messages_are_shown_to_test_keys_only(gateway, store):
    await a_counted(gateway, store, SENT, sandbox=True)
    test_key = await gateway.another_key(is_test=True)

    assert (await asked(gateway))["totals"] == []
    [total] = (await asked(gateway, key=test_key))["totals"]
    assert total["sent"] == 1


async def test_a_viewer_reads_analytics_and_another_project_sees_none_of_them(gateway, store):
    await a_counted(gateway, store, SENT)
    viewer = await a_person(gateway, "viewer@example.com", shop="viewer")
    eve = await a_person(gateway, "eve@example.com", evil="owner")

    assert len((await viewer.ask("GET", URL, project="shop")).json()["totals"]) == 1
    assert (await eve.ask("GET", URL, project="evil")).json()["totals"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-11-28"}, "from"),
        ({"to": "2026-11-28T10:00:00"}, "to"),
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "to"),
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-02T00:00:00Z"}, "to"),
        ({"from": "2999-01-01T00:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"from": "2020-01-01T00:00:00Z", "interval": "hour"}, "from"),
        ({"interval": "week"}, "interval"),
        ({"channel": "fax"}, "channel"),
        ({"group_by": "country"}, "group_by"),
        ({"group_by": ["tag"] * 4}, "group_by"),
        ({"tag": ""}, "tag"),
        ({"tag": "a\x00"}, "tag"),
        ({"provider": "x" * 300}, "provider"),
    ],
)
async def test_a_bad_range_or_filter_is_named(gateway, params, field):
    answer = await gateway.ask("GET", URL, params=params)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"].partition(".")[0] == field


@pytest.mark.parametrize(
    ("since", "until"),
    [("0001-01-01T00:00:00+14:00", "0001-01-02T00:00:00+14:00"), ("2026-11-01T00:00:00Z", "9999-12-31T23:59:59-12:00")],
)
async def test_times_at_the_ends_of_the_calendar_are_no_server_error(gateway, since, until):
    answer = await gateway.ask("GET", URL, params={"from": since, "to": until})

    assert answer.status_code == 200


async def test_an_answer_with_too_many_rows_is_refused(gateway, store, monkeypatch):
    monkeypatch.setattr(analytics, "MAX_GROUPS", 3)
    for hours in (1, 2, 3):
        await a_counted(gateway, store, SENT, at=utc_now() - timedelta(hours=hours))

    assert error_of(await gateway.ask("GET", URL), 400, "VALIDATION_ERROR")["field"] == "from"
    assert len((await asked(gateway, interval="day"))["totals"]) == 1


@pytest.mark.parametrize(
    ("since", "until", "interval", "expected"),
    [
        (None, None, None, (Interval.HOUR, -24, 1)),
        (-71, None, None, (Interval.HOUR, -71, 1)),
        (-73, None, None, (Interval.DAY, -84, 12)),
        (-2, -1, Interval.DAY, (Interval.DAY, -12, 12)),
        (None, -24 * 40, None, (Interval.DAY, -24 * 41 - 12, -24 * 40 + 12)),  # hours are not kept any more
        (-1, 24 * 365, None, (Interval.HOUR, -1, 1)),
    ],
)
def test_the_interval_fits_the_range(since, until, interval, expected):
    """Hours before or after 12:30."""
    now = NOON + timedelta(minutes=30)

    def at(hours, of=now):
        return None if hours is None else of + timedelta(hours=hours)

    found = range_of(at(since), at(until), interval, now=now)

    assert found == (expected[0], at(expected[1], NOON), at(expected[2], NOON))


def test_a_range_with_another_offset_is_of_the_same_hours():
    delhi = NOON.astimezone(datetime.fromisoformat("2026-08-20T17:30:00+05:30").tzinfo)

    assert range_of(delhi, None, None, now=after(60)) == range_of(NOON, None, None, now=after(60))


@pytest.mark.parametrize(("days", "interval"), [(15, Interval.HOUR), (732, Interval.DAY), (732, None)])
def test_a_range_that_is_too_long_is_refused(days, interval):
    with pytest.raises(ValidationFailed) as refused:
        range_of(NOON - timedelta(days=days), None, interval, now=NOON)

    assert refused.value.field == "from"


# -- sluice analytics rebuild ------------------------------------------------------------------------------------------


@pytest.fixture
def rebuild(store, store_database, monkeypatch, capsys):
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", as_login(store_database, OPERATOR))

    async def run(since):
        capsys.readouterr()
        await partitions.ensure(store.pool, NOON)
        code = await asyncio.to_thread(main, ["analytics", "rebuild", "--since", since])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize("since", ["2026-08-20", "2026-08-20T12:00:00Z", "0001-01-03T00:00:00+14:00"])
async def test_the_command_counts_again(store, rebuild, since):
    await a_delivery(store, *SENT)
    await store.pool.execute("DELETE FROM analytics_rollups")

    code, out, error = await rebuild(since)

    assert (code, error) == (0, "")
    assert "counted to 20" in out.splitlines()[-1]
    assert ": 1 deliveries, in" in out.splitlines()[-1]
    assert [tuple(row) for row in await store.pool.fetch(DIFFERENCES)] == []


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31"])
async def test_a_bad_time_is_refused(rebuild, since, capsys):
    with pytest.raises(SystemExit):
        await rebuild(since)

    assert "--since" in capsys.readouterr().err


async def test_a_rebuild_from_a_later_day_says_so(rebuild):
    code, _, error = await rebuild("2999-01-01")

    assert (code, "--since is after the newest day" in error) == (1, True)


async def test_a_rebuild_without_a_database_names_it(monkeypatch, capsys):
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", "postgresql://none@127.0.0.1:1/none")

    code = await asyncio.to_thread(main, ["analytics", "rebuild", "--since", "2026-08-20"])

    assert (code, "PostgreSQL" in capsys.readouterr().err) == (1, True)
