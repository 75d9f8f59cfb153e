"""When a webhook is sent again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

_JITTER = 0.1  # of the pause, added at random: webhooks that failed together do not return together


def next_pause(schedule: Sequence[float], step: int, *, asked: timedelta | None) -> timedelta | None:
    """The pause after the failed attempt ``step``, counted from 0; None when the schedule is exhausted.

    ``schedule``: seconds. ``asked``: the endpoint's ``Retry-After``, which only prolongs a pause.
    """
    if step >= len(schedule):
        return None
    pause = timedelta(seconds=schedule[step] * random.uniform(1.0, 1.0 + _JITTER))  # noqa: S311  not a secret
    return pause if asked is None else max(pause, asked)
