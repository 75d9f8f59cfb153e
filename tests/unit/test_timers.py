"""The timer wheel: each timer runs once, none early, and one that fails keeps no other from running."""

import asyncio
import gc
import weakref

from sluice.runtime.timers import TimerWheel, timer_wheel


async def test_a_timer_runs_once_and_not_early():
    loop = asyncio.get_running_loop()
    started_at, ran = loop.time(), []

    timer_wheel(loop).call_later(0.03, lambda: ran.append(loop.time()))
    await asyncio.sleep(0.1)

    assert len(ran) == 1
    assert ran[0] - started_at > 0.025  # the loop's clock counts whole milliseconds


async def test_a_cancelled_timer_does_not_run():
    ran = []
    timer = timer_wheel(asyncio.get_running_loop()).call_later(0.01, lambda: ran.append(1))

    timer.cancel()
    timer.cancel()  # harmless
    await asyncio.sleep(0.05)

    assert ran == []


async def test_a_cancelled_timer_holds_no_reference_to_its_callback():
    class Owner:
        def __init__(self) -> None:
            self.timer = timer_wheel(asyncio.get_running_loop()).call_later(10, self.end)

        def end(self) -> None:
            pass

    owner = Owner()
    gone = weakref.ref(owner)
    owner.timer.cancel()
    gc.disable()  # the reference count alone must free it
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()


async def test_a_failing_callback_is_reported_and_the_others_run():
    loop = asyncio.get_running_loop()
    errors, ran = [], []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    for callback in (lambda: 1 / 0, lambda: ran.append(1), lambda: 1 / 0, lambda: ran.append(2)):
        timer_wheel(loop).call_later(0.01, callback)
    await asyncio.sleep(0.1)

    assert sorted(ran) == [1, 2]
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


async def test_a_timer_can_cancel_another_of_the_same_tick():
    loop = asyncio.get_running_loop()
    ran, made = [], []
    for number in range(2):
        made.append(
            timer_wheel(loop).call_later(0.01, lambda number=number: (ran.append(number), made[1 - number].cancel()))
        )

    await asyncio.sleep(0.1)

    assert len(ran) == 1


async def test_long_timers_share_the_timers_of_whole_seconds():
    """A slot lasts as long as its timers would have: with hundredths, an hour of calls would be 360,000 slots."""
    wheel = TimerWheel(asyncio.get_running_loop())

    for number in range(500):
        wheel.call_later(3600 + number / 100, lambda: None).cancel()

    assert len(wheel._due) <= 6
