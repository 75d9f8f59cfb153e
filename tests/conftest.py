"""Loads the plugins that every test may use; a folder's own fixtures are in its own conftest."""

import structlog

pytest_plugins = ["tests.engine"]

# A traceback with the values of all variables takes seconds to format, in which the event loop stands still.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f"),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
