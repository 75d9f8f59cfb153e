"""Results of checks that are made one after the other, by hand: a check that fails does not end the others."""

from collections.abc import Callable
from typing import Any

_MAX_ERROR = 1_500  # characters, from its end


def result_of_fault(fault: BaseException) -> dict[str, Any]:
    """The result of a check that ``fault`` ended."""
    return {"passed": False, "error": f"{type(fault).__name__}: {fault}"[-_MAX_ERROR:]}


def result_of(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Make a check: whether it passed, with its figures or its error."""
    try:
        return {"passed": True, **check()}
    except Exception as fault:
        return result_of_fault(fault)
