"""Batching: items that many tasks submit are flushed together, and each task awaits its own result."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Generic, TypeVar

from sluice.runtime.tasks import cancel_and_wait, supervised

T = TypeVar("T")
R = TypeVar("R")


class QueueFullError(Exception):
    """The queue is full; the item was not taken."""


class BatchPacer:
    """Starts batches at least ``seconds`` apart: a single item is flushed at once, and under load the number of
    batches, and with it their cost, is bounded.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started_at = 0.0  # monotonic

    async def wait(self, *, immediate: bool = False) -> None:
        """Return when a batch may start; with ``immediate`` at once."""
        pause = 0.0 if immediate else self._started_at + self._seconds - monotonic()
        # Even a pause of zero lets the loop finish its turn: items submitted in it belong to this batch.
        await asyncio.sleep(max(0.0, pause))
        self._started_at = monotonic()


class Batcher(Generic[T, R]):
    """Collects items and passes them to ``flush``, which returns one result per item, in order.

    A batch contains the items submitted while earlier batches were flushing, and within ``pace`` seconds of the start
    of the previous one: a single item is flushed at once, under load batches grow to ``size``. With ``weigh`` a batch
    also ends with the item that makes it as heavy as ``max_weight``. Up to ``parallel`` flushes run concurrently. If a
    batch fails with one of ``split_on``, its items are flushed one by one, so that one bad item fails alone.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        name: str,
        size: int,
        parallel: int = 2,
        pace: float = 0.0,
        limit: int = 100_000,
        split_on: tuple[type[Exception], ...] = (),
        weigh: Callable[[T], int] | None = None,
        max_weight: int = 0,
    ) -> None:
        self._flush = flush
        self._name = name
        self._size = size
        self._pace = BatchPacer(pace)
        self._limit = limit
        self._split_on = split_on
        self._weigh = weigh
        self._max_weight = max_weight
        self._slots = asyncio.Semaphore(parallel)
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._nonempty = asyncio.Event()
        self._flushing: set[asyncio.Task[None]] = set()

    def submit(self, item: T) -> asyncio.Future[R]:
        """A future of the result of ``item``, or of the exception of its batch. Only inside :meth:`running`.

        Raises:
            QueueFullError: ``limit`` items are waiting.
        """
        if len(self._waiting) >= self._limit:
            raise QueueFullError(f"{self._name}: {self._limit} items are waiting")
        result: asyncio.Future[R] = self._loop.create_future()
        self._waiting.append((item, result))
        self._nonempty.set()
        return result

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Batcher[T, R]]:
        """Flush until the block ends; items that still wait then are flushed before the exit."""
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call each time
        collector = supervised(self._collect(), name=self._name)
        try:
            yield self
        finally:
            while self._waiting:
                await asyncio.sleep(0.001)
            await asyncio.gather(*self._flushing, return_exceptions=True)
            await cancel_and_wait(collector)

    async def _collect(self) -> None:
        while True:
            await self._nonempty.wait()
            await self._slots.acquire()
            await self._pace.wait(immediate=len(self._waiting) >= self._size)
            batch = self._next_batch()
            if not batch:
                self._slots.release()
                continue
            task = asyncio.create_task(self._flush_one_batch(batch), name=f"{self._name}-flush")
            self._flushing.add(task)
            task.add_done_callback(self._flushed)

    def _next_batch(self) -> list[tuple[T, asyncio.Future[R]]]:
        """Up to ``size`` items, or as many as have ``max_weight``, without those whose future is cancelled."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        weight = 0
        while self._waiting and len(batch) < self._size:
            pair = self._waiting.popleft()
            if pair[1].done():
                continue
            batch.append(pair)
            if self._weigh is not None:
                weight += self._weigh(pair[0])
                if weight >= self._max_weight:
                    break
        if not self._waiting:
            self._nonempty.clear()
        return batch

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushing.discard(task)
        self._slots.release()

    async def _flush_one_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{self._name}: {len(batch)} items, {len(results)} results")
        except self._split_on as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for pair in batch:
                    await self._flush_one_batch([pair])
        except Exception as error:
            _fail(batch, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
