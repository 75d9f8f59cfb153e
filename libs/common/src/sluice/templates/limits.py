"""What a template may cost, and the errors that say so. All limits are counts: none depends on a clock."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SOURCE = 256 * 1024  # characters
MAX_NODES = 5_000  # content, comments, tags, arguments
MAX_BLOCK_DEPTH = 64  # an `else if` nests in the block that it continues
MAX_EXPRESSION_DEPTH = 32  # subexpressions
MAX_PATH_PARTS = 32
MAX_BLOCK_PARAMETERS = 32


class TemplateError(Exception):
    """A template cannot be compiled or rendered; the message is fit for its author.

    ``part``: the position of the template among those that are rendered together.
    """

    part: int = 0


class TemplateSyntaxError(TemplateError):
    """The source is not a template. ``line`` and ``column`` count from 1; ``message`` has no position in it."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line, self.column, self.message = line, column, message


class TemplateLimitError(TemplateError):
    """Rendering yields more output, or needs more memory or time, than allowed."""


class TemplateWorkError(TemplateLimitError):
    """Rendering needs more work units than allowed."""


class TemplateDataError(TemplateError):
    """The variables are not JSON values."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may cost.

    ``output`` is in characters. One of ``work`` is a node executed, a helper called, an iteration begun, or 64
    characters of a text that a helper reads or a tag prints; 100,000 take about a fifth of a second.
    """

    output: int = 1024 * 1024
    work: int = 100_000


DEFAULT_LIMITS = Limits()
SMS_LIMITS = Limits(output=10_000)
