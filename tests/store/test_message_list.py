"""The list of messages: filters, pages, and what a walk through the pages covers."""

import asyncio
from datetime import timedelta

import pytest

from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.state import State
from sluice.model.terms import TermKind, term, terms_of
from sluice.runtime.clock import utc_now
from sluice.store import ingest, message_list
from sluice.store.message_list import Filters
from sluice.store.projects import ProjectScope
from tests.examples import OTHER_PROJECT, PROJECT, a_message, an_email

LIVE = ProjectScope(PROJECT, False)
EVERYTHING = Filters()
A_TERM = Filters(terms=(term(TermKind.TO, "a@example.com", sandbox=False),))


def a_new_message(number=0, *, now=None, **fields):
    """A message of now plus ``number`` milliseconds."""
    when = (now or utc_now()) + timedelta(milliseconds=number)
    sender, to, tags = fields.get("sender"), fields.get("to", ("a@example.com",)), fields.get("tags", ())
    sandbox = fields.get("sandbox", False)
    content = an_email(to=to).model_dump_json()
    return a_message(when=when, content=content, **fields)._replace(
        terms=terms_of(sender=sender, recipients=to, tags=tags, bulk=None, sandbox=sandbox)
    )


async def page(store, filters=EVERYTHING, *, limit=100, position=None, scope=LIVE, now=None):
    async with store.rows_of(scope.project_id) as db:
        return await message_list.list_messages(
            db, scope, filters, limit=limit, position=position, now=now or utc_now()
        )


async def walk(store, filters=EVERYTHING, *, limit, scope=LIVE):
    found, position = [], None
    while True:
        shown, position = await page(store, filters, limit=limit, position=position, scope=scope)
        found += [row.id for row in shown]
        if position is None:
            return found


async def listed(store, **filters):
    return {row.recipients[0] for row in (await page(store, Filters(**filters))).messages}


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_walk_shows_every_message_once_newest_first(store, limit):
    now = utc_now()
    messages = [a_new_message(-number, now=now) for number in range(10)]
    await store.accept(*messages)

    assert await walk(store, limit=limit) == sorted((one.id for one in messages), reverse=True)


async def test_a_list_has_the_messages_of_its_project_and_mode_only(store):
    own, test = a_new_message(), a_new_message(sandbox=True)
    await store.accept(own, test, a_new_message(project_id=OTHER_PROJECT))

    assert await walk(store, limit=9) == [own.id]
    assert await walk(store, limit=9, scope=ProjectScope(PROJECT, True)) == [test.id]


async def test_a_row_shows_what_the_message_has(store):
    message = a_new_message(to=("a@example.com",), tags=("x", "y"), metadata='{"order":7}', sender="s@example.com")
    await store.accept(message)

    (row,) = (await page(store)).messages

    assert (row.recipients, row.tags, row.metadata, row.sender) == (
        ("a@example.com",),
        ("x", "y"),
        '{"order":7}',
        "s@example.com",
    )
    assert (row.state, row.attempts, row.taken_by) == (State.QUEUED, 0, None)


async def test_filters_find_what_fits_and_nothing_else(store):
    await store.accept(
        a_new_message(to=("a@example.com",), sender="s@example.com", tags=("red",)),
        a_new_message(to=("b@example.com",), sender="S <S@example.com>", tags=("red", "blue")),
        a_new_message(to=("c@example.com",), channel=Channel.SMS),
    )

    def terms(**named):
        return tuple(term(TermKind(kind.rstrip("_")), text, sandbox=False) for kind, text in named.items())

    assert await listed(store, terms=terms(to="Name <A@Example.com>")) == {"a@example.com"}
    assert await listed(store, terms=terms(from_="s@example.com")) == {"a@example.com", "b@example.com"}
    assert await listed(store, terms=terms(tag="red", to="b@example.com")) == {"b@example.com"}
    assert await listed(store, terms=terms(tag="RED")) == set()
    assert await listed(store, channel="sms") == {"c@example.com"}
    assert await listed(store, channel="sms", terms=terms(to="a@example.com")) == set()
    assert await listed(store, provider_ids=(ids.uuid7(),)) == set()
    assert await listed(store, terms=terms(tag="red"), status=State.QUEUED) == {"a@example.com", "b@example.com"}
    assert await listed(store, terms=terms(to="b@example.com", tag="red"), is_narrow=True, status=State.QUEUED) == {
        "b@example.com"
    }
    assert await listed(store, terms=terms(tag="red"), status=State.FAILED) == set()


async def test_a_range_of_time_begins_with_its_first_millisecond_and_excludes_its_end(store):
    now = utc_now().replace(microsecond=0)
    messages = [a_new_message(number, now=now, to=(f"{number}@example.com",)) for number in range(3)]
    await store.accept(*messages)

    first, end = (ids.min_id_at(now + timedelta(milliseconds=number)) for number in (1, 2))

    assert await listed(store, first=first, end=end) == {"1@example.com"}


@pytest.mark.parametrize("state", list(State))
async def test_a_status_is_that_of_the_whole_message(store, state):
    other = State.QUEUED if state is not State.QUEUED else State.SENT
    one, two = (a_new_message(to=(f"{number}a@example.com", f"{number}b@example.com")) for number in (1, 2))
    await store.accept(one, two)
    await store.pool.execute("UPDATE deliveries SET state = $1 WHERE message_id = $2", state.value, one.id)
    await store.pool.execute("UPDATE deliveries SET state = $1 WHERE id = $2", other.value, one.deliveries[0].id)
    await store.pool.execute("UPDATE deliveries SET state = $1 WHERE message_id = $2", state.value, two.id)

    shown = {row.id for row in (await page(store, Filters(status=state))).messages}

    assert shown == ({one.id, two.id} if state is State.QUEUED else {two.id})


