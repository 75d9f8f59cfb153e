"""Every statement of the gateway in the transaction of another project, or of the other mode, does nothing.

The conditions of the statements are fulfilled: only row-level security separates the projects here.
"""

import ast
import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from sluice.model.roles import Role
from sluice.model.routing_policy import RoutingPolicy
from sluice.model.state import EventType
from sluice.store import api_keys, audit, cancellation, ingest, memberships, messages, projects, receipts
from sluice.store.projects import ProjectScope
from sluice.store.tables import TABLES
from tests.examples import NOON, OTHER_PROJECT, a_claim, a_message, a_transition, seconds

GATEWAY_SOURCES = Path(__file__).parents[2] / "services/gateway/src/gateway"
NOTHING: tuple[object, ...] = (None, False, 0, [], {})


@dataclass(frozen=True, slots=True)
class Ours:
    """What a project has in every table."""

    id: object
    waiting: object  # message
    delivery_id: object  # that was sent
    user_id: object
    key_id: object
    invitation: object
    token: str  # of the invitation
    provider_id: object

    @property
    def scope(self):
        return ProjectScope(self.id, False)


async def a_receipt(db, ours):
    receipt = receipts.ReceiptEntry(
        delivery_id=ours.delivery_id,
        attempt=1,
        provider_id=ours.provider_id,
        receipt_id="r-1",
        type=EventType.DELIVERED,
        occurred_at=NOON,
    )
    return (await receipts.apply(db, [receipt], now=NOON, outbox_retry_after=seconds(10))).events


OPERATIONS = {
    "api_keys.create_named_key": lambda db, ours: api_keys.create_named_key(
        db, ours.id, name="new", is_test=False, now=NOON
    ),
    "api_keys.list_summaries": lambda db, ours: api_keys.list_summaries(db, ours.id, limit=9),
    "api_keys.revoke_key": lambda db, ours: api_keys.revoke_key(db, ours.id, ours.key_id),
    "audit.append": lambda db, ours: audit.append(
        db, audit.OPERATOR, project_id=ours.id, action="updated", noun="key", object_id="key_1", now=NOON
    ),
    "audit.list_entries": lambda db, ours: audit.list_entries(db, ours.id, limit=9),
    "cancellation.cancel": lambda db, ours: cancellation.cancel(
        db, ours.scope, ours.waiting.id, now=NOON, outbox_retry_after=seconds(10)
    ),
    "cancellation.revoke_in_doubt": lambda db, ours: cancellation.revoke_in_doubt(db, [ours.waiting.id], now=NOON),
    "ingest.find_by_idempotency_key": lambda db, ours: ingest.find_by_idempotency_key(
        db, ours.scope, "order-7", now=NOON
    ),
    "memberships.add_member": lambda db, ours: memberships.add_member(
        db, ours.id, ours.invitation, Role.VIEWER, now=NOON
    ),
    "memberships.count_owners": lambda db, ours: memberships.count_owners(db, ours.id),
    "memberships.find_member": lambda db, ours: memberships.find_member(db, ours.id, ours.user_id),
    "memberships.invite": lambda db, ours: memberships.invite(
        db, ours.id, "new@example.com", Role.VIEWER, invited_by=None, now=NOON
    ),
    "memberships.list_invitations": lambda db, ours: memberships.list_invitations(db, ours.id, now=NOON, limit=9),
    "memberships.list_members": lambda db, ours: memberships.list_members(db, ours.id, limit=9),
    "memberships.remove_member": lambda db, ours: memberships.remove_member(db, ours.id, ours.user_id),
    "memberships.revoke_invitation": lambda db, ours: memberships.revoke_invitation(db, ours.id, ours.invitation),
    "memberships.set_role": lambda db, ours: memberships.set_role(db, ours.id, ours.user_id, Role.VIEWER),
    "memberships.take_invitation": lambda db, ours: memberships.take_invitation(db, ours.token, now=NOON),
    "messages.find": lambda db, ours: messages.find(db, ours.scope, ours.waiting.id),
    "projects.delete_project": lambda db, ours: projects.delete_project(db, ours.id, now=NOON),
    "projects.list_projects": lambda db, ours: projects.list_projects(db, ours.id),
    "projects.list_projects_of": lambda db, ours: projects.list_projects_of(db, [ours.id], limit=9),
    "projects.update_project": lambda db, ours: projects.update_project(
        db, ours.id, slug="taken", name="Taken", default_sender=None, routing_policy=RoutingPolicy.SEED
    ),
    "receipts.apply": a_receipt,
}
# What needs no project, or comes before it is known.
ELSEWHERE = {
    "project_usage.add": "counts the messages of several projects: test_project_quota",
    "project_usage.of_day": "reads the usage of all projects",
    "project_usage.attachment_bytes": "reads the usage of all projects",
    "api_keys.find_keys": "finds the project of a key",
    "backlog.count_enqueued": "counts the dispatch queue of all projects",
    "ingest.insert_batch": "sets the projects of its batch itself: test_logins",
    "login_links.create_link": "a table without a project",
    "login_links.delete_links": "a table without a project",
    "login_links.take_link": "a table without a project",
    "memberships.lock_members": "locks a row and returns nothing",
    "memberships.project_of_invitation": "finds the project of an invitation",
    "projects.create_project": "has no existing project",
    "receipt_tokens.accept": "a table without a project",
    "sessions.create_session": "a table without a project",
    "sessions.end_session": "a table without a project",
    "sessions.end_sessions": "a table without a project",
    "sessions.find_sessions": "finds the projects of a user",
    "sessions.list_sessions": "a table without a project",
    "users.create_user": "a table without a project",
    "users.find_user": "a table without a project",
    "users.find_user_by_email": "a table without a project",
    "users.lock_user": "a table without a project",
    "users.set_name": "a table without a project",
    "users.set_password": "a table without a project",
}


