"""Renders templates of users beside other work of an event loop: cheap ones at once, expensive ones in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from sluice.templates.limits import DEFAULT_LIMITS, Limits, TemplateWorkError
from sluice.templates.process_pool import ProcessPool
from sluice.templates.template import Template, TemplateCache, compile_template, render_all
from sluice.templates.values import Value

INLINE_WORK = 5_000  # units, about ten milliseconds
INLINE_SOURCE = 2_048  # characters; a node of source costs fifteen times as much to compile as to execute
CACHE_BYTES = 64 * 1024 * 1024


class Renderer:
    """One for each process of a role. ``timeout`` is the seconds that one rendering may take in the process pool."""

    def __init__(
        self, *, processes: int = 1, max_waiting: int = 32, timeout: float = 10.0, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._cache = TemplateCache(cache_bytes)
        self._compiling = asyncio.Lock()
        self._pool = ProcessPool(processes, max_waiting, timeout)

    async def compile(self, source: str, html: bool) -> Template:
        """Compile a template, or take it from the cache; a long one in a thread.

        Raises:
            TemplateSyntaxError: as :func:`compile_template`.
        """
        template = self._cache.get(source, html)
        if template is None and len(source) <= INLINE_SOURCE:
            template = compile_template(source, html)
            self._cache.put(source, html, template)
            await asyncio.sleep(0)  # a message may have a hundred parts
        return template or await self._compile_in_thread(source, html)

    async def _compile_in_thread(self, source: str, html: bool) -> Template:
        async with self._compiling:
            template = self._cache.get(source, html)
            if template is None:
                template = await asyncio.to_thread(compile_template, source, html)
                self._cache.put(source, html, template)
            return template

    async def render(
        self, source: str, variables: dict[str, Value], *, html: bool, limits: Limits = DEFAULT_LIMITS
    ) -> str:
        """The output of a template; on the event loop up to ``INLINE_WORK`` units, beyond that in a render process.

        Raises:
            TemplateSyntaxError: as :func:`compile_template`.
            TemplateLimitError: the limits are exceeded.
            TemplateDataError: a variable is not a JSON value.
            RendererBusyError: too many expensive templates wait already.
        """
        return (await self.render_all([(source, html)], variables, limits=limits))[0]

    async def render_all(
        self, sources: Sequence[tuple[str, bool]], variables: dict[str, Value], *, limits: Limits = DEFAULT_LIMITS
    ) -> list[str]:
        """The outputs of several templates, given as source and ``html``, which share the limits.

        What does not fit on the event loop is one request to a render process.

        Raises:
            TemplateError: as :meth:`render`; its ``part`` is the position of the template at which it ended.
            RendererBusyError: too many expensive templates wait already.
        """
        templates = [await self.compile(source, html) for source, html in sources]
        work = min(limits.work, INLINE_WORK)
        try:
            return render_all(templates, variables, replace(limits, work=work))
        except TemplateWorkError:
            if work == limits.work:
                raise
        request = {"sources": sources, "variables": variables, "output": limits.output, "work": limits.work}
        return await self._pool.render(request)

    async def close(self) -> None:
        """End the processes of the pool."""
        await self._pool.close()
