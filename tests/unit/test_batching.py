"""The batcher: items of many tasks are flushed together, each task gets its own result."""

import asyncio

import pytest

from sluice.runtime.batching import Batcher, QueueFullError
from tests.polling import virtual_time, wait_until


class Flush:
    """Flushes while its ``gate`` is open; keeps the batches and the largest number of concurrent flushes."""

    def __init__(self):
        self.batches = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.max_running = 0
        self.bad = set()
        self.error = ValueError

    async def __call__(self, items):
        self.batches.append(list(items))
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        await self.gate.wait()
        self.running -= 1
        if self.bad.intersection(items):
            raise self.error("bad item")
        return [item * 10 for item in items]


@pytest.fixture
def flush():
    return Flush()


def batcher(flush, **options):
    return Batcher(flush, name="test", **{"size": 10} | options).running()


async def test_each_task_gets_its_own_result(flush):
    async with batcher(flush) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(25)])

    assert results == [number * 10 for number in range(25)]


async def test_items_submitted_together_share_a_batch(flush):
    async with batcher(flush) as work:
        await asyncio.gather(*[work.submit(number) for number in range(10)])

    assert flush.batches == [list(range(10))]


async def test_the_next_batch_waits_for_the_pace(flush):
    with virtual_time():
        async with batcher(flush, pace=10) as work:
            await work.submit(1)
            second = work.submit(2)
            for _ in range(5):
                await asyncio.sleep(0)
            await asyncio.gather(second, work.submit(3))

    assert flush.batches == [[1], [2, 3]]


async def test_a_full_batch_does_not_wait_for_the_pace(flush):
    async with batcher(flush, size=2, pace=3600) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(8)])

    assert results == [number * 10 for number in range(8)]
    assert [len(batch) for batch in flush.batches] == [2, 2, 2, 2]


async def test_a_batch_ends_with_the_item_that_makes_it_heavy(flush):
    async with batcher(flush, weigh=lambda item: item, max_weight=10) as work:
        await asyncio.gather(*[work.submit(number) for number in (4, 4, 4, 1, 50, 2, 3)])

    assert flush.batches == [[4, 4, 4], [1, 50], [2, 3]]


async def test_no_batch_is_larger_than_its_size(flush):
    async with batcher(flush, size=10) as work:
        await asyncio.gather(*[work.submit(number) for number in range(95)])

    assert max(len(batch) for batch in flush.batches) == 10


async def test_no_more_flushes_run_concurrently_than_allowed(flush):
    flush.gate.clear()
    async with batcher(flush, size=1, parallel=3) as work:
        waiting = [work.submit(number) for number in range(20)]
        await wait_until(lambda: flush.running == 3)
        flush.gate.set()
        await asyncio.gather(*waiting)

    assert flush.max_running == 3


async def test_one_bad_item_fails_alone(flush):
    flush.bad = {3}
    async with batcher(flush, split_on=(ValueError,)) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(5)], return_exceptions=True)

    assert [type(result) for result in results] == [int, int, int, ValueError, int]


async def test_another_error_fails_the_whole_batch(flush):
    flush.bad, flush.error = {3}, OSError
    async with batcher(flush, split_on=(ValueError,)) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(5)], return_exceptions=True)

    assert [type(result) for result in results] == [OSError] * 5


async def test_the_next_batch_after_an_error_is_flushed(flush):
    flush.bad = {3}
    async with batcher(flush) as work:
        await asyncio.gather(work.submit(3), return_exceptions=True)

        assert await work.submit(4) == 40


async def test_a_full_queue_refuses_at_once(flush):
    flush.gate.clear()
    async with batcher(flush, size=1, parallel=1, limit=5) as work:
        first = work.submit(0)
        await wait_until(lambda: flush.running == 1)
        rest = [work.submit(number) for number in range(1, 6)]

        with pytest.raises(QueueFullError):
            work.submit(6)

        flush.gate.set()
        assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40, 50]


async def test_a_cancelled_item_is_not_flushed(flush):
    flush.gate.clear()
    async with batcher(flush, size=1, parallel=1) as work:
        first = work.submit(1)
        await wait_until(lambda: flush.running == 1)
        cancelled, kept = work.submit(2), work.submit(3)

        cancelled.cancel()
        flush.gate.set()

        assert await asyncio.gather(first, kept) == [10, 30]
    assert [2] not in flush.batches


async def test_an_item_cancelled_during_its_flush_affects_no_other(flush):
    flush.gate.clear()
    async with batcher(flush) as work:
        cancelled, kept = work.submit(1), work.submit(2)
        await wait_until(lambda: flush.running == 1)

        cancelled.cancel()
        flush.gate.set()

        assert await kept == 20


async def test_the_exit_flushes_the_queue(flush):
    async with batcher(flush, pace=0.01) as work:
        results = [work.submit(number) for number in range(30)]

    assert [result.result() for result in results] == [number * 10 for number in range(30)]


async def test_the_exit_ends_when_all_items_are_cancelled(flush):
    flush.gate.clear()
    async with batcher(flush, size=1, parallel=1) as work:
        work.submit(0)
        await wait_until(lambda: flush.running == 1)
        for result in [work.submit(number) for number in range(1, 10)]:
            result.cancel()
        flush.gate.set()

    assert flush.batches == [[0]]


async def test_a_flush_that_returns_too_few_results_fails_its_batch():
    async def short(items):
        return [0]

    async with batcher(short) as work:
        results = await asyncio.wait_for(
            asyncio.gather(work.submit(1), work.submit(2), return_exceptions=True), timeout=5
        )

    assert any(isinstance(result, Exception) for result in results)
