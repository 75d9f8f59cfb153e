"""Projects, team, invitations and API keys of the project API."""

import asyncio
import json
from uuid import UUID, uuid4

import pytest

from sluice.model.ids import encode_id
from sluice.model.roles import Role
from sluice.store import memberships
from tests.examples import a_body, as_json
from tests.polling import wait_until
from tests.services.people import PASSWORD, a_person
from tests.services.project_api.conftest import error_of


@pytest.fixture
def path(api):
    """That of the project."""
    return f"/projects/{api.project_id}"


# -- projects ------------------------------------------------------------------------------------------------------


async def test_projects_of_the_same_name_are_two(api):
    created = [(await api.ask("POST", "/projects", json={"name": "Shop"})).json() for _ in range(3)]
    listed = (await api.ask("GET", "/projects")).json()

    assert [one["name"] for one in created] == ["Shop"] * 3
    assert [one["id"] for one in listed["data"][:3]] == [one["id"] for one in reversed(created)]
    assert listed["meta"] == {
        **{"total": 4, "page": 1, "limit": 50, "totalPages": 1},
        **{"hasNextPage": False, "hasPreviousPage": False},
    }


@pytest.mark.parametrize("name", ["店", "🛒", "a" * 255, "---"])
async def test_a_name_in_any_script(api, name):
    assert (await api.ask("POST", "/projects", json={"name": name})).json()["name"] == name


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "name"), ({"name": ""}, "name"), ({"name": "a" * 256}, "name"), ({"name": "x", "slug": "y"}, "slug")],
)
async def test_a_bad_project_names_the_field(api, body, field):
    assert field in error_of(await api.ask("POST", "/projects", json=body), 400)


async def test_projects_are_in_pages(api):
    for number in range(3):
        await api.ask("POST", "/projects", json={"name": f"p{number}"})
    page = (await api.ask("GET", "/projects", params={"page": 2, "limit": 3})).json()
    assert [one["name"] for one in page["data"]] == ["shop"]
    assert page["meta"]["hasPreviousPage"]


async def test_a_project_is_the_same_in_both_apis(api):
    created = (await api.ask("POST", "/projects", json={"name": "Web shop"})).json()
    in_v1 = (await api.owner.ask("GET", "/v1/projects/web-shop")).json()

    assert in_v1["id"] == encode_id("proj", UUID(created["id"]))
    assert (in_v1["name"], in_v1["created_at"]) == (created["name"], created["createdAt"])


async def test_only_the_owner_deletes_a_project(api, path):
    admin = await api.a_member("admin@example.com", "admin")
    assert "project:delete" in error_of(await admin.ask_project_api("DELETE", path), 403)

    assert (await api.ask("DELETE", path)).json() == {"message": "Project deleted successfully"}

    error_of(await api.ask("DELETE", path), 404)
    assert (await api.ask("GET", "/projects")).json()["data"] == []

    async def refuses_the_key():
        return (await api.gateway.post(as_json(a_body()))).status_code == 401

    await wait_until(refuses_the_key)


@pytest.mark.parametrize(
    "project",
    ["no-id", str(uuid4()), encode_id("proj", uuid4()), encode_id("msg", uuid4())],
    ids=["no id", "unknown", "unknown with its prefix", "of a message"],
)
async def test_a_project_that_the_person_has_no_role_in(api, project):
    for method, rest in (("DELETE", ""), ("GET", "/team"), ("GET", "/invites"), ("GET", "/api-keys")):
        error_of(await api.ask(method, f"/projects/{project}{rest}"), 404, "Not Found")


# -- team ------------------------------------------------------------------------------------------------------------


def invitation(api, email="grace@example.com", **changes):
    return {"email": email, "projectId": str(api.project_id)} | changes


async def test_an_invited_person_becomes_a_member(api, path):
    invited = (await api.ask("POST", "/projects/invite", json=invitation(api))).json()
    assert invited["message"] == "Invitation sent successfully"
    assert (invited["invite"]["role"], invited["member"]) == ("team_member", None)
    waiting = (await api.ask("GET", f"{path}/invites")).json()
    assert (waiting["data"], waiting["meta"]["total"]) == ([invited["invite"]], 1)

    token = invited["url"].partition("#")[2]
    accepted = {"token": token, "password": PASSWORD, "name": "Grace"}
    assert (await api.gateway.client.post("/v1/auth/invitations/accept", json=accepted)).status_code == 200

    team = (await api.ask("GET", f"{path}/team")).json()
    assert [(one["email"], one["role"]) for one in team["data"]] == [
        ("grace@example.com", "team_member"),
        ("owner@example.com", "owner"),
    ]
    assert team["meta"]["total"] == 2
    assert (await api.ask("GET", f"{path}/invites")).json()["data"] == []


