"""A deadline cancels a block that takes too long, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from sluice.runtime.deadline import Deadline
from tests.polling import virtual_time


async def test_a_block_that_ends_in_time_is_not_cancelled() -> None:
    with virtual_time():
        with Deadline(0.05):
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)  # past it


async def test_a_block_that_takes_too_long_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError), Deadline(0.01):
        await asyncio.Event().wait()
    await asyncio.sleep(0)  # the task is not cancelled any more
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_deadline_hides_no_other_error() -> None:
    async def work() -> None:
        with Deadline(0.01):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError):
        await work()


@pytest.mark.parametrize(("outer", "inner"), [(0.01, 10), (10, 0.01)])
async def test_the_shorter_of_two_deadlines_counts(outer: float, inner: float) -> None:
    ended: list[float] = []
    try:
        with Deadline(outer):
            try:
                with Deadline(inner):
                    await asyncio.Event().wait()
            except TimeoutError:
                ended.append(inner)
    except TimeoutError:
        ended.append(outer)

    assert ended == [0.01]


@pytest.mark.parametrize("seconds", [10, 0.05])
async def test_a_cancelled_task_stays_cancelled(seconds: float) -> None:
    async def work() -> None:
        with Deadline(seconds):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.1)  # the deadline may pass during the clean-up

    with virtual_time():
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
