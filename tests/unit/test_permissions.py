"""Roles, their permissions, and the role names of both APIs."""

import pytest

from gateway.auth.permissions import PROJECT_API_ROLES, ROLE_PERMISSIONS, V1_ROLES, Permission
from gateway.auth.principal import KeyPrincipal, UserPrincipal, require
from gateway.errors import Forbidden
from sluice.model.roles import Role
from tests.examples import PROJECT, an_id

VIEWING = {
    *(Permission.MESSAGES_READ, Permission.ANALYTICS_READ, Permission.PROJECT_READ, Permission.EVENTS_READ),
}
PROGRAMS = VIEWING | {
    *(Permission.MESSAGES_SEND, Permission.MESSAGES_CANCEL, Permission.ROUTING_READ),
    *(Permission.PROVIDERS_READ, Permission.PROVIDERS_WRITE, Permission.DOMAINS_READ, Permission.DOMAINS_WRITE),
    *(Permission.INCIDENTS_READ, Permission.INCIDENTS_WRITE),
    *(Permission.TEMPLATES_READ, Permission.TEMPLATES_WRITE, Permission.DEVICES_WRITE),
    *(Permission.SUPPRESSIONS_READ, Permission.SUPPRESSIONS_WRITE),
    *(Permission.WEBHOOKS_READ, Permission.WEBHOOKS_WRITE),
}
TESTING = VIEWING | {
    *(Permission.MESSAGES_SEND, Permission.MESSAGES_CANCEL, Permission.ROUTING_READ, Permission.INCIDENTS_READ),
    *(Permission.PROVIDERS_READ, Permission.DOMAINS_READ, Permission.TEMPLATES_READ, Permission.SUPPRESSIONS_READ),
    *(Permission.WEBHOOKS_READ, Permission.WEBHOOKS_WRITE),
}
DEVELOPING = PROGRAMS | {Permission.KEYS_READ, Permission.KEYS_WRITE}


@pytest.mark.parametrize("role", Role)
def test_every_role_has_permissions(role):
    assert Permission.MESSAGES_READ in ROLE_PERMISSIONS[role]


@pytest.mark.parametrize(
    ("name", "permissions"),
    [("ADMIN", set(Permission)), ("DEVELOPER", DEVELOPING), ("VIEWER", VIEWING)],
)
def test_the_roles_of_v1_have_the_permissions_of_the_contract(name, permissions):
    assert ROLE_PERMISSIONS[V1_ROLES[name]] == permissions


@pytest.mark.parametrize(
    ("name", "permissions"),
    [
        ("project_admin", DEVELOPING | {Permission.PROJECT_ADMIN, Permission.AUDIT_READ}),
        ("team_member", DEVELOPING),
    ],
)
def test_the_roles_of_the_project_api_have_the_permissions_of_the_contract(name, permissions):
    assert ROLE_PERMISSIONS[PROJECT_API_ROLES[name]] == permissions


def test_only_the_owner_deletes_a_project():
    assert [role for role in Role if Permission.PROJECT_DELETE in ROLE_PERMISSIONS[role]] == [Role.OWNER]


@pytest.mark.parametrize("permission", Permission)
def test_an_api_key_manages_no_keys_and_no_members(permission):
    key = KeyPrincipal(an_id(), PROJECT, is_test=False)

    assert (permission in key.permissions) == (permission in PROGRAMS)


@pytest.mark.parametrize("permission", Permission)
def test_a_test_key_writes_only_what_belongs_to_test_messages(permission):
    key = KeyPrincipal(an_id(), PROJECT, is_test=True)

    assert (permission in key.permissions) == (permission in TESTING)


@pytest.mark.parametrize(
    ("permission", "hint"),
    [(Permission.PROVIDERS_WRITE, True), (Permission.DEVICES_WRITE, True), (Permission.KEYS_WRITE, False)],
)
def test_a_test_key_is_told_where_a_live_key_helps(permission, hint):
    with pytest.raises(Forbidden) as error:
        require(KeyPrincipal(an_id(), PROJECT, is_test=True), permission)

    assert ("use a live key" in str(error.value)) == hint


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_missing_permission_is_forbidden(role, permission):
    user = UserPrincipal(an_id(), PROJECT, role)

    if permission in ROLE_PERMISSIONS[role]:
        require(user, permission)
    else:
        with pytest.raises(Forbidden, match=permission.value):
            require(user, permission)
