"""Roles and the permissions that they include."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sluice.model.roles import Role


class Permission(StrEnum):
    """One thing that a principal may do in its project."""

    MESSAGES_READ = "messages:read"
    MESSAGES_SEND = "messages:send"
    MESSAGES_CANCEL = "messages:cancel"
    ANALYTICS_READ = "analytics:read"
    PROJECT_READ = "project:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    PROVIDERS_READ = "providers:read"
    PROVIDERS_WRITE = "providers:write"  # and whether and how a channel group sends
    DOMAINS_READ = "domains:read"
    DOMAINS_WRITE = "domains:write"
    TEMPLATES_READ = "templates:read"
    TEMPLATES_WRITE = "templates:write"
    DEVICES_WRITE = "devices:write"
    SUPPRESSIONS_READ = "suppressions:read"
    SUPPRESSIONS_WRITE = "suppressions:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    ROUTING_READ = "routing:read"  # what would be decided: providers by name, with their health
    INCIDENTS_READ = "incidents:read"
    INCIDENTS_WRITE = "incidents:write"  # acknowledge, note
    AUDIT_READ = "audit:read"
    EVENTS_READ = "events:read"  # events of deliveries, dead letters
    PROJECT_ADMIN = "project:admin"  # members, roles, project settings
    PROJECT_DELETE = "project:delete"


_VIEWER = frozenset(
    {Permission.MESSAGES_READ, Permission.ANALYTICS_READ, Permission.PROJECT_READ, Permission.EVENTS_READ}
)
_DEVELOPER = _VIEWER | {
    Permission.MESSAGES_SEND,
    Permission.MESSAGES_CANCEL,
    Permission.ROUTING_READ,
    Permission.INCIDENTS_READ,
    Permission.INCIDENTS_WRITE,
    Permission.KEYS_READ,
    Permission.KEYS_WRITE,
    Permission.PROVIDERS_READ,
    Permission.PROVIDERS_WRITE,
    Permission.DOMAINS_READ,
    Permission.DOMAINS_WRITE,
    Permission.TEMPLATES_READ,
    Permission.TEMPLATES_WRITE,
    Permission.DEVICES_WRITE,
    Permission.SUPPRESSIONS_READ,
    Permission.SUPPRESSIONS_WRITE,
    Permission.WEBHOOKS_READ,
    Permission.WEBHOOKS_WRITE,
}

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: _DEVELOPER | {Permission.PROJECT_ADMIN, Permission.AUDIT_READ},
    Role.DEVELOPER: _DEVELOPER,
    Role.VIEWER: _VIEWER,
}

KEY_PERMISSIONS = _DEVELOPER - {Permission.KEYS_READ, Permission.KEYS_WRITE}
"""What a live key may do: it manages neither the project nor its members, and cannot make further keys."""

TEST_KEY_PERMISSIONS = _VIEWER | {
    Permission.MESSAGES_SEND,
    Permission.MESSAGES_CANCEL,
    Permission.ROUTING_READ,
    Permission.INCIDENTS_READ,
    Permission.PROVIDERS_READ,
    Permission.DOMAINS_READ,
    Permission.TEMPLATES_READ,
    Permission.SUPPRESSIONS_READ,
    Permission.WEBHOOKS_READ,
    Permission.WEBHOOKS_WRITE,
}
"""What a test key may do: it writes only what belongs to test messages, which are they and their webhooks."""

V1_ROLES: Mapping[str, Role] = {"ADMIN": Role.OWNER, "DEVELOPER": Role.DEVELOPER, "VIEWER": Role.VIEWER}
"""The role names of ``/v1``. Its ADMIN may do everything, deleting the project included."""

PROJECT_API_ROLES: Mapping[str, Role] = {"project_admin": Role.ADMIN, "team_member": Role.DEVELOPER}
"""The role names of the project API. Only the owner deletes a project there, and that role cannot be given."""
