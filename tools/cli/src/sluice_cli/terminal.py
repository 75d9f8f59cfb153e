"""Text on a terminal: that of other people, which may contain what a terminal takes for commands; and tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_HARMLESS = {"\n", "\t"}


def printable(text: str, *, multiline: bool = False) -> str:
    r"""``text`` with its control and direction characters as escapes, such as ``\x1b``.

    ``multiline`` keeps line ends and tabs.
    """
    kept = _HARMLESS if multiline else set()
    return "".join(
        char if char in kept or unicodedata.category(char) not in _ESCAPED else _escape(char) for char in text
    )


# Controls, format characters such as direction overrides, surrogates, line and paragraph separators.
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """Lines of columns of equal width: of text, or with ``numbers`` of text in the first and figures in all others."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.rjust(width) if numbers and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
