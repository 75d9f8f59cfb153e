"""A bounded pool of :mod:`sluice.templates.render_process`, which are killed when one does not respond."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import orjson

from sluice.templates.limits import TemplateDataError, TemplateLimitError, TemplateWorkError
from sluice.templates.render_process import LENGTH

_ERRORS = {error.__name__: error for error in (TemplateLimitError, TemplateWorkError, TemplateDataError)}


class RendererBusyError(Exception):
    """Too many expensive templates wait already; the same rendering may succeed later."""


class ProcessPool:
    """``processes`` render at once, each started when it is first needed; ``max_waiting`` renderings may wait.

    ``timeout`` is in seconds, for one rendering without its wait.
    """

    def __init__(self, processes: int, max_waiting: int, timeout: float) -> None:
        self._max_pending = processes + max_waiting
        self._timeout = timeout
        self._pending = 0
        self._free = asyncio.Semaphore(processes)
        self._idle: list[Process] = []

    async def render(self, request: dict[str, Any]) -> list[str]:
        """The outputs for a request of :mod:`sluice.templates.render_process`.

        Raises:
            TemplateLimitError: too much work, output, memory or time.
            TemplateDataError: a variable is not a JSON value.
            RendererBusyError: too many wait.
        """
        try:
            body = orjson.dumps(request)
        except TypeError:
            raise TemplateDataError("the variables are not JSON values") from None
        if self._pending >= self._max_pending:
            raise RendererBusyError("too many expensive templates wait to be rendered")
        self._pending += 1
        try:
            async with self._free:
                response = orjson.loads(await self._exchange(body))
        finally:
            self._pending -= 1
        if "error" in response:
            error = _ERRORS[response["error"]](response["message"])
            error.part = response["part"]
            raise error
        texts: list[str] = response["texts"]
        return texts

    async def close(self) -> None:
        """End all processes. No rendering may be under way."""
        while self._idle:
            await _end(self._idle.pop())

    async def _exchange(self, body: bytes) -> bytes:
        process = self._idle.pop() if self._idle else await _start()
        if process.returncode is not None:
            process = await _start()
        try:
            async with asyncio.timeout(self._timeout):
                response = await _call(process, body)
        except TimeoutError:
            await _end(process)
            raise TemplateLimitError(f"the template takes more than {self._timeout:g} s") from None
        except (asyncio.IncompleteReadError, OSError):
            await _end(process)
            raise TemplateLimitError("the template needs more memory than allowed") from None
        except BaseException:
            await _end(process)
            raise
        self._idle.append(process)
        return response


async def _start() -> Process:
    """A process without the environment of this one, which holds secrets."""
    command = (sys.executable, "-I", "-m", "sluice.templates.render_process")
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env={})


async def _call(process: Process, body: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LENGTH.pack(len(body)) + body)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return await process.stdout.readexactly(length)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
