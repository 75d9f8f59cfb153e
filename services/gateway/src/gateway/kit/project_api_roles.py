"""The role names of the project API."""

from __future__ import annotations

from enum import StrEnum

from gateway.auth.permissions import PROJECT_API_ROLES
from sluice.model.roles import Role


class GivenRole(StrEnum):
    """A role that an invitation gives."""

    TEAM_MEMBER = "team_member"
    PROJECT_ADMIN = "project_admin"

    @property
    def role(self) -> Role:
        """The role that is stored."""
        return PROJECT_API_ROLES[self]


class HeldRole(StrEnum):
    """A role that a member has. ``viewer`` is given through ``/v1`` only."""

    OWNER = "owner"
    PROJECT_ADMIN = "project_admin"
    TEAM_MEMBER = "team_member"
    VIEWER = "viewer"


def held_role(role: Role) -> HeldRole:
    """The name of a stored role."""
    given = {stored: name for name, stored in PROJECT_API_ROLES.items()}
    return HeldRole(given.get(role, role.value))
