"""Pages of lists of the project API: numbered, with the number of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query

from gateway.kit.camel_case import CamelResponse

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_LIMIT, MAX_LIMIT, MAX_PAGE = 50, 100, 100_000


class PageMeta(CamelResponse):
    """Where a page is in its list. ``total``: rows of the list."""

    total: int
    page: int
    limit: int
    total_pages: int
    has_next_page: bool
    has_previous_page: bool


class NumberedPage(CamelResponse, Generic[T]):
    """One page of a list."""

    data: list[T]
    meta: PageMeta


@dataclass(frozen=True, slots=True)
class NumberedPageRequest:
    """The page that a request asks for, from 1."""

    number: int
    limit: int

    @property
    def offset(self) -> int:
        """How many rows are on the pages before."""
        return (self.number - 1) * self.limit

    def page(self, rows: Sequence[R], total: int, serialize: Callable[[R], T]) -> NumberedPage[T]:
        """The page of ``rows``, of ``total`` rows of the list."""
        pages = -(-total // self.limit)
        meta = PageMeta(
            total=total,
            page=self.number,
            limit=self.limit,
            total_pages=pages,
            has_next_page=self.number < pages,
            has_previous_page=self.number > 1,
        )
        return NumberedPage(data=[serialize(row) for row in rows], meta=meta)


def _page_request(
    page: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 1,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
) -> NumberedPageRequest:
    return NumberedPageRequest(page, limit)


NumberedPageDep = Annotated[NumberedPageRequest, Depends(_page_request)]
