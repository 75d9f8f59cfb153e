"""Logging of every role: one JSON object a line on stdout, with an event name and fields."""

from __future__ import annotations

import logging

import structlog

from sluice.runtime.errors import SluiceError


def configure_logging(level: str, role: str) -> None:
    """Configure structlog; every line carries the field ``role``.

    Raises:
        SluiceError: ``level`` is not the name of a log level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise SluiceError(f"SLUICE_LOG_LEVEL: {level!r} is none of debug, info, warning, error")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s")
    # During an outage aiokafka repeats each connection error several times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
