"""The variables that a template reads, as paths from its root: ``user.name``, ``items[].price``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sluice.templates.tree import Block, Call, Expression, Literal, Output, Path, Program

ROOT = ""
_BINDING = ("each", "with")


class _Place(NamedTuple):
    """A context and what leads out of it. A ``path`` of None is a value that no path names."""

    path: str | None
    outer: tuple[str | None, ...] = ()
    parameters: tuple[dict[str, str | None], ...] = ()


def variables_of(program: Program, helpers: Iterable[str]) -> tuple[str, ...]:
    """The paths in the order of their first use, each once; names in ``helpers`` are no variables."""
    walk = _Walk(frozenset(helpers))
    walk.program(program, _Place(ROOT))
    return tuple(walk.found)


class _Walk:
    def __init__(self, helpers: frozenset[str]) -> None:
        self._helpers = helpers
        self.found: dict[str, None] = {}

    def program(self, program: Program | None, place: _Place) -> None:
        for statement in program.body if program else ():
            if isinstance(statement, Output):
                self._call(statement.call, place)
            elif isinstance(statement, Block):
                self._block(statement, place)

    def _block(self, block: Block, place: _Place) -> None:
        target = block.call.target
        name = target.name if self._is_helper(target, place) else None
        self._call(block.call, place)
        inner = place
        if name is None or name in _BINDING:
            subject = block.call.arguments[0] if name else target
            inner = _inside(place, _resolve(subject, place), block, is_list=name == "each")
        self.program(block.program, inner)
        self.program(block.inverse, place)

    def _call(self, call: Call, place: _Place) -> None:
        if not self._is_helper(call.target, place):
            self._add(call.target, place)
        for argument in (*call.arguments, *(value for _, value in call.named)):
            if isinstance(argument, Call):
                self._call(argument, place)
            else:
                self._add(argument, place)

    def _add(self, expression: Path | Literal, place: _Place) -> None:
        if path := _resolve(expression, place):
            self.found[path] = None

    def _is_helper(self, path: Path, place: _Place) -> bool:
        return path.name in self._helpers and not any(path.name in names for names in place.parameters)


def _inside(place: _Place, subject: str | None, block: Block, *, is_list: bool) -> _Place:
    """The place of a block's program; a block with ``this`` stays in its context."""
    context = f"{subject}[]" if is_list and subject is not None else subject
    names = block.program.parameters if block.program else ()
    bound = {name: context if position == 0 else None for position, name in enumerate(names)}
    outer = place.outer if context == place.path else (place.path, *place.outer)
    return _Place(context, outer, (bound, *place.parameters))


def _resolve(expression: Expression, place: _Place) -> str | None:
    """The path from the root, or None for a literal, a result, an ``@`` variable or a place outside the root."""
    if not isinstance(expression, Path):
        return None
    contexts = (place.path, *place.outer)
    base = contexts[expression.depth] if expression.depth < len(contexts) else None
    parts = expression.parts
    if expression.data and parts:
        base, parts = (ROOT if parts[0] == "root" else None), parts[1:]
    elif parts and not expression.scoped:
        bound = next((names for names in place.parameters if parts[0] in names), None)
        if bound is not None:
            base, parts = bound[parts[0]], parts[1:]
    return None if base is None else ".".join([*([base] if base else []), *parts])
