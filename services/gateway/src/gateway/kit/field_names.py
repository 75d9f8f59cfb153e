"""Fields of requests under the names that they have in an API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway.errors import ValidationFailed


@contextmanager
def renamed_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Raise errors of the block with the names that fields have in the caller's API.

    ``names``: by the first part of the path that a service names.
    """
    try:
        yield
    except ValidationFailed as error:
        first, dot, rest = (error.field or "").partition(".")
        if first not in names:
            raise
        field = names[first] + dot + rest
        text = str(error)
        if text.startswith(f"{error.field}:"):
            text = field + text.removeprefix(str(error.field))
        raise ValidationFailed(text, field=field, position=error.position) from None