async def test_a_person_with_an_account_is_a_member_at_once(api, path):
    grace = await a_person(api.gateway, "grace@example.com")
    added = (await api.ask("POST", "/projects/invite", json=invitation(api, role="project_admin"))).json()

    assert added["member"].items() >= {"userId": str(grace.user.id), "role": "project_admin"}.items()
    assert (await grace.ask_project_api("GET", f"{path}/team")).status_code == 200
    again = await api.ask("POST", "/projects/invite", json=invitation(api))
    assert "member" in error_of(again, 409, "Conflict")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role": "owner"}, "role"),
        ({"role": "admin"}, "role"),
        ({"email": "no address"}, "email"),
        ({"projectId": None}, "projectId"),
        ({"projectId": "x"}, "projectId"),
        ({"name": "Grace"}, "name"),
    ],
)
async def test_a_bad_invitation_names_the_field(api, changes, field):
    assert field in error_of(await api.ask("POST", "/projects/invite", json=invitation(api, **changes)), 400)


async def test_an_invitation_is_resent_with_another_link(api, path):
    first = (await api.ask("POST", "/projects/invite", json=invitation(api))).json()
    await api.gateway.pool.execute("UPDATE invitations SET expires_at = now() - interval '1 h'")
    answer = await api.ask("POST", f"/projects/resend-invite/{first['invite']['id']}")
    second = answer.json()

    assert (answer.status_code, second["message"]) == (200, "Invitation resent successfully")
    assert second["url"] != first["url"]
    assert (second["invite"]["id"], second["invite"]["email"]) == (first["invite"]["id"], "grace@example.com")
    for invited, status in ((first, 401), (second, 200)):
        accepted = {"token": invited["url"].partition("#")[2], "password": PASSWORD}
        answer = await api.gateway.client.post("/v1/auth/invitations/accept", json=accepted)
        assert answer.status_code == status
    error_of(await api.ask("POST", f"/projects/resend-invite/{first['invite']['id']}"), 404)


async def test_an_administrator_does_not_resend_the_invitation_of_an_owner(api):
    await api.owner.ask("POST", "/v1/projects/shop/members", json={"email": "o@example.com", "role": "ADMIN"})
    [invite] = (await api.ask("GET", f"/projects/{api.project_id}/invites")).json()["data"]
    admin = await api.a_member("admin@example.com", "admin")

    assert invite["role"] == "owner"
    error_of(await admin.ask_project_api("POST", f"/projects/resend-invite/{invite['id']}"), 403)


async def test_a_member_is_removed_and_has_no_access_at_once(api, path):
    grace = await api.a_member("grace@example.com", "admin")
    assert (await grace.ask_project_api("GET", f"{path}/team")).status_code == 200

    removed = await api.ask("DELETE", f"{path}/members/{grace.user.id}")

    assert removed.json() == {"message": "Team member removed successfully"}
    error_of(await grace.ask_project_api("GET", f"{path}/team"), 404)
    error_of(await api.ask("DELETE", f"{path}/members/{grace.user.id}"), 404)
    assert "member" in error_of(await api.ask("DELETE", f"{path}/members/{api.owner.user.id}"), 409)


async def test_an_administrator_removes_no_owner(api, path):
    admin = await api.a_member("admin@example.com", "admin")
    await api.a_member("second@example.com", "owner")
    error_of(await admin.ask_project_api("DELETE", f"{path}/members/{api.owner.user.id}"), 403)


async def test_every_role_of_v1_has_a_name(api, path):
    for role in Role:
        await api.a_member(f"{role.value}@of.example", role)
    team = (await api.ask("GET", f"{path}/team")).json()["data"]
    assert {one["email"].partition("@")[0]: one["role"] for one in team if "of.example" in one["email"]} == {
        **{"owner": "owner", "admin": "project_admin"},
        **{"developer": "team_member", "viewer": "viewer"},
    }


# -- keys ------------------------------------------------------------------------------------------------------------


async def a_key(api, name="web"):
    created = await api.ask("POST", f"/projects/{api.project_id}/api-keys", json={"name": name})
    assert created.status_code == 201, created.text
    return created.json()


