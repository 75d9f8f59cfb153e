"""PostgreSQL's absence as an error of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Unavailable
from sluice.store.db import UNAVAILABLE_ERRORS


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise :class:`Unavailable` where PostgreSQL does not answer inside the block."""
    try:
        yield
    except UNAVAILABLE_ERRORS as error:
        raise Unavailable("The database is unavailable. Retry later.") from error
