"""Pages of lists: newest first, with an opaque cursor that stays correct while rows are added."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from gateway.errors import ValidationFailed

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    data: list[T]
    next_cursor: str | None = Field(description="The cursor of the next page; null at the end.")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The page that a request asks for: at most ``limit`` rows whose id is less than ``before``."""

    limit: int
    before: UUID | None

    @property
    def fetch(self) -> int:
        """How many rows to read: one more than the page has shows whether there is a next one."""
        return self.limit + 1

    def page(self, rows: Sequence[R], key: Callable[[R], UUID], serialize: Callable[[R], T]) -> Page[T]:
        """The page of ``rows``, of which :attr:`fetch` were asked for; ``key``: the id that orders them."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        return Page(data=[serialize(row) for row in shown], next_cursor=encode_cursor(key(shown[-1])) if more else None)


def encode_cursor(after: UUID) -> str:
    """The cursor of the page after the row with this id."""
    return base64.urlsafe_b64encode(after.bytes).decode().rstrip("=")


def decode_cursor(text: str) -> UUID:
    """The id in a cursor.

    Raises:
        ValidationFailed: the text is not a cursor.
    """
    try:
        cursor = UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise ValidationFailed("cursor: is not a cursor of this list", field="cursor") from None
    return cursor


def _page_request(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None,
) -> PageRequest:
    return PageRequest(limit, None if cursor is None else decode_cursor(cursor))


PageDep = Annotated[PageRequest, Depends(_page_request)]
