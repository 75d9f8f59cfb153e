"""Shared commits: many wait, few do."""

import asyncio

import pytest

from sluice.runtime.batching import Batcher, QueueFullError
from tests.polling import wait_until


class Flush:
    """Takes batches when it is let; remembers them and how many were under way at once."""

    def __init__(self):
        self.batches = []
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = 0
        self.most_under_way = 0
        self.bad = set()
        self.fault = ValueError

    async def __call__(self, items):
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.open.wait()
        self.under_way -= 1
        if self.bad.intersection(items):
            raise self.fault("bad item")
        return [item * 10 for item in items]


@pytest.fixture
def flush():
    return Flush()


def batcher(flush, **options):
    return Batcher(flush, name="test", **{"size": 10} | options).running()


async def test_each_waiter_gets_its_own_result(flush):
    async with batcher(flush) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(25)])

    assert results == [number * 10 for number in range(25)]


async def test_what_comes_together_is_done_together(flush):
    async with batcher(flush) as work:
        await asyncio.gather(*[work.submit(number) for number in range(10)])

    assert flush.batches == [list(range(10))]


async def test_after_a_batch_company_is_waited_for(flush):
    async with batcher(flush, pace=0.5) as work:
        await work.submit(1)
        second = work.submit(2)
        for _ in range(5):
            await asyncio.sleep(0)
        await asyncio.gather(second, work.submit(3))

    assert flush.batches == [[1], [2, 3]]


async def test_what_fills_a_batch_waits_for_nobody(flush):
    async with batcher(flush, size=2, pace=3600) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(8)])

    assert results == [number * 10 for number in range(8)]
    assert [len(batch) for batch in flush.batches] == [2, 2, 2, 2]


async def test_no_batch_is_larger_than_allowed(flush):
    async with batcher(flush, size=10) as work:
        await asyncio.gather(*[work.submit(number) for number in range(95)])

    assert max(len(batch) for batch in flush.batches) == 10


async def test_no_more_flushes_run_at_once_than_allowed(flush):
    flush.open.clear()
    async with batcher(flush, size=1, parallel=3) as work:
        waiting = [work.submit(number) for number in range(20)]
        await wait_until(lambda: flush.under_way == 3)
        flush.open.set()
        await asyncio.gather(*waiting)

    assert flush.most_under_way == 3


async def test_one_bad_item_spoils_no_other(flush):
    flush.bad = {3}
    async with batcher(flush, split_on=(ValueError,)) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(5)], return_exceptions=True)

    assert [type(result) for result in results] == [int, int, int, ValueError, int]


async def test_a_fault_of_another_kind_is_told_to_the_whole_batch(flush):
    flush.bad, flush.fault = {3}, OSError
    async with batcher(flush, split_on=(ValueError,)) as work:
        results = await asyncio.gather(*[work.submit(number) for number in range(5)], return_exceptions=True)

    assert [type(result) for result in results] == [OSError] * 5


async def test_after_a_fault_the_next_batch_is_done(flush):
    flush.bad = {3}
    async with batcher(flush) as work:
        await asyncio.gather(work.submit(3), return_exceptions=True)

        assert await work.submit(4) == 40


async def test_too_many_waiters_are_refused_at_once(flush):
    flush.open.clear()
    async with batcher(flush, size=1, parallel=1, limit=5) as work:
        first = work.submit(0)
        await wait_until(lambda: flush.under_way == 1)
        rest = [work.submit(number) for number in range(1, 6)]

        with pytest.raises(QueueFullError):
            work.submit(6)

        flush.open.set()
        assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40, 50]


async def test_what_nobody_waits_for_any_more_is_not_done(flush):
    flush.open.clear()
    async with batcher(flush, size=1, parallel=1) as work:
        first = work.submit(1)
        await wait_until(lambda: flush.under_way == 1)
        left, stayed = work.submit(2), work.submit(3)

        left.cancel()
        flush.open.set()

        assert await asyncio.gather(first, stayed) == [10, 30]
    assert [2] not in flush.batches


async def test_a_waiter_that_leaves_during_its_flush_harms_nobody(flush):
    flush.open.clear()
    async with batcher(flush) as work:
        left, stayed = work.submit(1), work.submit(2)
        await wait_until(lambda: flush.under_way == 1)

        left.cancel()
        flush.open.set()

        assert await stayed == 20


async def test_the_end_waits_for_what_was_submitted(flush):
    async with batcher(flush, pace=0.01) as work:
        results = [work.submit(number) for number in range(30)]

    assert [result.result() for result in results] == [number * 10 for number in range(30)]


async def test_the_end_comes_although_all_waiters_have_left(flush):
    flush.open.clear()
    async with batcher(flush, size=1, parallel=1) as work:
        work.submit(0)
        await wait_until(lambda: flush.under_way == 1)
        for left in [work.submit(number) for number in range(1, 10)]:
            left.cancel()
        flush.open.set()

    assert flush.batches == [[0]]


async def test_a_flush_that_returns_too_few_results_leaves_nobody_waiting():
    async def forgetful(items):
        return [0]

    async with batcher(forgetful) as work:
        results = await asyncio.wait_for(
            asyncio.gather(work.submit(1), work.submit(2), return_exceptions=True), timeout=5
        )

    assert any(isinstance(result, Exception) for result in results)
