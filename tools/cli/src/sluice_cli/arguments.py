"""Types of command-line arguments that several commands have."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, date, datetime, timedelta

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def time_argument(text: str) -> datetime:
    """A date or a time with its offset, in UTC without one.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    try:
        when = datetime.fromisoformat(text)
        if not 1 < when.toordinal() < date.max.toordinal():  # a day on both sides, for the offset
            raise ValueError("out of range")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date and no time, such as 2026-11-01") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def past_argument(text: str) -> datetime | timedelta:
    """A span before now (``90m``, ``24h``, ``7d``), or what :func:`time_argument` takes.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    span = re.fullmatch(r"(\d{1,5})([mhd])", text, re.ASCII)
    if span is not None:
        return int(span[1]) * _UNITS[span[2]]
    try:
        return time_argument(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no span such as 24h and no time such as 2026-11-01") from None
