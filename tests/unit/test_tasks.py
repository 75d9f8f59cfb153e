"""Keeping and ending background tasks."""

import asyncio

import pytest

from sluice.tasks import Tasks, end


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


async def test_all_has_ended_only_when_what_was_begun_meanwhile_has():
    tasks, done = Tasks(), []

    async def work(number):
        await asyncio.sleep(0.01)
        if number:
            tasks.spawn(work(number - 1))
        done.append(number)

    tasks.spawn(work(3))
    await tasks.ended()

    assert done == [3, 2, 1, 0]


async def test_a_task_that_fails_keeps_nobody_from_ending():
    tasks = Tasks()

    async def failing():
        raise LookupError

    tasks.spawn(failing())
    await tasks.ended()


async def test_what_is_dropped_ends_at_once():
    tasks = Tasks()
    tasks.spawn(asyncio.Event().wait())
    await asyncio.sleep(0)

    await tasks.dropped()
    await tasks.ended()
