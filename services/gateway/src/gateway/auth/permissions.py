"""Roles and the permissions that they include."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Permission(StrEnum):
    """One thing that a principal may do in its project."""

    MESSAGES_READ = "messages:read"
    MESSAGES_SEND = "messages:send"
    MESSAGES_CANCEL = "messages:cancel"
    PROJECT_ADMIN = "project:admin"  # members, roles, project settings
    PROJECT_DELETE = "project:delete"


class Role(StrEnum):
    """The role of a member in a project."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"


_DEVELOPER = frozenset({Permission.MESSAGES_READ, Permission.MESSAGES_SEND, Permission.MESSAGES_CANCEL})

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: _DEVELOPER | {Permission.PROJECT_ADMIN},
    Role.DEVELOPER: _DEVELOPER,
    Role.VIEWER: frozenset({Permission.MESSAGES_READ}),
}

KEY_ROLE = Role.DEVELOPER
"""An API key reads, sends and cancels; it manages neither members nor the project."""

V1_ROLES: Mapping[str, Role] = {"ADMIN": Role.OWNER, "DEVELOPER": Role.DEVELOPER, "VIEWER": Role.VIEWER}
"""The role names of ``/v1``. Its ADMIN may do everything, deleting the project included."""

PROJECT_API_ROLES: Mapping[str, Role] = {"project_admin": Role.ADMIN, "team_member": Role.DEVELOPER}
"""The role names of the project API. Only the owner deletes a project there, and that role cannot be given."""
