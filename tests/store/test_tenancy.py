"""Every statement of the gateway in the transaction of another project, or of the other mode, does nothing.

The conditions of the statements are fulfilled: only row-level security separates the projects here.
"""

import ast
import importlib
import inspect
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from sluice.model.channel_group import ChannelGroup
from sluice.model.ids import min_id_at
from sluice.model.message import Channel
from sluice.model.roles import Role
from sluice.model.routing_policy import RoutingPolicy
from sluice.model.state import EventType, State
from sluice.model.suppression import SuppressionReason
from sluice.model.template import TemplateKind
from sluice.model.webhooks import WebhookStatus, WebhookType
from sluice.store import (
    analytics,
    api_keys,
    audit,
    bulk_jobs,
    cancellation,
    channel_configs,
    dead_letters,
    delivery_log,
    devices,
    domains,
    incident_list,
    ingest,
    memberships,
    message_list,
    messages,
    owners,
    projects,
    provider_health,
    provider_receipts,
    providers,
    receipts,
    routing_traffic,
    sandbox,
    suppressions,
    templates,
    waiting,
    webhook_deliveries,
    webhooks,
)
from sluice.store.bulk_jobs import ChunkResult, NewChunk
from sluice.store.channel_configs import ChannelConfig
from sluice.store.cipher import CredentialCipher
from sluice.store.message_list import Filters
from sluice.store.owners import Owned
from sluice.store.projects import ProjectScope
from sluice.store.tables import TABLES
from tests.examples import NOON, OTHER_PROJECT, a_claim, a_letter, a_message, a_transition, after, an_id, seconds

GATEWAY_SOURCES = Path(__file__).parents[2] / "services/gateway/src/gateway"
NOTHING: tuple[object, ...] = (None, False, 0, [], {}, ([], 0))


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
    domain_id: object
    template: object
    suppression: object
    webhook: object
    missed: object  # webhook delivery
    job_id: object  # a bulk job with a chunk of messages and one that waits
    done_id: object  # one without a chunk
    upload_id: object  # one whose upload is not complete
    incident_id: object

    @property
    def scope(self):
        return ProjectScope(self.id, False)

    @property
    def suppressed(self):
        return a_recipient(self.id, "gone@example.com")


def a_recipient(project_id, address):
    return suppressions.Recipient(project_id, Channel.EMAIL, address)


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


async def a_provider(db, project_id):
    provider_id = uuid4()
    await providers.create_provider(
        *(db, provider_id, project_id),
        package="provider-smtp",
        channel=Channel.EMAIL,
        name="mail",
        encrypted_credentials=b"x",
        priority=7,
        now=NOON,
    )
    return provider_id


async def dropped_credentials(db, ours):
    await providers.update_provider(db, ours.id, ours.provider_id, deleted=True, now=NOON)
    await providers.drop_old_credentials(db, ours.id, kept=0)


def a_channel_config(project_id, group, *, enabled=True):
    return ChannelConfig(project_id, group, enabled, "shop@example.com", "Shop", created_at=NOON, updated_at=NOON)


async def a_device(db, project_id, token):
    await devices.register(db, project_id, devices.Device("ada", token, "fcm", None), now=NOON)


async def results_of(db, message_id):
    return (await messages.find_results(db, [message_id]))[message_id]


async def kept_attachments(db, project_id):
    return list(await messages.keep_attachments(db, project_id, ["a" * 64], now=after(1)))


async def entries_of(db, scope):
    return (await delivery_log.list_entries(db, scope, delivery_log.LogFilters(), offset=0, limit=9)).entries


async def size_of_queue(db, scope):
    counted = await delivery_log.count_queue(db, scope, list(Channel), since=min_id_at(NOON - seconds(9)))
    return sum(asdict(counted).values())


async def a_template(db, project_id, name):
    return await templates.create_template(
        db, project_id, kind=TemplateKind.TEXT, name=name, sources={"text": "Hi"}, variables=[], now=NOON
    )


async def a_suppression(db, project_id, address):
    recipient = a_recipient(project_id, address)
    return await suppressions.add(db, [suppressions.NewSuppression(recipient, SuppressionReason.MANUAL)], now=NOON)


