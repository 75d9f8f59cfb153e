"""Public ids in paths."""

from __future__ import annotations

from uuid import UUID

from gateway.errors import NotFound
from sluice.model import ids


def read_id(prefix: str, text: str, unknown: NotFound) -> UUID:
    """The id in a path; a text that is no id names nothing.

    Raises:
        NotFound: ``unknown``, for a text that is not an id with this prefix.
    """
    try:
        return ids.decode_id(prefix, text)
    except ids.InvalidIdError:
        raise unknown from None
