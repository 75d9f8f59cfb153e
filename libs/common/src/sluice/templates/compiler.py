"""A tree to closures. Names, argument counts and block parameters are resolved here, not while rendering."""

from __future__ import annotations

from collections.abc import Sequence

from sluice.templates.blocks import BLOCK_HELPERS, Parts, section
from sluice.templates.execution import Evaluate, Execute, Loop, Run, Scope
from sluice.templates.helpers import HELPERS, Helper
from sluice.templates.lexer import syntax_error
from sluice.templates.limits import TemplateSyntaxError
from sluice.templates.tree import Block, Call, Comment, Content, Expression, Literal, Output, Path, Program
from sluice.templates.values import Value, index_of, property_of, text_of


def compile_program(program: Program, source: str, html: bool) -> Execute:
    """The template as one function; ``html`` escapes what ``{{…}}`` prints.

    Raises:
        TemplateSyntaxError: a helper does not exist or does not take these arguments.
    """
    return _Compiler(source, html).program(program)


def _nothing(scope: Scope, run: Run) -> None:
    """An absent or empty branch."""


class _Compiler:
    def __init__(self, source: str, html: bool) -> None:
        self._source = source
        self._html = html
        self._bound: list[tuple[str, ...]] = []  # the parameters of the blocks around, innermost first

    def _error(self, path: Path, message: str) -> TemplateSyntaxError:
        return syntax_error(self._source, path.offset, message)

    # Statements

    def program(self, program: Program | None) -> Execute:
        if program is None:
            return _nothing
        if program.parameters:
            self._bound.insert(0, program.parameters)
        body = [one for one in program.body if not isinstance(one, Comment)]
        steps = [self._statement(one) for one in body]
        cost = sum(_cost(one) for one in body)
        if program.parameters:
            self._bound.pop(0)
        if not steps:
            return _nothing

        def execute(scope: Scope, run: Run) -> None:
            run.spend(cost)
            for step in steps:
                step(scope, run)

        return execute

    def _statement(self, statement: Content | Output | Block) -> Execute:
        if isinstance(statement, Content):
            return _write(statement.text)
        if isinstance(statement, Block):
            return self._block(statement)
        return _print(self._call(statement.call), escaped=self._html and statement.escaped)

    def _block(self, block: Block) -> Execute:
        call = block.call
        name = self._helper_name(call)
        helper = BLOCK_HELPERS.get(name) if name else None
        self._check_parameters(block, helper is None or helper.parameters)
        if helper is not None:
            self._check(call, helper.arguments, helper.named)
            arguments = tuple(self._expression(one) for one in call.arguments)
        elif call.arguments or call.named or name in HELPERS:
            raise self._error(call.target, f"there is no block helper {call.target.original}")
        else:
            arguments = (self._path(call.target),)
        parts = Parts(
            arguments,
            {key: self._expression(value) for key, value in call.named},
            self.program(block.program),
            self.program(block.inverse),
            binds=block.program is not None and bool(block.program.parameters),
        )
        return helper.compile(parts) if helper else section(parts)

    def _check_parameters(self, block: Block, allowed: bool) -> None:
        inverse = block.inverse is not None and block.inverse.parameters
        if inverse or (not allowed and block.program is not None and block.program.parameters):
            raise self._error(block.call.target, f"{block.call.target.original} binds no block parameters here")

    # Expressions

    def _expression(self, expression: Expression) -> Evaluate:
        if isinstance(expression, Literal):
            value = expression.value
            return lambda scope, run: value
        return self._call(expression, True) if isinstance(expression, Call) else self._path(expression)

    def _call(self, call: Call, is_expression: bool = False) -> Evaluate:
        """``{{name}}`` is a helper or a property; ``{{name argument}}`` and ``(name)`` are helpers."""
        name = self._helper_name(call)
        if name in BLOCK_HELPERS:
            raise self._error(call.target, f"{name} is a block helper, written {{{{#{name}}}}}")
        helper = HELPERS.get(name) if name else None
        if helper is None:
            if call.arguments or call.named or is_expression:
                raise self._error(call.target, f"there is no helper {call.target.original}")
            return self._path(call.target)
        self._check(call, helper.arguments, optional=helper.optional)
        return _apply(helper, [self._expression(one) for one in call.arguments])

    def _helper_name(self, call: Call) -> str | None:
        """The name, unless the call can only mean a property: a longer path, or a block parameter."""
        name = call.target.name
        return None if name is None or self._parameter(name) else name

    def _check(self, call: Call, count: int, named: frozenset[str] = frozenset(), *, optional: int = 0) -> None:
        name = call.target.original
        if not count - optional <= len(call.arguments) <= count:
            takes = f"{f'{count - optional} to ' if optional else ''}{count} argument{'' if count == 1 else 's'}"
            raise self._error(call.target, f"{name} takes {takes}, not {len(call.arguments)}")
        for key, _ in call.named:
            if key not in named:
                raise self._error(call.target, f"{name} takes no argument {key}=")

    def _parameter(self, name: str) -> tuple[int, int] | None:
        """Which block around binds the name, and as which of its parameters."""
        for level, names in enumerate(self._bound):
            if name in names:
                return level, names.index(name)
        return None

    def _path(self, path: Path) -> Evaluate:
        steps = [(part, index_of(part)) for part in path.parts]
        if path.data and path.parts:
            return _walk(_loop_variable(path.depth, path.parts[0]), steps[1:])
        bound = self._parameter(path.parts[0]) if path.parts and not path.scoped else None
        if bound is not None:
            return _walk(_block_parameter(*bound), steps[1:])
        if path.depth:
            return _walk(_outer_context(path.depth), steps)
        if len(steps) == 1:
            return _own_property(*steps[0])
        return _walk(_own_context, steps)


