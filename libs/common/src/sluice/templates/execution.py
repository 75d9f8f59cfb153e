"""The state of one rendering: what compiled nodes read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from sluice.templates.limits import Limits, TemplateLimitError, TemplateWorkError
from sluice.templates.values import Value, escape

_CHARACTERS_PER_UNIT = 6  # as a shift: 64


class Run:
    """The output so far, and the rest of the limits."""

    __slots__ = ("_left", "_limits", "_work", "parts", "root")

    def __init__(self, root: Value, limits: Limits) -> None:
        self.root = root
        self.parts: list[str] = []
        self._limits = limits
        self._left = limits.output
        self._work = limits.work

    @property
    def left(self) -> Limits:
        """What the limits leave for another rendering."""
        return Limits(max(self._left, 0), max(self._work, 0))

    def spend(self, units: int) -> None:
        """Charge work units.

        Raises:
            TemplateWorkError: the limit is exceeded.
        """
        self._work -= units
        if self._work < 0:
            raise TemplateWorkError(f"the template needs more than {self._limits.work} work units with these variables")

    def spend_text(self, value: Value) -> None:
        """Charge the reading of a value."""
        if isinstance(value, str):
            self.spend(len(value) >> _CHARACTERS_PER_UNIT)

    def write(self, text: str) -> None:
        """Append text to the output.

        Raises:
            TemplateLimitError: the limit is exceeded.
        """
        length = len(text)
        self._left -= length
        if self._left < 0:
            raise TemplateLimitError(f"the template yields more than {self._limits.output} characters")
        if length >= 1 << _CHARACTERS_PER_UNIT:
            self.spend(length >> _CHARACTERS_PER_UNIT)
        self.parts.append(text)

    def write_escaped(self, text: str) -> None:
        """Append text as HTML. The limit is checked before the escaping, which makes text up to six times longer."""
        if len(text) > self._left:
            self.write(text)
        self.write(escape(text))


class Loop:
    """The ``@`` variables of an ``each``; ``parent`` is that of the ``each`` around it."""

    __slots__ = ("first", "index", "key", "last", "parent")

    def __init__(self, parent: Loop | None) -> None:
        self.parent = parent
        self.index: Value = None
        self.key: Value = None
        self.first: Value = None
        self.last: Value = None


class Scope:
    """Where names are looked up: ``parent`` is the scope of ``../``, ``parameters`` are those of the blocks around."""

    __slots__ = ("context", "loop", "parameters", "parent")

    def __init__(
        self, context: Value, parent: Scope | None, loop: Loop, parameters: tuple[Parameters, ...] = ()
    ) -> None:
        self.context = context
        self.parent = parent
        self.loop = loop
        self.parameters = parameters


Parameters: TypeAlias = tuple[Value, ...]
"""The values that one block binds, innermost block first in :class:`Scope`."""

Evaluate: TypeAlias = Callable[[Scope, Run], Value]
"""A compiled expression."""

Execute: TypeAlias = Callable[[Scope, Run], None]
"""A compiled statement or program."""
