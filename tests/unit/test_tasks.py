"""Background tasks: supervision, cancellation, sets."""

import asyncio
import re

import pytest

from sluice.runtime.tasks import SUPERVISED, TaskSet, cancel_and_wait, place_of, run_unless, supervised


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again():
    cancellations = 0

    async def stubborn():
        nonlocal cancellations
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations == 2:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

    await cancel_and_wait(task)

    assert (task.cancelled(), cancellations) == (True, 2)


async def test_the_error_of_a_cancelled_task_is_raised():
    async def failing():
        raise LookupError("gone")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])

    with pytest.raises(LookupError):
        await cancel_and_wait(task)


async def test_a_join_waits_for_tasks_that_start_meanwhile():
    tasks, done = TaskSet(), []

    async def work(number):
        await asyncio.sleep(0.01)
        if number:
            tasks.spawn(work(number - 1))
        done.append(number)

    tasks.spawn(work(3))
    await tasks.join()

    assert done == [3, 2, 1, 0]


async def test_a_task_that_fails_ends_a_join():
    tasks = TaskSet()

    async def failing():
        raise LookupError

    tasks.spawn(failing())
    await tasks.join()


async def test_a_cancelled_set_ends_at_once():
    tasks = TaskSet()
    tasks.spawn(asyncio.Event().wait())
    await asyncio.sleep(0)

    await tasks.cancel()
    await tasks.join()


@pytest.fixture
async def faults():
    """The contexts that the event loop's exception handler received."""
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


async def test_the_failure_of_a_supervised_task_is_reported_at_once(faults):
    async def failing():
        raise LookupError("gone")

    task = supervised(failing(), name="leases")
    await asyncio.wait([task])

    (fault,) = faults
    assert (fault[SUPERVISED], str(fault["exception"])) == ("leases", "gone")


async def test_the_cancellation_of_a_supervised_task_is_not_reported(faults):
    task = supervised(asyncio.Event().wait(), name="leases")
    await asyncio.sleep(0)

    await cancel_and_wait(task)

    assert faults == []


async def test_work_that_ends_before_the_event_gives_its_result():
    async def work():
        return 7

    assert await run_unless(asyncio.Event(), work()) == 7


async def test_work_is_cancelled_when_the_event_is_set_first():
    event, cancelled = asyncio.Event(), []

    async def work():
        try:
            event.set()
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    assert await run_unless(event, work()) is None
    assert cancelled == [True]


async def test_the_error_of_work_is_raised():
    async def work():
        raise LookupError("gone")

    with pytest.raises(LookupError):
        await run_unless(asyncio.Event(), work())


async def test_a_set_that_does_not_end_in_time_is_cancelled():
    tasks = TaskSet()
    ended = []

    async def work(seconds):
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(seconds)

    tasks.spawn(work(0.01))
    tasks.spawn(work(3600))

    await tasks.join(within=0.2)

    assert ended == [0.01, 3600]


async def test_the_place_of_a_task_names_its_coroutines():
    async def inner():
        await asyncio.sleep(60)

    async def outer():
        await inner()

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)

    assert re.fullmatch(r"\S+outer > \S+inner > sleep:\d+", place_of(task))
    await cancel_and_wait(task)
    assert place_of(task) == "no coroutine: it has ended"