def _cost(statement: Content | Output | Block) -> int:
    """Work units of one execution, without those of inner programs, texts and iterations."""
    return 1 if isinstance(statement, Content) else _call_cost(statement.call)


def _call_cost(call: Call) -> int:
    values = (*call.arguments, *(value for _, value in call.named))
    return 1 + sum(_call_cost(one) if isinstance(one, Call) else 1 for one in values)


def _write(text: str) -> Execute:
    return lambda scope, run: run.write(text)


def _print(evaluate: Evaluate, escaped: bool) -> Execute:
    def execute(scope: Scope, run: Run) -> None:
        text = text_of(evaluate(scope, run), run.spend)
        if escaped:
            run.write_escaped(text)
        else:
            run.write(text)

    return execute


def _apply(helper: Helper, arguments: Sequence[Evaluate]) -> Evaluate:
    function = helper.function

    def evaluate(scope: Scope, run: Run) -> Value:
        values = [argument(scope, run) for argument in arguments]
        for value in values:
            run.spend_text(value)
        return function(run.spend, *values)

    return evaluate


def _walk(start: Evaluate, steps: Sequence[tuple[str, int | None]]) -> Evaluate:
    if not steps:
        return start

    def evaluate(scope: Scope, run: Run) -> Value:
        value = start(scope, run)
        for name, index in steps:
            value = property_of(value, name, index)
        return value

    return evaluate


def _own_context(scope: Scope, run: Run) -> Value:
    return scope.context


def _own_property(name: str, index: int | None) -> Evaluate:
    def evaluate(scope: Scope, run: Run) -> Value:
        context = scope.context
        return context.get(name) if type(context) is dict else property_of(context, name, index)

    return evaluate


def _outer_context(depth: int) -> Evaluate:
    def evaluate(scope: Scope, run: Run) -> Value:
        outer: Scope | None = scope
        for _ in range(depth):
            outer = outer.parent if outer else None
        return outer.context if outer else None

    return evaluate


def _block_parameter(level: int, position: int) -> Evaluate:
    def evaluate(scope: Scope, run: Run) -> Value:
        values = scope.parameters[level]
        return values[position] if position < len(values) else None

    return evaluate


def _loop_variable(depth: int, name: str) -> Evaluate:
    def evaluate(scope: Scope, run: Run) -> Value:
        loop: Loop | None = scope.loop
        for _ in range(depth):
            loop = loop.parent if loop else None
        if loop is None:
            return None
        if name == "root":
            return run.root
        if name == "index":
            return loop.index
        if name == "key":
            return loop.key
        if name == "first":
            return loop.first
        return loop.last if name == "last" else None

    return evaluate
