"""The principal of a request: the project it acts in and what it may do there."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from gateway.auth.permissions import KEY_PERMISSIONS, ROLE_PERMISSIONS, TEST_KEY_PERMISSIONS, Permission
from gateway.errors import Forbidden
from sluice.model.roles import Role
from sluice.store.projects import ProjectScope


class KeyPrincipal(NamedTuple):
    """A program with an API key of its project. ``is_test``: its messages go to the sandbox."""

    key_id: UUID
    project_id: UUID
    is_test: bool

    @property
    def scope(self) -> ProjectScope:
        """The messages that the key reads and changes: a test key's are the test messages."""
        return ProjectScope(self.project_id, self.is_test)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the key may do."""
        return TEST_KEY_PERMISSIONS if self.is_test else KEY_PERMISSIONS


class UserPrincipal(NamedTuple):
    """A person, in the project that the request names."""

    user_id: UUID
    project_id: UUID
    role: Role
    is_test: bool = False

    @property
    def scope(self) -> ProjectScope:
        """The messages that the request reads and changes."""
        return ProjectScope(self.project_id, self.is_test)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the person's role in the project includes."""
        return ROLE_PERMISSIONS[self.role]


Principal = KeyPrincipal | UserPrincipal


def require(principal: Principal, permission: Permission) -> None:
    """Return if ``principal`` has ``permission``.

    Raises:
        Forbidden: it has not.
    """
    if permission not in principal.permissions:
        if isinstance(principal, KeyPrincipal) and permission in KEY_PERMISSIONS:
            raise Forbidden(f"A test key does not have the permission {permission.value}: use a live key.")
        raise Forbidden(f"The permission {permission.value} is required.")
