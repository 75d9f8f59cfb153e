"""One timeout for many futures: each fails at its own time, and only if it is late."""

import asyncio
import weakref

import pytest

from sluice.runtime.deadline import fail_after


def a_future():
    return asyncio.get_running_loop().create_future()


async def test_a_future_that_is_done_in_time_is_unchanged():
    future = a_future()
    limited = fail_after(future, 0.05)

    future.set_result("in time")
    await asyncio.sleep(0.1)

    assert await limited == "in time"


async def test_no_future_fails_before_its_own_time():
    loop = asyncio.get_running_loop()

    async def wait(delay):
        await asyncio.sleep(delay)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await fail_after(a_future(), 0.2)
        return loop.time() - began

    durations = await asyncio.gather(*[wait(number * 0.05) for number in range(5)])

    assert min(durations) > 0.19  # seconds; how late it may be depends on the machine


async def test_a_done_future_does_not_hide_a_later_one():
    first, second = a_future(), a_future()
    fail_after(first, 0.05)
    first.set_result(None)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fail_after(second, 0.05), 5.0)


async def test_the_timeout_works_again_after_a_pause():
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fail_after(a_future(), 0.02), 5.0)


async def test_a_cancelled_future_stays_cancelled():
    future = a_future()
    fail_after(future, 0.02)
    future.cancel()

    await asyncio.sleep(0.05)

    assert future.cancelled()


class Result:
    """An object that can be looked for after its future."""


async def test_the_time_limit_keeps_no_result_that_its_reader_has_dropped() -> None:
    result = Result()
    left = weakref.ref(result)
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    future.set_result(result)

    assert await fail_after(future, 60.0) is result
    del future, result

    assert left() is None
