"""Progress reports of commands that take longer than a moment."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Receives one line of text per step."""
