"""Deletion of what is too old, and nothing else."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.model.suppression import SuppressionReason
from sluice.store import (
    bulk_jobs,
    devices,
    messages,
    partitions,
    project_usage,
    projects,
    providers,
    receipt_tokens,
    receipts,
    retention,
    sandbox,
    suppressions,
)
from sluice.store.bulk_jobs import ChunkResult, NewChunk
from sluice.store.devices import Device
from sluice.store.project_usage import Usage
from sluice.store.projects import ProjectScope
from sluice.store.receipt_tokens import TokenUse
from sluice.store.receipts import ReceiptEntry
from sluice.store.retention import RetentionLimits
from sluice.store.suppressions import NewSuppression, Recipient
from tests.examples import PROJECT, PROVIDER, a_claim, a_message, a_transition, an_email, an_id
from tests.store.harness import SENT, StoreHarness, open_role_pools

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIMITS = RetentionLimits(timedelta(days=90), timedelta(days=14))
OLD, RECENT = NOW - 120 * DAY, NOW - 60 * DAY
TABLES = ("messages", "deliveries", "attempts", "events")


@pytest.fixture
async def store(database):
    """A harness with its own database, with partitions of half a year."""
    async with asyncpg.create_pool(database, min_size=0, max_size=10) as pool, open_role_pools(database) as roles:
        for weeks in range(0, 27):
            await partitions.ensure(pool, NOW - timedelta(weeks=weeks))
        yield StoreHarness(pool, roles)


async def settled(store, when, **changes):
    message = a_message(when, **changes)
    await store.accept(message)
    delivery_id = message.deliveries[0].id
    await store.claim(a_claim(delivery_id, project_id=message.project_id), at=when)
    ended = a_transition(delivery_id, SENT, project_id=message.project_id, outcome="accepted", occurred_at=when)
    await store.transition(ended)
    return message


async def counts(store):
    return [await store.pool.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES]


async def weeks_of(store, table):
    rows = await store.pool.fetch(
        "SELECT inhrelid::regclass::text n FROM pg_inherits WHERE inhparent = $1::regclass", table
    )
    return sorted(row["n"].rpartition("_")[2] for row in rows if row["n"].endswith(tuple("0123456789")))


async def test_credentials_are_dropped_once_what_a_deleted_provider_sent_is_deleted(store):
    project = await projects.create_project(store.pool, organization="Shop", slug="shop", name="Shop", now=OLD)
    provider_ids = [uuid7() for _ in range(3)]
    for provider_id in provider_ids:
        await providers.create_provider(
            *(store.pool, provider_id, project.id),
            package="provider-resend",
            channel=Channel.EMAIL,
            name="mail",
            encrypted_credentials=b"x",
            now=OLD,
        )
    for provider_id, at in zip(provider_ids, (OLD, RECENT), strict=False):
        await providers.update_provider(store.pool, project.id, provider_id, now=at, deleted=True)

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)
    again = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert (deleted.credentials, again.credentials) == (1, 0)
    assert [row.id for row in await providers.list_providers(store.pool, project.id)] == provider_ids[1:]


async def test_finding_16_old_weeks_are_dropped_from_every_table(store):
    await settled(store, OLD)
    recent = await settled(store, RECENT)

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert await counts(store) == [1, 1, 1, 3]
    assert await store.pool.fetchval("SELECT id FROM messages") == recent.id
    remaining = {table: await weeks_of(store, table) for table in partitions.TABLES}
    assert {weeks[0] for weeks in remaining.values()} == {f"{NOW - 90 * DAY:%G}w{NOW - 90 * DAY:%V}"}
    assert len(deleted.partitions) % len(partitions.TABLES) == 0
    assert deleted.kept == []


async def test_a_second_pass_deletes_nothing(store):
    await settled(store, OLD)
    await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert not await retention.delete_expired(store.router, LIMITS, now=NOW)


async def test_without_a_limit_everything_stays(store):
    await settled(store, NOW - 180 * DAY)

    assert not await retention.delete_expired(store.router, RetentionLimits(None, None), now=NOW)


async def test_a_week_with_an_unsettled_delivery_stays_whole(store):
    await settled(store, OLD)
    await store.accept(a_message(OLD))

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert deleted.kept == [f"{OLD:%G}w{OLD:%V}"]
    assert await counts(store) == [2, 2, 1, 4]


async def test_rows_outside_of_weeks_are_deleted_message_by_message(store):
    ancient = NOW - 400 * DAY
    await settled(store, ancient, to=("a@example.com",))
    waiting = a_message(ancient)
    await store.accept(waiting)

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert deleted.rows == 1
    assert await counts(store) == [1, 1, 0, 1]
    assert await store.pool.fetchval("SELECT id FROM messages") == waiting.id


async def test_an_attachment_stays_while_a_newer_message_uses_it(store):
    old = a_message(OLD, attachments=(("shared", b"1"), ("old", b"2")))
    await store.accept(old)
    await store.accept(a_message(RECENT, attachments=(("shared", b"1"),)))

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert deleted.attachments == 1
    assert await messages.load_attachments(store.pool, old.project_id, ["shared", "old"]) == {"shared": b"1"}


async def test_an_attachment_stays_for_as_long_as_a_message_may_wait(store):
    message = a_message(NOW - 61 * DAY, attachments=(("scheduled", b"1"),))
    await store.accept(message)

    await retention.delete_expired(store.router, RetentionLimits(7 * DAY, None), now=NOW)

    assert await messages.load_attachments(store.pool, message.project_id, ["scheduled"])


async def test_finding_16_captured_messages_have_a_limit_of_their_own(store):
    message = await settled(store, RECENT)
    for reference, age in (("old", 15 * DAY), ("new", 13 * DAY)):
        await sandbox.capture(
            store.pool,
            reference=reference,
            message_id=message.id,
            recipient="a@example.com",
            content="{}",
            at=NOW - age,
            timeout=5,
        )

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert deleted.sandbox_messages == 1
    assert [one.reference for one in await sandbox.list_captured(store.pool, project_id=None, limit=9)] == ["new"]


async def test_tokens_of_webhooks_are_deleted_when_no_signature_over_them_is_accepted(store):
    for token, age in (("old", 3 * DAY), ("new", DAY)):
        await receipt_tokens.accept(store.pool, [TokenUse(PROVIDER, token, b"")], now=NOW - age)

    deleted = await retention.delete_expired(store.router, RetentionLimits(None, None), now=NOW)

    assert deleted.receipt_tokens == 1
    assert await store.pool.fetch("SELECT token FROM receipt_tokens") == [("new",)]


async def test_finding_16_contents_of_a_project_are_erased_before_their_messages(store):
    project = await projects.create_project(store.pool, organization="o", slug="s", name="n", now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 30 WHERE id = $1", project.id)
    old = await settled(store, RECENT, project_id=project.id, metadata='{"secret": 1}')
    new = await settled(store, NOW - 10 * DAY, project_id=project.id)
    waiting = a_message(RECENT + DAY, project_id=project.id)
    await store.accept(waiting)
    other = await settled(store, RECENT)

    deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert deleted.erased_messages == 1
    found = {row["id"]: row for row in await store.pool.fetch("SELECT id, content, metadata FROM messages")}
    assert (found[old.id]["content"], found[old.id]["metadata"]) == ("{}", None)
    assert all(found[one.id]["content"] != "{}" for one in (new, waiting, other))


async def test_a_message_that_waited_is_erased_once_it_is_settled(store):
    project = await projects.create_project(store.pool, organization="o", slug="s", name="n", now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 30 WHERE id = $1", project.id)
    waiting = a_message(RECENT, project_id=project.id)
    await store.accept(waiting)
    await settled(store, RECENT + DAY, project_id=project.id)
    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).erased_messages == 1

    await store.cancel(waiting.id, at=NOW, project=project.id)

    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).erased_messages == 1
    assert not await retention.delete_expired(store.router, LIMITS, now=NOW)


@pytest.fixture
async def project(store):
    """A project that keeps contents for 30 days."""
    created = await projects.create_project(store.pool, organization="o", slug="s", name="n", now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 30 WHERE id = $1", created.id)
    return created


async def received(store, message, at):
    """The payload of a receipt that arrives about a message at a time, as it is stored."""
    entry = ReceiptEntry(
        delivery_id=message.deliveries[0].id,
        attempt=1,
        provider_id=PROVIDER,
        receipt_id=f"r{at}",
        type=EventType.COMPLAINED,
        occurred_at=at,
        payload="personal",
    )
    async with store.rows_of(message.project_id) as db:
        assert (await receipts.apply(db, [entry], now=at, outbox_retry_after=DAY)).known == [True]
    return await store.pool.fetchval("SELECT payload FROM receipts WHERE receipt_id = $1", entry.receipt_id)


async def test_a_receipt_that_comes_after_the_erasure_is_kept_without_its_payload(store, project):
    message = await settled(store, RECENT, project_id=project.id)

    assert await received(store, message, RECENT + 29 * DAY) == "personal"
    assert await received(store, message, RECENT + 31 * DAY) == ""  # also before the pass that erases the content
    await retention.delete_expired(store.router, LIMITS, now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 80")
    assert await received(store, message, NOW) == ""

    assert await store.pool.fetchval("SELECT count(*) FROM receipts WHERE payload <> ''") == 0


async def test_a_receipt_keeps_its_payload_in_a_project_that_keeps_contents(store, project):
    assert await received(store, await settled(store, RECENT), NOW) == "personal"


async def test_a_bulk_job_that_ends_late_is_erased_then(store, project):
    message, job_id = '{"text": "personal"}', an_id(RECENT)
    scope = ProjectScope(project.id, False)
    async with store.rows_of(project.id) as db:
        await bulk_jobs.create_job(db, scope, job_id, message=message, created_by=None, now=RECENT)
        await bulk_jobs.add_chunks(db, project.id, job_id, [NewChunk(1, 1, '[{"to": "+14155550001"}]')])
        await bulk_jobs.finish_upload(db, project.id, job_id, recipients=1)
    await settled(store, RECENT + DAY, project_id=project.id)
    await retention.delete_expired(store.router, LIMITS, now=NOW)

    async with store.rows_of(project.id) as db:
        result = ChunkResult(["+14155550001"], [None], {})
        await bulk_jobs.finish_chunk(db, project.id, job_id, 1, result, cancelled=False, now=NOW)
        await bulk_jobs.finish_job(db, project.id, job_id, now=NOW)
    await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert await store.pool.fetchval("SELECT message FROM bulk_jobs") == "{}"
    assert tuple(await store.pool.fetchrow("SELECT rows, recipients FROM bulk_chunks")) == ("", None)


async def test_an_erased_message_is_still_shown(store):
    project = await projects.create_project(store.pool, organization="o", slug="s", name="n", now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 30 WHERE id = $1", project.id)
    message = await settled(store, RECENT, project_id=project.id)
    await retention.delete_expired(store.router, LIMITS, now=NOW)

    found = await messages.find(store.pool, ProjectScope(project.id, False), message.id)

    assert (found.content, [one.recipient for one in found.deliveries]) == ("{}", [message.deliveries[0].recipient])


async def test_the_weeks_are_listed_with_their_sizes(store):
    await settled(store, RECENT)
    await store.pool.execute("ANALYZE")

    weeks = {week.name: week for week in await retention.list_weeks(store.operator)}

    assert list(weeks) == sorted(weeks)
    assert weeks[f"{RECENT:%G}w{RECENT:%V}"].messages == 1
    assert all(week.size > 0 for week in weeks.values())


async def test_addresses_and_devices_of_deleted_projects_are_deleted(store, project):
    recipient = Recipient(project.id, Channel.EMAIL, "ada@example.com")
    await suppressions.add(store.pool, [NewSuppression(recipient, SuppressionReason.COMPLAINT)], now=NOW)
    await devices.register(store.pool, project.id, Device("ada", "token", "fcm", None), now=NOW)
    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).orphans == 0

    await store.pool.execute("UPDATE projects SET deleted_at = $1", NOW)

    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).orphans == 2
    assert [await store.count("suppressions"), await store.count("devices")] == [0, 0]


async def test_the_usage_of_old_days_is_deleted(store):
    scope = ProjectScope(PROJECT, False)
    for age in (40, 30):
        await project_usage.add(store.pool, (NOW - age * DAY).date(), {scope: Usage(1, 0)})

    await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert await project_usage.of_day(store.pool, (NOW - 40 * DAY).date()) == {}
    assert await project_usage.of_day(store.pool, (NOW - 30 * DAY).date()) == {scope: Usage(1, 0)}


async def test_a_drop_does_not_wait_for_a_long_transaction_and_the_other_steps_run(store, project):
    held, other = partitions.week_of(OLD), partitions.week_of(OLD - timedelta(weeks=1))
    await settled(store, OLD)
    await settled(store, RECENT, project_id=project.id)
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.fetch(f"SELECT * FROM messages_{held}")

        deleted = await retention.delete_expired(store.router, LIMITS, now=NOW)

        await store.accept(a_message(NOW))  # others are not held up

    assert list(deleted.failed) == [f"week {held}"]
    assert f"messages_{other}" in deleted.partitions
    assert deleted.erased_messages == 1
    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).failed == {}
    assert await counts(store) == [2, 2, 1, 4]


async def test_an_erasure_that_fails_is_continued_and_holds_up_no_other_project(store, project, monkeypatch):
    monkeypatch.setattr(retention, "_BATCH", 4)
    sent = [await settled(store, RECENT + n * DAY, project_id=project.id) for n in range(5)]
    for message in sent:
        await received(store, message, RECENT + 20 * DAY)
    second = await projects.create_project(store.pool, organization="o", slug="t", name="n", now=NOW)
    await store.pool.execute("UPDATE projects SET content_retention_days = 30 WHERE id = $1", second.id)
    await settled(store, RECENT, project_id=second.id)
    pool = FailingAtTheSecondStep(store.router, project.id)

    deleted = await retention.delete_expired(pool, LIMITS, now=NOW)

    assert deleted.failed == {f"contents of project {project.id}": "TimeoutError"}
    assert deleted.erased_messages == 3  # two messages with a delivery each are a step
    erased = "SELECT id FROM messages WHERE project_id = $1 AND content = '{}' ORDER BY id"
    assert [row["id"] for row in await store.pool.fetch(erased, project.id)] == [one.id for one in sent[:2]]
    assert await store.pool.fetchval("SELECT count(*) FROM receipts WHERE payload <> ''") == 3
    reached = await store.pool.fetchval("SELECT contents_erased_to FROM projects WHERE id = $1", project.id)
    assert reached == RECENT + 2 * DAY

    assert (await retention.delete_expired(store.router, LIMITS, now=NOW)).erased_messages == 3
    assert await store.pool.fetchval("SELECT count(*) FROM receipts WHERE payload <> ''") == 0


class FailingAtTheSecondStep:
    """A pool in which the second step of the erasure of one project takes too long."""

    def __init__(self, pool, project_id):
        self._pool, self._project_id = pool, project_id
        self._steps = 0

    def __getattr__(self, name):
        return getattr(self._pool, name)

    async def fetch(self, query, *arguments):
        if self._project_id in arguments:
            self._steps += 1
            if self._steps == 2:
                raise TimeoutError
        return await self._pool.fetch(query, *arguments)


@pytest.mark.parametrize(("to", "envelope"), [(("ada@example.com",), None), (("ada@example.com", "b@example.com"), [])])
async def test_of_several_recipients_none_is_kept_as_the_sole_one(store, project, to, envelope):
    content = an_email(to=to).model_dump_json().replace("Hello", r"\u0000")  # from before the check of requests
    await settled(store, RECENT, project_id=project.id, content=content)

    await retention.delete_expired(store.router, LIMITS, now=NOW)

    assert await store.pool.fetchval("SELECT envelope FROM deliveries") == envelope