async def a_template_update(db, ours):
    """Returns nothing: the row was locked before, and is returned as it was to become."""
    await templates.update_template(
        db, ours.template, name="new", sources={"text": "Hello"}, variables=[], now=after(1)
    )


HOOK = webhooks.EndpointSettings(url="https://shop.example/hook", events=("sent",))
CIPHER = CredentialCipher(lambda: [bytes(32)])


async def a_webhook_secret(db, webhook):
    return await webhooks.add_secret(db, CIPHER, webhook, bytes(24), older_expire_at=NOON)


async def a_replay_of_a_range(db, ours):
    """The number of deliveries."""
    replayed = await webhook_deliveries.replay_range(
        db,
        ours.webhook.id,
        [WebhookStatus.EXHAUSTED],
        since=NOON - seconds(1),
        until=NOON + seconds(1),
        after=None,
        limit=9,
        now=NOON,
    )
    return replayed.number


async def a_list(db, scope):
    """The messages of the first page; None for none."""
    page = await message_list.list_messages(db, scope, Filters(), limit=9, position=None, now=NOON)
    return page.messages or None


async def a_cancelled_orphan(db, ours):
    await db.execute("UPDATE projects SET deleted_at = $2 WHERE id = $1", ours.id, NOON)
    return await bulk_jobs.cancel_orphan(db, ours.id, ours.job_id)


async def a_cancellation(db, scope, ours):
    """The cancelled messages; None for none."""
    done = await cancellation.cancel(db, scope, [ours.waiting.id], now=NOON, outbox_retry_after=seconds(10))
    return done.message_ids or None


async def numbers(db, scope):
    """The analytics of the day of noon; None for none."""
    day = analytics.Range(analytics.Interval.DAY, NOON - seconds(86_400), after(86_400))
    return await analytics.read(db, scope, day, analytics.Filter(), [analytics.Grouping.TAG]) or None


