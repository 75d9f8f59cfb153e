"""Failpoints: absent from a release, all in the sweep's table, one beside every state-changing step."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.chaos.workloads import POINTS
from tests.repository.files import ROOT

LEAST = 40

CORE = sorted(
    path
    for folder in ("libs/common/src/sluice", "services")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
# Modules that change state in the database or on the bus.
GUARDED = [
    path
    for path in CORE
    if path.is_relative_to(ROOT / "services")
    or path.is_relative_to(ROOT / "libs/common/src/sluice/bus")
    or path.is_relative_to(ROOT / "libs/common/src/sluice/delivery")
]

# What changes something outside the process, as it is called in the code: module.function of the store, and methods.
STORE_WRITES = {
    "analytics.count",
    "dead_letters.add",
    "bulk_jobs.cancel_job",
    "bulk_jobs.finish_chunk",
    "bulk_jobs.finish_upload",
    "backlog.dequeue",
    "backlog.make_due",
    "cancellation.cancel",
    "cancellation.revoke_in_doubt",
    "deliveries.claim",
    "deliveries.renew",
    "deliveries.transition",
    "incidents.touch",
    "incidents.write",
    "ingest.delete_expired_keys",
    "ingest.insert_batch",
    "outbox.claim_overdue",
    "outbox.delete",
    "partitions.ensure",
    "provider_health.record",
    "receipt_tokens.accept",
    "receipts.apply",
    "receipts.record_late_acceptance",
    "recovery.requeue_lost",
    "sandbox.capture",
    "sandbox.finish_receipts",
    "sandbox.lease_due_receipts",
    "splitting.divide",
    "webhook_deliveries.claim",
    "webhook_deliveries.project",
    "webhook_deliveries.settle",
    "webhooks.disable_endpoint",
}
# Those that only other functions of the store call, and those that commands call, which roles do not.
WITHIN = {
    # An upload that is not complete sends nothing; the transaction of a chunk has points before and after it.
    "bulk_jobs.add_chunks",
    "bulk_jobs.claim_chunk",
    "bulk_jobs.claim_chunk_to_cancel",
    "bulk_jobs.create_job",
    "bulk_jobs.delete_upload",
    "bulk_jobs.finish_job",
    "bulk_jobs.mark_chunk_cancelled",
    "ingest.claim_key",
    "incidents._write_one",
    "incidents._write_members",
    "webhook_deliveries.add_notices",  # in the transaction of incidents.write
    "disagreements._keep",  # counts what was refused; its loss changes no delivery
    "api_keys.create_key",
    "api_keys.create_named_key",
    "ingest._write",
    "ingest._write_attachments",
    "migrations._try_to_apply",
    "migrations.apply",
    "outbox.insert_cte",
    "partitions._create",
    "projects.create_project",
    "providers.reencrypt_credentials",
    "webhooks.reencrypt_secrets",
    "analytics._add",
    "analytics._advance",
    "analytics._delete_day",
    "analytics.delete_old",
    "restored.cancel_open_jobs",  # by `sluice restore`, before any role runs
    "restored.republish_events",
    # All or nothing for each week or message, and repeated an hour later.
    "retention._delete_older",
    "retention._erase_project",
}
# Those that change configuration or counts in one transaction and move no delivery: all of it is there, or nothing.
CONFIGURATION = {
    "api_keys.revoke_key",
    "api_keys.update_key",
    "dead_letters.resolve",  # by a command, after the record was published
    "audit.append",
    "channel_configs.create_config",
    "channel_configs.update_config",
    "devices.register",
    "devices.remove",
    "devices.remove_unregistered",
    "domains.create_domain",
    "incident_list.acknowledge",
    "incident_list.add_note",
    # Counts and marks, made again by the next look; what is old is deleted an hour later.
    "incidents.count_touched",
    "incidents.mark_searched",
    "incidents.delete_old",
    "provider_health.delete_old",
    "sandbox.delete_captured",
    "domains.delete_domain",
    "domains.record_check",
    "login_links.create_link",
    "login_links.delete_links",
    "login_links.take_link",
    "memberships.add_member",
    "memberships.adopt_projects",
    "memberships.invite",
    "memberships.remove_member",
    "memberships.renew_invitation",
    "memberships.revoke_invitation",
    "memberships.set_role",
    "memberships.take_invitation",
    "bulk_jobs.cancel_orphan",  # the next look at the job does it again
    "messages.keep_attachments",
    "project_usage.add",  # a count that moves no delivery; a crash loses a second of it
    "project_usage.delete_old",
    # Counts that move no delivery: a crash loses some seconds of them, or counts a batch again.
    "provider_receipts.count_events",
    "provider_receipts.count_refusals",
    "provider_receipts.mark_silent",
    "projects.delete_project",
    "projects.update_project",
    "providers.create_provider",
    "providers.set_priorities",
    "providers.update_provider",
    "providers.drop_old_credentials",
    "sessions.create_session",
    "sessions.end_session",
    "sessions.end_session_of_used_token",
    "sessions.end_sessions",
    "sessions.exchange_refresh_token",
    "sessions.find_sessions",
    "suppressions.add",
    "suppressions.remove",
    "suppressions.remove_matching",
    "templates.create_template",
    "templates.delete_template",
    "templates.update_template",
    "users.create_user",
    "users.set_name",
    "users.confirm",
    "users.set_password",
    "webhook_deliveries.add_test",
    "webhook_deliveries.replay",
    "webhook_deliveries.replay_range",
    "webhooks.add_secret",
    "webhooks.create_endpoint",
    "webhooks.delete_endpoint",
    "webhooks.update_endpoint",
}
WRITING = re.compile(r"\b(INSERT INTO|UPDATE \w+|DELETE FROM|CREATE TABLE)\b")
METHOD_WRITES = {"publish", "commit", "send", "send_and_wait", "set"}
CALLS = {"call_provider", "publish_dead_letter", "publish"}
# Receivers whose methods only carry the names above.
HARMLESS = {
    "OLDEST_DUE_AGE",
    "CONSUMER_LAG",
    "CONSUMER_LAG_AGE",
    "ASSIGNED_PARTITIONS",
    "PROVIDERS",
    "HEALTH_LEADER",
    "IN_FLIGHT",
    "span",
    "tracing.caller",
    "stopped",
    "self._wake",
    "current",
    "self._wanted",
    "self._woken",
    "self._granted",
    "self._ready",
    "self._changed",
    "loaded",
    "self._stopping",
    "self._capacity",
    "self._nonempty",
}

# Functions that change something and need no point of their own, with the reason.
EXEMPT = {
    "libs/common/src/sluice/delivery/mailer.py:mail": "an invitation that was not mailed is repeated by hand",
    "services/gateway/src/gateway/bulk/expander.py:_finish": "the transaction of its callers has points",
    "services/gateway/src/gateway/bulk/expander.py:_cancel": "its caller has points before and after the commit",
    "services/gateway/src/gateway/messages/batch.py:_store": "the ingest, which it calls, has points before and after",
    "libs/common/src/sluice/bus/dead_letters.py:dead_letter": "publish_dead_letter, which it calls, has points",
    "services/event-worker/src/event_worker/service.py:on_events": "publish_dead_letter, which it calls, has points",
    "libs/common/src/sluice/delivery/outbox.py:republish": "its only caller has points before and after it",
    "libs/common/src/sluice/delivery/settled_notices.py:_publish_all": "a lost notice changes no answer",
    "libs/common/src/sluice/delivery/settlement.py:_transition": "its callers have points before and after it",
    "libs/common/src/sluice/delivery/settlement.py:record_late_acceptance": "an answer is lost when its worker ends",
    "libs/common/src/sluice/delivery/bulkhead_monitor.py:_report_unresponsive": "moves no delivery",
    "libs/common/src/sluice/delivery/tokens.py:_send": "the worker has points before and after it",
    "libs/common/src/sluice/delivery/receipts.py:_accept_tokens": "moves no delivery; a repeat is accepted again",
    "libs/common/src/sluice/delivery/sandbox_receipts.py:write_due_receipts": "the sink that it calls has points",
    "services/gateway/src/gateway/providers/service.py:_request_probe": "moves no delivery; a person asks again",
    "services/router/src/router/suspensions.py:run_once": "one statement, which another router makes as well",
    "services/router/src/router/recovery.py:_enqueue": "its only caller has points before and after it",
    "services/gateway/src/gateway/ingest/ingest.py:_enqueue": "its only caller has points before and after it",
}


@cache
def tree(path):
    return ast.parse(path.read_text("utf-8"))


def names_of_points(node):
    return [
        call.args[0].value
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "failpoints.hit"
        and isinstance(call.args[0], ast.Constant)
    ]


def points_of_the_code():
    return [name for path in CORE for name in names_of_points(tree(path))]


def functions(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def own_calls(function):
    """The calls of a function, without those of functions inside it."""
    nested = {
        inner
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node is not function
        for inner in ast.walk(node)
    }
    return [node for node in ast.walk(function) if isinstance(node, ast.Call) and node not in nested]


def changes(call):
    name = ast.unparse(call.func)
    receiver, _, method = name.rpartition(".")
    if name in STORE_WRITES or (not receiver and method in CALLS):
        return True
    return (
        method in METHOD_WRITES
        and bool(receiver)
        and receiver.rpartition(".")[2] not in HARMLESS
        and (receiver not in HARMLESS and not receiver.startswith("metrics."))
    )


def changing_functions():
    return {
        f"{path.relative_to(ROOT)}:{function.name}": function
        for path in GUARDED
        for function in functions(path)
        if any(changes(call) for call in own_calls(function))
    }


def test_every_point_of_the_code_is_in_the_sweep():
    assert set(points_of_the_code()) == set(POINTS)


def test_no_two_points_have_one_name():
    assert [name for name, times in Counter(points_of_the_code()).items() if times > 1] == []


def test_there_are_enough_of_them():
    assert len(POINTS) >= LEAST


def test_a_points_name_says_role_and_step():
    assert [name for name in POINTS if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)] == []


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_release_contains_none(path):
    source = path.read_text("utf-8")
    code = compile(source, str(path), "exec", optimize=1)

    assert not point_constants(code) & set(POINTS)


def point_constants(code):
    """Every text constant of compiled code, also of the functions inside."""
    found = {constant for constant in code.co_consts if isinstance(constant, str)}
    for constant in code.co_consts:
        if hasattr(constant, "co_consts"):
            found |= point_constants(constant)
    return found


def test_the_points_are_there_otherwise():
    path = ROOT / "libs/common/src/sluice/delivery/settlement.py"
    code = compile(path.read_text("utf-8"), str(path), "exec", optimize=0)

    assert "settle.written" in point_constants(code)


def test_every_point_is_an_assertion():
    loose = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in CORE
        for name in set(names_of_points(tree(path)))
        - {name for node in ast.walk(tree(path)) if isinstance(node, ast.Assert) for name in names_of_points(node)}
    ]

    assert loose == []


def test_every_step_that_changes_something_has_a_point():
    without = [
        name for name, function in changing_functions().items() if not names_of_points(function) and name not in EXEMPT
    ]

    assert without == []


def test_every_exemption_is_needed():
    needless = [
        name for name in EXEMPT if name not in changing_functions() or names_of_points(changing_functions()[name])
    ]

    assert needless == []


def test_every_writing_function_of_the_store_is_known():
    """A new statement that writes must be named above, or it would escape the check."""
    writing = {
        f"{path.stem}.{function.name}"
        for path in sorted((ROOT / "libs/common/src/sluice/store").glob("*.py"))
        for function in functions(path)
        if WRITING.search(texts(function))
    }

    assert writing - STORE_WRITES - WITHIN - CONFIGURATION == set()


def texts(function):
    constants = (node.value for node in ast.walk(function) if isinstance(node, ast.Constant))
    return " ".join(constant for constant in constants if isinstance(constant, str))


def test_the_release_runs_without_assertions():
    specs = Path(ROOT / "tools/launcher/src/sluice_launcher/process_specs.py").read_text("utf-8")

    assert '"-O"' in specs
