"""Removes whitespace as Handlebars does: next to ``~``, and the lines that hold nothing but a block tag or comment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sluice.templates.lexer import WHITESPACE
from sluice.templates.tree import Block, Comment, Content, Output, Program, Statement, Strip

_REST_OF_LINE = re.compile(r"[ \t]*\r?\n?")


class _Edges(NamedTuple):
    """What a statement does to the text around it."""

    strip: Strip
    open_standalone: bool = False  # a block whose opening tag ends its line
    close_standalone: bool = False  # a block whose closing tag begins its line
    inline_standalone: bool = False  # a comment


def strip_whitespace(program: Program, *, is_root: bool = True) -> None:
    """Shorten the content of a tree in place."""
    body = program.body
    for index, statement in enumerate(body):
        edges = _edges(statement)
        if edges is None:
            continue
        before, after = (
            _line_begins(body[max(index - 2, 0) : index], is_root),
            _line_ends(body[index + 1 : index + 3], is_root),
        )
        left, right = body[max(index - 1, 0) : index], body[index + 1 : index + 2]
        if edges.strip.right:
            _strip_start(right)
        if edges.strip.left:
            _strip_end(left)
        if edges.inline_standalone and before and after:
            _omit_line_end(right)
            _omit_indent(left)
        if isinstance(statement, Block):
            first, last = _outer_branches(statement)
            if edges.open_standalone and before:
                _omit_line_end(first.body)
                _omit_indent(left)
            if edges.close_standalone and after:
                _omit_line_end(right)
                _omit_indent(last.body)


def _edges(statement: Statement) -> _Edges | None:
    if isinstance(statement, Block):
        return _strip_block(statement)
    if isinstance(statement, Comment):
        return _Edges(statement.strip, inline_standalone=True)
    return _Edges(statement.strip) if isinstance(statement, Output) else None


def _outer_branches(block: Block) -> tuple[Program, Program]:
    return block.program or block.inverse or Program(), block.inverse or block.program or Program()


def _strip_block(block: Block) -> _Edges:
    for branch in (block.program, block.inverse):
        if branch is not None:
            strip_whitespace(branch, is_root=False)
    first, _ = _outer_branches(block)
    second = _second_branch(block)
    edges = _Edges(
        Strip(block.open_strip.left, block.close_strip.right),
        open_standalone=_line_ends(first.body[:2]),
        close_standalone=_line_begins((second or first).body[-2:]),
    )
    if block.open_strip.right:
        _strip_start(first.body)
    if block.close_strip.left:
        _strip_end((second or first).body)
    if second is not None:
        if block.inverse_strip.left:
            _strip_end(first.body)
        if block.inverse_strip.right:
            _strip_start(second.body)
        if _line_begins(first.body[-2:]) and _line_ends(second.body[:2]):
            _omit_indent(first.body)
            _omit_line_end(second.body)
    return edges


def _second_branch(block: Block) -> Program | None:
    """The branch after the first ``{{else}}``. Of a chain it is the first link's, even next to the closing tag."""
    if block.program is None or block.inverse is None:
        return None
    link = block.inverse.body[0] if block.inverse.chained else None
    return link.program if isinstance(link, Block) else block.inverse


def _line_begins(before: Sequence[Statement], is_root: bool = False) -> bool:
    """Whether nothing but whitespace is between the last line break and the end; ``before`` holds two at most."""
    if not before:
        return is_root
    last = before[-1]
    if not isinstance(last, Content):
        return False
    text = last.original.rstrip(WHITESPACE)
    return "\n" in last.original[len(text) :] or (is_root and len(before) == 1 and not text)


def _line_ends(after: Sequence[Statement], is_root: bool = False) -> bool:
    """Whether nothing but whitespace is between the start and the first line break; ``after`` holds two at most."""
    if not after:
        return is_root
    first = after[0]
    if not isinstance(first, Content):
        return False
    text = first.original.lstrip(WHITESPACE)
    space = first.original[: len(first.original) - len(text)]
    return "\n" in space or (is_root and len(after) == 1 and not text)


def _strip_start(body: Sequence[Statement]) -> None:
    if body and isinstance(content := body[0], Content):
        text = content.text.lstrip(WHITESPACE)
        content.start_stripped, content.text = text != content.text, text


def _strip_end(body: Sequence[Statement]) -> None:
    if body and isinstance(content := body[-1], Content):
        text = content.text.rstrip(WHITESPACE)
        content.end_stripped, content.text = text != content.text, text


def _omit_line_end(body: Sequence[Statement]) -> None:
    """Remove the rest of the line and its end, once."""
    if body and isinstance(content := body[0], Content) and not content.start_stripped:
        text = _REST_OF_LINE.sub("", content.text, count=1)
        content.start_stripped, content.text = text != content.text, text


def _omit_indent(body: Sequence[Statement]) -> None:
    """Remove the blanks after the last line break, once."""
    if body and isinstance(content := body[-1], Content) and not content.end_stripped:
        text = content.text.rstrip(" \t")
        content.end_stripped, content.text = text != content.text, text
