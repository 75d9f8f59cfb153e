"""Tokens to a tree: the grammar of Handlebars 4 without partials, decorators and raw blocks."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from sluice.templates import limits
from sluice.templates.lexer import Token, syntax_error, tokens
from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.tree import (
    Block,
    Call,
    Comment,
    Content,
    Expression,
    Literal,
    Output,
    Path,
    Program,
    Statement,
    Strip,
)
from sluice.templates.values import text_of

_REFUSED = {
    "open_raw": "raw blocks are not supported",
    "open_partial": "partials are not supported",
    "open_decorator": "decorators are not supported",
}
_KEYWORDS = {"true": True, "false": False, "null": None, "undefined": None}
_ESCAPED_BRACKET = re.compile(r"\\([\\\]])")


class Parsed(NamedTuple):
    """A tree and the number of its nodes."""

    program: Program
    nodes: int


def parse(source: str) -> Parsed:
    """The tree of a template, before the whitespace pass.

    Raises:
        TemplateSyntaxError: the source is not a template, or exceeds a limit of :mod:`sluice.templates.limits`.
    """
    if len(source) > limits.MAX_SOURCE:
        message = f"the template has more than {limits.MAX_SOURCE} characters"
        raise syntax_error(source, limits.MAX_SOURCE, message)
    if (offset := source.find("\0")) >= 0:
        raise syntax_error(source, offset, "the template contains a NUL character")
    return _Parser(source).parse()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokens(source)
        self._ahead: deque[Token] = deque()
        self._nodes = 0
        self._block_depth = 0
        self._expression_depth = 0

    def parse(self) -> Parsed:
        program = self._program()
        token = self._peek()
        if token.kind != "end":
            raise self._error(token, f"{token.text} outside a block")
        return Parsed(program, self._nodes)

    # Tokens

    def _peek(self, distance: int = 0) -> Token:
        while len(self._ahead) <= distance:
            self._ahead.append(next(self._tokens))
        return self._ahead[distance]

    def _next(self) -> Token:
        token = self._peek()
        self._ahead.popleft()
        return token

    def _take(self, kind: str) -> Token | None:
        return self._next() if self._peek().kind == kind else None

    def _expect(self, kind: str, wanted: str) -> Token:
        token = self._peek()
        if token.kind != kind:
            raise self._error(token, f"expected {wanted}, found {token.text or 'the end of the template'}")
        return self._next()

    def _error(self, token: Token, message: str) -> TemplateSyntaxError:
        return syntax_error(self._source, token.offset, message)

    def _count(self, token: Token) -> None:
        self._nodes += 1
        if self._nodes > limits.MAX_NODES:
            raise self._error(token, f"the template has more than {limits.MAX_NODES} nodes")

    # Statements

    def _program(self) -> Program:
        body: list[Statement] = []
        while True:
            token = self._peek()
            if token.kind in ("end", "else", "open_chain", "open_end"):
                return Program(body)
            self._next()
            self._count(token)
            if token.kind == "content":
                body.append(Content(token.text, token.text))
            elif token.kind == "comment":
                body.append(Comment(_strip(token, token)))
            elif token.kind in ("open_block", "open_inverse"):
                body.append(self._block(token))
            elif token.kind in ("open", "open_unescaped"):
                body.append(self._output(token))
            else:
                raise self._error(token, _REFUSED.get(token.kind, f"unexpected {token.text}"))

    def _output(self, opening: Token) -> Output:
        call = self._call()
        braces = opening.kind == "open_unescaped" and opening.text.endswith("{")
        closing = self._expect("close_unescaped", "}}}") if braces else self._expect("close", "}}")
        return Output(call, opening.kind == "open", _strip(opening, closing))

    def _block(self, opening: Token) -> Block:
        call, program, open_strip = self._branch(opening)
        inverse, inverse_strip = self._inverse(opening)
        if self._peek().kind == "end":
            raise self._error(opening, f"the block {call.target.original} is not closed")
        end = self._expect("open_end", f"{{{{/{call.target.original}}}}}")
        name = self._path()
        if name.original != call.target.original:
            raise self._error(end, f"{{{{/{name.original}}}}} does not close {call.target.original}")
        close_strip = _strip(end, self._expect("close", "}}"))
        self._block_depth -= 1
        if inverse and inverse.chained and isinstance(inverse.body[0], Block):
            inverse.body[0].close_strip = close_strip
        if opening.kind == "open_inverse":
            return Block(call, inverse, program, open_strip, inverse_strip, close_strip)
        return Block(call, program, inverse, open_strip, inverse_strip, close_strip)

    def _branch(self, opening: Token) -> tuple[Call, Program, Strip]:
        """The opening tag and the statements after it."""
        self._block_depth += 1
        if self._block_depth > limits.MAX_BLOCK_DEPTH:
            raise self._error(opening, f"blocks are nested deeper than {limits.MAX_BLOCK_DEPTH}")
        call = self._call()
        parameters = self._parameters()
        strip = _strip(opening, self._expect("close", "}}"))
        program = self._program()
        program.parameters = parameters
        return call, program, strip

    def _inverse(self, opening: Token) -> tuple[Program | None, Strip]:
        """``{{else}} …`` or, where the block is not itself an inverse one, ``{{else if …}} …``."""
        if token := self._take("else"):
            return self._program(), _strip(token, token)
        if opening.kind != "open_inverse" and (token := self._take("open_chain")):
            self._count(token)
            call, program, strip = self._branch(token)
            inverse, inverse_strip = self._inverse(token)
            self._block_depth -= 1
            # Handlebars gives a link of the chain its own opening's strip for its end; the first link gets the block's.
            return Program([Block(call, program, inverse, strip, inverse_strip, strip)], chained=True), strip
        return None, Strip()

    def _parameters(self) -> tuple[str, ...]:
        opening = self._take("open_parameters")
        if opening is None:
            return ()
        names = []
        while token := self._take("name") or self._take("bracketed"):
            names.append(_name(token))
            if len(names) > limits.MAX_BLOCK_PARAMETERS:
                raise self._error(token, f"a block has more than {limits.MAX_BLOCK_PARAMETERS} parameters")
        self._expect("close_parameters", "a name or |")
        if not names:
            raise self._error(opening, "a block parameter has no name")
        return tuple(names)

    # Expressions

    def _call(self) -> Call:
        target = self._path()
        arguments: list[Expression] = []
        while self._peek(1).kind != "equals" and (argument := self._argument()):
            arguments.append(argument)
        named = []
        while (key := self._peek()).kind in ("name", "bracketed") and self._peek(1).kind == "equals":
            self._next(), self._next()
            value = self._argument()
            if value is None:
                raise self._error(self._peek(), f"{_name(key)}= has no value")
            named.append((_name(key), value))
        return Call(target, tuple(arguments), tuple(named))

    def _argument(self) -> Expression | None:
        token = self._peek()
        if token.kind == "open_call":
            self._next()
            self._count(token)
            self._expression_depth += 1
            if self._expression_depth > limits.MAX_EXPRESSION_DEPTH:
                raise self._error(token, f"expressions are nested deeper than {limits.MAX_EXPRESSION_DEPTH}")
            call = self._call()
            self._expect("close_call", ")")
            self._expression_depth -= 1
            return call
        if token.kind in ("id", "name", "bracketed", "data"):
            self._count(token)
            return self._path()
        literal = self._literal()
        if literal:
            self._count(token)
        return literal

    def _literal(self) -> Literal | None:
        token = self._peek()
        if token.kind == "string":
            quote = token.text[0]
            value: str | int | float | bool | None = token.text[1:-1].replace(f"\\{quote}", quote)
        elif token.kind == "number":
            value = float(token.text) if "." in token.text or len(token.text) > 15 else int(token.text)
        elif token.kind == "keyword":
            value = _KEYWORDS[token.text]
        else:
            return None
        self._next()
        return Literal(token.offset, value)

    def _path(self) -> Path:
        """A path; a literal in its place names a property of the context."""
        first = self._peek()
        if literal := self._literal():
            name = first.text if first.kind == "keyword" else text_of(literal.value)
            return Path(first.offset, name, (name,))
        data = self._take("data") is not None
        original, depth, scoped = "@" if data else "", 0, False
        parts: list[str] = []
        while True:
            token = self._next()
            if token.kind not in ("id", "name", "bracketed"):
                wanted = "a name; an index is written [0]" if token.kind == "number" else "a name"
                raise self._error(token, f"expected {wanted}, found {token.text or 'the end of the template'}")
            part = _name(token)
            original += part
            if token.kind == "id" or token.text == "this":
                if parts:
                    raise self._error(first, f"invalid path: {original}")
                scoped, depth = True, depth + (part == "..")
            else:
                parts.append(part)
            if depth + len(parts) > limits.MAX_PATH_PARTS:
                raise self._error(first, f"a path has more than {limits.MAX_PATH_PARTS} parts")
            separator = self._take("separator")
            if separator is None:
                return Path(first.offset, original, tuple(parts), depth, data, scoped)
            original += separator.text


def _name(token: Token) -> str:
    if token.kind == "bracketed":
        return _ESCAPED_BRACKET.sub(r"\1", token.text)[1:-1]
    return token.text


def _strip(opening: Token, closing: Token) -> Strip:
    return Strip(opening.text[2:3] == "~", closing.text[-3:-2] == "~")
