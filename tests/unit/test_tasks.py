"""Keeping and ending background tasks."""

import asyncio

import pytest

from sluice.runtime.tasks import SUPERVISED, TaskSet, cancel_and_wait, supervised


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

    await cancel_and_wait(task)

    assert (task.cancelled(), heard) == (True, 2)


async def test_what_a_task_had_failed_with_is_raised():
    async def failing():
        raise LookupError("gone")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])

    with pytest.raises(LookupError):
        await cancel_and_wait(task)


async def test_all_has_ended_only_when_what_was_begun_meanwhile_has():
    tasks, done = TaskSet(), []

    async def work(number):
        await asyncio.sleep(0.01)
        if number:
            tasks.spawn(work(number - 1))
        done.append(number)

    tasks.spawn(work(3))
    await tasks.join()

    assert done == [3, 2, 1, 0]


async def test_a_task_that_fails_keeps_nobody_from_ending():
    tasks = TaskSet()

    async def failing():
        raise LookupError

    tasks.spawn(failing())
    await tasks.join()


async def test_what_is_dropped_ends_at_once():
    tasks = TaskSet()
    tasks.spawn(asyncio.Event().wait())
    await asyncio.sleep(0)

    await tasks.cancel()
    await tasks.join()


@pytest.fixture
async def faults():
    """What the event loop's exception handler has heard."""
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    return heard


async def test_the_death_of_a_lasting_task_is_told_at_once(faults):
    async def dying():
        raise LookupError("gone")

    task = supervised(dying(), name="keeper")
    await asyncio.wait([task])

    (fault,) = faults
    assert (fault[SUPERVISED], str(fault["exception"])) == ("keeper", "gone")


async def test_the_end_of_a_lasting_task_is_nothing_to_tell(faults):
    task = supervised(asyncio.Event().wait(), name="keeper")
    await asyncio.sleep(0)

    await cancel_and_wait(task)

    assert faults == []