async def test_a_key_is_shown_once_and_works_in_both_apis(api, path):
    created = await a_key(api)
    assert (set(created), created["key"][:4]) == ({"message", "id", "key"}, "mzl_")
    listed = (await api.ask("GET", f"{path}/api-keys")).json()

    assert created["key"] not in json.dumps(listed)
    assert (
        listed["data"][0].items()
        >= {
            **{"id": created["id"], "name": "web", "prefix": created["key"][:16], "isActive": True, "isTest": False},
            **{"createdBy": str(api.owner.user.id)},
        }.items()
    )
    assert listed["meta"]["total"] == 2  # with that of the fixture
    assert (await api.gateway.post(key=created["key"])).status_code == 201
    assert "person" in error_of(await api.ask_with_key("GET", "/projects", key=created["key"]), 403)
    in_v1 = (await api.owner.ask("GET", "/v1/projects/shop/keys")).json()["data"][0]
    assert (in_v1["id"], in_v1["active"]) == (encode_id("key", UUID(created["id"])), True)


async def test_an_inactive_key_is_refused_until_it_is_activated(api, path):
    created = await a_key(api)

    async def accepted(expected):
        async def has_the_state():
            return ((await api.gateway.post(key=created["key"])).status_code == 201) is expected

        await wait_until(has_the_state)

    for is_active in (False, True):
        changed = await api.ask("PUT", f"{path}/api-keys/{created['id']}", json={"isActive": is_active})
        assert (changed.json()["isActive"], changed.json()["name"]) == (is_active, "web")
        await accepted(is_active)
    renamed = await api.ask("PUT", f"{path}/api-keys/{created['id']}", json={"name": "shop", "isActive": False})
    assert (renamed.json()["isActive"], renamed.json()["name"]) == (False, "shop")
    listed = (await api.ask("GET", f"{path}/api-keys")).json()["data"]
    assert listed[0] == renamed.json()


async def test_a_deleted_key_does_not_come_back(api, path):
    created = await a_key(api)
    assert (await api.ask("DELETE", f"{path}/api-keys/{created['id']}")).json() == {
        "message": "API key deleted successfully"
    }

    error_of(await api.ask("PUT", f"{path}/api-keys/{created['id']}", json={"isActive": True}), 404)
    error_of(await api.ask("DELETE", f"{path}/api-keys/{created['id']}"), 404)
    assert (await api.ask("GET", f"{path}/api-keys")).json()["meta"]["total"] == 1

    async def is_refused():
        return (await api.gateway.post(key=created["key"])).status_code == 401

    await wait_until(is_refused)


@pytest.mark.parametrize(
    ("body", "field"),
    [({"name": ""}, "name"), ({"isActive": "yes"}, "isActive"), ({"isActive": 1}, "isActive"), ({"key": "x"}, "key")],
)
async def test_a_bad_change_of_a_key_names_the_field(api, path, body, field):
    created = await a_key(api)
    assert field in error_of(await api.ask("PUT", f"{path}/api-keys/{created['id']}", json=body), 400)


async def test_a_key_makes_no_keys(api, path):
    error_of(await api.ask_with_key("POST", f"{path}/api-keys", json={"name": "more"}), 403)
    error_of(await api.ask_with_key("GET", f"{path}/api-keys"), 403)


async def test_concurrent_changes_of_a_key_leave_one_of_them(api, path):
    created = await a_key(api)
    changes = [{"name": f"n{number}", "isActive": bool(number % 2)} for number in range(8)]
    answers = await asyncio.gather(
        *(api.ask("PUT", f"{path}/api-keys/{created['id']}", json=change) for change in changes)
    )
    assert {answer.status_code for answer in answers} == {200}
    key = (await api.ask("GET", f"{path}/api-keys")).json()["data"][0]
    assert {"name": key["name"], "isActive": key["isActive"]} in changes


async def test_every_change_is_in_the_audit_log(api, path):
    created = await a_key(api)
    await api.ask("PUT", f"{path}/api-keys/{created['id']}", json={"isActive": False})
    await api.ask("DELETE", f"{path}/api-keys/{created['id']}")
    invited = (await api.ask("POST", "/projects/invite", json=invitation(api))).json()
    await api.ask("POST", f"/projects/resend-invite/{invited['invite']['id']}")

    rows = await api.gateway.pool.fetch(
        "SELECT noun, action FROM audit_log WHERE project_id = $1 ORDER BY id", api.project_id
    )
    assert [(row["noun"], row["action"]) for row in rows] == [
        *(("key", action) for action in ("created", "updated", "revoked")),
        *(("invitation", action) for action in ("created", "resent")),
    ]
    assert await memberships.count_members(api.gateway.pool, api.project_id) == 1
