"""The renderer: cheap templates on the event loop, expensive ones in a process that can be killed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sluice.templates.limits import (
    Limits,
    TemplateDataError,
    TemplateLimitError,
    TemplateSyntaxError,
    TemplateWorkError,
)
from sluice.templates.process_pool import ProcessPool, RendererBusyError
from sluice.templates.renderer import INLINE_SOURCE, Renderer

LOOPS = "{{#each l}}{{#each ../l}}{{.}}{{/each}}{{/each}}"
EXPENSIVE = {"l": [1] * 100}  # 20,000 units and some
ENDLESS = {"l": [1] * 400}


@pytest.fixture
async def renderer():
    renderer = Renderer()
    yield renderer
    await renderer.close()


def processes_of(renderer):
    return [process.pid for process in renderer._pool._idle]


def environment_of(pid):
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_cheap_template_needs_no_process(renderer):
    assert await renderer.render("Hi {{name}}", {"name": "<"}, html=True) == "Hi &lt;"
    assert await renderer.render("Hi {{name}}", {"name": "<"}, html=False) == "Hi <"
    assert processes_of(renderer) == []


async def test_an_expensive_template_is_rendered_in_a_process(renderer):
    assert await renderer.render(LOOPS, EXPENSIVE, html=True) == "1" * 10_000
    first = processes_of(renderer)
    assert await renderer.render(LOOPS, EXPENSIVE, html=True) == "1" * 10_000

    assert len(first) == 1
    assert processes_of(renderer) == first


async def test_the_process_has_the_limits_too(renderer):
    with pytest.raises(TemplateWorkError, match="more than 100000 work units"):
        await renderer.render(LOOPS, ENDLESS, html=True)
    with pytest.raises(TemplateLimitError, match="more than 9000 characters"):
        await renderer.render(LOOPS, EXPENSIVE, html=True, limits=Limits(output=9_000))
    assert len(processes_of(renderer)) == 1


async def test_a_limit_below_the_inline_one_needs_no_process(renderer):
    with pytest.raises(TemplateWorkError, match="more than 100 work units"):
        await renderer.render(LOOPS, EXPENSIVE, html=True, limits=Limits(work=100))
    assert processes_of(renderer) == []


async def test_a_long_template_is_compiled_once_for_all_callers(renderer):
    source = "{{a}}" * INLINE_SOURCE
    templates = await asyncio.gather(*(renderer.compile(source, True) for _ in range(3)))

    assert templates[0] is templates[1] is templates[2]
    with pytest.raises(TemplateSyntaxError, match="the tag is not closed"):
        await renderer.compile(source + "{{", True)


async def test_the_process_sees_no_environment(renderer, monkeypatch):
    monkeypatch.setenv("SLUICE_ENCRYPTION_KEY", "secret")
    await renderer.render(LOOPS, EXPENSIVE, html=True)
    (pid,) = processes_of(renderer)

    assert b"SLUICE" not in environment_of(pid)


async def test_a_process_out_of_memory_ends_and_the_next_rendering_works(renderer):
    variables = EXPENSIVE | {"x": ["x" * 1000] * 100_000}
    with pytest.raises(TemplateLimitError, match="more memory than allowed"):
        await renderer.render(LOOPS, variables, html=True)

    assert await renderer.render(LOOPS, EXPENSIVE, html=True) == "1" * 10_000


async def test_a_process_that_died_is_replaced(renderer):
    await renderer.render(LOOPS, EXPENSIVE, html=True)
    (pid,) = processes_of(renderer)
    os.kill(pid, signal.SIGKILL)
    await renderer._pool._idle[0].wait()

    assert await renderer.render(LOOPS, EXPENSIVE, html=True) == "1" * 10_000
    assert processes_of(renderer) != [pid]


async def test_variables_that_are_not_json_do_not_reach_the_process(renderer):
    with pytest.raises(TemplateDataError, match="not JSON values"):
        await renderer.render(LOOPS, EXPENSIVE | {"x": object()}, html=True)


REQUEST = {"sources": [[LOOPS, True]], "variables": EXPENSIVE, "output": 100_000, "work": 100_000}


async def test_a_process_that_does_not_respond_in_time_is_killed():
    pool = ProcessPool(processes=1, max_waiting=1, timeout=0.0)
    with pytest.raises(TemplateLimitError, match="takes more than 0 s"):
        await pool.render(REQUEST)

    assert pool._idle == []


async def test_a_rendering_without_a_caller_ends_its_process():
    pool = ProcessPool(processes=1, max_waiting=1, timeout=10.0)
    rendering = asyncio.create_task(pool.render(REQUEST))
    await asyncio.sleep(0)
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering

    assert await pool.render(REQUEST) == ["1" * 10_000]
    await pool.close()


async def test_the_renderings_that_wait_are_bounded():
    pool = ProcessPool(processes=1, max_waiting=1, timeout=10.0)
    results = await asyncio.gather(*(pool.render(REQUEST) for _ in range(4)), return_exceptions=True)

    assert [type(result) for result in results] == [list, list, RendererBusyError, RendererBusyError]
    assert await pool.render(REQUEST) == ["1" * 10_000]
    await pool.close()


async def test_renderings_do_not_stop_the_event_loop(renderer):
    """Other tasks get their turns while a process renders."""
    turns = 0
    rendering = asyncio.create_task(renderer.render(LOOPS, EXPENSIVE, html=True))
    while not rendering.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 2


async def test_templates_that_are_rendered_together_share_the_limits(renderer):
    sources = [("{{a}}", False), ("{{a}}{{a}}", False), ("{{a}}", True)]

    assert await renderer.render_all(sources, {"a": "<"}) == ["<", "<<", "&lt;"]
    with pytest.raises(TemplateLimitError) as caught:
        await renderer.render_all(sources, {"a": "<"}, limits=Limits(output=2))
    assert caught.value.part == 1


async def test_an_expensive_template_among_others_is_named(renderer):
    with pytest.raises(TemplateLimitError) as caught:
        await renderer.render_all([("x", True), (LOOPS, True)], ENDLESS)

    assert caught.value.part == 1
