"""The tree of a template, as the parser builds it; ``offset`` is a node's place in the source, in characters.

The whitespace pass changes nothing but the text of :class:`Content`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias


class Strip(NamedTuple):
    """Which sides of a tag carry ``~``, which removes the whitespace next to the tag."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """``../user.name``: ``depth`` contexts up, then ``parts`` down. ``@index`` has ``data``."""

    offset: int
    original: str  # as written, without brackets: a closing tag repeats it
    parts: tuple[str, ...]
    depth: int = 0
    data: bool = False
    scoped: bool = False  # begins with `.`, `..` or `this`: never a helper or a block parameter

    @property
    def name(self) -> str | None:
        """The name of the helper or block parameter that this path may mean."""
        return self.parts[0] if len(self.parts) == 1 and not (self.depth or self.data or self.scoped) else None


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, number, boolean, or None for ``null`` and ``undefined``."""

    offset: int
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Call:
    """A path with its arguments: the content of a tag, and in parentheses a subexpression."""

    target: Path
    arguments: tuple[Expression, ...] = ()
    named: tuple[tuple[str, Expression], ...] = ()


Expression: TypeAlias = Path | Literal | Call


@dataclass(slots=True)
class Content:
    """Text outside tags; ``text`` is what the whitespace pass leaves of ``original``."""

    original: str
    text: str
    start_stripped: bool = False
    end_stripped: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """``{{! … }}``, which prints nothing."""

    strip: Strip


@dataclass(frozen=True, slots=True)
class Output:
    """``{{…}}`` or ``{{{…}}}``."""

    call: Call
    escaped: bool
    strip: Strip


@dataclass(slots=True)
class Program:
    """The statements of the template, or of one branch of a block."""

    body: list[Statement] = field(default_factory=list)
    parameters: tuple[str, ...] = ()
    chained: bool = False  # its only statement is the block of an `{{else if …}}`


@dataclass(slots=True)
class Block:
    """``{{#call}} program {{else}} inverse {{/call}}``; ``{{^call}}`` has its first branch in ``inverse``."""

    call: Call
    program: Program | None
    inverse: Program | None
    open_strip: Strip
    inverse_strip: Strip
    close_strip: Strip


Statement: TypeAlias = Content | Comment | Output | Block
