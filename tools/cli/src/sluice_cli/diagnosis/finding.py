"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # works now
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``action``: what to do, in the imperative; empty when nothing is."""

    check: str
    level: Level
    text: str
    action: str = ""


def ok(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, action: str) -> Finding:
    """Something that works now and will not for ever."""
    return Finding(check, Level.WARN, text, action)


def fail(check: str, text: str, action: str) -> Finding:
    """Something that does not work."""
    return Finding(check, Level.FAIL, text, action)
