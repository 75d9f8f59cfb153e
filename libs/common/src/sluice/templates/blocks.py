"""The block helpers, as functions that compile a block whose parts are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sluice.templates.execution import Evaluate, Execute, Loop, Parameters, Run, Scope
from sluice.templates.values import Value, is_empty, is_falsy, is_same


class Parts(NamedTuple):
    """``binds``: the program reads block parameters."""

    arguments: tuple[Evaluate, ...]
    named: Mapping[str, Evaluate]
    program: Execute
    inverse: Execute
    binds: bool


class BlockHelper(NamedTuple):
    """``named`` are the names of its optional arguments, ``parameters`` says whether it binds block parameters."""

    arguments: int
    compile: Callable[[Parts], Execute]
    named: frozenset[str] = frozenset()
    parameters: bool = False


def _enter(scope: Scope, run: Run, context: Value, loop: Loop, bound: Parameters | None) -> Scope:
    """The scope of a program with a context of its own; ``../`` leads out of it only if the context differs."""
    run.spend_text(context)  # for the comparison
    parent = scope.parent if is_same(context, scope.context) else scope
    return Scope(context, parent, loop, scope.parameters if bound is None else (bound, *scope.parameters))


def _if(parts: Parts) -> Execute:
    (condition,) = parts.arguments
    program, inverse, include_zero = parts.program, parts.inverse, parts.named.get("includeZero")

    def execute(scope: Scope, run: Run) -> None:
        value = condition(scope, run)
        zero_counts = include_zero is not None and not is_falsy(include_zero(scope, run))
        is_false = is_empty(value) or (not zero_counts and is_falsy(value))
        (inverse if is_false else program)(scope, run)

    return execute


def _unless(parts: Parts) -> Execute:
    return _if(parts._replace(program=parts.inverse, inverse=parts.program))


def _if_equals(parts: Parts) -> Execute:
    left, right = parts.arguments
    program, inverse = parts.program, parts.inverse

    def execute(scope: Scope, run: Run) -> None:
        first, second = left(scope, run), right(scope, run)
        run.spend_text(first)
        run.spend_text(second)
        (program if is_same(first, second) else inverse)(scope, run)

    return execute


def _if_not_equals(parts: Parts) -> Execute:
    return _if_equals(parts._replace(program=parts.inverse, inverse=parts.program))


def _with(parts: Parts) -> Execute:
    (argument,) = parts.arguments
    program, inverse, binds = parts.program, parts.inverse, parts.binds

    def execute(scope: Scope, run: Run) -> None:
        value = argument(scope, run)
        if is_empty(value):
            inverse(scope, run)
        else:
            program(_enter(scope, run, value, scope.loop, (value,) if binds else None), run)

    return execute


def _each(parts: Parts) -> Execute:
    (argument,) = parts.arguments
    inverse = parts.inverse

    def execute(scope: Scope, run: Run) -> None:
        value = argument(scope, run)
        if isinstance(value, list | dict) and value:
            _iterate(value, scope, run, parts)
        else:
            inverse(scope, run)

    return execute


def _iterate(values: list[Value] | dict[str, Value], scope: Scope, run: Run, parts: Parts) -> None:
    program, binds = parts.program, parts.binds
    loop = Loop(scope.loop)
    items: Iterator[tuple[Value, Value]] = iter(values.items() if isinstance(values, dict) else enumerate(values))
    final = len(values) - 1
    for index, (key, item) in enumerate(items):
        run.spend(1)
        loop.index, loop.key, loop.first, loop.last = index, key, index == 0, index == final
        program(_enter(scope, run, item, loop, (item, key) if binds else None), run)


def section(parts: Parts) -> Execute:
    """``{{#name}}``: a list as ``each``, true in the same context, any other value but None and false as a context."""
    (argument,) = parts.arguments
    program, inverse, binds = parts.program, parts.inverse, parts.binds

    def execute(scope: Scope, run: Run) -> None:
        value = argument(scope, run)
        if value is None or value is False or value == []:
            inverse(scope, run)
        elif isinstance(value, list):
            _iterate(value, scope, run, parts)
        else:
            context = scope.context if value is True else value
            program(_enter(scope, run, context, scope.loop, () if binds else None), run)

    return execute


BLOCK_HELPERS = {
    "if": BlockHelper(1, _if, named=frozenset({"includeZero"})),
    "unless": BlockHelper(1, _unless, named=frozenset({"includeZero"})),
    "each": BlockHelper(1, _each, parameters=True),
    "with": BlockHelper(1, _with, parameters=True),
    "ifEquals": BlockHelper(2, _if_equals),
    "ifNotEquals": BlockHelper(2, _if_not_equals),
}
