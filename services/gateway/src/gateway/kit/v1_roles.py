"""The role names of ``/v1``."""

from __future__ import annotations

from enum import StrEnum

from gateway.auth.permissions import V1_ROLES
from sluice.model.roles import Role


class V1Role(StrEnum):
    """A role as ``/v1`` names it."""

    ADMIN = "ADMIN"
    DEVELOPER = "DEVELOPER"
    VIEWER = "VIEWER"

    @property
    def role(self) -> Role:
        """The role that is stored."""
        return V1_ROLES[self]


def v1_role(role: Role) -> V1Role:
    """The name of a stored role: ``ADMIN`` for owners and administrators."""
    return V1Role.ADMIN if role is Role.ADMIN else next(name for name in V1Role if name.role is role)
