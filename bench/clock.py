"""One clock for every process of the measurement, and a timer that is exact to microseconds."""

from __future__ import annotations

import ctypes
import os
import time

_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

# All processes of a machine share it, and it is never set.
now = time.monotonic


def wall_offset() -> float:
    """What to add to :func:`now` to get the time of day as PostgreSQL writes it."""
    return time.time() - time.monotonic()


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Timer:
    """A file descriptor that becomes readable at a moment. An event loop's own timers tick in milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_MONOTONIC, _FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, moment: float) -> None:
        """Fire at ``moment`` of :func:`now`; at once when it has passed."""
        whole = int(moment)
        spec = _Spec(0, 0, whole, max(1, int((moment - whole) * 1e9)))
        if self._libc.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def take(self) -> None:
        """Acknowledge that it fired."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def first_in_line(*, real_time: bool) -> str:
    """Let the kernel run this process before the system under test, as if it were on a machine of its own.

    Returns the granted priority: none without root's rights, and runs on a busy machine are void more often then.
    """
    if real_time:
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            return "real-time"
        except OSError:
            pass
    try:
        os.nice(-10)
        return "nice -10"
    except OSError:
        return "normal"
