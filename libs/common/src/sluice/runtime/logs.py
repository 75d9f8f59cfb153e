"""Logging of every role: one JSON object a line on stdout, with an event name and fields.

A line that cannot be written (the disk is full, the reader of a pipe has ended) is dropped and counted. A role outlives
its log.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

import structlog

from sluice.runtime import metrics
from sluice.runtime.errors import SluiceError


class LossyLines:
    """A file of lines for structlog, without a buffer: what cannot be written now is dropped.

    A buffered stream would keep the text, raise again at every later line, and once more when the process ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._torn = False  # the end of the last line could not be written

    def write(self, line: str) -> None:
        """Write ``line``, or drop it or its end."""
        encoded = line.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._torn:
                encoded = b"\n" + encoded
            try:
                written = os.write(self._descriptor, encoded)
            except OSError:
                written = 0
            else:
                self._torn = written < len(encoded)
        if written < len(encoded):
            metrics.LOG_LINES_DROPPED.inc()

    def flush(self) -> None:
        """Nothing is buffered."""


class _LossyHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The same for the lines of libraries, on stderr."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the line."""
        metrics.LOG_LINES_DROPPED.inc()


def instance_name() -> str:
    """The name of this process among those of its role: host (in a container its name) and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def configure_logging(level: str, role: str) -> None:
    """Configure structlog; every line carries the fields ``role`` and ``instance``.

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
        logger_factory=structlog.WriteLoggerFactory(file=LossyLines(sys.stdout.fileno())),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role, instance=instance_name())
    logging.basicConfig(
        level=max(number, logging.WARNING),
        format="%(levelname)s %(name)s %(message)s",
        handlers=[_LossyHandler()],
    )
    # During an outage aiokafka repeats each connection error several times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
