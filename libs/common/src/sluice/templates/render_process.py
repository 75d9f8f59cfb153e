"""The process that renders expensive templates: requests on standard input, responses on standard output.

Both are JSON after a length of four octets. The process ends when its input does. Its address space is limited, so that
a fault of the engine costs no memory of the role that started it. It reads no settings and opens nothing.
"""

from __future__ import annotations

import resource
import struct
import sys
from typing import Any

import orjson

from sluice.templates import limits
from sluice.templates.template import Template, TemplateCache, compile_template, render_all

LENGTH = struct.Struct(">I")
MAX_MEMORY = 128 * 1024 * 1024  # bytes of address space
_CACHE_BYTES = 16 * 1024 * 1024


def main() -> None:
    """Serve requests one by one."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cache = TemplateCache(_CACHE_BYTES)
    while header := sys.stdin.buffer.read(LENGTH.size):
        body = sys.stdin.buffer.read(*LENGTH.unpack(header))
        response = orjson.dumps(_respond(orjson.loads(body), cache))
        sys.stdout.buffer.write(LENGTH.pack(len(response)) + response)
        sys.stdout.buffer.flush()


def _respond(request: dict[str, Any], cache: TemplateCache) -> dict[str, Any]:
    """``texts``, or ``error`` with the name of an error of :mod:`sluice.templates.limits`, ``message`` and ``part``."""
    try:
        templates = [_compiled(source, html, cache) for source, html in request["sources"]]
        allowed = limits.Limits(request["output"], request["work"])
        return {"texts": render_all(templates, request["variables"], allowed)}
    except limits.TemplateError as error:
        return {"error": type(error).__name__, "message": str(error), "part": error.part}


def _compiled(source: str, html: bool, cache: TemplateCache) -> Template:
    template = cache.get(source, html)
    if template is None:
        template = compile_template(source, html)
        cache.put(source, html, template)
    return template


if __name__ == "__main__":
    main()