@pytest.mark.parametrize("filters", [Filters(), Filters(channel="email"), Filters(status=State.QUEUED), A_TERM])
@pytest.mark.parametrize("limit", [1, 2, 9])
async def test_a_message_that_is_committed_after_a_newer_one_was_shown_is_not_skipped(store, filters, limit):
    now = utc_now()
    oldest, late, later, newest = (a_new_message(-number, now=now) for number in (40, 30, 20, 10))
    await store.accept(oldest, newest)
    async with store.gateway.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await ingest.insert_batch(connection, [late, later])

        first = await page(store, filters, limit=limit)
        found, position = [row.id for row in first.messages], first.next
        await transaction.commit()

    if position is None:  # the walk was over before
        assert found == [newest.id, oldest.id]
        return
    while position is not None:
        shown, position = await page(store, filters, limit=limit, position=position)
        found += [row.id for row in shown]
    assert sorted(found) == sorted(one.id for one in (oldest, late, later, newest))


async def test_nothing_is_skipped_or_doubled_while_messages_arrive(store):
    """Four writers whose commits overtake one another; each walk has what was committed when it began."""
    committed, stopping = [], asyncio.Event()

    async def write(delay):
        while not stopping.is_set():
            messages = [a_new_message() for _ in range(5)]
            async with store.gateway.acquire() as connection, connection.transaction():
                await ingest.insert_batch(connection, messages)
                await asyncio.sleep(delay)
            committed.extend(one.id for one in messages)

    writers = [asyncio.create_task(write(delay)) for delay in (0.02, 0.05, 0.1, 0.2)]
    try:
        for _ in range(5):
            await asyncio.sleep(0.2)
            before = set(committed)
            found = await walk(store, limit=20)
            assert len(found) == len(set(found))
            assert before <= set(found)
    finally:
        stopping.set()
        await asyncio.gather(*writers)
    assert sorted(await walk(store, limit=50)) == sorted(committed)


async def test_a_rare_filter_ends_its_page_early_and_the_walk_finds_all(store, monkeypatch):
    monkeypatch.setattr(message_list, "MAX_SCANNED", 3)
    now = utc_now()
    messages = [a_new_message(-number, now=now) for number in range(10)]
    await store.accept(*messages)
    sent = [messages[5].id, messages[9].id]
    await store.pool.execute("UPDATE deliveries SET state = 'SENT' WHERE message_id = ANY($1)", sent)

    first = await page(store, Filters(status=State.SENT))

    assert (first.messages, first.next.before) == ([], messages[2].id)
    assert await walk(store, Filters(status=State.SENT), limit=5) == sent


async def retried(store, message, providers, *, outcome):
    """Attempts of a message's delivery at ``providers``, in order: the last one is accepted, those before end so."""
    delivery_id = message.deliveries[0].id
    unknown = len(providers) - 1 if outcome == "unknown" else 0
    for number, provider_id in enumerate(providers, 1):
        ended = "accepted" if number == len(providers) else outcome
        await store.pool.execute(
            "INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,"
            " routing_decision, started_at, outcome) VALUES ($1, $2, $3, $4, 1, $5, '{}', now(), $6)",
            delivery_id, number, PROJECT, provider_id, f"att_{number}", ended,
        )  # fmt: skip
    await store.pool.execute(
        "UPDATE deliveries SET attempt_count = $2, unknown_attempts = $3, provider_id = $4 WHERE id = $1",
        delivery_id, len(providers), unknown, providers[-1],
    )  # fmt: skip


async def test_what_failed_over_or_may_have_arrived_twice_is_found_without_reading_the_others(store, monkeypatch):
    monkeypatch.setattr(message_list, "MAX_SCANNED", 3)
    now, one, two = utc_now(), ids.uuid7(), ids.uuid7()
    messages = [a_new_message(-number, now=now, tags=("red",)) for number in range(10)]
    await store.accept(*messages)
    over, doubled = messages[8], messages[9]
    await retried(store, over, [one, two], outcome="provider_fault")
    await retried(store, doubled, [one, one], outcome="unknown")

    for filters, found in (
        (Filters(failed_over=True), [over.id]),
        (Filters(may_be_doubled=True), [doubled.id]),
        (Filters(failed_over=True, may_be_doubled=True), []),
        (Filters(failed_over=True, terms=(term(TermKind.TAG, "red", sandbox=False),)), [over.id]),
        (Filters(failed_over=True, terms=(term(TermKind.TAG, "blue", sandbox=False),)), []),
    ):
        first = await page(store, filters)
        assert ([row.id for row in first.messages], first.next) == (found, None), filters


async def test_a_provider_that_the_project_does_not_have_is_not_looked_for(store, monkeypatch):
    monkeypatch.setattr(message_list, "MAX_SCANNED", 3)
    await store.accept(*[a_new_message(-number) for number in range(10)])

    assert await page(store, Filters(provider_ids=())) == ([], None)
    assert await page(store, Filters(attempted_ids=())) == ([], None)
