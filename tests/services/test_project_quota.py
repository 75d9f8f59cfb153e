"""Finding 16: quotas per project, counted in memory and shared through the database."""

from datetime import timedelta

import pytest

from gateway.errors import QuotaExceeded
from gateway.ingest import project_quota
from gateway.ingest.project_quota import ProjectQuota, QuotaLimits
from sluice.model.ids import uuid7
from sluice.model.message import DeliveryClass
from sluice.store import project_usage
from sluice.store.project_usage import Usage
from sluice.store.projects import ProjectScope
from tests.examples import NOON, OTHER_PROJECT, a_body, a_message, as_json
from tests.services.test_gateway import error_of


@pytest.fixture
def scope():
    """The live messages of a project of the test's own: the tables are shared."""
    return ProjectScope(uuid7(), False)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def a_quota(*limits, clock=None):
    return ProjectQuota(QuotaLimits(*limits), clock or Clock())


def urgent(**changes):
    return a_message(delivery_class=DeliveryClass.URGENT, **changes)


def accept(quota, message):
    quota.check(message)
    quota.count(message)


def test_finding_16_messages_of_a_day_are_limited_for_each_project_live_and_test_apart():
    clock = Clock()
    quota = a_quota(2, clock=clock)
    accept(quota, a_message())
    accept(quota, a_message())

    with pytest.raises(QuotaExceeded) as refused:
        quota.check(a_message())
    accept(quota, a_message(sandbox=True))
    accept(quota, a_message(project_id=OTHER_PROJECT))
    clock.now += timedelta(hours=12)
    accept(quota, a_message())

    assert refused.value.retry_after == 12 * 3600
    assert "quota" in str(refused.value)


def test_a_message_counts_once_for_each_recipient_and_is_refused_where_it_does_not_fit():
    quota = a_quota(5)
    accept(quota, a_message(to=("a", "b", "c")))

    with pytest.raises(QuotaExceeded):
        quota.check(a_message(to=("a", "b", "c")))
    accept(quota, a_message(to=("a", "b")))
    with pytest.raises(QuotaExceeded):
        quota.check(a_message())


def test_the_urgent_share_counts_recipients(monkeypatch):
    monkeypatch.setattr(project_quota, "FREE_URGENT", 2)
    quota = a_quota(0, 0.5)

    with pytest.raises(QuotaExceeded):
        quota.check(urgent(to=("a", "b", "c")))
    accept(quota, a_message(to=("a", "b", "c")))
    accept(quota, urgent(to=("a", "b", "c")))
    with pytest.raises(QuotaExceeded):
        quota.check(urgent())


def test_the_urgent_share_counts_beyond_beyond_the_free_ones(monkeypatch):
    monkeypatch.setattr(project_quota, "FREE_URGENT", 2)
    quota = a_quota(0, 0.5)
    accept(quota, urgent())
    accept(quota, urgent())

    with pytest.raises(QuotaExceeded) as refused:
        quota.check(urgent())
    for _ in range(3):
        accept(quota, a_message())
    accept(quota, urgent())

    assert refused.value.field == "class"


def test_stored_attachments_are_limited_and_messages_without_any_are_not():
    quota = a_quota(0, 1.0, 10)
    accept(quota, a_message(attachments=(("a", b"x" * 6),)))

    with pytest.raises(QuotaExceeded) as refused:
        quota.check(a_message(attachments=(("b", b"x" * 5),)))
    accept(quota, a_message(attachments=(("b", b"x" * 4),)))
    accept(quota, a_message())

    assert refused.value.field == "attachments"


def test_without_limits_nothing_is_refused():
    quota = a_quota()
    for _ in range(10):
        accept(quota, urgent(attachments=(("a", b"x"),)))


async def test_gateways_see_what_the_others_accept(role_pools, pool, scope):
    one, other = a_quota(3), a_quota(3)
    accept(one, a_message(project_id=scope.project_id))
    accept(other, urgent(project_id=scope.project_id))
    accept(other, a_message(project_id=scope.project_id))
    for quota in (one, other, one):
        await quota.refresh(role_pools.gateway)

    assert (await project_usage.of_day(role_pools.gateway, NOON.date()))[scope] == Usage(3, 1)
    for quota in (one, other):
        with pytest.raises(QuotaExceeded):
            quota.check(a_message(project_id=scope.project_id))


async def test_what_could_not_be_saved_is_saved_later(role_pools, pool, scope, monkeypatch):
    quota = a_quota(5)
    accept(quota, a_message(project_id=scope.project_id))
    with monkeypatch.context() as broken:
        broken.setattr(project_usage, "add", unavailable)
        with pytest.raises(ConnectionError):
            await quota.refresh(role_pools.gateway)
    accept(quota, a_message(project_id=scope.project_id))

    await quota.refresh(role_pools.gateway)

    assert (await project_usage.of_day(role_pools.gateway, NOON.date()))[scope] == Usage(2, 0)


async def unavailable(*_):
    raise ConnectionError


async def test_stored_attachments_are_counted_from_the_database(role_pools, gateway):
    await gateway.post(as_json(a_body(attachments=[{"filename": "a", "encoding": "utf-8", "content": "x" * 1000}])))

    assert 1000 in (await project_usage.attachment_bytes(role_pools.gateway)).values()


async def test_a_message_above_the_quota_is_answered_with_429_and_its_repeat_with_the_first_answer(gateway):
    gateway.ingest._project_quota = a_quota(1)
    body = as_json(a_body(idempotency_key="one"))
    first = await gateway.post(body)

    refused = await gateway.post(as_json(a_body()))
    repeat = await gateway.post(body)

    assert error_of(refused, 429, "QUOTA_EXCEEDED")
    assert int(refused.headers["retry-after"]) > 1
    assert (repeat.status_code, repeat.json()["id"]) == (201, first.json()["id"])
    assert await gateway.count() == 1
