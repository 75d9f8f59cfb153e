"""The course of a fault: traffic, the fault, the repair, the traffic's return, the figures."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice_cli.game_day.faults import RETRY_AFTER, RETURNED_WITHIN, Fault
from sluice_cli.game_day.figures import Times, broken, early_calls, figures, share
from sluice_cli.game_day.installation import PLACES, Installation, endpoint, endpoints
from sluice_simulator import Rule, Simulator
from sluice_simulator.simulator import CALLS

WARM = 15.0  # seconds of traffic before the fault
_SETTLED_WITHIN = 60.0  # seconds
_POLL = 0.5  # seconds
_RETURNED = 0.4  # share of the first provider among the messages of its channel: two out of five, and growing

Progress = Callable[[str], None]


async def run_faults(
    faults: Sequence[Fault], *, rate: float, seconds: float | None, progress: Progress
) -> dict[str, dict[str, Any]]:
    """The figures of each fault, with ``broken``: what is over its bound.

    ``rate``: messages a second, e-mail and SMS in turn. ``seconds``: how long each fault lasts, in place of its own.

    Raises:
        SluiceError: the installation does not accept messages.
    """
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="sluice-game-day-") as folder:
        for fault in faults:
            progress(f"{fault.name}: {fault.text}")
            logs = Path(folder, fault.name)
            async with (
                Simulator(endpoints=endpoints(), log_dir=logs) as simulator,
                Installation(simulator) as installation,
            ):
                found[fault.name] = await _Course(fault, installation, simulator, logs / CALLS, progress).run(
                    fault.rate or rate, fault.seconds if seconds is None or fault.seconds is None else seconds
                )
    return found


class _Course:
    """One fault, from the first message to the figures."""

    def __init__(
        self, fault: Fault, installation: Installation, simulator: Simulator, log: Path, progress: Progress
    ) -> None:
        self._fault = fault
        self._installation = installation
        self._simulator = simulator
        self._log = log
        self._progress = progress
        self._first = endpoint(fault.channel, PLACES[0])
        self._of_channel = [endpoint(fault.channel, place) for place in PLACES]

    async def run(self, rate: float, seconds: float | None) -> dict[str, Any]:
        installation = self._installation
        installation.apply({})
        traffic = asyncio.create_task(_traffic(installation, rate))
        try:
            await asyncio.sleep(WARM)
            _check(installation.answers)
            began = utc_now()
            detected = await self._break(seconds)
            times, repaired = Times(began, utc_now()), monotonic()
            installation.apply({})
            self._progress(f"{self._fault.name}: repaired; " + _after("detected", detected))
            returned = await self._returned(repaired) if "returned_s" in self._fault.bounds else None
        finally:
            traffic.cancel()
            with suppress(asyncio.CancelledError):
                await traffic
        settled = await installation.settled(_SETTLED_WITHIN)
        calls = [json.loads(line) for line in self._log.read_text().splitlines()]
        found = figures(await installation.sent(), calls, times) | {
            "detected_s": detected,
            "returned_s": returned,
            "early_calls": early_calls(calls, self._first, RETRY_AFTER),
        }
        over = broken(found, self._fault.bounds)
        over += [] if settled else [f"deliveries are open {_SETTLED_WITHIN:g} s after the last message"]
        return {**found, "answers": dict(installation.answers), "bounds": dict(self._fault.bounds), "broken": over}

    async def _break(self, seconds: float | None) -> float | None:
        """Seconds until the provider was not healthy any more; the fault ends after ``seconds``, or with that."""
        began = monotonic()
        lasts = seconds if seconds is not None else self._fault.bounds["detected_s"]
        steps = _moments(self._fault, lasts)
        due, rule = next(steps)
        detected: float | None = None
        while monotonic() - began < lasts:
            if monotonic() - began >= due:
                self._installation.apply({self._first: rule} if rule is not None else {})
                due, rule = next(steps)
            if detected is None and await self._unhealthy():
                detected = round(monotonic() - began, 1)
                if seconds is None:
                    break
            await asyncio.sleep(_POLL)
        return detected

    async def _unhealthy(self) -> bool:
        try:
            health = await self._installation.health(self._first)
        except httpx.HTTPError:
            return False
        return health["status"] != "healthy" or health["suspended_until"] is not None

    async def _returned(self, since: float) -> float | None:
        """Seconds until the provider took its share of the messages again; None if it did not in time."""
        while monotonic() - since < RETURNED_WITHIN:
            if monotonic() - since > 1 and share(self._simulator.calls, self._of_channel, monotonic()) >= _RETURNED:
                return round(monotonic() - since, 1)
            await asyncio.sleep(_POLL)
        return None


def _moments(fault: Fault, lasts: float) -> Iterator[tuple[float, Rule | None]]:
    """When each step begins, in seconds from the beginning of the fault."""
    at = 0.0
    while at < lasts:
        for step in fault.steps:
            yield at, step.rule
            at += step.seconds
    while True:
        yield lasts, None


async def _traffic(installation: Installation, rate: float) -> None:
    """``rate`` requests a second, however long their answers take."""
    began = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in count():
            await asyncio.sleep(max(0.0, began + number / rate - monotonic()))
            group.create_task(installation.send((Channel.EMAIL, Channel.SMS)[number % 2], number))


def _check(answers: Mapping[str, int]) -> None:
    refused = {status: number for status, number in answers.items() if status != "201"}
    if sum(refused.values()) > sum(answers.values()) / 2:
        raise SluiceError(f"the installation does not accept the messages of the game day: {refused}")


def _after(what: str, seconds: float | None) -> str:
    return f"not {what}" if seconds is None else f"{what} after {seconds:g} s"
