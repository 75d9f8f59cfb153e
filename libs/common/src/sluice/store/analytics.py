"""Rollups of analytics: what became of the deliveries of an hour or a day.

A rollup grows by what a delivery's history adds to what was counted of it before. ``analytics_progress`` holds how much
that is, and changes in the transaction of the rollups: repeated, reordered and concurrent batches count each event once
(docs/decisions/0066).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import product
from typing import Any, NamedTuple
from uuid import UUID

from sluice.model.analytics import Cell, Count, Duration, Histogram, HistoryEvent, contribution
from sluice.model.ids import created_at_of, min_id_at
from sluice.store.db import Db, Pool, Row
from sluice.store.partitions import list_weeks, week_of, week_start
from sluice.store.projects import ProjectScope

HOURS_KEPT = timedelta(days=35)
"""How long hourly rollups are kept; daily ones are kept for as long as ``RetentionLimits`` says."""
BATCH = 500
"""Deliveries that are counted in one transaction."""

_ALL = ""  # the tag of the rollup of all messages
_NO_PROVIDER = UUID(int=0)
_COUNTS = tuple(count.value for count in Count)
_DURATIONS = tuple(duration.value for duration in Duration)
_NUMBERS = _COUNTS + _DURATIONS
_DELETE_TIMEOUT = 300.0
_LOCK = 7_066_001  # advisory: shared while deliveries are counted, exclusive while a day is deleted


class Interval(StrEnum):
    """The length of the time that a rollup is about; hours and days begin in UTC."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """As a time."""
        return timedelta(hours=1) if self is Interval.HOUR else timedelta(days=1)

    def start(self, when: datetime) -> datetime:
        """The beginning of the interval with this time, which is in UTC."""
        hour = when.replace(minute=0, second=0, microsecond=0)
        return hour if self is Interval.HOUR else hour.replace(hour=0)


class RollupKey(NamedTuple):
    """What a rollup is about, in the order of its index."""

    project_id: UUID
    sandbox: bool
    interval: str
    tag: str
    starts_at: datetime
    channel: str
    provider_id: UUID


Rollup = Counter[tuple[Count | Duration, int]]
"""What is added to a rollup: by name, and bucket of a duration."""


class _Delivery(NamedTuple):
    id: UUID
    project_id: UUID
    sandbox: bool
    channel: str
    tags: Sequence[str]
    send_at: datetime | None
    counted: int
    history: tuple[HistoryEvent, ...]


class _CountedMeanwhileError(Exception):
    """Another process has counted events of a delivery since they were read."""


# -- counting ------------------------------------------------------------------------------------------------------


async def count(pool: Pool, delivery_ids: Iterable[UUID]) -> int:
    """Count the events of these deliveries that are not counted yet; returns the number of deliveries that had some.

    Three statements in one transaction for each :data:`BATCH` of deliveries. Deliveries that do not exist are ignored.
    """
    wanted = sorted(set(delivery_ids))  # concurrent batches lock in the same order
    return sum([await _count_batch(pool, wanted[i : i + BATCH]) for i in range(0, len(wanted), BATCH)])


async def _count_batch(pool: Pool, delivery_ids: Sequence[UUID]) -> int:
    while True:
        try:
            async with pool.acquire() as connection, connection.transaction():
                # A deletion in between would leave the counted part of a delivery out.
                await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
                changed = [one for one in await _read(connection, delivery_ids) if len(one.history) > one.counted]
                if changed:
                    await _advance(connection, changed)
                    await _add(connection, rollups_of(changed))
                return len(changed)
        except _CountedMeanwhileError:
            continue  # the other one has committed: its progress is read now


async def _read(db: Db, delivery_ids: Sequence[UUID]) -> list[_Delivery]:
    rows = await db.fetch(
        """
        SELECT d.id, d.project_id, d.sandbox, d.channel, m.tags, m.send_at, coalesce(p.sequence, 0) AS counted,
               h.types, h.states, h.times, h.providers, h.attempts, h.costs
          FROM (SELECT * FROM unnest($1::uuid[]) AS k (id) LIMIT cardinality($1)) AS k  -- see sluice.store.db
          JOIN deliveries d ON d.id = k.id
          JOIN messages m ON m.id = d.message_id
          LEFT JOIN analytics_progress p ON p.delivery_id = k.id
         CROSS JOIN LATERAL (
               SELECT array_agg(e.type) AS types, array_agg(e.state) AS states, array_agg(e.occurred_at) AS times,
                      array_agg(e.provider_id) AS providers, array_agg(e.attempt) AS attempts,
                      array_agg(e.cost) AS costs
                 FROM (SELECT v.type, v.state, v.occurred_at, v.provider_id, v.attempt, a.cost
                         FROM events v LEFT JOIN attempts a ON a.delivery_id = k.id AND a.number = v.attempt
                        WHERE v.delivery_id = k.id ORDER BY v.sequence) e) h
        """,
        delivery_ids,
    )
    return [_delivery(*row) for row in rows]


def _delivery(*row: Any) -> _Delivery:
    *facts, types, states, times, providers, attempts, costs = row
    return _Delivery._make([*facts, tuple(map(HistoryEvent, types or (), states, times, providers, attempts, costs))])


async def _advance(db: Db, deliveries: Sequence[_Delivery]) -> None:
    advanced = await db.fetchval(
        """
        WITH advanced AS (
            INSERT INTO analytics_progress AS p (delivery_id, sequence, previous)
            SELECT n.* FROM unnest($1::uuid[], $2::smallint[], $3::smallint[]) AS n (delivery_id, sequence, previous)
             ORDER BY n.delivery_id
            ON CONFLICT (delivery_id) DO UPDATE SET sequence = excluded.sequence, previous = excluded.previous
             WHERE p.sequence = excluded.previous
            RETURNING p.delivery_id
        )
        SELECT count(*) FROM advanced
        """,
        [one.id for one in deliveries],
        [len(one.history) for one in deliveries],
        [one.counted for one in deliveries],
    )
    if advanced < len(deliveries):
        raise _CountedMeanwhileError


def rollups_of(deliveries: Iterable[_Delivery]) -> dict[RollupKey, Rollup]:
    """What the uncounted events of deliveries add, by rollup."""
    alike: dict[tuple[UUID, bool, str, datetime, tuple[str, ...]], Counter[Cell]] = defaultdict(Counter)
    for one in deliveries:
        hour = Interval.HOUR.start(created_at_of(one.id))
        cells = alike[one.project_id, one.sandbox, one.channel, hour, tuple(one.tags)]
        cells.update(contribution(one.history, one.send_at))
        if one.counted:
            cells.subtract(contribution(one.history[: one.counted], one.send_at))
    rollups: dict[RollupKey, Rollup] = defaultdict(Counter)
    for (project_id, sandbox, channel, hour, tags), cells in alike.items():
        starts = [(interval.value, interval.start(hour)) for interval in Interval]
        changed = [(cell, number) for cell, number in cells.items() if number]
        for (provider_id, name, bucket), number in changed:
            for (interval, start), tag in product(starts, {_ALL, *tags}):
                key = RollupKey(project_id, sandbox, interval, tag, start, channel, provider_id or _NO_PROVIDER)
                rollups[key][name, bucket] += number
    return rollups


async def _add(db: Db, rollups: Mapping[RollupKey, Rollup]) -> None:
    if not rollups:
        return
    keys = sorted(rollups)  # concurrent statements lock in the same order
    await db.execute(
        f"""
        INSERT INTO analytics_rollups AS r (project_id, sandbox, interval, tag, starts_at, channel, provider_id,
                                            {", ".join(_NUMBERS)})
        SELECT n.project_id, n.sandbox, n.interval, n.tag, n.starts_at, n.channel, n.provider_id,
               {", ".join(f"n.{name}" for name in _COUNTS)},
               {", ".join(f"n.{name}::numeric" for name in _DURATIONS)}
          FROM unnest($1::uuid[], $2::boolean[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::uuid[],
                      {", ".join(f"${8 + i}::bigint[]" for i in range(len(_COUNTS)))},
                      {", ".join(f"${8 + len(_COUNTS) + i}::text[]" for i in range(len(_DURATIONS)))})
               WITH ORDINALITY
               AS n (project_id, sandbox, interval, tag, starts_at, channel, provider_id,
                     {", ".join(_NUMBERS)}, position)
         ORDER BY n.position
        ON CONFLICT (project_id, sandbox, interval, tag, starts_at, channel, provider_id) DO UPDATE
           SET {", ".join(f"{name} = r.{name} + excluded.{name}" for name in _NUMBERS)}
        """,  # noqa: S608  constants
        *zip(*keys, strict=True),
        *([rollups[key][name, 0] for key in keys] for name in Count),
        *([_histogram(rollups[key], name) for key in keys] for name in Duration),
    )


def _histogram(rollup: Rollup, name: Duration) -> str:
    numbers = {bucket: number for (found, bucket), number in rollup.items() if found is name}
    return str(Histogram(list(numbers), list(numbers.values())))


# -- reading -------------------------------------------------------------------------------------------------------


class Grouping(StrEnum):
    """What the numbers are divided by; the values are names of :class:`Group`."""

    CHANNEL = "channel"
    PROVIDER = "provider_id"
    TAG = "tag"


class Filter(NamedTuple):
    """Which deliveries; None: any. ``provider_ids``: those whose counts belong to one of these."""

    channels: Sequence[str] | None = None
    provider_ids: Sequence[UUID] | None = None
    tag: str | None = None


class Range(NamedTuple):
    """The intervals that begin at ``first`` or later, and before ``end``."""

    interval: Interval
    first: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """The numbers of one interval, or of the whole range (``starts_at`` None), for one value of each grouping.

    What is not grouped by is None. ``provider_id`` is also None for deliveries without an attempt. ``histograms``: as
    text, see :meth:`sluice.model.analytics.Histogram.parse`, which takes time for many.
    """

    starts_at: datetime | None
    channel: str | None
    provider_id: UUID | None
    tag: str | None
    counts: Mapping[Count, int]
    histograms: Mapping[Duration, str]


MAX_TAGS = 50
"""Of a grouping by tag: the tags with the most settled deliveries of the range."""
MAX_GROUPS = 1000
"""Of one reading."""


class TooManyGroupsError(Exception):
    """A reading has more than :data:`MAX_GROUPS` groups."""


async def read(
    db: Db, project: ProjectScope, within: Range, filters: Filter, by: Iterable[Grouping] = ()
) -> list[Group]:
    """The numbers of a project for the whole range, then by interval, each by the groupings; none for zeros only.

    A grouping by tag counts a message once for each of its tags.

    Raises:
        TooManyGroupsError: there are more than :data:`MAX_GROUPS`.
    """
    names = [grouping.value for grouping in Grouping if grouping in set(by)]
    keys = "".join(f"{name}, " for name in names)
    condition, arguments = _condition(project, within, filters, by_tag=Grouping.TAG in names)
    rows = await db.fetch(
        f"""
        SELECT {keys}starts_at, {", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTS)},
               {", ".join(f"sum({name})::text AS {name}" for name in _DURATIONS)}
          FROM analytics_rollups r
         WHERE {condition}
         GROUP BY GROUPING SETS (({keys}starts_at), ({keys.rstrip(", ")}))
         ORDER BY {", ".join(["starts_at NULLS FIRST", *names])} LIMIT {MAX_GROUPS + 1}
        """,  # noqa: S608  constants
        *arguments,
    )
    if len(rows) > MAX_GROUPS:
        raise TooManyGroupsError
    return [_group(row, names) for row in rows if any(row[name] for name in _COUNTS)]


def _condition(project: ProjectScope, within: Range, filters: Filter, *, by_tag: bool) -> tuple[str, list[Any]]:
    arguments: list[Any] = [*project, within.interval.value, within.first, within.end]
    conditions = ["r.project_id = $1 AND r.sandbox = $2 AND r.interval = $3 AND r.starts_at >= $4 AND r.starts_at < $5"]

    def add(text: str, value: Any) -> None:
        arguments.append(value)
        conditions.append(text.format(len(arguments)))

    if filters.channels is not None:
        add("r.channel = ANY(${}::text[])", list(filters.channels))
    if filters.provider_ids is not None:
        add("r.provider_id = ANY(${}::uuid[])", list(filters.provider_ids))
    if filters.tag is not None or not by_tag:
        add("r.tag = ${}", _ALL if filters.tag is None else filters.tag)
    else:
        within_tags = " AND ".join(conditions)
        conditions.append(f"""
            r.tag IN (SELECT r.tag FROM analytics_rollups r WHERE {within_tags} AND r.tag <> ''
                       GROUP BY r.tag ORDER BY sum(r.settled) DESC, r.tag LIMIT {MAX_TAGS})
        """)  # noqa: S608  constants
    return " AND ".join(conditions), arguments


def _group(row: Row, names: Sequence[str]) -> Group:
    values = {name: row[name] for name in names}
    provider_id = values.get(Grouping.PROVIDER.value)
    return Group(
        row["starts_at"],
        values.get(Grouping.CHANNEL.value),
        None if provider_id == _NO_PROVIDER else provider_id,
        values.get(Grouping.TAG.value),
        {name: row[name.value] for name in Count},
        {name: row[name.value] for name in Duration},
    )


# -- rebuilding and retention --------------------------------------------------------------------------------------


class Rebuilt(NamedTuple):
    """How far a rebuild is: everything accepted before ``until`` is counted, ``deliveries`` of them since its start."""

    until: datetime
    deliveries: int


async def rebuild(pool: Pool, *, since: datetime, now: datetime) -> AsyncIterator[Rebuilt]:
    """Make the rollups again from the first whole day at or before ``since`` on, day by day, while events go on.

    A day is deleted and counted again; an interrupted rebuild has to be repeated. Days whose deliveries are deleted
    keep their rollups. Uses two connections of ``pool``.
    """
    total = 0
    for day in await _days(pool, since, now):
        end = day + Interval.DAY.length
        async with _held_week(pool, day) as exists:
            if exists:
                await _delete_day(pool, day, end)
                after = min_id_at(day)
                while batch := await _next_ids(pool, after, min_id_at(end)):
                    total += await count(pool, batch)
                    after = batch[-1]
                    yield Rebuilt(created_at_of(after), total)
        yield Rebuilt(end, total)


@asynccontextmanager
async def _held_week(pool: Pool, day: datetime) -> AsyncIterator[bool]:
    """Whether the deliveries of the day's week are kept; until the block ends, ``drop_week`` drops no partition.

    The lock of a reader is enough: a drop takes the whole table for itself. It lasts beyond the deletion of the day,
    or a drop before the count would leave the day without rollups.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE deliveries IN ACCESS SHARE MODE", timeout=_DELETE_TIMEOUT)
        yield week_of(day) in await list_weeks(connection)


async def _days(db: Db, since: datetime, now: datetime) -> list[datetime]:
    """The days from ``since`` or the oldest week that is kept, to today or the newest delivery."""
    weeks = [week_start(week) for week in await list_weeks(db)]
    if not weeks:
        return []
    newest = await db.fetchval("SELECT id FROM deliveries WHERE id < $1 ORDER BY id DESC LIMIT 1", _end(weeks[-1]))
    first = Interval.DAY.start(max(since, weeks[0]))
    last = now if newest is None else max(now, created_at_of(newest))
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _end(week: datetime) -> UUID:
    """The first id after a week."""
    return min_id_at(week + timedelta(weeks=1))


async def _delete_day(pool: Pool, day: datetime, end: datetime) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_DELETE_TIMEOUT)
        await connection.execute(
            "DELETE FROM analytics_rollups WHERE interval = ANY($1::text[]) AND starts_at >= $2 AND starts_at < $3",
            [interval.value for interval in Interval],
            day,
            end,
            timeout=_DELETE_TIMEOUT,
        )
        await connection.execute(
            "DELETE FROM analytics_progress WHERE delivery_id >= $1 AND delivery_id < $2",
            min_id_at(day),
            min_id_at(end),
            timeout=_DELETE_TIMEOUT,
        )


async def _next_ids(db: Db, after: UUID, end: UUID) -> list[UUID]:
    rows = await db.fetch("SELECT id FROM deliveries WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3", after, end, BATCH)
    return [row["id"] for row in rows]


async def delete_old(db: Db, *, now: datetime, days_kept: timedelta | None) -> int:
    """Delete hourly rollups after :data:`HOURS_KEPT`, and daily ones after ``days_kept`` (None: never)."""
    deleted = 0
    for interval, kept in ((Interval.HOUR, HOURS_KEPT), (Interval.DAY, days_kept)):
        if kept is not None:
            status = await db.execute(
                "DELETE FROM analytics_rollups WHERE interval = $1 AND starts_at < $2",
                interval.value,
                Interval.DAY.start(now - kept),
                timeout=_DELETE_TIMEOUT,
            )
            deleted += int(status.rpartition(" ")[2])
    return deleted