def store_functions(folder):
    """The functions of the store that the modules of a folder name: ``module.function``."""
    used = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        modules, names = {}, {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "sluice.store":
                modules |= {alias.asname or alias.name: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sluice.store."):
                module = node.module.rpartition(".")[2]
                names |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                used.add(f"{modules[node.value.id]}.{node.attr}")
            elif isinstance(node, ast.Name) and node.id in names:
                used.add(names[node.id])
    return {name for name in used if inspect.iscoroutinefunction(_named(name))}


def _named(name):
    module, _, function = name.partition(".")
    return getattr(importlib.import_module(f"sluice.store.{module}"), function)


def test_every_store_function_of_the_gateway_is_in_the_matrix():
    missing = store_functions(GATEWAY_SOURCES) - OPERATIONS.keys() - ELSEWHERE.keys()

    assert not missing, f"add {sorted(missing)} to OPERATIONS, or to ELSEWHERE with the reason"


@pytest.fixture
async def ours(store):
    """A project with rows in every table that the gateway uses."""
    project = await projects.create_project(store.pool, organization="Shop", slug="shop", name="Shop", now=NOON)
    _, key = await api_keys.create_named_key(store.pool, project.id, name="shop", is_test=False, now=NOON)
    user_id = await store.pool.fetchval(
        "INSERT INTO users VALUES (gen_random_uuid(), 'a@b.example', 'a@b.example', '', NULL, $1) RETURNING id", NOON
    )
    await memberships.add_member(store.pool, project.id, user_id, Role.OWNER, now=NOON)
    invitation, token = await memberships.invite(
        store.pool, project.id, "c@d.example", Role.VIEWER, invited_by=user_id, now=NOON
    )
    # Another user with the invitation's id, who is no member yet.
    await store.pool.execute(
        "INSERT INTO users VALUES ($1, 'c@d.example', 'c@d.example', '', NULL, $2)", invitation.id, NOON
    )
    await audit.append(
        store.pool, audit.OPERATOR, project_id=project.id, action="created", noun="key", object_id="key_0", now=NOON
    )
    sent = a_message(project_id=project.id, idempotency_key="order-7", fingerprint=b"f")
    waiting = a_message(project_id=project.id)
    await store.accept(sent, waiting)
    delivery_id = sent.deliveries[0].id
    claim = a_claim(delivery_id, project_id=project.id)
    await store.claim(claim)
    await store.transition(a_transition(delivery_id, EventType.SENT, outcome="accepted", project_id=project.id))
    return Ours(project.id, waiting, delivery_id, user_id, key.id, invitation.id, token, claim.provider_id)


async def everything(store):
    return {table.name: await store.pool.fetch(f"SELECT * FROM {table.name} t ORDER BY t::text") for table in TABLES}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_statement_in_the_transaction_of_another_project_finds_and_changes_nothing(store, ours, name):
    before = await everything(store)

    try:
        async with store.rows_of(OTHER_PROJECT) as db:
            found = await OPERATIONS[name](db, ours)
    except asyncpg.InsufficientPrivilegeError as error:
        if "row-level security" not in str(error):
            raise
        found = None

    assert found in NOTHING
    assert await everything(store) == before


@pytest.mark.parametrize("name", OPERATIONS)
async def test_the_same_statement_in_the_transaction_of_its_project_finds_or_changes_something(store, ours, name):
    before = await everything(store)

    async with store.rows_of(ours.id) as db:
        found = await OPERATIONS[name](db, ours)

    assert found not in NOTHING or await everything(store) != before


SCOPED = {
    "messages.find": lambda db, scope, ours: messages.find(db, scope, ours.waiting.id),
    "cancellation.cancel": lambda db, scope, ours: cancellation.cancel(
        db, scope, ours.waiting.id, now=NOON, outbox_retry_after=seconds(10)
    ),
    "ingest.find_by_idempotency_key": lambda db, scope, ours: ingest.find_by_idempotency_key(
        db, scope, "order-7", now=NOON
    ),
}


def test_every_operation_with_a_mode_is_in_the_matrix():
    with_scope = {
        name
        for name in store_functions(GATEWAY_SOURCES)
        if any(one.annotation == "ProjectScope" for one in inspect.signature(_named(name)).parameters.values())
    }

    assert with_scope == SCOPED.keys()


@pytest.mark.parametrize("name", SCOPED)
@pytest.mark.parametrize(
    ("own", "sandbox"), [(True, True), (False, False), (False, True)], ids=["test", "other-live", "other-test"]
)
async def test_live_messages_are_not_those_of_test_keys_or_of_others(store, ours, name, own, sandbox):
    before = await everything(store)
    project_id = ours.id if own else OTHER_PROJECT

    async with store.rows_of(project_id) as db:
        assert await SCOPED[name](db, ProjectScope(project_id, sandbox), ours) is None

    assert await everything(store) == before
