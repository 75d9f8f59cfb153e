"""The roles of a project's members."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The role of a member in a project."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"
