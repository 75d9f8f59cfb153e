"""The start of a role's process: it ends at SIGTERM from its first moment on, also as process 1 of a container.

The kernel ignores SIGTERM for process 1 until a handler is set; a role sets its own only after all imports. Until then,
nothing has begun that would need a graceful end. This module imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module


def start(application: str) -> None:
    """Import the module ``application`` and run its ``main`` as a role until it ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    main = import_module(application).main
    import_module("sluice.bootstrap").run_role(main)


def _end(number: int, _frame: object) -> None:
    os._exit(128 + number)
