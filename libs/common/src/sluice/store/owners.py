"""Which project an object belongs to, where a request names the object only."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

from sluice.store.db import Db


class Owned(StrEnum):
    """Objects of a project, by their table."""

    PROVIDER = "providers"
    TEMPLATE = "templates"
    DELIVERY = "deliveries"

    @property
    def missing(self) -> str:
        """The text of an error: the same for an object that does not exist and for one of another project."""
        return f"{self.name.capitalize()} not found"


async def owner_of(db: Db, owned: Owned, identifier: UUID, projects: Sequence[UUID]) -> UUID | None:
    """The project of the object, if it is one of ``projects``. ``db`` sees these."""
    found: UUID | None = await db.fetchval(
        f"SELECT project_id FROM {owned} WHERE id = $1 AND project_id = ANY($2::uuid[])",  # noqa: S608  (an enum)
        identifier,
        list(projects),
    )
    return found
