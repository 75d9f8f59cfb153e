"""The C library's allocator, set so that memory which a large request took returns to the system."""

from __future__ import annotations

import ctypes

# <malloc.h> of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Bytes, more than any object of a usual request. A block above it is mapped by itself, and unmapped when it is freed.
_LARGE = 65_536


def limit_retained_memory() -> None:
    """Give freed memory back; without effect on a C library other than glibc.

    By default the first free of a large block raises the threshold up to 32 MiB: later bodies come from the heap, and
    one small object behind them keeps them there. Each thread has an arena of its own besides. The effect was measured
    (docs/decisions/0035).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE), (_M_ARENA_MAX, 2)):
        mallopt(option, value)
