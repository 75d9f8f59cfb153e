"""Ending background tasks."""

import asyncio

import pytest

from sluice.tasks import end


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again():
    heard = 0

    async def stubborn():
        nonlocal heard
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard += 1
                if heard == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

    await end(task)

    assert (task.cancelled(), heard) == (True, 2)


async def test_what_a_task_had_failed_with_is_raised():
    async def failing():
        raise LookupError("gone")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])

    with pytest.raises(LookupError):
        await end(task)
