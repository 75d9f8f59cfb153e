"""Templates as tokens, by the lexical rules of Handlebars 4. Every pattern takes linear time."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import NamedTuple

from sluice.templates.limits import TemplateSyntaxError

# The whitespace of JavaScript; Python's `\s` differs.
WHITESPACE = " \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
WHITESPACE += "\u2028\u2029\u202f\u205f\u3000\ufeff"

_S = f"[{WHITESPACE}]"
_ID = rf"[^{WHITESPACE}!\"#%-,./;->@\[-\^`{{-~]++"
_AFTER_ID = rf"(?=[=~}}{WHITESPACE}/.)|])"
_AFTER_LITERAL = rf"(?=[~}}{WHITESPACE})])"

# The first alternative that matches is the token, as in the lexer of Handlebars.
_TAG = re.compile(
    "|".join(
        f"(?P<{kind}>{pattern})"
        for kind, pattern in {
            "space": f"{_S}+",
            "open_call": r"\(",
            "close_call": r"\)",
            "open_raw": r"\{\{\{\{",
            "close_raw": r"\}\}\}\}",
            "open_partial": r"\{\{~?#?>",
            "open_decorator": r"\{\{~?#?\*",
            "open_block": r"\{\{~?#",
            "open_end": r"\{\{~?/",
            "else": rf"\{{\{{~?(?:\^|{_S}*+else){_S}*+~?\}}\}}",
            "open_inverse": r"\{\{~?\^",
            "open_chain": rf"\{{\{{~?{_S}*+else(?![A-Za-z0-9_])",
            "open_unescaped": r"\{\{~?[{&]",
            "open_comment": r"\{\{~?!",
            "open": r"\{\{~?",
            "equals": "=",
            "id": rf"\.\.|\.{_AFTER_ID}",
            "separator": r"[/.]",
            "close_unescaped": r"\}~?\}\}",
            "close": r"~?\}\}",
            "string": r'"(?:[^"\\]++|\\"|\\)*"' + "|" + r"'(?:[^'\\]++|\\'|\\)*'",
            "data": "@",
            "keyword": rf"(?:true|false|undefined|null){_AFTER_LITERAL}",
            "number": rf"-?[0-9]+(?:\.[0-9]+)?{_AFTER_LITERAL}",
            "open_parameters": rf"as{_S}+\|",
            "close_parameters": r"\|",
            "name": rf"{_ID}{_AFTER_ID}",
            "bracketed": r"\[(?:[^\]\\]++|\\\]|\\)*\]",
        }.items()
    )
)
_COMMENT_END = re.compile(r"--~?\}\}")


class Token(NamedTuple):
    """``kind`` is a group of the patterns above, ``content``, ``comment`` or ``end``."""

    kind: str
    text: str
    offset: int


def syntax_error(source: str, offset: int, message: str) -> TemplateSyntaxError:
    """The error for a place in the source."""
    line_start = source.rfind("\n", 0, offset) + 1
    return TemplateSyntaxError(source.count("\n", 0, offset) + 1, offset - line_start + 1, message)


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a template, one by one; the last is ``end``.

    Raises:
        TemplateSyntaxError: at a character that begins no token.
    """
    offset = 0
    while (tag := source.find("{{", offset)) >= 0:
        backslashes = source[max(offset, tag - 2) : tag]
        escaped = backslashes.endswith("\\") and backslashes != "\\\\"
        text = source[offset : tag - backslashes.endswith("\\")]
        if text:
            yield Token("content", text, offset)
        if escaped:
            offset = _end_of_escape(source, tag)
            yield Token("content", source[tag:offset], tag)
        else:
            offset = yield from _tag(source, tag)
    if offset < len(source):
        yield Token("content", source[offset:], offset)
    yield Token("end", "", len(source))


def _end_of_escape(source: str, tag: int) -> int:
    """The text of ``\\{{`` reaches to the next tag, the backslashes before that excluded."""
    first = tag + 2
    end = source.find("{{", first)
    if end < 0:
        return len(source)
    for _ in range(2):
        if end > first and source[end - 1] == "\\":
            end -= 1
    return end


def _tag(source: str, start: int) -> Generator[Token, None, int]:
    """The tokens of one tag; returns the offset after it."""
    offset = start
    while True:
        match = _TAG.match(source, offset)
        if match is None:
            if source.find("}}", offset) < 0:
                raise syntax_error(source, start, "the tag is not closed")
            raise syntax_error(source, offset, f"unexpected {source[offset]!r}")
        kind = match.lastgroup or ""
        if kind == "open_comment":
            end = _end_of_comment(source, match)
            yield Token("comment", source[offset:end], offset)
            return end
        if kind != "space":
            yield Token(kind, match[0], offset)
        offset = match.end()
        if kind in ("close", "close_unescaped", "else"):
            return offset


def _end_of_comment(source: str, start: re.Match[str]) -> int:
    if source.startswith("--", start.end()):
        match = _COMMENT_END.search(source, start.end())
        end = match.end() if match else 0
    else:
        end = source.find("}}", start.end()) + 2
    if end < start.end():
        raise syntax_error(source, start.start(), "the comment is not closed")
    return end