OPERATIONS = {
    "analytics.read": lambda db, ours: numbers(db, ours.scope),
    "api_keys.count_keys": lambda db, ours: api_keys.count_keys(db, ours.id),
    "api_keys.create_named_key": lambda db, ours: api_keys.create_named_key(
        db, ours.id, name="new", is_test=False, now=NOON
    ),
    "api_keys.list_summaries": lambda db, ours: api_keys.list_summaries(db, ours.id, limit=9),
    "api_keys.revoke_key": lambda db, ours: api_keys.revoke_key(db, ours.id, ours.key_id, now=NOON),
    "api_keys.update_key": lambda db, ours: api_keys.update_key(db, ours.id, ours.key_id, name="new", is_active=False),
    "audit.append": lambda db, ours: audit.append(
        db, audit.OPERATOR, project_id=ours.id, action="updated", noun="key", object_id="key_1", now=NOON
    ),
    "audit.list_entries": lambda db, ours: audit.list_entries(db, ours.id, limit=9),
    "bulk_jobs.add_chunks": lambda db, ours: bulk_jobs.add_chunks(db, ours.id, ours.job_id, [NewChunk(9, 1, "[]")]),
    "bulk_jobs.cancel_job": lambda db, ours: bulk_jobs.cancel_job(db, ours.scope, ours.job_id),
    "bulk_jobs.cancel_orphan": lambda db, ours: a_cancelled_orphan(db, ours),
    "bulk_jobs.claim_chunk": lambda db, ours: bulk_jobs.claim_chunk(db, ours.id, ours.job_id),
    "bulk_jobs.claim_chunk_to_cancel": lambda db, ours: bulk_jobs.claim_chunk_to_cancel(db, ours.id, ours.job_id),
    "bulk_jobs.count_states": lambda db, ours: bulk_jobs.count_states(db, ours.id, ours.job_id),
    "bulk_jobs.create_job": lambda db, ours: bulk_jobs.create_job(
        db, ours.scope, an_id(), message="{}", created_by=None, now=NOON
    ),
    "bulk_jobs.delete_upload": lambda db, ours: bulk_jobs.delete_upload(db, ours.id, ours.upload_id),
    "bulk_jobs.find_job": lambda db, ours: bulk_jobs.find_job(db, ours.scope, ours.job_id),
    "bulk_jobs.finish_chunk": lambda db, ours: bulk_jobs.finish_chunk(
        db, ours.id, ours.job_id, 1, ChunkResult(["x"], [None], {}), cancelled=False, now=NOON
    ),
    "bulk_jobs.finish_job": lambda db, ours: bulk_jobs.finish_job(db, ours.id, ours.done_id, now=NOON),
    "bulk_jobs.finish_upload": lambda db, ours: bulk_jobs.finish_upload(db, ours.id, ours.upload_id, recipients=1),
    "bulk_jobs.list_jobs": lambda db, ours: bulk_jobs.list_jobs(db, ours.scope, limit=9, before=None),
    "bulk_jobs.load_job": lambda db, ours: bulk_jobs.load_job(db, ours.id, ours.job_id),
    "bulk_jobs.mark_chunk_cancelled": lambda db, ours: bulk_jobs.mark_chunk_cancelled(db, ours.id, ours.job_id, 0),
    "bulk_jobs.read_results": lambda db, ours: bulk_jobs.read_results(db, ours.id, ours.job_id, 0),
    "cancellation.cancel": lambda db, ours: a_cancellation(db, ours.scope, ours),
    "cancellation.revoke_in_doubt": lambda db, ours: cancellation.revoke_in_doubt(db, [ours.waiting.id], now=NOON),
    "channel_configs.create_config": lambda db, ours: channel_configs.create_config(
        db, a_channel_config(ours.id, ChannelGroup.PUSH)
    ),
    "channel_configs.find_config": lambda db, ours: channel_configs.find_config(
        db, ours.id, ChannelGroup.EMAIL, lock=True
    ),
    "channel_configs.update_config": lambda db, ours: channel_configs.update_config(
        db, a_channel_config(ours.id, ChannelGroup.EMAIL, enabled=False)
    ),
    "delivery_log.count_queue": lambda db, ours: size_of_queue(db, ours.scope),
    "delivery_log.find_entry": lambda db, ours: delivery_log.find_entry(db, ours.scope, ours.delivery_id),
    "delivery_log.list_entries": lambda db, ours: entries_of(db, ours.scope),
    "devices.list_tokens": lambda db, ours: devices.list_tokens(db, ours.id, "ada"),
    "devices.register": lambda db, ours: a_device(db, ours.id, "new"),
    "devices.remove": lambda db, ours: devices.remove(db, ours.id, "phone"),
    "domains.count_domains": lambda db, ours: domains.count_domains(db, ours.id),
    "domains.create_domain": lambda db, ours: domains.create_domain(
        db, ours.id, domain="new.example", token="t", now=NOON
    ),
    "domains.delete_domain": lambda db, ours: domains.delete_domain(db, ours.id, ours.domain_id),
    "domains.find_domain": lambda db, ours: domains.find_domain(db, ours.id, ours.domain_id),
    "domains.has_active_messages": lambda db, ours: domains.has_active_messages(db, ours.id, "example.com"),
    "domains.list_domains": lambda db, ours: domains.list_domains(db, ours.id, limit=9),
    "domains.record_check": lambda db, ours: domains.record_check(
        db, ours.id, ours.domain_id, statuses={"spf": "verified"}, now=NOON
    ),
    "dead_letters.list_letters": lambda db, ours: dead_letters.list_letters(db, ours.id, limit=9),
    "incident_list.acknowledge": lambda db, ours: incident_list.acknowledge(
        db, ours.id, ours.incident_id, audit.OPERATOR, now=NOON
    ),
    "incident_list.add_note": lambda db, ours: incident_list.add_note(
        db, ours.id, ours.incident_id, audit.OPERATOR, "x", now=NOON
    ),
    "incident_list.list_incidents": lambda db, ours: incident_list.list_incidents(db, ours.id, limit=9),
    "incident_list.list_notes": lambda db, ours: incident_list.list_notes(db, ours.id, ours.incident_id),
    "ingest.claim_key": lambda db, ours: ingest.claim_key(
        db, ours.scope, "new", fingerprint=b"", owner=ours.job_id, now=NOON
    ),
    "ingest.find_owners": lambda db, ours: ingest.find_owners(db, ours.scope, ["order-7"], now=NOON),
    "memberships.add_member": lambda db, ours: memberships.add_member(
        db, ours.id, ours.invitation, Role.VIEWER, now=NOON
    ),
    "memberships.count_invitations": lambda db, ours: memberships.count_invitations(db, ours.id, now=NOON),
    "memberships.count_members": lambda db, ours: memberships.count_members(db, ours.id),
    "memberships.count_owners": lambda db, ours: memberships.count_owners(db, ours.id),
    "memberships.find_invitation": lambda db, ours: memberships.find_invitation(db, ours.id, ours.invitation),
    "memberships.find_member": lambda db, ours: memberships.find_member(db, ours.id, ours.user_id),
    "memberships.invite": lambda db, ours: memberships.invite(
        db, ours.id, "new@example.com", Role.VIEWER, invited_by=None, now=NOON, replaces=()
    ),
    "memberships.list_invitations": lambda db, ours: memberships.list_invitations(db, ours.id, now=NOON, limit=9),
    "memberships.list_members": lambda db, ours: memberships.list_members(db, ours.id, limit=9),
    "memberships.remove_member": lambda db, ours: memberships.remove_member(db, ours.id, ours.user_id),
    "memberships.revoke_invitation": lambda db, ours: memberships.revoke_invitation(db, ours.id, ours.invitation),
    "memberships.set_role": lambda db, ours: memberships.set_role(db, ours.id, ours.user_id, Role.VIEWER),
    "memberships.take_invitation": lambda db, ours: memberships.take_invitation(db, ours.token, now=NOON),
    "message_list.list_messages": lambda db, ours: a_list(db, ours.scope),
    "messages.load_attachments": lambda db, ours: messages.load_attachments(db, ours.id, ["digest"]),
    "messages.find_sandbox": lambda db, ours: messages.find_sandbox(db, ours.id, [ours.delivery_id]),
    "messages.find": lambda db, ours: messages.find(db, ours.scope, ours.waiting.id),
    "messages.find_with_history": lambda db, ours: messages.find_with_history(db, ours.scope, ours.waiting.id),
    "owners.owner_of": lambda db, ours: owners.owner_of(db, Owned.INVITATION, ours.invitation, [ours.id]),
    "messages.find_content_sizes": lambda db, ours: messages.find_content_sizes(db, ours.scope, [ours.delivery_id]),
    "messages.find_deliveries": lambda db, ours: messages.find_deliveries(db, ours.scope, [ours.waiting.id], [*State]),
    "messages.find_for_retry": lambda db, ours: messages.find_for_retry(db, ours.scope, [ours.delivery_id]),
    "messages.find_results": lambda db, ours: results_of(db, ours.waiting.id),
    "messages.keep_attachments": lambda db, ours: kept_attachments(db, ours.id),
    "projects.delete_project": lambda db, ours: projects.delete_project(db, ours.id, now=NOON),
    "projects.list_projects": lambda db, ours: projects.list_projects(db, ours.id),
    "projects.list_projects_of": lambda db, ours: projects.list_projects_of(db, [ours.id], limit=9),
    "projects.update_project": lambda db, ours: projects.update_project(
        db,
        ours.id,
        slug="taken",
        name="Taken",
        default_sender=None,
        routing_policy=RoutingPolicy.SEED,
        verified_senders_only=True,
    ),
    "provider_health.list_changes": lambda db, ours: provider_health.list_changes(
        db, [ours.provider_id], since=NOON, until=after(1)
    ),
    "provider_health.list_steps": lambda db, ours: provider_health.list_steps(
        db, ours.provider_id, since=NOON, until=after(1), step=provider_health.STEP
    ),
    "providers.create_provider": lambda db, ours: a_provider(db, ours.id),
    "providers.count_providers": lambda db, ours: providers.count_providers(db, ours.id),
    "providers.drop_old_credentials": lambda db, ours: dropped_credentials(db, ours),
    "providers.list_views": lambda db, ours: providers.list_views(db, ours.id),
    "providers.set_priorities": lambda db, ours: providers.set_priorities(db, ours.id, {ours.provider_id: 1}, now=NOON),
    "providers.update_provider": lambda db, ours: providers.update_provider(
        db, ours.id, ours.provider_id, now=NOON, name="new"
    ),
    "receipts.apply": a_receipt,
    "provider_receipts.find": lambda db, ours: provider_receipts.find(db, ours.provider_id),
    "routing_traffic.list_recent": lambda db, ours: routing_traffic.list_recent(
        db, ours.scope, "email", since=NOON, limit=9
    ),
    "sandbox.delete_captured": lambda db, ours: sandbox.delete_captured(db, ours.id),
    "sandbox.find_captured": lambda db, ours: sandbox.find_captured(db, ours.id, "att_1"),
    "sandbox.list_captured": lambda db, ours: sandbox.list_captured(db, project_id=ours.id, limit=9),
    "suppressions.add": lambda db, ours: a_suppression(db, ours.id, "new@example.com"),
    "suppressions.find": lambda db, ours: suppressions.find(db, [ours.suppressed]),
    "suppressions.find_suppression": lambda db, ours: suppressions.find_suppression(db, ours.id, ours.suppression),
    "suppressions.list_named": lambda db, ours: suppressions.list_named(db, [ours.suppressed]),
    "suppressions.list_suppressions": lambda db, ours: suppressions.list_suppressions(
        db, ours.id, suppressions.Filter(), limit=9, before=None
    ),
    "suppressions.remove": lambda db, ours: suppressions.remove(db, ours.id, ours.suppression),
    "suppressions.remove_matching": lambda db, ours: suppressions.remove_matching(db, ours.id, suppressions.Filter()),
    "templates.create_template": lambda db, ours: a_template(db, ours.id, "new"),
    "templates.delete_template": lambda db, ours: templates.delete_template(db, ours.id, ours.template.id, now=NOON),
    "templates.find_current": lambda db, ours: templates.find_current(db, [(ours.id, ours.template.id)]),
    "templates.find_template": lambda db, ours: templates.find_template(db, ours.id, ours.template.id),
    "templates.list_templates": lambda db, ours: templates.list_templates(db, ours.id, kind=None, limit=9, before=None),
    "templates.list_versions": lambda db, ours: templates.list_versions(
        db, ours.id, ours.template.id, limit=9, before=None
    ),
    "templates.lock_template": lambda db, ours: templates.lock_template(db, ours.id, ours.template.id),
    "templates.page_of_templates": lambda db, ours: templates.page_of_templates(
        db, [ours.id], kind=ours.template.kind, limit=9, offset=0
    ),
    "templates.update_template": a_template_update,
    "waiting.count": lambda db, ours: waiting.count(db, ours.scope, now=NOON),
    "webhook_deliveries.add_test": lambda db, ours: webhook_deliveries.add_test(
        db, ours.webhook, WebhookType.SENT, now=NOON
    ),
    "webhook_deliveries.find_delivery": lambda db, ours: webhook_deliveries.find_delivery(
        db, ours.webhook.id, ours.missed
    ),
    "webhook_deliveries.list_deliveries": lambda db, ours: webhook_deliveries.list_deliveries(
        db, ours.webhook.id, limit=9
    ),
    "webhook_deliveries.replay": lambda db, ours: webhook_deliveries.replay(db, ours.webhook.id, ours.missed, now=NOON),
    "webhook_deliveries.replay_range": a_replay_of_a_range,
    "webhooks.add_secret": lambda db, ours: a_webhook_secret(db, ours.webhook),
    "webhooks.create_endpoint": lambda db, ours: webhooks.create_endpoint(db, ours.scope, HOOK, limit=9, now=NOON),
    "webhooks.delete_endpoint": lambda db, ours: webhooks.delete_endpoint(db, ours.scope, ours.webhook.id),
    "webhooks.find_endpoint": lambda db, ours: webhooks.find_endpoint(db, ours.scope, ours.webhook.id),
    "webhooks.list_endpoints": lambda db, ours: webhooks.list_endpoints(db, ours.scope, limit=9),
    "webhooks.update_endpoint": lambda db, ours: webhooks.update_endpoint(
        db, ours.scope, ours.webhook.id, {"enabled": False}, now=NOON
    ),
}
# What needs no project, or comes before it is known.
ELSEWHERE = {
    "bulk_jobs.list_abandoned_uploads": "finds the projects with abandoned uploads",
    "bulk_jobs.list_open_jobs": "finds the projects with open jobs",
    "project_usage.add": "counts the messages of several projects: test_project_quota",
    "project_usage.of_day": "reads the usage of all projects",
    "project_usage.attachment_bytes": "reads the usage of all projects",
    "api_keys.find_keys": "finds the project of a key",
    "backlog.count_enqueued": "counts the dispatch queue of all projects",
    "ingest.insert_batch": "sets the projects of its batch itself: test_logins",
    "login_links.create_link": "a table without a project",
    "login_links.delete_links": "a table without a project",
    "login_links.take_link": "a table without a project",
    "memberships.renew_invitation": "of an invitation that find_invitation has found in the transaction",
    "memberships.lock_members": "locks a row and returns nothing",
    "memberships.project_of_invitation": "finds the project of an invitation",
    "projects.create_project": "has no existing project",
    "providers.lock_providers": "locks a row and returns nothing",
    "provider_receipts.count_refusals": "sets the projects of its batch itself: test_provider_receipts",
    "receipt_tokens.accept": "a table without a project",
    "sessions.create_session": "a table without a project",
    "sessions.end_session": "a table without a project",
    "sessions.end_session_of_used_token": "a table without a project",
    "sessions.exchange_refresh_token": "a table without a project",
    "sessions.end_sessions": "a table without a project",
    "sessions.find_sessions": "finds the projects of a user",
    "sessions.list_sessions": "a table without a project",
    "users.confirm": "a table without a project",
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


async def an_account(db, project_id):
    """Owner, key, invitation and audit entry of a project, by the fields of ``Ours``."""
    _, key = await api_keys.create_named_key(db, project_id, name="shop", is_test=False, now=NOON)
    user_id = await db.fetchval(
        "INSERT INTO users VALUES (gen_random_uuid(), 'a@b.example', 'a@b.example', '', NULL, true, $1) RETURNING id",
        NOON,
    )
    await memberships.add_member(db, project_id, user_id, Role.OWNER, now=NOON)
    invitation, token = await memberships.invite(
        db, project_id, "c@d.example", Role.VIEWER, invited_by=user_id, now=NOON, replaces=()
    )
    # Another user with the invitation's id, who is no member yet.
    await db.execute(
        "INSERT INTO users VALUES ($1, 'c@d.example', 'c@d.example', '', NULL, true, $2)", invitation.id, NOON
    )
    await audit.append(
        db, audit.OPERATOR, project_id=project_id, action="created", noun="key", object_id="key_0", now=NOON
    )
    return {"user_id": user_id, "key_id": key.id, "invitation": invitation.id, "token": token}


async def a_set_up(db, project_id):
    """Provider, domain, template and suppression of a project, by the fields of ``Ours``; a channel configuration."""
    await channel_configs.create_config(db, a_channel_config(project_id, ChannelGroup.EMAIL))
    domain = await domains.create_domain(db, project_id, domain="shop.example", token="t", now=NOON)
    await a_suppression(db, project_id, "gone@example.com")
    await a_device(db, project_id, "phone")
    webhook, missed = await a_webhook_with_a_missed_delivery(db, project_id)
    return {
        "webhook": webhook,
        "missed": missed,
        "provider_id": await a_provider(db, project_id),
        "domain_id": domain.id,
        "template": await a_template(db, project_id, "hello"),
        "suppression": await db.fetchval("SELECT id FROM suppressions"),
    }


async def a_webhook_with_a_missed_delivery(db, project_id):
    webhook = await webhooks.create_endpoint(db, ProjectScope(project_id, False), HOOK, limit=9, now=NOON)
    await a_webhook_secret(db, webhook)
    await webhook_deliveries.add_test(db, webhook, WebhookType.SENT, now=NOON)
    missed = min_id_at(NOON)
    await db.execute("UPDATE webhook_deliveries SET id = $1, status = 'EXHAUSTED', due_at = NULL", missed)
    return webhook, missed


async def an_outage(db, project_id, provider_id):
    """An incident with a note, and the health of its provider."""
    incident_id = an_id()
    await db.execute(
        "INSERT INTO incidents (id, project_id, channel, opened_at, cause) VALUES ($1, $2, 'email', $3, 'x')",
        *(incident_id, project_id, NOON),
    )
    await incident_list.add_note(db, project_id, incident_id, audit.OPERATOR, "x", now=NOON)
    await db.execute(
        "INSERT INTO health_changes VALUES ($1, $2, $3, 'unhealthy', 'x', 1)", provider_id, NOON, project_id
    )
    await db.execute("INSERT INTO health_steps VALUES ($1, $2, $3, 'unhealthy', 1, 1)", provider_id, NOON, project_id)
    await db.execute("INSERT INTO provider_receipts VALUES ($1, $2, $3)", provider_id, project_id, NOON)
    return {"incident_id": incident_id}


async def bulk_jobs_of(store, project_id, message_id):
    """A job with a chunk that is a message and one that waits, one without chunks, and an upload."""
    scope = ProjectScope(project_id, False)
    job_id, done_id, upload_id = an_id(), an_id(), an_id()
    for one in (job_id, done_id, upload_id):
        await bulk_jobs.create_job(store.pool, scope, one, message="{}", created_by=None, now=NOON)
        if one != upload_id:
            await bulk_jobs.finish_upload(store.pool, project_id, one, recipients=2)
    chunks = [NewChunk(number, number + 1, '[{"to":"x"}]') for number in (0, 1)]
    await bulk_jobs.add_chunks(store.pool, project_id, job_id, chunks)
    sent_row = ChunkResult(["x"], [message_id], {})
    await bulk_jobs.finish_chunk(store.pool, project_id, job_id, 0, sent_row, cancelled=False, now=NOON)
    return {"job_id": job_id, "done_id": done_id, "upload_id": upload_id}


@pytest.fixture
async def ours(store):
    """A project with rows in every table that the gateway uses."""
    db = store.pool
    project = await projects.create_project(db, organization="Shop", slug="shop", name="Shop", now=NOON)
    parts = await an_account(db, project.id) | await a_set_up(db, project.id)
    files = (("a" * 64, b"file"),)
    sent = a_message(
        project_id=project.id, idempotency_key="order-7", fingerprint=b"f", tags=("orders",), attachments=files
    )
    waiting = a_message(project_id=project.id)
    await store.accept(sent, waiting)
    delivery_id = sent.deliveries[0].id
    await store.claim(a_claim(delivery_id, project_id=project.id, provider_id=parts["provider_id"]))
    await store.transition(a_transition(delivery_id, EventType.SENT, outcome="accepted", project_id=project.id))
    await dead_letters.add(db, [a_letter(project_id=project.id)])
    await analytics.count(db, [delivery_id])
    parts |= await bulk_jobs_of(store, project.id, sent.id)
    parts |= await an_outage(db, project.id, parts["provider_id"])
    await db.execute("INSERT INTO attachments VALUES ($1, 'digest', 'x', $2)", project.id, NOON)
    await sandbox.capture(db, reference="att_1", message_id=sent.id, recipient="x", content="{}", at=NOON, timeout=5.0)
    return Ours(id=project.id, waiting=waiting, delivery_id=delivery_id, **parts)


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


WHOLE_READS = """
    SELECT relname, seq_scan FROM pg_stat_xact_user_tables
     WHERE relname ~ '^(messages|deliveries|attempts|events|receipts)_(default|[0-9]+w[0-9]+)$'
"""


# The list of messages sets the isolation level, which must come first: `make bench-lists` measures it.
@pytest.mark.parametrize("name", OPERATIONS.keys() - {"message_list.list_messages"})
async def test_no_statement_in_the_transaction_of_a_project_reads_all_of_a_large_table(store, ours, name):
    """Row-level security keeps a bound that is computed from a column from the index: see ``deliveries_of``."""
    async with store.rows_of(ours.id) as db:
        await db.execute("SET LOCAL enable_seqscan = off")
        before = dict(await db.fetch(WHOLE_READS))
        await OPERATIONS[name](db, ours)

        assert dict(await db.fetch(WHOLE_READS)) == before


async def found_or_none(finding):
    return await finding or None


SCOPED = {
    "analytics.read": lambda db, scope, ours: numbers(db, scope),
    "message_list.list_messages": lambda db, scope, ours: a_list(db, scope),
    "messages.find": lambda db, scope, ours: messages.find(db, scope, ours.waiting.id),
    "messages.find_with_history": lambda db, scope, ours: messages.find_with_history(db, scope, ours.waiting.id),
    "routing_traffic.list_recent": lambda db, scope, ours: found_or_none(
        routing_traffic.list_recent(db, scope, "email", since=NOON, limit=9)
    ),
    "waiting.count": lambda db, scope, ours: found_or_none(waiting.count(db, scope, now=NOON)),
    "messages.find_content_sizes": lambda db, scope, ours: messages.find_content_sizes(db, scope, [ours.delivery_id]),
    "messages.find_deliveries": lambda db, scope, ours: messages.find_deliveries(
        db, scope, [ours.waiting.id], [*State]
    ),
    "messages.find_for_retry": lambda db, scope, ours: messages.find_for_retry(db, scope, [ours.delivery_id]),
    "delivery_log.count_queue": lambda db, scope, ours: size_of_queue(db, scope),
    "delivery_log.find_entry": lambda db, scope, ours: delivery_log.find_entry(db, scope, ours.delivery_id),
    "delivery_log.list_entries": lambda db, scope, ours: entries_of(db, scope),
    "bulk_jobs.cancel_job": lambda db, scope, ours: found_or_none(bulk_jobs.cancel_job(db, scope, ours.job_id)),
    "bulk_jobs.find_job": lambda db, scope, ours: bulk_jobs.find_job(db, scope, ours.job_id),
    "bulk_jobs.list_jobs": lambda db, scope, ours: found_or_none(bulk_jobs.list_jobs(db, scope, limit=9, before=None)),
    "cancellation.cancel": a_cancellation,
    "ingest.find_owners": lambda db, scope, ours: ingest.find_owners(db, scope, ["order-7"], now=NOON),
    "webhooks.delete_endpoint": lambda db, scope, ours: webhooks.delete_endpoint(db, scope, ours.webhook.id),
    "webhooks.find_endpoint": lambda db, scope, ours: webhooks.find_endpoint(db, scope, ours.webhook.id),
    "webhooks.list_endpoints": lambda db, scope, ours: webhooks.list_endpoints(db, scope, limit=9),
    "webhooks.update_endpoint": lambda db, scope, ours: webhooks.update_endpoint(
        db, scope, ours.webhook.id, {"enabled": False}, now=NOON
    ),
}
CREATES = {"bulk_jobs.create_job", "ingest.claim_key", "webhooks.create_endpoint"}  # and read nothing of a mode


def test_every_operation_with_a_mode_is_in_the_matrix():
    with_scope = {
        name
        for name in store_functions(GATEWAY_SOURCES)
        if any(one.annotation == "ProjectScope" for one in inspect.signature(_named(name)).parameters.values())
    }

    assert with_scope - CREATES == SCOPED.keys()


@pytest.mark.parametrize("name", SCOPED)
@pytest.mark.parametrize(
    ("own", "sandbox"), [(True, True), (False, False), (False, True)], ids=["test", "other-live", "other-test"]
)
async def test_live_messages_are_not_those_of_test_keys_or_of_others(store, ours, name, own, sandbox):
    before = await everything(store)
    project_id = ours.id if own else OTHER_PROJECT

    async with store.rows_of(project_id) as db:
        assert await SCOPED[name](db, ProjectScope(project_id, sandbox), ours) in NOTHING

    assert await everything(store) == before
