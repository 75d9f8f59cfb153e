"""An actor as responses name it."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel

from sluice.model import ids
from sluice.store.audit import ActorKind

_PREFIXES = {ActorKind.USER: "usr", ActorKind.KEY: "key"}


class ActorResponse(BaseModel):
    """Who makes a change.

    ``name``: the user's address or the key's name; null for the command line (`operator`) and Sluice (`system`).
    """

    kind: ActorKind
    id: str | None
    name: str | None


def actor_response(kind: ActorKind, actor_id: UUID | None, name: str | None) -> ActorResponse:
    """An actor with its public id."""
    prefix = _PREFIXES.get(kind)
    shown = None if prefix is None or actor_id is None else ids.encode_id(prefix, actor_id)
    return ActorResponse(kind=kind, id=shown, name=name)
