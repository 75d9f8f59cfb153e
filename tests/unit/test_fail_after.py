"""One time limit for many: each future ends by its own time, and only those that are late."""

import asyncio

import pytest

from sluice.runtime.deadline import fail_after


def a_future():
    return asyncio.get_running_loop().create_future()


async def test_what_comes_in_time_is_left_alone():
    future = a_future()
    limited = fail_after(future, 0.05)

    future.set_result("in time")
    await asyncio.sleep(0.1)

    assert await limited == "in time"


async def test_what_is_late_ends_by_its_own_time():
    loop = asyncio.get_running_loop()
    took = []

    async def wait(delay):
        await asyncio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await fail_after(a_future(), 0.2)
        took.append(loop.time() - began)

    await asyncio.gather(*[wait(number * 0.05) for number in range(5)])

    assert all(0.19 < seconds < 0.4 for seconds in took)


async def test_one_that_is_done_does_not_hide_the_late_one_behind_it():
    first, second = a_future(), a_future()
    fail_after(first, 0.05)
    first.set_result(None)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fail_after(second, 0.05), 5.0)


async def test_it_works_again_after_a_quiet_time():
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fail_after(a_future(), 0.02), 5.0)


async def test_one_that_nobody_waits_for_any_more_is_forgotten():
    future = a_future()
    fail_after(future, 0.02)
    future.cancel()

    await asyncio.sleep(0.05)

    assert future.cancelled()
