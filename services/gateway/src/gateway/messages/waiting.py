"""Send requests that wait until their messages are settled: no query for each, and no reader of all events.

Who settles an awaited message publishes a notice through Redis (:mod:`sluice.delivery.settled_notices`). The notices of
a moment become one statement that reads what became of the messages: the database has the facts, a notice only says
where to look. While Redis is away the same statement looks for everything that is waited for, again and again; with
Redis it does so once a second, for what is settled without a notice (a receipt, a cancellation) and for lost notices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from gateway.errors import TooManyRequests
from sluice.delivery.settled_notices import CHANNEL, REDIS_ERRORS, decode_notice
from sluice.model.state import SETTLED
from sluice.runtime import metrics
from sluice.runtime.batching import BatchPacer
from sluice.runtime.tasks import cancel_and_wait, supervised
from sluice.store import messages
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of
from sluice.store.messages import DeliveryResult

log = structlog.get_logger()

_PACE = 0.005  # seconds between two look-ups: what is settled meanwhile shares the next one
_CHECK_INTERVAL = 1.0  # seconds between look-ups of everything, while there are notices
_POLL_INTERVAL = 0.05  # seconds between look-ups of everything, while there are none
_POLL_SHARE = 5  # pauses are at least so many times as long as the look-up before
_RETRY_DELAY = 0.5  # seconds
_MAX_WAITING = 20_000  # messages of one gateway
_MAX_LOOKED_UP = 2_000  # messages of one statement


class Awaited(NamedTuple):
    """A message to wait for. ``is_old``: it may be settled already, as one whose request is repeated."""

    message_id: UUID
    project_id: UUID
    is_old: bool = False


Results = Sequence[DeliveryResult]
"""The deliveries of a message, all settled."""


class _Waiting:
    """A message and the callers that wait for it, who share its result."""

    __slots__ = ("callers", "project_id", "result")

    def __init__(self, project_id: UUID) -> None:
        self.project_id = project_id
        self.callers = 0
        self.result: asyncio.Future[Results | None] = asyncio.get_running_loop().create_future()


class SettledMessages:
    """The messages for which callers of this gateway wait.

    ``redis``: None where there is none. ``limit``: seconds that a caller waits.
    """

    def __init__(self, pool: Pool, redis: Redis | None, *, limit: float) -> None:
        self._limit = limit
        self._checked_at = 0.0  # monotonic: when everything was looked up
        self._pool = pool
        self._redis = redis
        self._waiting: dict[UUID, _Waiting] = {}
        self._due: set[UUID] = set()  # to be looked up
        self._wake = asyncio.Event()
        self._listening = False
        self._closed = False

    def require_room(self, count: int) -> None:
        """Return if ``count`` more messages may be waited for.

        Raises:
            TooManyRequests: this gateway waits for too many.
        """
        if len(self._waiting) + count > _MAX_WAITING:
            raise TooManyRequests("Too many requests wait for an outcome. Retry after the delay in Retry-After.")

    async def wait(self, awaited: Sequence[Awaited]) -> Mapping[UUID, Results]:
        """The results of the messages that are settled within the limit, by id; those of the others are missing."""
        entries = self._enter(awaited)
        try:
            if entries and not self._closed:
                await asyncio.wait({entry.result for entry in entries.values()}, timeout=self._limit)
            return {
                message_id: results
                for message_id, entry in entries.items()
                if entry.result.done() and (results := entry.result.result()) is not None
            }
        finally:
            self._leave(entries)

    def _enter(self, awaited: Sequence[Awaited]) -> dict[UUID, _Waiting]:
        entries: dict[UUID, _Waiting] = {}
        if not self._waiting:
            self._checked_at = time.monotonic()  # nothing that begins now is settled yet
        for message_id, project_id, is_old in awaited:
            if message_id not in entries:
                entries[message_id] = self._waiting.setdefault(message_id, _Waiting(project_id))
                entries[message_id].callers += 1
            if is_old:
                self._due.add(message_id)
        metrics.AWAITED_MESSAGES.set(len(self._waiting))
        self._wake.set()
        return entries

    def _leave(self, entries: Mapping[UUID, _Waiting]) -> None:
        for message_id, entry in entries.items():
            entry.callers -= 1
            if not entry.callers:
                self._waiting.pop(message_id, None)
        metrics.AWAITED_MESSAGES.set(len(self._waiting))

    async def run(self) -> None:
        """Look up and resolve until cancelled; then every caller gets what is known."""
        listener = supervised(self._listen(), name="settled-notices")
        try:
            await self._look_up_all()
        finally:
            self._closed = True
            await cancel_and_wait(listener)
            for entry in self._waiting.values():
                if not entry.result.done():
                    entry.result.set_result(None)

    # -- look-ups --------------------------------------------------------------------------------------------------

    async def _look_up_all(self) -> None:
        pace = BatchPacer(_PACE)
        took = 0.0
        while True:
            interval = _CHECK_INTERVAL if self._listening else max(_POLL_INTERVAL, _POLL_SHARE * took)
            await self._wait_for_work(interval)
            await pace.wait()
            started = time.monotonic()
            due, self._due = self._due & self._waiting.keys(), set()
            if started >= self._checked_at + interval:
                self._checked_at, due = started, set(self._waiting)
            try:
                for ids in _chunks(due):
                    await self._look_up(ids)
            except UNAVAILABLE_ERRORS as error:
                log.warning("settled_look_up_retrying", error=type(error).__name__, waiting=len(self._waiting))
                self._due |= due
                await asyncio.sleep(_RETRY_DELAY)
            took = time.monotonic() - started

    async def _wait_for_work(self, interval: float) -> None:
        """Return when a message is due, or when everything is, if anything is waited for."""
        while not self._due:
            self._wake.clear()
            left = self._checked_at + interval - time.monotonic() if self._waiting else None
            if left is not None and left <= 0:
                return
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except TimeoutError:
                return

    async def _look_up(self, ids: Sequence[UUID]) -> None:
        projects = {self._waiting[message_id].project_id for message_id in ids if message_id in self._waiting}
        async with rows_of(self._pool, projects) as db:
            found = await messages.find_results(db, ids)
        for message_id, results in found.items():
            entry = self._waiting.get(message_id)
            if entry is None or entry.result.done() or not results:
                continue
            if all(one.state in SETTLED for one in results):
                entry.result.set_result(results)

    # -- notices ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._redis is None:
            metrics.SETTLED_NOTICES_LOST.set(1)
            return
        while True:
            try:
                async with _subscribed(self._redis) as notices:
                    self._set_listening(True)
                    await self._read(notices)
            except REDIS_ERRORS as error:
                if self._listening:
                    log.warning("settled_notices_lost", error=type(error).__name__)
            finally:
                self._set_listening(False)
            await asyncio.sleep(_RETRY_DELAY)

    def _set_listening(self, listening: bool) -> None:
        self._listening = listening
        metrics.SETTLED_NOTICES_LOST.set(not listening)
        self._due.update(self._waiting)  # their notices may have been lost
        self._wake.set()

    async def _read(self, notices: PubSub) -> None:
        """Take notices until the connection is lost, or a ping is not answered."""
        asked = False
        while True:
            message = await notices.get_message(ignore_subscribe_messages=True, timeout=_CHECK_INTERVAL)
            if message is None:
                if asked:
                    raise TimeoutError
                await notices.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                settled = self._waiting.keys() & set(decode_notice(message["data"]))
                if settled:
                    self._due |= settled
                    self._wake.set()


@asynccontextmanager
async def _subscribed(redis: Redis) -> AsyncIterator[PubSub]:
    notices = redis.pubsub()
    try:
        await notices.subscribe(CHANNEL)
        yield notices
    finally:
        await notices.aclose()  # type: ignore[no-untyped-call]


def _chunks(ids: set[UUID]) -> list[list[UUID]]:
    ordered = sorted(ids)
    return [ordered[start : start + _MAX_LOOKED_UP] for start in range(0, len(ordered), _MAX_LOOKED_UP)]
