"""One time limit for many: each future ends by its own time, and only those that are late."""

import asyncio

import pytest

from sluice.runtime.fail_after import FutureTimeout


def a_future():
    return asyncio.get_running_loop().create_future()


async def test_what_comes_in_time_is_left_alone():
    patience, future = FutureTimeout(0.05), a_future()
    limited = patience.apply(future)

    future.set_result("in time")
    await asyncio.sleep(0.1)

    assert await limited == "in time"


async def test_what_is_late_ends_by_its_own_time():
    patience = FutureTimeout(0.2)
    loop = asyncio.get_running_loop()
    took = []

    async def wait(delay):
        await asyncio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await patience.apply(a_future())
        took.append(loop.time() - began)

    await asyncio.gather(*[wait(number * 0.05) for number in range(5)])

    assert all(0.19 < seconds < 0.4 for seconds in took)


async def test_one_that_is_done_does_not_hide_the_late_one_behind_it():
    patience, first, second = FutureTimeout(0.05), a_future(), a_future()
    patience.apply(first)
    first.set_result(None)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(patience.apply(second), 5.0)


async def test_it_works_again_after_a_quiet_time():
    patience = FutureTimeout(0.02)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patience.apply(a_future()), 5.0)


async def test_one_that_nobody_waits_for_any_more_is_forgotten():
    patience, future = FutureTimeout(0.02), a_future()
    patience.apply(future)
    future.cancel()

    await asyncio.sleep(0.05)

    assert future.cancelled()
