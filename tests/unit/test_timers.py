"""Timers that share one: each runs once, none early, and a bad one harms nobody."""

import asyncio
import gc
import weakref

from sluice.runtime.timers import timer_wheel


async def test_a_timer_runs_once_and_not_before_its_time():
    loop = asyncio.get_running_loop()
    begun, ran = loop.time(), []

    timer_wheel(loop).call_later(0.03, lambda: ran.append(loop.time()))
    await asyncio.sleep(0.1)

    assert len(ran) == 1
    assert ran[0] - begun > 0.025  # the loop's clock counts whole milliseconds


async def test_a_cancelled_timer_does_not_run():
    ran = []
    timer = timer_wheel(asyncio.get_running_loop()).call_later(0.01, lambda: ran.append(1))

    timer.cancel()
    timer.cancel()  # harmless
    await asyncio.sleep(0.05)

    assert ran == []


async def test_a_cancelled_timer_leaves_its_owner_to_be_freed_at_once():
    class Owner:
        def __init__(self) -> None:
            self.timer = timer_wheel(asyncio.get_running_loop()).call_later(10, self.end)

        def end(self) -> None:
            pass

    owner = Owner()
    gone = weakref.ref(owner)
    owner.timer.cancel()
    gc.disable()  # without the help of the collector
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()


async def test_a_callback_that_fails_is_told_and_the_others_run():
    loop = asyncio.get_running_loop()
    told, ran = [], []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    for callback in (lambda: 1 / 0, lambda: ran.append(1), lambda: 1 / 0, lambda: ran.append(2)):
        timer_wheel(loop).call_later(0.01, callback)
    await asyncio.sleep(0.1)

    assert sorted(ran) == [1, 2]
    assert [type(error) for error in told] == [ZeroDivisionError] * 2


async def test_a_timer_may_cancel_another_that_ends_with_it():
    loop = asyncio.get_running_loop()
    ran, made = [], []
    for number in range(2):
        made.append(
            timer_wheel(loop).call_later(0.01, lambda number=number: (ran.append(number), made[1 - number].cancel()))
        )

    await asyncio.sleep(0.1)

    assert len(ran) == 1
