"""Answers that may be large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic import BaseModel
from starlette.responses import Response

_LARGE_ANSWERS = asyncio.Semaphore(1)  # written at once: more threads only take the interpreter from the event loop


async def json_response(build: Callable[[], BaseModel], *, is_large: bool) -> Response:
    """The model that ``build`` makes, as a response. A large one is made and written in a thread, one at a time."""

    def write() -> bytes:
        return build().model_dump_json(by_alias=True).encode()

    if not is_large:
        content = write()
    else:
        async with _LARGE_ANSWERS:
            content = await asyncio.to_thread(write)
    return Response(content, media_type="application/json")
